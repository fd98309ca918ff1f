"""The report of a violation: what was seen, why it is wrong, who was where, the table's life, the story in columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from emulator.bugs import BUGS, Bug
from emulator.mm_types import RCU_AGES, TRACE_ENTRIES, Geometry
from emulator.pgtable import POISON, TABLE_STATES
from emulator.points import POINTS, point_name
from workers.postmortem import (
    instruction,
    last_point,
    life_of,
    locks_held,
    unquiet,
    wait_for_graph,
    waiting_for,
    who,
)

STORY_EVENTS = 26
COLUMN = 46


@dataclass
class Participant:
    """A process that was involved: where it was, what it held."""

    name: str
    instruction: str | None
    point: str | None
    function: str | None
    source: str | None
    holds: list[str]
    waits_for: str | None


@dataclass
class Event:
    """One line of the story: who passed which point when, with what in hand."""

    ns: int
    who: str
    point: str
    function: str
    source: str
    subject: str
    value: str


@dataclass
class Violation:
    """Everything a report says; `as_json` is what --json carries."""

    detector: str
    saw: str
    why: str
    cpu: int
    ns: int
    subject: int
    was: int
    seen: int
    table: int | None
    participants: list[Participant]
    life: list[dict[str, Any]]
    rcu: dict[str, Any]
    waits: list[str]
    story: list[Event]
    command: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The record."""
        return asdict(self)

    def headline(self) -> str:
        """Detector, CPU, what it saw."""
        return f"{self.detector}: {self.saw}"


def _entry_text(entry: int) -> str:
    if entry == 0:
        return "none"
    if entry == POISON:
        return "poison"
    return f"{entry:#x}"


def _value_text(kind: str, value: int) -> str:
    if kind in ("pmd", "entry"):
        return f"{kind} {_entry_text(value)}"
    if kind == "table":
        return f"for {value:#x}"
    if kind in ("length", "end"):
        return f"{kind} {value:#x}"
    return f"{kind} {value}"


def _events(views: Mapping[str, Any], geometry: Geometry, cpu: int) -> list[tuple[int, int, str, int, int]]:
    """The trace of one process, oldest first: (ns, cpu, point, subject, value)."""
    at = int(views["cpu"]["trace_at"][cpu])
    rows = views["trace"][cpu * TRACE_ENTRIES : (cpu + 1) * TRACE_ENTRIES]
    order = [(i % TRACE_ENTRIES) for i in range(max(0, at - TRACE_ENTRIES), at)]
    return [
        (int(rows[i]["stamp"]), cpu, point_name(int(rows[i]["point"])), int(rows[i]["subject"]), int(rows[i]["value"]))
        for i in order
        if 0 < rows[i]["point"] <= len(POINTS)
    ]


def _concerns(event: tuple[int, int, str, int, int], table: int | None, region: int | None) -> bool:
    _, _, point, subject, _ = event
    kind = POINTS[point].subject
    if kind == "table":
        return table is None or subject == table
    if kind == "address":
        return region is None or subject >> 21 == region or point == "flush.requested"
    return kind not in ("zone", "state")


def _story(views: Mapping[str, Any], geometry: Geometry, table: int | None, region: int | None) -> list[Event]:
    """The latest events about the table or its 2 MiB, of all processes, in order of time."""
    merged = [
        event
        for cpu in range(geometry.cpus + 1)
        for event in _events(views, geometry, cpu)
        if _concerns(event, table, region)
    ]
    merged.sort()
    told = []
    for ns, cpu, point, subject, value in merged[-STORY_EVENTS:]:
        kind = POINTS[point]
        text = f"{subject:#x}" if kind.subject == "address" else str(subject)
        told.append(
            Event(
                ns, who(geometry, cpu), point, kind.function, kind.source, f"{kind.subject} {text}",
                _value_text(kind.value, value),
            )
        )  # fmt: skip
    return told


def _about(views: Mapping[str, Any], bug: Bug, subject: int, cpu: int) -> tuple[int | None, int | None]:
    """The table a bug is about, and the 2 MiB of address."""
    kind = BUGS[bug].subject
    table = region = None
    if kind == "table":
        table = subject
    elif kind == "pmd":
        table = int(views["cpu"]["pin_table"][cpu])
    elif kind == "address":
        region = subject >> 21
    return table, region


def _participants(views: Mapping[str, Any], geometry: Geometry, cpus: list[int]) -> list[Participant]:
    found = []
    for cpu in cpus:
        name = last_point(views, geometry, cpu)
        point = POINTS[name] if name else None
        is_cpu = cpu < geometry.cpus
        found.append(
            Participant(
                name=who(geometry, cpu),
                instruction=instruction(views, cpu) if is_cpu else None,
                point=name,
                function=point.function if point else None,
                source=point.source if point else None,
                holds=locks_held(views, cpu),
                waits_for=waiting_for(views, cpu) if is_cpu else None,
            )
        )
    return found


