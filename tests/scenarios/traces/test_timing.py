"""Each thread of a trace is a CPU: under `program` what took turns takes turns, under `free` nobody waits."""

import random
import re

import pytest
from command import ptelab

from emulator.uapi import Op
from scenarios.traces.replay import replay_trace
from scenarios.traces.timing import programs, threads_of
from scenarios.traces.trace import TraceError, parse_text
from workers.instruments import Instruments
from workers.programs.program import POST

OVERLAP = ["mark", "on 1 10 30 mark", "on 2 20 40 mark", "on 1 35 50 mark", "on 2 60 60 mark", "mark"]


def random_lines(rng, count=60):
    """A trace of four threads whose lines stand in the order of their ends."""
    ends = sorted((rng.randrange(1000), rng.randrange(4)) for _ in range(count))
    return [f"on {thread} {max(0, end - rng.randrange(80))} {end} mark" for end, thread in ends]


def orders(trace, own, rng):
    """The rows of a trace in one order that its programs allow, each CPU waiting as it does; rows that it forbids."""
    at, posts, done = [0] * len(own), [0] * len(own), []
    while any(place < len(insns) - 1 for place, insns in zip(at, own, strict=True)):
        ready = []
        for cpu, insns in enumerate(own):
            insn = insns[at[cpu]]
            if insn.op != Op.STOP and not (insn.op == Op.FOLLOW and posts[insn.addr] < insn.arg):
                ready.append(cpu)
        assert ready, "everybody waits"
        cpu = rng.choice(ready)
        insn = own[cpu][at[cpu]]
        at[cpu] += 1
        posts[cpu] += insn == POST
        if insn.record >= 0:
            done.append(insn.record)
    return done


def broken(trace, done):
    """Pairs of lines, of which the first had ended when the second began, that an order has the wrong way round."""
    place = {row: i for i, row in enumerate(done)}
    whens = [operation.when for operation in trace.operations]
    return [
        (one, two)
        for two in range(len(whens))
        for one in range(two)
        if whens[one].end <= whens[two].begin and place[one] > place[two]
    ]


@pytest.mark.parametrize("seed", range(20))
def test_no_order_that_program_allows_turns_two_lines_round_of_which_one_had_ended(seed):
    rng = random.Random(seed)
    trace = parse_text(random_lines(rng))
    done = orders(trace, programs(trace, "program"), rng)
    assert sorted(done) == list(range(len(done)))
    assert broken(trace, done) == []


def test_without_the_waits_some_order_does():
    trace = parse_text(random_lines(random.Random(1)))
    assert broken(trace, orders(trace, programs(trace, "free"), random.Random(1)))


def test_what_overlapped_is_not_ordered():
    trace = parse_text(OVERLAP)
    own = programs(trace, "program")
    found = {tuple(orders(trace, own, random.Random(seed))) for seed in range(40)}
    assert {rows.index(1) < rows.index(2) for rows in found} == {True, False}
    assert all(rows[0] == 0 and rows[-1] == 5 and rows.index(1) < rows.index(4) for rows in found)


def test_a_trace_without_on_is_one_cpus_whatever_the_timing():
    trace = parse_text(["mmap 0 4K", "touch 0 0 4K"])
    assert threads_of(trace) == [0]
    assert programs(trace, "program") == programs(trace, "free") == programs(trace, None)


TURNS = ["mmap 0 4M", "touch 0 0 8K"] + [
    line
    for turn in range(1, 40)
    for line in (
        f"on 1 {40 * turn} {40 * turn + 5} put 0 0 4K {turn}",
        f"on 2 {40 * turn + 10} {40 * turn + 15} get 0 0 4K",
        f"on 3 {40 * turn + 20} {40 * turn + 25} in 1 put 0 0 4K 7" if turn > 1 else "on 3 60 65 fork 1",
        f"on 2 {40 * turn + 30} {40 * turn + 35} dontneed 0 0 4K",
    )
]


@pytest.mark.parametrize("policy", ["none", "refcount", "pt-reclaim"])
def test_threads_that_took_turns_leave_what_one_cpu_leaves(policy):
    trace = parse_text(TURNS)
    alone, together = replay_trace(trace, policy), replay_trace(trace, policy, timing="program")
    assert together.passed
    faults = re.compile(r"^(\S+\t\S+)\t\S+|:\d+(?=\t)")  # a thread, and a child of one, counts its own
    assert [faults.sub(r"\1", row) for row in together.rows] == [faults.sub(r"\1", row) for row in alone.rows]


def test_racing_threads_are_sound_and_every_line_is_done():
    lines = ["mmap 0 8M"]
    for turn in range(60):
        lines += [
            f"on {turn % 3} {turn} {turn + 9} touch 0 0 2M",
            f"on {(turn + 1) % 3} {turn} {turn + 9} dontneed 0 0 4M",
        ]
    result = replay_trace(parse_text(lines), "refcount", Instruments(online=True), timing="free")
    assert result.passed
    assert len(result.rows) == len(lines)


def test_a_race_of_a_recorded_program_is_caught_where_the_piece_is_missing():
    lines = ["mmap 0 4M"]
    for turn in range(400):
        lines += [f"on 1 {turn} {turn + 9} touch 0 0 4K", f"on 2 {turn} {turn + 9} dontneed 0 0 2M"]
    trace = parse_text(lines)
    twin = Instruments(online=True, knobs=("no-flush",), perturb=64, seed=1)
    assert replay_trace(trace, "refcount", Instruments(online=True, perturb=64, seed=1), timing="program").passed
    assert not replay_trace(trace, "refcount", twin, timing="program").passed


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("on", "'on' takes T BEGIN END OPERATION, not nothing"),
        ("on 1 2 mark", "'on' takes T BEGIN END OPERATION"),
        ("on 256 1 2 mark", "T '256' is out of range; known: 0 to 255"),
        ("on 1 3 2 mark", "END 2 comes before BEGIN 3"),
        ("on 1 1 2 on 1 1 2 mark", "'on' takes T BEGIN END OPERATION"),
        ("on 1 1 2 cook", "unknown operation 'cook'"),
    ],
)
def test_a_line_that_says_no_interval_is_refused(line, said):
    with pytest.raises(TraceError, match=re.escape(said)):
        parse_text([line])


def test_the_command_takes_a_timing_and_prints_lines_without_on(tmp_path):
    (tmp_path / "x.trace").write_text("mmap 0 4K\non 3 1 2 touch 0 0 4K\n")
    result = ptelab("replay", str(tmp_path / "x.trace"), "--timing", "program")
    assert (result.returncode, result.stdout.splitlines()[1]) == (0, "12\t4\t1\t0\t\ttouch 0 0 4K")
    refused = ptelab("replay", str(tmp_path / "x.trace"), "--timing", "slow")
    assert (refused.returncode, "known: program, free" in refused.stderr) == (2, True)
