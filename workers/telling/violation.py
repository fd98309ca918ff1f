"""The report of a violation: what was seen, why it is wrong, where each process was, the table's life, the story in
columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from emulator.mm_types import PTRS_PER_TABLE, RCU_AGES, TRACE_ENTRIES, Geometry
from emulator.pgtable_types import PMD_LEVEL, PMD_SHIFT, PTE_LEVEL, PTRS_PER_PTE, TABLE_STATES
from emulator.watch.bugs import BUGS, Bug
from emulator.watch.points import POINTS, point_name
from workers.telling.columns import WIDTH, Row, column_lines, hanging
from workers.telling.phrases import entry_text
from workers.telling.waits import cycle_line, unquiet, wait_edges, wait_for_graph
from workers.telling.whereabouts import (
    instruction,
    last_point,
    life_of,
    locks_held,
    number_text,
    stamp,
    waiting_for,
    who,
)

STORY_EVENTS = 24
MARGIN = 9  # of the story: microseconds
KEPT_EVENTS = 3  # of the CPU that saw it, from before those


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
    """One line of the story: which process passed which point when, how often in a row, with what in hand."""

    ns: int
    who: str
    point: str
    function: str
    source: str
    subject: str
    value: str
    times: int = 1


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
    wait_edges: list[dict[str, str]]
    story: list[Event]
    command: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The record."""
        return asdict(self)

    def headline(self) -> str:
        """Detector, CPU, what it saw."""
        return f"{self.detector}: {self.saw}"


class _Passed(NamedTuple):
    """One line of a trace."""

    cycles: int
    cpu: int
    point: str
    subject: int
    value: int

    @property
    def kind(self) -> str:
        return POINTS[self.point].subject


def value_text(kind: str, value: int) -> str:
    """What a point tells besides what it is about."""
    if kind in ("pmd", "entry"):
        return f"{kind} {entry_text(value, PMD_LEVEL if kind == 'pmd' else PTE_LEVEL)}"
    if kind == "pmd no.":
        table, at = divmod(value, PTRS_PER_TABLE)
        return f"pmd {at} of table {table}"
    if kind == "table":
        return f"for {value:#x}"
    return f"{kind} {number_text(value)}"


def _clock(views: Mapping[str, Any]) -> tuple[float, int]:
    """Nanoseconds per cycle, and the cycle of the bug."""
    run = views["run"]
    cycles = int(run["bug_cycles"][0] - run["start_cycles"][0])
    return int(run["bug_ns"][0] - run["start_ns"][0]) / max(cycles, 1), cycles


def _trace(views: Mapping[str, Any], cpu: int, until: int) -> list[_Passed]:
    """The trace of one process up to a cycle, oldest first."""
    at = int(views["cpu"]["trace_at"][cpu])
    rows = views["trace"][cpu * TRACE_ENTRIES : (cpu + 1) * TRACE_ENTRIES]
    order = [rows[i % TRACE_ENTRIES] for i in range(max(0, at - TRACE_ENTRIES), at)]
    return [
        _Passed(int(row["stamp"]), cpu, point_name(int(row["point"])), int(row["subject"]), int(row["value"]))
        for row in order
        if 0 < row["point"] <= len(POINTS) and row["stamp"] <= until
    ]


def _concerns(views: Mapping[str, Any], event: _Passed, table: int | None, region: int | None) -> bool:
    """True if an event has to do with the table, or with the 2 MiB number `region` of address."""
    if event.kind == "table":
        if table is not None and event.subject == table:
            return True
        return (
            table is None
            and region is not None
            and int(views["ptdesc"]["pmd"][event.subject]) % PTRS_PER_PTE == region % PTRS_PER_PTE
        )
    if event.kind == "address":
        return (
            region is None
            or (event.subject >> PMD_SHIFT ^ region) % PTRS_PER_PTE == 0
            or event.point == "flush.requested"
        )
    return event.kind not in ("zone", "state")


def _fold(events: list[_Passed]) -> list[tuple[_Passed, int]]:
    """The same thing done by one process again and again is one line."""
    folded: list[tuple[_Passed, int]] = []
    for event in events:
        if folded and folded[-1][0][1:] == event[1:]:
            folded[-1] = (event, folded[-1][1] + 1)
        else:
            folded.append((event, 1))
    return folded


