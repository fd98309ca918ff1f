"""help: the pages of docs/ by name, as text for a terminal; `traces` is the language of memory traces.

A page is read where it lies: in the tree, or where the wheel has put it.
"""

from __future__ import annotations

from pathlib import Path

import click

from scenarios.session import errors, report
from scenarios.session.style import style
from scenarios.traces.reference import reference

TREE = Path(__file__).resolve().parents[1] / "docs"
TRACES, EXIT_STATUS = "traces", "exit-status"
SECTIONS = {EXIT_STATUS: ("json", "Verdict and exit status")}  # topics that are a section of a page
INSTALLED = ("share", "doc", "ptelab")


def pages() -> dict[str, Path]:
    """The pages by name: what stands in docs/ of the tree, or beside what is installed."""
    if TREE.is_dir():
        return {path.stem: path for path in sorted(TREE.glob("*.md"))}
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        files = distribution("ptelab").files or []
    except PackageNotFoundError:
        return {}
    return {file.stem: Path(str(file.locate())) for file in sorted(files) if file.parts[-4:-1] == INSTALLED}


def section(text: str, heading: str) -> str:
    """The part of a page under a heading, with it."""
    _, _, rest = text.partition(f"\n## {heading}\n")
    return f"## {heading}\n{rest.partition(f'{chr(10)}## ')[0]}"


def topics() -> dict[str, str]:
    """What can be asked for, each with what it is about."""
    found = {name: path.read_text("utf-8").partition("\n")[0].removeprefix("# ") for name, path in pages().items()}
    return dict(sorted({**found, **{name: heading for name, (_, heading) in SECTIONS.items()}}.items()))


def text_of(topic: str) -> str:
    """A topic as text of at most so many columns as fit."""
    if topic == TRACES:
        return reference(style().width)
    from rich.console import Console
    from rich.markdown import Markdown

    page, heading = SECTIONS.get(topic, (topic, ""))
    text = pages()[page].read_text("utf-8")
    console = Console(width=style().width, color_system=None)
    with console.capture() as shown:
        console.print(Markdown(section(text, heading) if heading else text))
    return "\n".join(line.rstrip() for line in shown.get().splitlines()) + "\n"


@click.command("help", help="Explain a topic: a page of the documents. Without one, list them.")
@click.argument("topic", required=False)
def command(topic: str | None) -> int:
    """Print it; the exit status."""
    known = topics()
    if topic is None:
        report.write("ptelab help TOPIC\n")
        for name, about in known.items():
            report.write(f"  {name:<16} {about}")
        return errors.OK
    if topic not in known:
        raise errors.unknown("topic", topic, list(known))
    report.write(text_of(topic).rstrip())
    return errors.OK