def violation_of(views: Mapping[str, Any], geometry: Geometry) -> Violation | None:
    """The violation a frozen machine stopped on, or None."""
    run = views["run"]
    bug = Bug(int(run["bug"][0]))
    if bug == Bug.NONE:
        return None
    cpu, subject, was, seen = (int(run[f"bug_{name}"][0]) for name in ("cpu", "subject", "was", "seen"))
    text = BUGS[bug]
    table, region = _about(views, bug, subject, cpu)
    story = _story(views, geometry, table, region) if geometry.debug else []
    life = life_of(views, table) if geometry.debug and table is not None else []
    names = [who(geometry, number) for number in range(geometry.cpus + 1)]
    told = {event.who for event in story} | {who(geometry, by) for _, by, _ in life}
    involved = [cpu] + [n for n in range(geometry.cpus + 1) if n != cpu and names[n] in told]
    if bug == Bug.NO_PROGRESS:
        involved = [n for n in range(geometry.cpus + 1) if n == geometry.cpus or not views["cpu"]["finished"][n]]
    rcu = views["rcu"]
    values = {"subject": subject, "was": was, "seen": seen}
    if "in state {seen}" in text.saw:
        values["seen"] = TABLE_STATES[seen]  # type: ignore[assignment]
    return Violation(
        detector=bug.detector,
        saw=text.saw.format(**values),
        why=text.why,
        cpu=cpu,
        ns=int(run["bug_ns"][0] - run["start_ns"][0]),
        subject=subject,
        was=was,
        seen=seen,
        table=table,
        participants=_participants(views, geometry, involved[:6]),
        life=[{"ns": ns, "who": who(geometry, by), "event": event} for ns, by, event in life],
        rcu={
            "gp_seq": int(rcu["gp_seq"][0]),
            "gp_completed": int(rcu["gp_completed"][0]),
            "waits_for": [who(geometry, n) for n in unquiet(views, geometry)],
            "in_read_section": [int(n) for n in np.flatnonzero(views["cpu"]["rcu_nesting"])],
            "ages": [int(n) for n in views["rcu_age"]["count"][:RCU_AGES]],
        },
        waits=wait_for_graph(views, geometry),
        story=story,
    )


def story_lines(violation: Violation) -> list[str]:
    """The story in columns, one per process, one event per line."""
    columns = list(dict.fromkeys(event.who for event in violation.story))
    columns.sort(key=lambda name: (name == "the coordinator", len(name), name))
    if not columns:
        return []
    last = {event.who: i for i, event in enumerate(violation.story)}
    lines = [" " * 12 + "".join(f"{name:<{COLUMN}}" for name in columns).rstrip()]
    lines.append(" " * 12 + "".join("=" * (COLUMN - 3) + "   " for _ in columns).rstrip())
    first = violation.story[0].ns
    for i, event in enumerate(violation.story):
        text = f"{event.point} {event.subject.removeprefix('table ')}: {event.value}"
        mark = ">" if last[event.who] == i else " "
        at = columns.index(event.who) * COLUMN
        lines.append(f"{(event.ns - first) / 1000:>9.1f} {mark} " + " " * at + text[: COLUMN - 2].ljust(0))
    return lines


def report_lines(violation: Violation) -> list[str]:
    """The whole report, for people."""
    who_saw = violation.participants[0].name if violation.participants else f"CPU {violation.cpu}"
    lines = [f"VIOLATION  {violation.detector}, seen by {who_saw} after {violation.ns / 1e6:.3f} ms"]
    lines.append(f"  {violation.saw}")
    lines.append(f"  wrong, because {violation.why}")
    for one in violation.participants:
        where = f"{one.function} [{one.point}; {one.source}]" if one.point else ""
        lines.append(f"  {one.name:<16} {one.instruction or 'both agents'}")
        if where:
            lines.append(f"  {'':<16} in {where}")
        lines.append(f"  {'':<16} holds {', '.join(one.holds) or 'no lock'}")
        if one.waits_for:
            lines.append(f"  {'':<16} waits for {one.waits_for}")
    if violation.table is not None and violation.life:
        told = ", ".join(f"{e['event']} by {e['who']} at {e['ns'] / 1000:.1f}" for e in violation.life)
        lines.append(f"  life of table {violation.table} (us): {told}")
    rcu = violation.rcu
    waits = f", waits for {', '.join(rcu['waits_for'])}" if rcu["waits_for"] else ""
    readers = ", ".join(f"CPU {n}" for n in rcu["in_read_section"]) or "nobody"
    lines.append(
        f"  RCU              grace period {rcu['gp_seq']}, {rcu['gp_completed']} completed{waits}; "
        f"in a read section: {readers}; ages 0, 1, 2+: {rcu['ages'][0]}, {rcu['ages'][1]}, {sum(rcu['ages'][2:])}"
    )
    lines += [f"  {line}" for line in violation.waits]
    story = story_lines(violation)
    if story:
        lines += ["", "       us    the story; > is the last thing a process did"]
        lines += story
    if violation.command:
        lines += ["", f"  again: {violation.command}"]
    return lines