def _story(
    views: Mapping[str, Any], geometry: Geometry, seen_by: int, table: int | None, region: int | None
) -> list[Event]:
    """The latest events about the table or its 2 MiB, of all processes, in order of time."""
    ns_per_cycle, until = _clock(views)
    traces = [_fold(_trace(views, cpu, until)) for cpu in range(geometry.cpus + 1)]
    about = [[one for one in trace if _concerns(views, one[0], table, region)] for trace in traces]
    if not any(about):
        about = [trace[-3:] for trace in traces]  # nobody did anything with it: the last things everybody did at all
    began = stamp(views["life"]["allocated"][table])[0] if table is not None else 0
    if sum(one[0].cycles >= began for one in about[seen_by]) < 2:
        began = 0  # the CPU that saw it had found the table in an earlier life
    told = [one for events in about for one in events if one[0].cycles >= began]
    told.sort()
    kept = [one for one in told[:-STORY_EVENTS] if one[0].cpu == seen_by][-KEPT_EVENTS:]  # how it came there
    told = kept + told[-STORY_EVENTS:]
    return [
        Event(
            ns=round(event.cycles * ns_per_cycle),
            who=who(geometry, event.cpu),
            point=event.point,
            function=POINTS[event.point].where,
            source=POINTS[event.point].models,
            subject=f"{event.kind} {number_text(event.subject)}",
            value=value_text(POINTS[event.point].value, event.value),
            times=times,
        )
        for event, times in told
    ]


def _about(views: Mapping[str, Any], bug: Bug, subject: int, cpu: int) -> tuple[int | None, int | None]:
    """The table a bug is about, and the 2 MiB of address (the number's low nine bits count)."""
    kind = BUGS[bug].subject
    table = region = None
    if kind in ("table", "pmd"):
        table = subject if kind == "table" else int(views["cpu"]["pin_table"][cpu])
        region = int(views["ptdesc"]["pmd"][table]) % PTRS_PER_PTE
    elif kind == "address":
        region = subject >> PMD_SHIFT
    elif kind == "frame":
        trace = _trace(views, cpu, _clock(views)[1])
        if trace and trace[-1].kind == "address":
            region = trace[-1].subject >> PMD_SHIFT
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
                function=point.where if point else None,
                source=point.models if point else None,
                holds=locks_held(views, cpu),
                waits_for=waiting_for(views, cpu) if is_cpu else None,
            )
        )
    return found


def _rcu_state(views: Mapping[str, Any], geometry: Geometry) -> dict[str, Any]:
    """What RCU was about."""
    return {
        "gp_seq": int(views["rcu"]["gp_seq"][0]),
        "gp_completed": int(views["rcu"]["gp_completed"][0]),
        "waits_for": [who(geometry, n) for n in unquiet(views, geometry)],
        "in_read_section": [cpu for cpu, depth in enumerate(views["cpu"]["rcu_nesting"]) if depth],
        "ages": [int(n) for n in views["rcu_age"]["count"][:RCU_AGES]],
    }


def violation_of(views: Mapping[str, Any], geometry: Geometry) -> Violation | None:
    """The violation a frozen machine stopped on, or None."""
    run = views["run"]
    bug = Bug(int(run["bug"][0]))
    if bug == Bug.NONE:
        return None
    cpu, subject, was, seen = (int(run[f"bug_{name}"][0]) for name in ("cpu", "subject", "was", "seen"))
    text = BUGS[bug]
    table, region = _about(views, bug, subject, cpu)
    ns_per_cycle, _ = _clock(views)
    story = _story(views, geometry, cpu, table, region) if geometry.debug else []
    if table is None:  # a bug about an address or a frame: the table that was dealt with last there
        table = next((int(e.subject.split()[1], 0) for e in reversed(story) if e.subject.startswith("table ")), None)
    life = life_of(views, table) if geometry.debug and table is not None else []
    names = [who(geometry, number) for number in range(geometry.cpus + 1)]
    told = {event.who for event in story} | {who(geometry, by) for _, by, _ in life}
    involved = [cpu] + [n for n in range(geometry.cpus + 1) if n != cpu and names[n] in told]
    if bug == Bug.NO_PROGRESS:
        involved = [n for n in range(geometry.cpus + 1) if n == geometry.cpus or not views["cpu"]["finished"][n]]
    values = {"subject": number_text(subject), "was": number_text(was), "seen": number_text(seen)}
    if "in state {seen}" in text.saw:
        values["seen"] = TABLE_STATES[seen]
    saw, why = text.saw.format(**values), text.why
    if text.subject == "table" and subject == 0:
        saw = "there is no table (NULL) at the pmd, and it is used as if there were one"
        why = "the pmd was looked at too early, or not at all: entries read there mean nothing, stores corrupt"
    return Violation(
        detector=bug.detector,
        saw=saw,
        why=why,
        cpu=cpu,
        ns=int(run["bug_ns"][0] - run["start_ns"][0]),
        subject=subject,
        was=was,
        seen=seen,
        table=table,
        participants=_participants(views, geometry, involved[:6]),
        life=[{"ns": round(at * ns_per_cycle), "who": who(geometry, by), "event": event} for at, by, event in life],
        rcu=_rcu_state(views, geometry),
        waits=[*wait_for_graph(views, geometry), *cycle_line(views, geometry)],
        wait_edges=wait_edges(views, geometry),
        story=story,
    )


