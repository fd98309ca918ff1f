"""Litmus programs on the explore engine: every outcome of small programs of loads and stores, found by a strategy.

A program is a tuple of tasks, a task a tuple of ("w", word, value), ("r", word) or ("u", word, value) - an exchange.
An outcome is what the loads and exchanges of all tasks saw, in order. A module for in_engine.
"""

from __future__ import annotations

import random
from functools import partial
from itertools import permutations
from typing import Any

from emulator.engines.explore import Field, atomic_add, cmpxchg, cpu_relax, read_once, world, write_once, xchg
from workers.search import Pct, RandomWalk, Replay, Search

PROGRAMS = {
    "store buffering": ((("w", 0, 1), ("r", 1)), (("w", 1, 1), ("r", 0))),
    "message passing": ((("w", 0, 1), ("w", 1, 1)), (("r", 1), ("r", 0))),
    "load buffering": ((("r", 0), ("w", 1, 1)), (("r", 1), ("w", 0, 1))),
    "IRIW": ((("w", 0, 1),), (("w", 1, 1),), (("r", 0), ("r", 1)), (("r", 1), ("r", 0))),
    "coherence": ((("w", 0, 1),), (("w", 0, 2),), (("r", 0), ("r", 0))),
    "2+2W": ((("w", 0, 1), ("w", 1, 2)), (("w", 1, 1), ("w", 0, 2)), (("r", 0), ("r", 1))),
    "exchange": ((("u", 0, 1), ("r", 1)), (("u", 1, 1), ("r", 0))),
}


def task_body(task: Any, words: Field, seen: list[int]) -> Any:
    """The task as a function."""

    def body() -> None:
        for op, word, *value in task:
            if op == "w":
                write_once(words, word, value[0])
            else:
                seen.append(read_once(words, word) if op == "r" else xchg(words, word, value[0]))

    return body


def fresh(count: int) -> Field:
    """A memory of so many zeroes, and nothing else in the world."""
    world.fields.clear()
    world.undo.clear()
    world.bug = [0]
    return Field("word", [0] * count)


def explored(program: Any, reduce: bool) -> tuple[list[Any], int]:
    """Outcomes by search, and how many executions it took."""
    words, search, outcomes = fresh(4), Search(reduce=reduce), set()
    while True:
        seen: list[list[int]] = [[] for _ in program]
        search.begin()
        world.choose = search.choose
        world.run([task_body(task, words, seen[i]) for i, task in enumerate(program)])
        if not world.pending:
            outcomes.add(tuple(tuple(one) for one in seen))
        world.reset()
        if not search.end(world.steps, world.pending):
            return sorted(outcomes), search.executions


def enumerated(program: Any) -> list[Any]:
    """Outcomes by running every merge of the tasks: sequential consistency by definition."""
    order = [i for i, task in enumerate(program) for _ in task]
    outcomes = set()
    for merge in set(permutations(order)):
        memory, at = [0] * 4, [0] * len(program)
        seen: list[list[int]] = [[] for _ in program]
        for i in merge:
            op, word, *value = program[i][at[i]]
            at[i] += 1
            if op != "w":
                seen[i].append(memory[word])
            if op != "r":
                memory[word] = value[0]
        outcomes.add(tuple(tuple(one) for one in seen))
    return sorted(outcomes)


def random_program(seed: int) -> Any:
    """Three tasks of two operations on two words."""
    rng = random.Random(seed)
    ops = [("r", 0), ("r", 1), ("w", 0), ("w", 1), ("u", 0), ("u", 1)]
    chosen = [[rng.choice(ops) for _ in range(2)] for _ in range(3)]
    return [[op if op[0] == "r" else (*op, 1 + i) for op in task] for i, task in enumerate(chosen)]


def compare_random(count: int) -> list[int]:
    """The seeds of random programs for which the reduced search does not find just what the definition allows."""
    programs = {seed: random_program(seed) for seed in range(count)}
    return [seed for seed, program in programs.items() if explored(program, True)[0] != enumerated(program)]


def compare() -> dict[str, bool]:
    """Per program: the reduced and the plain search find just what the definition allows."""
    return {
        name: explored(program, True)[0] == explored(program, False)[0] == enumerated(program)
        for name, program in PROGRAMS.items()
    }


def spread(reduce: bool) -> int:
    """Executions for two tasks that add to one word and write to words of their own."""

    def body(words: Field, mine: int) -> None:
        atomic_add(words, 0, 1)
        for i in range(5):
            write_once(words, mine + i, 1)

    words, search = fresh(20), Search(reduce=reduce)
    while True:
        search.begin()
        world.choose = search.choose
        world.run([lambda: body(words, 1), lambda: body(words, 10)])
        world.reset()
        if not search.end(world.steps, world.pending):
            return search.executions


def locked(broken: bool) -> tuple[int, int, list[int]]:
    """Three tasks count under a spinlock: lowest and highest count at the end, and the schedule of the lowest."""

    def body(words: Field, me: int) -> None:
        while not broken and cmpxchg(words, 0, 0, me + 1) != 0:
            cpu_relax()
        write_once(words, 1, read_once(words, 1) + 1)
        write_once(words, 0, 0)

    words, search, counts = fresh(2), Search(), {}
    while True:
        search.begin()
        world.choose = search.choose
        world.run([lambda me=me: body(words, me) for me in range(3)])
        if not world.pending:
            counts[words.words[1]] = [step[0] for step in world.steps]
        world.reset()
        if not search.end(world.steps, world.pending):
            return min(counts), max(counts), counts[min(counts)]


