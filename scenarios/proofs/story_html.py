"""A counterexample as one HTML page that needs nothing else: no script, no style sheet, no image from anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workers.telling.access import Access
    from workers.telling.story import Story, StoryLine, Trace

STYLE = """
:root { color-scheme: light dark; --line: #d0d0d0; --quiet: #666; --mark: #fff0c2; --edge: #c47f00; --code: #f4f4f4; }
@media (prefers-color-scheme: dark) {
  :root { --line: #444; --quiet: #a0a0a0; --mark: #4a3a10; --edge: #e0a030; --code: #262626; }
}
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
code, pre, .story td { font-family: ui-monospace, monospace; font-size: 13px; }
pre { background: var(--code); padding: .6rem .8rem; white-space: pre-wrap; overflow-wrap: anywhere; }
table { border-collapse: collapse; } .wide { overflow-x: auto; }
th, td { text-align: left; vertical-align: top; padding: .15rem .8rem .15rem 0; }
.story { width: 100%; } .story th { border-bottom: 2px solid var(--line); }
.story td { border-bottom: 1px solid var(--line); } .story .step { text-align: right; color: var(--quiet); }
.story .guilty td { background: var(--mark); }
.story .guilty .event { border-left: 4px solid var(--edge); padding-left: .4rem; }
.insn, .notes, .at { display: block; color: var(--quiet); }
.notes, .at { padding-left: 1.5rem; } .insn { font-weight: bold; }
""".strip()


def _row(name: str, content: object) -> str:
    return f"<tr><th>{escape(name)}</th><td>{escape(str(content))}</td></tr>"


def _table(rows: Iterable[tuple[str, Any]]) -> Iterator[str]:
    yield "<table>"
    yield from (_row(name, content) for name, content in rows)
    yield "</table>"


def _event(line: StoryLine, before: StoryLine | None) -> str:
    """The cell of one event; its position and its callers are the title."""
    title = "\n".join([f"{line.function}, {line.source}", *line.callers])
    parts = [f'<div class="event" title="{escape(title)}">']
    if line.instruction and (before is None or before.instruction != line.instruction):
        parts.append(f'<span class="insn">{escape(line.instruction)}</span>')
    mark = "<b>&gt;&gt;</b> " if line.guilty else ""
    times = f" &times;{line.times}" if line.times > 1 else ""
    parts.append(f"{mark}<b>{escape(line.function)}</b>: {escape(line.text)}{times}")
    if line.guilty:
        parts.append(f'<span class="at">{escape(line.source)}</span>')
    parts += [f'<span class="notes">{escape(note)}</span>' for note in line.notes]
    return "".join([*parts, "</div>"])


def _story(story: Story) -> Iterator[str]:
    """The table: a column per task, a row per event."""
    yield '<div class="wide"><table class="story">'
    yield "<tr><th>step</th>" + "".join(f"<th>{escape(name)}</th>" for name in story.columns) + "</tr>"
    before: dict[int, StoryLine] = {}
    for line in story.lines:
        if line.skipped:
            yield f'<tr><td></td><td colspan="{len(story.columns)}">{escape(line.earlier)}</td></tr>'
        cells = ["<td></td>"] * len(story.columns)
        at = story.columns.index(story.tasks[line.task])
        cells[at] = f"<td>{_event(line, before.get(line.task))}</td>"
        yield f'<tr{" class=guilty" * line.guilty}><td class="step">{line.step}</td>{"".join(cells)}</tr>'
        before[line.task] = line
    yield "</table></div>"


def _clash(trace: Trace, access: Access) -> Iterator[str]:
    """One of the two accesses: what it did, where, called by whom."""
    yield "<pre>"
    yield escape(f"{trace.tasks[access.task]}, step {access.step}: {access.op} of {access.field}[{access.index}]")
    if access.old != access.new:
        yield escape(f", {access.old:#x} -> {access.new:#x}")
    yield escape("".join(f"\n  {caller}" for caller in access.callers or (f"{access.function} {access.source}",)))
    yield "</pre>"


def _head(title: str) -> Iterator[str]:
    yield '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>"
    yield f"<h1>{escape(title)}</h1>"


def facts_page(title: str, text: str, facts: Mapping[str, Any]) -> str:
    """The page of a search that found nothing."""
    return "\n".join([*_head(title), f"<pre>{escape(text)}</pre>", *_table(facts.items()), "</body></html>"]) + "\n"


def page(trace: Trace, story: Story, facts: Mapping[str, Any], report: Sequence[str] = ()) -> str:
    """The page. `facts` are said in a table as they are: executions, bound, seconds, memory model.

    `report` are the lines of data_race_lines() or deadlock_lines(), if the failure is one of these.
    """
    parts = list(_head(trace.what))
    if trace.violation is not None:
        parts.append(f"<p>CPU {trace.violation.cpu}: {escape(trace.violation.saw)}</p>")
        parts.append(f"<p>Wrong, because {escape(trace.violation.why)}.</p>")
    if report:
        parts.append(f"<pre>{escape(chr(10).join(report))}</pre>")
    parts += [f"<h2>Again</h2><pre>{escape(trace.command)}</pre>"]
    parts += ["<h2>The search</h2>", *_table([*facts.items(), ("schedule", trace.schedule)])]
    parts += ["<h2>The story</h2>", *_story(story)]
    if story.unconnected:
        parts.append(f"<p>{story.unconnected} more events are not told: the failure does not depend on them.</p>")
    parts += ["<h2>At the end</h2>", *_table(story.ending.items())]
    if trace.guilty is not None:
        clash = {access.step: access for access in trace.accesses if access.step in trace.guilty}
        parts.append("<h2>The two accesses that clash</h2>")
        parts += ["".join(_clash(trace, clash[step])) for step in trace.guilty if step in clash]
    return "\n".join([*parts, "</body></html>"]) + "\n"