def story_lines(violation: Violation, width: int = WIDTH) -> list[str]:
    """The story in columns, one per process, one event per line."""
    columns = list(dict.fromkeys(event.who for event in violation.story))
    columns.sort(key=lambda name: (name == "the coordinator", len(name), name))
    if not columns:
        return []
    last = {event.who: i for i, event in enumerate(violation.story)}
    rows: list[Row | str] = []
    for i, event in enumerate(violation.story):
        text = f"{event.point} {event.subject.removeprefix('address ')}: {event.value}"
        if event.times > 1:
            text += f"  x{event.times}"
        mark = ">" if last[event.who] == i else ""
        rows.append(Row(f"{event.ns / 1000:>{MARGIN - 1}.1f}", event.who, mark, [text]))
    return column_lines(columns, rows, MARGIN, width, f"{'us':>{MARGIN - 1}}")


def report_lines(violation: Violation, width: int = WIDTH) -> list[str]:
    """The whole report, for people, in lines of so many columns."""
    who_saw = f"CPU {violation.cpu}" if violation.detector != "no-progress" else "the parent"
    lines = [f"VIOLATION  {violation.detector}, seen by {who_saw} after {violation.ns / 1e6:.3f} ms"]
    lines.append(f"  {violation.saw}")
    lines.append(f"  wrong, because {violation.why}")
    for one in violation.participants:
        where = f"{one.function} [{one.point}; {one.source}]" if one.point else ""
        lines.append(f"  {one.name:<16} {one.instruction or 'both agents'}")
        if where:
            lines.append(f"  {'':<16} in {where}")
        models = dict.fromkeys(e.source for e in violation.story if e.who == one.name and e.source != "-")
        if models:
            lines.append(f"  {'':<16} models {', '.join(models)}")
        lines.append(f"  {'':<16} holds {', '.join(one.holds) or 'no lock'}")
        if one.waits_for:
            lines.append(f"  {'':<16} waits for {one.waits_for}")
    if violation.table is not None and violation.life:
        told = ", ".join(f"{e['event']} {e['ns'] / 1000:.1f} {e['who']}" for e in violation.life)
        lines.append(f"  life of table {violation.table} (us): {told}")
    rcu = violation.rcu
    waits = f", waits for {', '.join(rcu['waits_for'])}" if rcu["waits_for"] else ""
    readers = ", ".join(f"CPU {n}" for n in rcu["in_read_section"]) or "nobody"
    lines.append(
        f"  RCU              grace period {rcu['gp_seq']}, {rcu['gp_completed']} completed{waits}; "
        f"in a read section: {readers}; ages 0, 1, 2+: {rcu['ages'][0]}, {rcu['ages'][1]}, {sum(rcu['ages'][2:])}"
    )
    lines += [f"  {line}" for line in violation.waits]
    lines = [part for line in lines for part in hanging(line, width)]
    story = story_lines(violation, width)
    if story:
        lines += ["", *hanging("  the story: points passed, oldest first; > is the last thing a process did", width)]
        lines += story
    if violation.command:
        lines += ["", f"  again: {violation.command}"]
    return lines
