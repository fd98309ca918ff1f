"""Litmus programs on the explore engine: every outcome of small programs, by memory model. A module for in_engine.

A program is a tuple of tasks, a task a tuple of operations: ("r", word), ("w", word, value), ("rel", word, value) - a
release store, ("u", word, value) - an exchange, ("add", word, value), ("mb",), ("wmb",). An outcome is what the loads
and exchanges of each task saw, in order, and what memory holds at the end.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from emulator import engine
from emulator.engines.access_log import TASK_BIT
from emulator.engines.explore import (
    MAX_STEPS,
    Field,
    atomic_add,
    cmpxchg,
    cpu_relax,
    read_once,
    smp_mb,
    smp_store_release,
    smp_wmb,
    take_lock,
    world,
    write_once,
    xchg,
)
from emulator.engines.memory_model import impose
from workers.explorer.chance import Follow, Pct, RandomWalk
from workers.explorer.search import Search, Strategy

if engine.name() == "explore":  # not where the tests are collected: that process has another engine
    engine.prepare()
WORDS = 3
X, Y, Z = range(WORDS)

# name -> program, the outcome in question as a test of (seen, memory), and the models that allow it.
# Source: Sewell et al., x86-TSO, CACM 2010; Adve and Gharachorloo, IEEE Computer 1996; Alglave et al., TOPLAS 2014.
CLASSIC: dict[str, tuple[Any, Callable[[Any, Any], bool], str]] = {
    "SB": (((("w", X, 1), ("r", Y)), (("w", Y, 1), ("r", X))), lambda s, m: s == ((0,), (0,)), "tso pso"),
    "SB+mb": (
        ((("w", X, 1), ("mb",), ("r", Y)), (("w", Y, 1), ("mb",), ("r", X))), lambda s, m: s == ((0,), (0,)), "",
    ),
    "SB+adds": (((("add", X, 1), ("r", Y)), (("add", Y, 1), ("r", X))), lambda s, m: s == ((0,), (0,)), "pso"),
    "SB+adds+mb": (
        ((("add", X, 1), ("mb",), ("r", Y)), (("add", Y, 1), ("mb",), ("r", X))), lambda s, m: s == ((0,), (0,)), "",
    ),
    "SB+add+mb": (
        ((("add", X, 1), ("r", Y)), (("add", Y, 1), ("mb",), ("r", X))), lambda s, m: s == ((0,), (0,)), "pso",
    ),
    "add+add": (((("add", X, 1), ("r", X)), (("add", X, 1), ("r", X))), lambda s, m: m[X] != 2, ""),
    "SB+xchg": (((("u", X, 1), ("r", Y)), (("u", Y, 1), ("r", X))), lambda s, m: s == ((0, 0), (0, 0)), ""),
    "MP": (((("w", X, 1), ("w", Y, 1)), (("r", Y), ("r", X))), lambda s, m: s[1] == (1, 0), "pso"),
    "MP+wmb": (((("w", X, 1), ("wmb",), ("w", Y, 1)), (("r", Y), ("r", X))), lambda s, m: s[1] == (1, 0), ""),
    "MP+release": (((("w", X, 1), ("rel", Y, 1)), (("r", Y), ("r", X))), lambda s, m: s[1] == (1, 0), ""),
    "LB": (((("r", X), ("w", Y, 1)), (("r", Y), ("w", X, 1))), lambda s, m: s == ((1,), (1,)), ""),
    "IRIW": (
        ((("w", X, 1),), (("w", Y, 1),), (("r", X), ("r", Y)), (("r", Y), ("r", X))),
        lambda s, m: s[2:] == ((1, 0), (1, 0)), "",
    ),
    "CoRR": (((("w", X, 1), ("w", X, 2)), (("r", X), ("r", X))), lambda s, m: s[1] in ((2, 1), (1, 0), (2, 0)), ""),
    "CoWW": (((("w", X, 1), ("w", X, 2)),), lambda s, m: m[X] != 2, ""),
    "2+2W": (((("w", X, 1), ("w", Y, 2)), (("w", Y, 1), ("w", X, 2))), lambda s, m: m[:2] == (1, 1), "pso"),
    "R": (((("w", X, 1), ("w", Y, 1)), (("w", Y, 2), ("r", X))), lambda s, m: m[Y] == 2 and s[1] == (0,), "tso pso"),
    "S": (((("w", X, 2), ("w", Y, 1)), (("r", Y), ("w", X, 1))), lambda s, m: m[X] == 2 and s[1] == (1,), "pso"),
    "n6": (  # a load sees its own store before anybody else does
        ((("w", X, 1), ("r", X), ("r", Y)), (("w", Y, 2), ("w", X, 2))),
        lambda s, m: s[0] == (1, 0) and m[:2] == (1, 2), "tso pso",
    ),
}  # fmt: skip


OPERATIONS: dict[str, Callable[..., Any]] = {
    "r": read_once,
    "w": write_once,
    "rel": smp_store_release,
    "add": atomic_add,
    "u": xchg,
    "mb": lambda words: smp_mb(),
    "wmb": lambda words: smp_wmb(),
    "pr": Field.__getitem__,
    "pw": Field.__setitem__,
}
LOADS = ("r", "u", "pr")


def task_body(task: Any, words: Field, seen: list[int]) -> Callable[[], None]:
    """The task as a function."""

    def body() -> None:
        for op, *operands in task:
            value = OPERATIONS[op](words, *operands)
            if op in LOADS:
                seen.append(value)

    return body


def fresh(count: int, memory: str = "sc") -> Field:
    """A memory of so many zeroes, and nothing else in the world."""
    world.clear()
    words = Field("word", [0] * count)
    Field("bug", [0])
    world.bug = count
    if memory != "sc":
        impose(memory)
        world.buffers.shared[:count] = b"\1" * count
    return words


def run_all(strategy: Strategy, bodies: Callable[[], list[Callable[[], Any]]], look: Callable[[], bool | None]) -> int:
    """Run executions until the strategy has no more, or `look` at the end of one says True; how many."""
    count, start = 0, list(world.mem)
    while True:
        count += 1
        world.mem[:] = start
        strategy.begin()
        world.strategy = strategy
        world.run(bodies())
        if look() or not strategy.end(world, np.array(world.log, np.int64)):
            return count


def unfinished() -> bool:
    """True if the execution was cut: everything it could do had been done."""
    return any(task.pending >= 0 for task in world.tasks)


def explored(program: Any, memory: str = "sc", bound: int | None = None) -> tuple[set[Any], int]:
    """Outcomes by search, and how many executions it took."""
    words, outcomes = fresh(WORDS, memory), set()
    seen: list[list[int]] = []

    def bodies() -> list[Callable[[], Any]]:
        seen[:] = [[] for _ in program]
        return [task_body(task, words, seen[i]) for i, task in enumerate(program)]

    def look() -> None:
        if not unfinished():
            outcomes.add((tuple(tuple(one) for one in seen), tuple(world.mem[:WORDS])))

    return outcomes, run_all(Search(bound), bodies, look)


def defined(program: Any, memory: str) -> set[Any]:
    """Outcomes by the definition: every state an abstract machine of memory and store buffers can reach."""
    start = (tuple(0 for _ in program), tuple(() for _ in program), (0,) * WORDS, tuple(() for _ in program))
    todo, met, outcomes = [start], {start}, set()
    while todo:
        state = todo.pop()
        following = list(_moves(program, memory, state))
        if not following:
            outcomes.add((state[3], state[2]))
        for one in following:
            if one not in met:
                met.add(one)
                todo.append(one)
    return outcomes


def _moves(program: Any, memory: str, state: Any) -> Any:
    """The states that one step leads to. A buffer is stores (word, value), additions (word, (value,)) and barriers
    (None, 0), oldest first."""
    at, buffers, words, seen = state
    no_steps = ("pr", "pw", "mb", "wmb") if memory == "sc" else ()  # they happen with the step before

    def stored(mem: Any, word: int, value: Any) -> Any:
        value = mem[word] + value[0] if isinstance(value, tuple) else value
        return (*mem[:word], value, *mem[word + 1 :])

    def new(i: int, buffer: Any, mem: Any = words, value: Any = (), on: int = 1) -> Any:
        place, saw = at[i] + on, (*seen[i], *value)
        while on and place < len(program[i]) and program[i][place][0] in no_steps:
            op, *operands = program[i][place]
            saw = (*saw, mem[operands[0]]) if op == "pr" else saw
            mem = stored(mem, *operands) if op == "pw" else mem
            place += 1
        swap = lambda t, x: (*t[:i], x, *t[i + 1 :])  # noqa: E731
        return swap(at, place), swap(buffers, buffer), mem, swap(seen, saw)

    for i, task in enumerate(program):
        buffer = buffers[i]
        for k, (word, value) in enumerate(buffer):
            if word is None or (memory == "tso" and k > 0):
                break
            if all(other != word for other, _ in buffer[:k]):
                rest = (*buffer[:k], *buffer[k + 1 :])
                while rest and rest[0][0] is None:
                    rest = rest[1:]
                yield new(i, rest, stored(words, word, value), on=0)
        if at[i] == len(task):
            continue
        op, *operands = task[at[i]]
        if op == "r":
            own = [value for word, value in buffer if word == operands[0]]
            if own and isinstance(own[-1], tuple):
                continue  # until the addition has reached memory
            yield new(i, buffer, value=(own[-1] if own else words[operands[0]],))
        elif op in ("w", "rel") and memory == "sc":
            yield new(i, (), stored(words, *operands))
        elif op in ("w", "rel"):
            fence = ((None, 0),) if op == "rel" and buffer else ()
            yield new(i, (*buffer, *fence, tuple(operands)))
        elif op == "add" and memory == "pso":
            yield new(i, (*buffer, (operands[0], (operands[1],))))
        elif op == "wmb":
            yield new(i, (*buffer, (None, 0)) if buffer else ())
        elif not buffer:
            if op == "mb":
                yield new(i, ())
            elif op == "add":
                yield new(i, (), stored(words, operands[0], (operands[1],)))
            else:
                yield new(i, (), stored(words, *operands), (words[operands[0]],))


def classic(memory: str) -> dict[str, list[bool]]:
    """Per classic program: the search finds what the definition does; the outcome in question is seen as it should."""
    result = {}
    for name, (program, asked, models) in CLASSIC.items():
        found = explored(program, memory)[0]
        result[name] = [
            found == defined(program, memory),
            any(asked(seen, mem) for seen, mem in found) == (memory in models.split()),
        ]
    return result


def random_program(seed: int, plain: bool = False) -> Any:
    """Three tasks of two or three operations on two words, the first of each marked."""
    rng = random.Random(seed)
    ops = ["r", "r", "w", "w", "u", "add", "mb", "wmb", "rel", *(["pr", "pw"] if plain else [])]
    program = []
    for i in range(3):
        task = []
        for _ in range(rng.choice((2, 2, 3))):
            op = rng.choice(ops if task else ops[:6])
            value = 1 + i + 3 * len(task)
            operands = () if "mb" in op else (rng.randrange(2),) if op in ("r", "pr") else (rng.randrange(2), value)
            task.append((op, *operands))
        program.append(tuple(task))
    return tuple(program)


def compare_random(memory: str, count: int) -> list[int]:
    """The seeds of random programs for which the search does not find just what the definition allows."""
    programs = {seed: random_program(seed, memory == "sc") for seed in range(count)}
    return [seed for seed, program in programs.items() if explored(program, memory)[0] != defined(program, memory)]


def compare_bounded(count: int) -> list[int]:
    """The seeds for which a search with a bound that keeps nothing out does not find everything."""
    programs = {seed: random_program(seed) for seed in range(count)}
    return [s for s, program in programs.items() if explored(program, bound=9)[0] != defined(program, "sc")]


def spread(reduce: bool) -> int:
    """Executions for two tasks that add to one word and write to words of their own."""

    def body(words: Field, mine: int) -> None:
        atomic_add(words, 0, 1)
        for i in range(5):
            write_once(words, mine + i, 1)

    words = fresh(20)
    return run_all(Search(reduce=reduce), lambda: [lambda: body(words, 1), lambda: body(words, 10)], lambda: None)


def locked(broken: bool) -> tuple[int, int, list[int]]:
    """Three tasks count under a spinlock: lowest and highest count at the end, and the schedule of the lowest."""

    def body(words: Field, me: int) -> None:
        while not broken and cmpxchg(words, 0, 0, me + 1) != 0:
            cpu_relax()
        write_once(words, 1, read_once(words, 1) + 1)
        write_once(words, 0, 0)

    words, counts = fresh(2), {}

    def look() -> None:
        if not unfinished():
            counts[world.mem[1]] = [entry >> TASK_BIT for entry in world.log]

    run_all(Search(), lambda: [lambda me=me: body(words, me) for me in range(3)], look)
    return min(counts), max(counts), counts[min(counts)]


def executions_until_lost(strategy: Strategy) -> int:
    """Executions under a strategy until the broken count of `locked` loses an update; 1000 if it never does."""

    def body(words: Field) -> None:
        write_once(words, 1, read_once(words, 1) + 1)

    words, done = fresh(2), []

    def look() -> bool:
        done.append(world.mem[1])
        return done[-1] < 3 or len(done) == 1000

    return run_all(strategy, lambda: [lambda: body(words)] * 3, look)


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
        run_all(
            Follow(choices),
            lambda: [lambda me=me: body(words, me) for me in range(3)],
            lambda: ends.append(world.mem[1]),
        )
        world.mem[:2] = [0, 0]
    return ends


def deadlock() -> bool:
    """Two locks in two orders: True if some execution ends with both tasks waiting, for ever."""

    def body(words: Field, first: int, second: int) -> None:
        for lock in (first, second):
            while cmpxchg(words, lock, 0, 1) != 0:
                cpu_relax()
        for lock in (second, first):
            write_once(words, lock, 0)

    words, ends = fresh(2), []
    run_all(
        Search(), lambda: [lambda: body(words, 0, 1), lambda: body(words, 1, 0)], lambda: ends.append(world.deadlock)
    )
    return any(ends)


def steps_of_one_that_goes_on() -> tuple[int, int]:
    """The steps of an execution whose one task does not end by itself for long, and the most there may be."""
    words, steps = fresh(1), []

    def body() -> None:
        for _ in range(3 * MAX_STEPS):
            atomic_add(words, 0, 1)

    run_all(Follow(()), lambda: [body], lambda: steps.append(world.count) or True)
    return steps[0], MAX_STEPS


def looks_twice() -> bool:
    """A loop that looks at a word twice in a turn and waits because of the first look: True if it is stuck for ever."""

    def wait(words: Field) -> None:
        while True:
            before, after = read_once(words, 0), read_once(words, 0)
            if before != 0 and after != 0:
                return
            cpu_relax()

    words, ends = fresh(1), []
    bodies: list[Callable[[], Any]] = [lambda: wait(words), lambda: write_once(words, 0, 1)]
    run_all(Search(), lambda: bodies, lambda: ends.append(world.deadlock))
    return any(ends)


def publish_before_init(fixed: bool, bound: int) -> tuple[str, str, int]:
    """D1 on the explored machine: how the search ends, what it finds, steps of that execution."""
    from workers.explorer.explored_machine import ExploredMachine
    from workers.explorer.hunt import Budget, search
    from workers.instruments import Instruments
    from workers.programs.program import STOP, dontneed, mmap, touch
    from workers.programs.scene import Scene

    base, page, slot = 0x4000_0000, 4096, 2 << 20
    setup = [mmap(base, 2 * slot), touch(base + slot, page), touch(base, page), dontneed(base, slot), STOP]
    programs = [[touch(base + cpu * page, page), STOP] for cpu in range(2)]
    knobs = () if fixed else ("publish-before-init",)
    machine = ExploredMachine(Scene(setup, programs), "refcount", Instruments(online=True, knobs=knobs))
    verdict = search(machine, lambda: Search(bound), Budget(100))
    if verdict.failure is None:
        return verdict.word, "", 0
    again = {machine.execute(Follow(verdict.failure.choices)).what for _ in range(10)}
    assert again == {verdict.failure.what}, again
    return verdict.word, verdict.failure.what, len(verdict.failure.choices)


def mmap_lock(tasks: str, locked: bool = True) -> tuple[int, bool, list[list[int]]]:
    """Tasks that read (r), write (w), or write and downgrade (d) two words under mmap_lock: executions of the complete
    search, whether one ended with tasks waiting for ever, and what readers saw of the two words."""
    from emulator.locking import mmap_lock as lock
    from workers.explorer.explored_machine import ExploredMachine
    from workers.programs.program import STOP
    from workers.programs.scene import Scene

    m = ExploredMachine(Scene(programs=[[STOP]] * len(tasks)), "refcount").m
    seen, stuck = set(), []

    def read(cpu: int) -> None:
        seen.add((read_once(m.mm.vmas, 0), read_once(m.mm.total_vm, 0)))

    def write(cpu: int) -> None:
        write_once(m.mm.vmas, 0, cpu + 1)
        write_once(m.mm.total_vm, 0, cpu + 1)

    def body(cpu: int, task: str) -> None:
        if not locked:
            return read(cpu) if task == "r" else write(cpu)
        if task == "r":
            lock.mmap_read_lock(m, cpu, 0)
            read(cpu)
            lock.mmap_read_unlock(m, cpu, 0)
            return None
        lock.mmap_write_lock_only(m, cpu, 0)
        write(cpu)
        if task == "w":
            lock.mmap_write_unlock(m, cpu, 0)
            return None
        lock.mmap_write_downgrade(m, cpu, 0)
        read(cpu)
        lock.mmap_read_unlock(m, cpu, 0)
        return None

    bodies = [partial(body, cpu, task) for cpu, task in enumerate(tasks)]
    executions = run_all(Search(), lambda: bodies, lambda: stuck.append(world.deadlock))
    return executions, any(stuck), sorted(map(list, seen))


def sleepers(memory: str, left_out: str = "") -> tuple[str, str]:
    """Two CPUs take and release a sleeping lock, each once: how the search ends and what it finds, without a barrier of
    wait.py if `left_out` names one."""
    from emulator.cpu import wait
    from emulator.locking.mutex import mutex_lock, mutex_unlock
    from emulator.watch.waits import Wait
    from workers.explorer.explored_machine import ExploredMachine
    from workers.explorer.hunt import Budget, search
    from workers.programs.scene import Scene

    def body(m: Any, cpu: int) -> None:
        mutex_lock(m, cpu, 0, Wait.INODE_LOCK)
        mutex_unlock(m, cpu, 0, Wait.INODE_LOCK)

    if left_out:
        assert left_out in vars(wait)
        setattr(wait, left_out, lambda: None)
    scene = Scene(bodies=lambda m: [partial(body, m, cpu) for cpu in range(2)], cpus=2, coordinator=False)
    verdict = search(ExploredMachine(scene, "refcount", memory=memory), lambda: Search(1), Budget(100))
    return verdict.word, verdict.failure.what if verdict.failure is not None else ""


def searched(names: list[str], broken: bool, bound: int | None = None) -> dict[str, list[Any]]:
    """Per race's scene or claim: the verdict, what was found, whether that is as it should be, preemptions, and what
    its schedule comes to in ten more runs. Without a bound its own is searched."""
    from scenarios.proofs.finding import Plan, explore, machine_for
    from scenarios.proofs.subject import subject
    from workers.explorer.counterexample import scheduled
    from workers.explorer.schedule import parse

    found: dict[str, list[Any]] = {}
    for name in names:
        of = subject(name)
        most = of.bound if bound is None else bound
        plan = Plan(broken, of.memory, 2 if most is None else most, seconds=60, jobs=1)
        one = explore(of, plan)
        found[name] = [one.verdict.word, one.what, one.as_expected, None, None]
        if one.example is not None:
            switches = parse(one.example.schedule.rpartition("!")[2])
            again = {scheduled(machine_for(of, plan, one.crash), switches)[0].what for _ in range(2)}
            machine = machine_for(of, plan, one.crash)
            again |= {scheduled(machine, switches)[0].what for _ in range(10)}
            found[name][3:] = [one.example.preemptions, sorted(again)]
    return found


def passes(name: str, barrier: str, executions: int = 6000) -> bool:
    """True if a claim about barriers still holds under arm without one of them."""
    from scenarios.proofs.finding import Plan, machine_for
    from scenarios.proofs.orderings import ORDERINGS
    from workers.explorer.hunt import Budget, chances, search
    from workers.explorer.search import InTurn

    machine = machine_for(ORDERINGS[name], Plan(False, "arm", barriers=(barrier,)))
    return search(machine, lambda: InTurn(chances(machine, 0)), Budget(1e9, executions)).failure is None


def left_out(names: list[str]) -> list[str]:
    """Barriers that claims name and hold without."""
    from scenarios.proofs.orderings import ORDERINGS

    return [f"{name}: {barrier}" for name in names for barrier in ORDERINGS[name].barriers if passes(name, barrier)]


def by_hand(names: list[str]) -> dict[str, list[Any]]:
    """Per race: whether the schedule that it comes with was run, and what that comes to in ten runs."""
    from scenarios.proofs.finding import Plan, explore
    from scenarios.proofs.subject import subject

    shown: dict[str, list[Any]] = {}
    for name in names:
        of = subject(name)
        runs = [explore(of, Plan(True, of.memory)) for _ in range(10)]
        shown[name] = [all(one.by_hand for one in runs), sorted({str(one.what) for one in runs})]
    return shown


def edited() -> list[str]:
    """What a schedule of publish-before-init comes to: as it is, and after unrelated edits of the kernels."""
    from emulator.cpu import flush
    from emulator.policy import pte_alloc
    from scenarios.proofs.finding import Plan, explore, machine_for
    from scenarios.proofs.subject import subject
    from workers.explorer.counterexample import scheduled

    of, plan = subject("race/publish-before-init"), Plan(True, "sc", jobs=1)
    switches = explore(of, plan).example.switches
    found = [scheduled(machine_for(of, plan), switches)[0].what]
    pte_alloc_one, wake = pte_alloc.pte_alloc_one, flush.coordinator_wake

    def more_looks(m: Any, cpu: int) -> int:
        for _ in range(3):
            read_once(m.rcu.hurry, 0)
        write_once(m.cpu.loaded, cpu, 0)
        return int(pte_alloc_one(m, cpu))

    pte_alloc.pte_alloc_one = more_looks
    flush.coordinator_wake = lambda m: (read_once(m.rcu.hurry, 0), wake(m))
    found.append(scheduled(machine_for(of, plan), switches)[0].what)
    return found


def misfit(text: str) -> str:
    """Why a schedule does not fit publish-before-init."""
    from scenarios.proofs.finding import Plan, replay
    from scenarios.proofs.subject import subject
    from scenarios.session.errors import UserError

    try:
        replay(subject("race/publish-before-init"), Plan(True, "sc"), text)
    except UserError as error:
        return str(error)
    return ""


def lock_orders(tasks: int) -> tuple[int, int]:
    """Tasks that take one lock, each once: in how many orders, and in how many executions."""
    words, orders = fresh(1), []
    taken: list[int] = []

    def body(me: int) -> None:
        take_lock(words, 0, me + 1)
        taken.append(me)
        smp_store_release(words, 0, 0)

    def bodies() -> list[Callable[[], Any]]:
        taken.clear()
        return [partial(body, me) for me in range(tasks)]

    executions = run_all(Search(), bodies, lambda: orders.append(tuple(taken)))
    return len(set(orders)), executions
