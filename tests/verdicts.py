"""Litmus tests with published verdicts, and random ones, on the explore engine. A module for in_engine.

tests/workers/litmus/*.jsonl is the public half: programs, conditions and verdicts are facts of the collections that
docs/litmus.md names; names, locations and registers are ours.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from emulator import engine
from emulator.engines import load_queue
from emulator.engines.load_queue import Reordering
from emulator.engines.store_buffer import Buffers
from workers.explorer.search import Search
from workers.litmus import judge
from workers.litmus.record import Test, read

if engine.name() == "explore":  # as in litmus.py
    engine.prepare()
HERE = Path(__file__).parent / "workers" / "litmus"
MOST = 20_000


def published(owner: str) -> list[Test]:
    """The public half of one owner."""
    lines = (HERE / f"{owner}.jsonl").read_text().splitlines()
    return [read(line, f"{owner}:{number}") for number, line in enumerate(lines, 1)]


def judged(owner: str, memory: str) -> list[list[Any]]:
    """Per test: its name, whether the search was complete, whether the verdict holds, and whether it was reached."""
    found = [judge.run(test, memory, MOST) for test in published(owner)]
    return [[one.test.name, one.complete, one.agrees, one.reachable, one.test.expected] for one in found]


def races() -> list[list[Any]]:
    """The tests whose owner says whether they have a data race: name, uses, what he says, what the detector says."""
    tests = [test for test in published("lkmm") if test.data_race is not None]
    return [[test.name, sorted(test.uses), test.data_race, judge.run(test, "sc", MOST).races] for test in tests]


def _no(*arguments: Any) -> None:
    return None


TWINS: dict[str, tuple[Any, str, Callable[..., Any]]] = {
    "smp_mb waits for stores": (Buffers, "full_barrier", _no),
    "smp_mb waits for loads": (Reordering, "full_barrier", _no),
    "smp_rmb": (Reordering, "read_barrier", _no),
    "smp_wmb and releases": (Buffers, "barrier", _no),
    "acquire": (Reordering, "_stand", _no),
    "dependencies": (load_queue, "loads_of", lambda value: ()),
    "a read-modify-write drains": (Buffers, "_before_update", _no),
}


def without(piece: str) -> list[str]:
    """The tests whose verdict does not hold under tso or arm without a piece of the memory models."""
    where, name, instead = TWINS[piece]
    before = vars(where)[name]
    setattr(where, name, instead)
    try:
        found = [*judged("tso", "tso"), *judged("lkmm", "arm")]
    finally:
        setattr(where, name, before)
    return [one[0] for one in found if one[2] is False]


def wrong_without() -> dict[str, list[str]]:
    """`without` each piece."""
    return {piece: without(piece) for piece in TWINS}


def _operation(rng: random.Random, thread: int, k: int, registers: list[str]) -> list[dict[str, Any]]:
    """One operation of a random test, or a few that belong together."""
    place, value, reg = rng.choice("xy"), 1 + 3 * thread + k, f"r{len(registers)}"
    known = rng.choice(registers) if registers and rng.random() < 0.5 else ""
    address = f"*(&{place} + {known} - {known})" if known and rng.random() < 0.3 else place
    kind = rng.choice(("once", "once", "acquire"))
    op = rng.choice(("load",) * 5 + ("store",) * 5 + ("fence", "xchg", "branch", "section", "lock", "synchronize"))
    if op == "load":
        return [{"op": op, "reg": reg, "loc": address, "kind": kind}]
    if op == "store":
        one = {"op": op, "loc": address, "val": value, "kind": "release" if kind == "acquire" else kind}
        if known and rng.random() < 0.5:
            return [{"op": "if", "cond": f"{known} >= 0", "then": [one]}]
        return [{**one, "val": f"{value} + {known} - {known}"} if known else one]
    if op == "fence":
        return [{"op": op, "kind": rng.choice(("mb", "wmb", "rmb"))}]
    if op == "xchg":
        order = rng.choice(("mb", "relaxed", "acquire", "release"))
        return [{"op": op, "reg": reg, "loc": place, "val": value, "kind": order}]
    if op == "branch" and registers:
        inner = {"op": "load", "reg": reg, "loc": place, "kind": "once"}
        return [{"op": "if", "cond": registers[-1], "then": [inner]}]
    if op == "section":
        inner = {"op": "load", "reg": reg, "loc": place, "kind": "once"}
        return [{"op": "rcu_read_lock"}, inner, {"op": "rcu_read_unlock"}]
    if op == "lock":
        return [{"op": "lock", "loc": "s"}, {"op": "unlock", "loc": "s"}]
    return [{"op": "synchronize_rcu"}] if op == "synchronize" and thread == 0 else []


def random_test(seed: int) -> Test:
    """Two or three threads of up to three operations on two words."""
    rng = random.Random(seed)
    threads = []
    for thread in range(rng.choice((2, 2, 3))):
        operations: list[dict[str, Any]] = []
        registers: list[str] = []
        for k in range(rng.choice((1, 2, 3))):
            new = _operation(rng, thread, k, registers)
            operations += new
            inner = [one for outer in new for one in (outer, *outer.get("then", ()))]
            registers += [one["reg"] for one in inner if "reg" in one]
        threads.append(operations)
    record = {"name": f"random {seed}", "threads": threads, "init": {"x": 0, "y": 0}, "quantifier": "exists"}
    return read(json.dumps({**record, "condition": "x == 0"}), f"random:{seed}")


def compare_unreduced(memory: str, count: int, most: int) -> tuple[int, list[int]]:
    """Of so many random tests: how many a search that tries every task at every step gets through in `most` executions,
    and those for which it finds other ends than the reduced one."""
    complete, differ = 0, []
    for seed in range(count):
        test = random_test(seed)
        reduced = judge.run(test, memory, MOST)
        judge.Search = lambda: Search(reduce=False)  # type: ignore[assignment, misc]
        plain = judge.run(test, memory, most)
        judge.Search = Search  # type: ignore[misc]
        complete += plain.complete
        if not plain.ends <= reduced.ends or (plain.complete and plain.ends != reduced.ends):
            differ.append(seed)
    return complete, differ


def executions(lines: list[str], memory: str) -> list[list[int]]:
    """Ends and executions of tests given as JSON."""
    found = [judge.run(read(line, "here"), memory, MOST) for line in lines]
    return [[len(one.ends), one.executions] for one in found]
