"""The page: the sections of every record, in one HTML file that needs nothing else and holds its records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scenarios.reports.advised import advised_sections
from scenarios.reports.campaign import campaign_sections
from scenarios.reports.changes import change_sections
from scenarios.reports.embedded import DATA_ID
from scenarios.reports.extra import library
from scenarios.reports.figures import Plot, style_sheet
from scenarios.reports.memory import arena_sections, held_sections, replay_section, whatif_sections
from scenarios.reports.reading import Run, embedded
from scenarios.reports.section import Lines, Section, StoryTable, Table
from scenarios.reports.stories import explored_sections, violation_sections
from scenarios.reports.throughput import sections as throughput_sections

jinja2, markup = library("jinja2"), library("markupsafe")  # an import of this module wants a page

TEMPLATES = Path(__file__).with_name("templates")
SHOWN_COLUMNS = 12  # of a table whose rows nobody has drawn


def _text_of(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: ""}[value]
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def rows_section(run: Run) -> list[Section]:
    """The rows as they are, for a record that has no picture: keys beside each other, or below if there are many."""
    plain = [{k: v for k, v in row.items() if not isinstance(v, list | dict)} for row in run.rows]
    keys = list(dict.fromkeys(key for row in plain for key in row))
    if not keys:
        return []
    if len(keys) <= SHOWN_COLUMNS and len(plain) > 1:
        words = [at for at, key in enumerate(keys) if at and isinstance(plain[0].get(key), str)]
        table = Table(keys, [[_text_of(row.get(key)) for key in keys] for row in plain], words=words)
    elif len(plain) <= SHOWN_COLUMNS:
        names = [str(next(iter(row.values()), "")) for row in plain]
        table = Table([keys[0], *names], [[key, *(_text_of(row.get(key)) for row in plain)] for key in keys[1:]])
    else:
        shown = keys[:SHOWN_COLUMNS]
        table = Table(shown, [[_text_of(row.get(key)) for key in shown] for row in plain])
    return [Section("Results", "", [table])]


def run_sections(run: Run) -> list[Section]:
    """Everything that one record can show."""
    found = [
        *throughput_sections(run),
        *held_sections(run),
        *whatif_sections(run),
        *arena_sections(run),
        *explored_sections(run),
        *advised_sections(run),
        *campaign_sections(run),
        *change_sections(run),
    ]
    if not found and run.scenario != "replay":
        found = rows_section(run)
    found += violation_sections(run)
    checks = run.data.get("checks") or {}
    if checks:
        lines = [[name, f"{wrong:,}", "ok" if wrong == 0 else "VIOLATED"] for name, wrong in checks.items()]
        found.append(
            Section("Checks", "", [Table(["check", "violations", ""], lines)], folded=not any(checks.values()))
        )
    if run.data.get("failure"):
        found.insert(0, Section("It ended early", "", [Lines(str(run.data["failure"]))]))
    return found


def all_sections(runs: Sequence[Run]) -> list[tuple[Run | None, list[Section]]]:
    """The sections of each record; replays of all records share one plot, under no record."""
    replays = replay_section([run for run in runs if run.scenario == "replay"])
    together: list[tuple[Run | None, list[Section]]] = [(None, replays)] if replays else []
    return together + [(run, run_sections(run)) for run in runs]


def plots(runs: Sequence[Run]) -> list[Plot]:
    """Every plot of the records."""
    return [plot for _, sections in all_sections(runs) for section in sections for plot in section.plots()]


def title_of(runs: Sequence[Run]) -> str:
    """What the page is called."""
    names = list(dict.fromkeys(run.scenario for run in runs))
    return f"ptelab: {', '.join(names)}"


def page(runs: Sequence[Run]) -> str:
    """The HTML of these records. Raises ReportError if a library is missing."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals["safe_svg"] = markup.Markup
    groups = all_sections(runs)
    parts = [part for _, sections in groups for section in sections for part in section.parts]
    steps = any(isinstance(part, StoryTable) and part.watched for part in parts)
    text: str = environment.get_template("report.html.j2").render(
        title=title_of(runs),
        groups=groups,
        script=markup.Markup((TEMPLATES / "steps.js").read_text("utf-8")) if steps else "",
        data_id=DATA_ID,
        data=markup.Markup(embedded(runs)),
        style=markup.Markup((TEMPLATES / "report.css").read_text("utf-8")),
        light=style_sheet(dark=False),
        dark=style_sheet(dark=True),
    )
    return text
