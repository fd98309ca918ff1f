"""Records as a Perfetto trace (TrackEvent): a process per mm, a track per CPU and agent, counters, locks as arrows.

One step of the explorer, or one line of a memory trace, is a microsecond; events of real processes have their instants.
A function lasts from the first event that is told of it to the last: the record has no more.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scenarios.reports.drawings import STATES
from scenarios.reports.extra import ReportError, library
from scenarios.reports.reading import Run
from workers.telling.whereabouts import many

STEP = 1000  # ns
MACHINE = "machine"  # the process of what belongs to no mm
OUTER = {"run_program", "run_instruction", "execute", "coordinator_loop"}  # say nothing beside the instruction
_LOCK = re.compile(r"(?:spin|mutex|mmap_read|mmap_write|page)_(lock|unlock)\b ?(?:\(.*\))? ?(.*)")
_STATE = re.compile(r"(table \d+): (\w+) -> (\w+)$")
Json = Mapping[str, Any]


@dataclass
class Timeline:
    """Tracks, and events in any order; `packets` puts them in order of time.

    A track is named by a tuple: (process,), (process, thread), (process, thread, what lies below it).
    """

    tracks: dict[tuple[str, ...], int] = field(default_factory=dict)
    counters: set[tuple[str, ...]] = field(default_factory=set)
    events: list[tuple[int, int, dict[str, Any]]] = field(default_factory=list)
    flows: int = 0

    def track(self, *name: str) -> int:
        """The id of a track, which is made with those above it when it is first named."""
        if name not in self.tracks:
            if len(name) > 1:
                self.track(*name[:-1])
            self.tracks[name] = len(self.tracks) + 1
        return self.tracks[name]

    def add(self, ns: int, kind: str, track: tuple[str, ...], name: str = "", **more: Any) -> dict[str, Any]:
        """An event: `begin`, `end`, `instant` or `count`. At one instant an end comes first, and a count last."""
        event = {"kind": kind, "track": self.track(*track), "name": name, **more}
        self.events.append((ns, ("end", "begin", "instant", "count").index(kind), event))
        return event

    def count(self, ns: int, track: tuple[str, ...], value: int) -> None:
        """A new value of a counter."""
        self.counters.add(track)
        self.add(ns, "count", track, value=value)

    def slice(self, begin: int, end: int, track: tuple[str, ...], name: str) -> None:
        """Something that lasts; at least a nanosecond, so that it can be seen."""
        self.add(begin, "begin", track, name)
        self.add(max(end, begin + 1), "end", track)

    def serialized(self) -> bytes:
        """The trace as the viewer reads it."""
        pb = library("perfetto.protos.perfetto.trace.perfetto_trace_pb2")
        trace = library("perfetto.trace_builder.proto_builder").TraceProtoBuilder()
        for number, (name, uuid) in enumerate(self.tracks.items(), 1):
            packet = trace.add_packet()
            packet.trusted_packet_sequence_id = 1
            about = packet.track_descriptor
            about.uuid = uuid
            process = list(self.tracks).index(name[:1]) + 1
            if name in self.counters:
                about.name, about.parent_uuid = name[-1], self.tracks[name[:-1]]
                about.counter.SetInParent()
            elif len(name) == 1:
                about.process.pid, about.process.process_name = process, name[0]
            elif len(name) == 2:
                about.thread.pid, about.thread.tid, about.thread.thread_name = process, 1000 + number, name[1]
            else:
                about.name, about.parent_uuid = name[-1], self.tracks[name[:-1]]
        kinds = {
            "begin": pb.TrackEvent.TYPE_SLICE_BEGIN,
            "end": pb.TrackEvent.TYPE_SLICE_END,
            "instant": pb.TrackEvent.TYPE_INSTANT,
            "count": pb.TrackEvent.TYPE_COUNTER,
        }
        for ns, _, event in sorted(self.events, key=lambda one: one[:2]):
            packet = trace.add_packet()
            packet.timestamp, packet.trusted_packet_sequence_id = ns, 1
            written = packet.track_event
            written.type, written.track_uuid = kinds[event["kind"]], event["track"]
            if event["name"]:
                written.name = event["name"]
            if "value" in event:
                written.counter_value = event["value"]
            written.flow_ids.extend(event.get("flows", ()))
            written.terminating_flow_ids.extend(event.get("ends", ()))
            for key, value in event.get("said", {}).items():
                note = written.debug_annotations.add()
                note.name, note.string_value = key, str(value)
        data: bytes = trace.serialize()
        return data


def _mm_of(texts: Sequence[str]) -> str:
    """The process of a task, by the mmap_lock it is seen with."""
    for text in texts:
        if found := re.search(r"\bmm (\d+)", text):
            return f"mm {found[1]}"
    return MACHINE


def explored(timeline: Timeline, row: Json) -> None:
    """A story of the explorer: instructions, functions, RCU sections, locks that go from hand to hand, tables."""
    story = row["story"]
    homes = {
        name: _mm_of([*line_notes, story["ending"].get(name, "")])
        for task, name in enumerate(story["tasks"])
        for line_notes in [[note for line in story["lines"] if line["task"] == task for note in line["notes"]]]
    }
    open_slices: dict[str, list[str]] = {}
    last: dict[str, int] = {}
    sections: dict[str, int] = {}
    released: dict[str, tuple[str, dict[str, Any]]] = {}
    states = {"in limbo": 0, "installed": 0}
    process = next((home for home in homes.values() if home != MACHINE), MACHINE)
    for line in story["lines"]:
        ns, who = line["step"] * STEP, story["tasks"][line["task"]]
        track = (homes[who], who)
        functions = [caller.partition(" ")[0] for caller in reversed(line["callers"])]
        stack = [line["instruction"]] if line["instruction"] else []
        stack += [name for name in functions if name not in OUTER]
        _restack(timeline, track, open_slices.setdefault(who, []), stack, last.get(who, ns), ns)
        last[who] = ns
        said = {"function": line["function"], "source": line["source"], "guilty": line["guilty"]}
        mark = ">> " if line["guilty"] else ""
        event = timeline.add(ns, "instant", track, f"{mark}{line['text']}", said=said)
        text = line["text"]
        if lock := _LOCK.match(text):
            what = lock[2] or text.partition("_")[0]
            if lock[1] == "unlock":
                released[what] = who, event
            elif what in released and released[what][0] != who:
                timeline.flows += 1
                released.pop(what)[1]["flows"] = [timeline.flows]
                event["ends"] = [timeline.flows]
        if text == "rcu_read_lock":
            sections.setdefault(who, ns)
        elif text == "rcu_read_unlock" and who in sections:
            timeline.slice(sections.pop(who), ns, (*track, "RCU read section"), "rcu_read_lock")
        if state := _STATE.match(text):
            before, after = state[2], state[3]
            states["installed"] += (after == "installed") - (before == "installed")
            states["in limbo"] += (after in ("unhooked", "limbo")) - (before in ("unhooked", "limbo"))
            timeline.count(ns, (process, "VmPTE since the start, kB"), 4 * states["installed"])
            timeline.count(ns, (MACHINE, "tables in limbo"), states["in limbo"])
    for who, names in open_slices.items():
        _restack(timeline, (homes[who], who), names, [], last[who], last[who])
    for who, since in sections.items():
        timeline.slice(since, max(last.values()), (homes[who], who, "RCU read section"), "rcu_read_lock")


def _restack(
    timeline: Timeline, track: tuple[str, ...], names: list[str], stack: Sequence[str], before: int, now: int
) -> None:
    """Close what is left since the event `before`, innermost first, and open what is entered `now`."""
    same = 0
    while same < min(len(names), len(stack)) and names[same] == stack[same]:
        same += 1
    for _ in names[same:]:
        timeline.add(before + STEP // 2, "end", track)
    for name in stack[same:]:
        timeline.add(now, "begin", track, name)
    names[:] = stack


def native(timeline: Timeline, violation: Json) -> None:
    """The points that real processes passed, what they were about, and the life of the table."""
    holds = {one["name"]: one for one in violation["participants"]}
    homes = {event["who"]: _mm_of(holds.get(event["who"], {}).get("holds", ())) for event in violation["story"]}
    end = max([violation["ns"], *(event["ns"] for event in violation["story"])]) + 1
    for who, home in homes.items():
        first = min(event["ns"] for event in violation["story"] if event["who"] == who)
        doing = holds.get(who, {}).get("instruction") or "both agents"
        timeline.slice(first, end, (home, who), doing)
    for event in violation["story"]:
        said = {key: event[key] for key in ("point", "function", "source", "times")}
        name = f"{event['point']} {event['subject']}: {event['value']}"
        timeline.add(event["ns"], "instant", (homes[event["who"]], event["who"]), name, said=said)
    life = sorted(violation["life"], key=lambda one: int(one["ns"]))
    for one, after in zip(life, [*life[1:], {"ns": max(end, life[-1]["ns"] + 1)}] if life else [], strict=True):
        name = f"{STATES.get(one['event'], one['event'])} ({one['event']} by {one['who']})"
        timeline.slice(one["ns"], after["ns"], (MACHINE, f"life of table {violation['table']}"), name)
    saw = (homes.get(f"CPU {violation['cpu']}", MACHINE), f"CPU {violation['cpu']}")
    timeline.add(violation["ns"], "instant", saw, f"{violation['detector']}: {violation['saw']}")


def curves(timeline: Timeline, run: Run) -> None:
    """VmPTE over a memory trace or a program, and what was done."""
    for row in run.rows:
        if row.get("samples"):
            _sampled(timeline, run.name, row)
        elif "curve_kb" in row:
            for i, kb in enumerate(row["curve_kb"]):
                timeline.count(i * row["curve_step"] * STEP, (run.name, f"VmPTE kB, {row['policy']}"), kb)
        elif "vmpte_kb" in row and "line" in row:
            at = row["line"] * STEP
            timeline.count(at + STEP - 1, (run.name, f"VmPTE kB, {row['policy']}"), row["vmpte_kb"])
            timeline.slice(at, at + STEP - 1, (run.name, f"operations, {row['policy']}"), row["operation"])


SAMPLED = {"vmpte_kb": "VmPTE kB", "limbo_tables": "tables in limbo", "free_tables": "free tables"}


def _sampled(timeline: Timeline, name: str, row: Json) -> None:
    """What a machine of real processes held, look by look; each policy began at 0."""
    samples = row["samples"]
    of = ", ".join([row["policy"], *([many(row["cpus"], "CPU")] if row.get("cpus") else [])])
    for key, what in SAMPLED.items():
        for seconds, value in zip(samples["seconds"], samples.get(key, ()), strict=True):
            timeline.count(round(seconds * 1e9), (name, f"{what}, {of}"), value)


def timeline_of(runs: Sequence[Run]) -> Timeline:
    """Everything that these records have of time. Raises ReportError if that is nothing."""
    timeline = Timeline()
    for run in runs:
        for row in run.rows:
            if row.get("story") and row["story"].get("lines"):
                explored(timeline, row)
        for violation in run.data.get("violations") or []:
            native(timeline, violation)
        curves(timeline, run)
    if not timeline.events:
        raise ReportError("no record has events; known: explore, race/NAME and violations, madvise-loop, replay, ...")
    return timeline
