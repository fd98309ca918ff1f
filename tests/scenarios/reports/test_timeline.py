"""Perfetto traces, read back: slices nest, time goes on, arrows lead from one holder of a lock to the next."""

from collections import Counter, defaultdict
from pathlib import Path

import pytest
from command import ptelab
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TrackEvent

from scenarios.cli import command_line
from scenarios.reports.reading import Run, read_runs
from scenarios.reports.timeline import Timeline, timeline_of

RECORDS = Path(__file__).with_name("records")
WITH_EVENTS = (
    "race",
    "deadlock",
    "explored-race",
    "explored-deadlock",
    "explored-grace-period",
    "replay-none",
    "whatif",
)
BEGIN, END, INSTANT, COUNTER = (getattr(TrackEvent, f"TYPE_{name}") for name in
                                ("SLICE_BEGIN", "SLICE_END", "INSTANT", "COUNTER"))  # fmt: skip


class Read:
    """A trace, parsed by the format's own library; raises ValueError where the viewer would stumble."""

    def __init__(self, data):
        packets = Trace.FromString(data).packet
        self.names, self.parents, self.counters = {}, {}, set()
        self.events = [packet for packet in packets if packet.HasField("track_event")]
        for packet in packets:
            if packet.HasField("track_descriptor"):
                about = packet.track_descriptor
                self.names[about.uuid] = about.process.process_name or about.thread.thread_name or about.name
                if about.HasField("counter"):
                    self.counters.add(about.uuid)
                if about.parent_uuid:
                    self.parents[about.uuid] = about.parent_uuid
        if not {*self.parents.values()} <= set(self.names):
            raise ValueError("a track below one that is not described")
        times = [packet.timestamp for packet in self.events]
        if times != sorted(times):
            raise ValueError("time goes back")
        self.slices = self._slices()

    def _slices(self):
        """(track, name, begin, end, depth) of each slice."""
        found, stacks = [], defaultdict(list)
        for packet in self.events:
            event = packet.track_event
            if event.track_uuid not in self.names:
                raise ValueError("an event of no track")
            if (event.type == COUNTER) != (event.track_uuid in self.counters):
                raise ValueError("a counter and its track do not agree")
            stack = stacks[event.track_uuid]
            if event.type == BEGIN:
                stack.append((event.name, packet.timestamp))
            elif event.type == END:
                if not stack:
                    raise ValueError("an end without a beginning")
                name, begin = stack.pop()
                found.append((self.names[event.track_uuid], name, begin, packet.timestamp, len(stack)))
        if any(stacks.values()):
            raise ValueError("a slice without an end")
        return found

    def of(self, kind):
        """(instant, track, event) of this kind."""
        return [
            (p.timestamp, self.names[p.track_event.track_uuid], p.track_event)
            for p in self.events
            if p.track_event.type == kind
        ]


def trace_of(*names):
    runs = [run for name in names for run in read_runs(str(RECORDS / f"{name}.json"))]
    return Read(timeline_of(runs).serialized())


@pytest.mark.parametrize("name", WITH_EVENTS)
def test_a_trace_is_nested_in_order_and_whole(name):
    read = trace_of(name)

    assert all(begin < end for _, _, begin, end, _ in read.slices)
    assert set(read.names.values()) & {"CPU 0", "VmPTE kB, none"}


def test_records_of_every_kind_share_a_file():
    read = trace_of(*WITH_EVENTS)

    assert len(set(read.names)) == len(read.names)
    assert len(read.slices) > 50


def test_every_event_of_a_story_is_on_the_track_of_its_process_at_its_step():
    (run,) = read_runs(str(RECORDS / "explored-race.json"))
    story = run.rows[0]["story"]
    told = [(line["step"] * 1000, story["tasks"][line["task"]], line["text"]) for line in story["lines"]]

    read = trace_of("explored-race")
    assert [(ns, who, event.name.removeprefix(">> ")) for ns, who, event in read.of(INSTANT)] == told
    assert sum(event.name.startswith(">> ") for _, _, event in read.of(INSTANT)) == 2


def test_functions_lie_within_their_instruction_and_within_each_other():
    slices = trace_of("explored-race").slices
    (touch,) = [one for one in slices if one[0] == "CPU 0" and one[1].startswith("touch ")]
    inner = [one for one in slices if one[0] == "CPU 0" and one[1] == "pte_try_get"]

    assert touch[4] == 0
    assert inner
    for _, _, begin, end, depth in inner:
        assert touch[2] <= begin < end <= touch[3]
        assert depth > 0


def test_read_sections_are_slices_of_their_own():
    sections = [one for one in trace_of("explored-race").slices if one[0] == "RCU read section"]

    assert len(sections) == 2  # one of each CPU
    longest = max(
        (one for one in trace_of("explored-grace-period").slices if one[0] == "RCU read section"),
        key=lambda one: one[3] - one[2],
    )
    assert longest[3] == max(ns for ns, _, _ in trace_of("explored-grace-period").of(INSTANT))  # it never ended


def test_an_arrow_leads_from_who_lets_a_lock_go_to_who_takes_it_next():
    read = trace_of("explored-deadlock")
    starts = {flow: (ns, who, event.name) for ns, who, event in read.of(INSTANT) for flow in event.flow_ids}
    ends = {flow: (ns, who, event.name) for ns, who, event in read.of(INSTANT) for flow in event.terminating_flow_ids}

    assert starts.keys() == ends.keys() != set()
    for flow, (ns, who, name) in starts.items():
        later, other, taken = ends[flow]
        assert ns < later
        assert who != other
        assert "unlock" in name
        assert "_lock" in taken
        assert name.split("unlock ")[1] == taken.split("lock ", 1)[1]