def executions_until_lost(strategy: Any) -> int:
    """Executions under a strategy until the broken count of `locked` loses an update; 1000 if it never does."""

    def body(words: Field) -> None:
        write_once(words, 1, read_once(words, 1) + 1)

    words = fresh(2)
    for done in range(1, 1001):
        strategy.begin()
        world.choose = strategy.choose
        world.run([lambda: body(words)] * 3)
        lost = words.words[1] < 3
        world.reset()
        strategy.end(world.steps, world.pending)
        if lost:
            return done
    return 1000


def executions_of_chance(seeds: int) -> dict[str, int]:
    """The most executions any of so many seeds needed, by strategy."""
    return {
        name: max(executions_until_lost(strategy(seed)) for seed in range(seeds))
        for name, strategy in (("random walk", RandomWalk), ("PCT", lambda seed: Pct(seed, depth=2, length=6)))
    }


def replayed(choices: list[int], times: int) -> list[int]:
    """The broken count of `locked` again, by its schedule, so many times."""

    def body(words: Field, me: int) -> None:
        write_once(words, 1, read_once(words, 1) + 1)
        write_once(words, 0, 0)

    words, ends = fresh(2), []
    for _ in range(times):
        replay = Replay(choices)
        world.choose = replay.choose
        world.run([lambda me=me: body(words, me) for me in range(3)])
        ends.append(words.words[1])
        world.reset()
    return ends


def deadlock() -> bool:
    """Two locks in two orders: True if some execution ends with both tasks waiting, for ever."""

    def body(words: Field, first: int, second: int) -> None:
        for lock in (first, second):
            while cmpxchg(words, lock, 0, 1) != 0:
                cpu_relax()
        for lock in (second, first):
            write_once(words, lock, 0)

    words, search, found = fresh(2), Search(), False
    while True:
        search.begin()
        world.choose = search.choose
        world.run([lambda: body(words, 0, 1), lambda: body(words, 1, 0)])
        found |= world.deadlock
        world.reset()
        if not search.end(world.steps, world.pending):
            return found


def publish_before_init(fixed: bool, bound: int) -> tuple[str, str, int]:
    """D1 on the explored machine: how the search ends, what it finds, steps of that execution."""
    from workers.explorer import ExploredMachine, search
    from workers.instruments import Instruments
    from workers.program import STOP, dontneed, mmap, touch

    base, page, slot = 0x4000_0000, 4096, 2 << 20
    setup = [mmap(base, 2 * slot), touch(base + slot, page), touch(base, page), dontneed(base, slot), STOP]
    programs = [[touch(base + cpu * page, page), STOP] for cpu in range(2)]
    knobs = () if fixed else ("publish-before-init",)
    machine = ExploredMachine(setup, programs, "refcount", Instruments(online=True, knobs=knobs))
    verdict = search(machine, Search(bound=bound), 100, lambda executions: None)
    if verdict.failure is None:
        return verdict.word, "", 0
    schedule = [step[0] for step in verdict.failure.steps]
    again = {machine.execute(Replay(schedule)).what for _ in range(10)}
    assert again == {verdict.failure.what}, again
    return verdict.word, verdict.failure.what, len(schedule)


def mmap_lock(tasks: str, locked: bool = True) -> tuple[int, bool, list[list[int]]]:
    """Tasks that read (r), write (w), or write and downgrade (d) two words under mmap_lock: executions of the complete
    search, whether one ended with tasks waiting for ever, and what readers saw of the two words."""
    from emulator import spinlock
    from workers.explorer import ExploredMachine
    from workers.program import STOP

    spinlock.NAP_US = 0  # nobody looks again by himself: who is not woken waits for ever
    m = ExploredMachine([STOP], [[STOP]] * len(tasks), "refcount").m
    seen, search, stuck = set(), Search(), False

    def read(cpu: int) -> None:
        seen.add((read_once(m.mm.vmas, 0), read_once(m.mm.total_vm, 0)))

    def write(cpu: int) -> None:
        write_once(m.mm.vmas, 0, cpu + 1)
        write_once(m.mm.total_vm, 0, cpu + 1)

    def body(cpu: int, task: str) -> None:
        if not locked:
            return read(cpu) if task == "r" else write(cpu)
        if task == "r":
            spinlock.mmap_read_lock(m, cpu, 0)
            read(cpu)
            spinlock.mmap_read_unlock(m, cpu, 0)
            return None
        spinlock.mmap_write_lock(m, cpu, 0)
        write(cpu)
        if task == "w":
            spinlock.mmap_write_unlock(m, cpu, 0)
            return None
        spinlock.mmap_write_downgrade(m, cpu, 0)
        read(cpu)
        spinlock.mmap_read_unlock(m, cpu, 0)
        return None

    while True:
        search.begin()
        world.choose = search.choose
        world.run([partial(body, cpu, task) for cpu, task in enumerate(tasks)])
        stuck |= world.deadlock
        world.reset()
        if not search.end(world.steps, world.pending):
            return search.executions, stuck, sorted(map(list, seen))
