"""Sections of what was found: stories in columns, the life of a table, which process waits for which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scenarios.reports.drawings import life_of_table, wait_for_graph
from scenarios.reports.reading import Run
from scenarios.reports.section import Cell, Lines, Section, StoryTable, Table

Json = Mapping[str, Any]
COORDINATOR = "the coordinator"
SHOWN = 40  # events of a story; earlier ones can be opened
OPEN = 3  # stories of a record that are shown without being asked for


def _ordered(names: Sequence[str]) -> list[str]:
    """CPUs by number, the coordinator last."""
    return sorted(dict.fromkeys(names), key=_place)


def _place(name: str) -> tuple[bool, int, str]:
    return name == COORDINATOR, len(name), name


def _parted(cells: list[Cell]) -> tuple[list[Cell], list[Cell]]:
    """The events of a long story that are shown on demand, and the others: the last, and all from before the clash."""
    clash = next((i for i, cell in enumerate(cells) if cell.guilty), len(cells))
    at = max(0, min(len(cells) - SHOWN, clash - SHOWN // 4))
    return cells[:at], cells[at:]


def explored_story(story: Json) -> StoryTable:
    """The story of an execution of the explorer."""
    columns = list(story["columns"])
    cells = []
    before: dict[int, str] = {}
    for line in story["lines"]:
        new = line["instruction"] and before.get(line["task"]) != line["instruction"]
        before[line["task"]] = line["instruction"]
        cells.append(
            Cell(
                who=columns.index(story["tasks"][line["task"]]),
                when=str(line["step"]),
                function=line["function"],
                text=line["text"],
                head=line["instruction"] if new else "",
                notes=[*([line["source"]] if line["guilty"] else []), *line["notes"]],
                callers=line["callers"],
                guilty=line["guilty"],
                times=line["times"],
                earlier=f"{line['skipped']} earlier events are not told" if line["skipped"] else "",
            )
        )
    early, shown = _parted(cells)
    return StoryTable(columns, shown, "step", early, list(story["ending"].items()), story.get("watched") or [])


def native_story(violation: Json) -> StoryTable:
    """The points that real processes passed before a violation."""
    events = violation["story"]
    columns = _ordered([event["who"] for event in events])
    last = {event["who"]: i for i, event in enumerate(events)}
    saw = f"CPU {violation['cpu']}"
    cells = [
        Cell(
            who=columns.index(event["who"]),
            when=f"{event['ns'] / 1000:,.1f}",
            function=event["function"],
            text=f"{event['subject'].removeprefix('address ')}: {event['value']}",
            head=event["point"],
            notes=[] if event["source"] == "-" else [f"models {event['source']}"],
            guilty=event["who"] == saw and last[event["who"]] == i,
            last=last[event["who"]] == i,
            times=event["times"],
        )
        for i, event in enumerate(events)
    ]
    ending = [
        (
            one["name"],
            f"{one['instruction'] or 'both agents'}; holds {', '.join(one['holds']) or 'no lock'}"
            + (f"; waits for {one['waits_for']}" if one["waits_for"] else ""),
        )
        for one in sorted(violation["participants"], key=lambda one: _place(one["name"]))
    ]
    return StoryTable(columns, cells, "us", ending=ending)


def _edges(found: Json) -> list[tuple[str, str, str]]:
    return [(edge["who"], edge["for"], edge["by"]) for edge in found.get("wait_edges") or []]


def violation_section(violation: Json, folded: bool = False) -> Section:
    """What a detector stopped real processes for."""
    who = "the parent" if violation["detector"] == "no-progress" else f"CPU {violation['cpu']}"
    section = Section(
        f"{violation['detector']}, seen by {who} after {violation['ns'] / 1e6:.3f} ms",
        f"{violation['saw'][:1].upper()}{violation['saw'][1:]}: wrong, because {violation['why']}.",
        folded=folded,
    )
    if edges := _edges(violation):
        section.parts.append(wait_for_graph(edges))
    if violation["waits"]:
        section.parts.append(Lines("\n".join(violation["waits"])))
    if violation["story"]:
        section.parts.append(native_story(violation))
    if violation["life"]:
        section.parts.append(life_of_table(violation["table"], violation["life"], violation["ns"]))
    rcu = violation["rcu"]
    readers = ", ".join(f"CPU {n}" for n in rcu["in_read_section"]) or "nobody"
    said = (
        f"RCU: grace period {rcu['gp_seq']} began last, {rcu['gp_completed']} ended last; in a read section: {readers}"
    )
    again = f"\nagain: {violation['command']}" if violation.get("command") else ""
    section.parts.append(Lines(said + again))
    return section


def explored_section(row: Json, folded: bool = False) -> Section:
    """What the explorer found in one subject."""
    section = Section(
        f"{row['subject']}: {row['found'] or row['verdict']}",
        f"{row['verdict']}; {row['executions']:,} executions, {row['steps']:,} steps, {row['seconds']:.1f} s, memory "
        f"model {row['memory']}, policy {row['policy']}; left out: {row['knob'] or 'nothing'}.",
        folded=folded,
    )
    if row.get("report"):
        section.parts.append(Lines("\n".join(row["report"])))
    if edges := _edges(row):
        section.parts.append(wait_for_graph(edges))
    if row.get("story") and row["story"]["lines"]:
        section.parts.append(explored_story(row["story"]))
    if row.get("schedule") is not None:
        told = f"schedule, {row['schedule_steps']} steps, preemptions {row['preemptions']}: {row['schedule'] or '-'}"
        section.parts.append(Lines(told))
    return section


def explored_sections(run: Run) -> list[Section]:
    """Of `explore`: the one subject, or the table of all and the stories on demand."""
    rows = [row for row in run.rows if "subject" in row and "executions" in row and "verdict" in row]
    if len(rows) <= OPEN:
        return [explored_section(row) for row in rows]
    lines = [
        [row["subject"], row["knob"] or "", row["verdict"], row["found"] or "", f"{row['executions']:,}"]
        + ["yes" if row.get("as_expected") else "NO"]
        for row in rows
    ]
    table = Table(["subject", "left out", "verdict", "found", "executions", "as expected"], lines)
    told = [explored_section(row, folded=True) for row in rows if row.get("story")]
    return [Section("All subjects", "Each as it is, and with its piece left out.", [table]), *told]


def violation_sections(run: Run) -> list[Section]:
    """Of each machine that a detector stopped."""
    violations = run.data.get("violations") or []
    return [violation_section(one, folded=i >= OPEN) for i, one in enumerate(violations)]