def test_counters_follow_the_tables():
    read = trace_of("explored-grace-period")
    limbo = [event.counter_value for _, name, event in read.of(COUNTER) if name == "tables in limbo"]
    held = [event.counter_value for _, name, event in read.of(COUNTER) if name.startswith("VmPTE")]

    assert max(limbo) == 1  # unhooked
    assert limbo[-1] == 0  # and freed, with no grace period between
    assert held[-1] == -4  # one PTE table fewer than at the start


def test_the_curve_of_a_replay_is_a_counter():
    (run,) = read_runs(str(RECORDS / "replay-none.json"))
    counted = [event.counter_value for _, _, event in trace_of("replay-none").of(COUNTER)]

    assert counted == [row["vmpte_kb"] for row in run.rows]


def test_what_real_processes_held_is_counters_for_each_policy(tmp_path):
    out = tmp_path / "out.json"
    run = ptelab("run", "madvise-loop", "--size", "1G", "--policy", "none,refcount", "--json", str(out))
    assert run.returncode == 0, run.stderr
    (run,) = read_runs(str(out))

    counted = Read(timeline_of([run]).serialized()).of(COUNTER)
    for row in run.rows:
        found = {}
        for ns, name, event in counted:
            found.setdefault(name, []).append((ns, event.counter_value))
        held, limbo, free = (
            found[f"{what}, {row['policy']}"] for what in ("VmPTE kB", "tables in limbo", "free tables")
        )
        assert held[-1][1] == row["vmpte_kb"]
        assert limbo[-1][1] == 0
        assert [ns for ns, _ in held] == sorted(ns for ns, _ in held)
        assert [value for _, value in free] == row["samples"]["free_tables"]
        assert min(value for _, value in free) > 0
    assert {row["policy"]: row["samples"]["vmpte_kb"][-1] for row in run.rows}["none"] > 2000


def test_what_many_cpus_held_is_counters_for_each_policy_and_number_of_cpus(tmp_path):
    out = tmp_path / "out.json"
    run = ptelab("run", "multi-fault", "--cpus", "1,2", "--seconds", "0.5", "--repeat", "1", "--no-host", "--json", out)
    assert run.returncode == 0, run.stderr
    (run,) = read_runs(str(out))

    counted = Read(timeline_of([run]).serialized()).of(COUNTER)
    assert {name for _, name, _ in counted} == {
        f"{what}, {policy}, {cpus}"
        for what in ("VmPTE kB", "tables in limbo", "free tables")
        for policy in ("none", "refcount")
        for cpus in ("1 CPU", "2 CPUs")
    }
    for row in run.rows:
        cpus = "1 CPU" if row["cpus"] == 1 else f"{row['cpus']} CPUs"
        held = [
            (ns, event.counter_value) for ns, name, event in counted if name == f"VmPTE kB, {row['policy']}, {cpus}"
        ]
        assert [value for _, value in held] == row["samples"]["vmpte_kb"]
        assert 0 < held[0][0] < held[-1][0] <= 1e9
        assert held[-1][1] >= 8  # a PUD and a PMD table stay
        assert min(row["samples"]["free_tables"]) > 0


def test_what_random_programs_held_is_counters(tmp_path):
    out = tmp_path / "out.json"
    run = ptelab("run", "stress", "--policy", "none", "--cpus", "2", "--length", "2000", "--json", str(out))
    assert run.returncode == 0, run.stderr
    (run,) = read_runs(str(out))

    counted = Read(timeline_of([run]).serialized()).of(COUNTER)
    held = [event.counter_value for _, name, event in counted if name == "VmPTE kB, none, 2 CPUs"]
    assert held == run.rows[0]["samples"]["vmpte_kb"]
    assert max(held) > 0
    assert [event.counter_value for _, name, event in counted if name.startswith("tables in limbo")][-1] == 0


def test_the_life_of_a_table_is_a_track():
    (run,) = read_runs(str(RECORDS / "race.json"))
    violation = run.data["violations"][0]
    lived = [one for one in trace_of("race").slices if one[0] == f"life of table {violation['table']}"]

    assert len(lived) == len(violation["life"])
    assert [begin for _, _, begin, _, _ in lived] == [event["ns"] for event in violation["life"]]


def test_a_trace_that_is_wrong_is_seen():
    timeline = Timeline()
    timeline.add(5, "begin", ("mm 0", "CPU 0"), "f")
    with pytest.raises(ValueError, match="without an end"):
        Read(timeline.serialized())
    timeline.add(6, "end", ("mm 0", "CPU 0"))
    timeline.add(7, "end", ("mm 0", "CPU 0"))
    with pytest.raises(ValueError, match="without a beginning"):
        Read(timeline.serialized())


def test_every_flow_has_one_beginning_and_one_end():
    read = trace_of(*WITH_EVENTS)
    flows = Counter(flow for _, _, event in read.of(INSTANT) for flow in (*event.flow_ids, *event.terminating_flow_ids))

    assert set(flows.values()) <= {2}


def test_the_command_writes_it_and_says_when_there_is_nothing_to_write(tmp_path, capsys):
    file = tmp_path / "out.pftrace"

    assert command_line(["report", str(RECORDS / "race.json"), "--perfetto", str(file)]) == 0
    assert Read(file.read_bytes()).slices
    assert command_line(["report", str(RECORDS / "arena.json"), "--perfetto", str(file)]) == 2
    assert "no record has events" in capsys.readouterr().err


def test_names_from_input_stay_names():
    (run,) = read_runs(str(RECORDS / "replay-none.json"))
    evil = "\x00<b>\u2028\N{SNOWMAN}"
    for row in run.rows:
        row["operation"] = evil

    read = Read(timeline_of([Run(evil, run.data)]).serialized())
    assert evil in read.names.values()
    assert {name for _, name, _, _, _ in read.slices} == {evil}
