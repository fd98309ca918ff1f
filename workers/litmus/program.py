"""A litmus test as tasks of the explorer: each operation is a primitive of its engine.

Locations lie in one field, one behind the other in order of address; an address is ADDRESS more than the word's place
there. Read sections are counted per thread: entered at once, left through the store buffer behind what the section has
stored. A grace period is two steps: it looks which threads are in a section, and it ends when they have left.
"""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from emulator.engines import explore as engine
from emulator.engines.access_log import READ, more
from emulator.engines.explore import Field, world
from emulator.engines.memory_model import TRACED, impose
from workers.litmus.expression import BadTest, Expression, Value, apply
from workers.litmus.record import Operation, Test

ADDRESS = 0x1000
_ORDERS = {"relaxed": engine.UNORDERED, "noreturn": engine.UNORDERED, "acquire": engine.ACQUIRING}
_ORDERS |= {"release": engine.RELEASING, "mb": engine.FULL, "locked": engine.FULL}
_FUNCTIONS = {"add": operator.add, "and": operator.and_, "or": operator.or_, "xor": operator.xor}
_FENCES = {"wmb": engine.smp_wmb, "rmb": engine.smp_rmb}
Registers = dict[str, Value]
Outcome = tuple[tuple[int, ...], ...]  # the registers of each thread, then what the locations hold


def layout(places: Sequence[str]) -> dict[str, int]:
    """The word of each location: those of an array are neighbours."""
    most: dict[str, int] = {}
    for place in places:
        name, _, index = place.partition("[")
        most[name] = max(most.get(name, 0), int(index.rstrip("]") or 0))
    first, at = {}, 0
    for name, last in most.items():
        first[name] = at
        at += last + 1
    found = {}
    for place in places:
        name, _, index = place.partition("[")
        found[place] = first[name] + int(index.rstrip("]") or 0)
    return found


class Sections:
    """The read sections of RCU, or of one SRCU domain: two words per thread, how often it entered and left."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.field = Field("section", [0] * (2 * threads))
        self.depth = [0] * threads

    def lock(self, thread: int) -> None:
        """Enter; the inner ones of a thread are part of the outermost."""
        self.depth[thread] += 1
        if self.depth[thread] == 1:
            engine.write_once(self.field, thread, world.mem[self.field.base + thread] + 1)
            if world.buffers is not None:
                world.buffers.section_begins()

    def unlock(self, thread: int) -> None:
        """Leave."""
        self.depth[thread] -= 1
        if self.depth[thread] < 0:
            raise BadTest(f"thread {thread} leaves a read section that it is not in")
        if self.depth[thread] == 0:
            engine.smp_store_release(self.field, self.threads + thread, world.mem[self.field.base + thread])

    def synchronize(self) -> None:
        """Wait until each thread that has entered a section before has left it. A full barrier on both sides.

        A thread that has left is no different from one that will: the end stands behind both. So only entering is
        looked at, and the search tries no two orders of leaving and looking.
        """
        engine.smp_mb()
        mem, first, n = world.mem, self.field.base, self.threads
        world.make_step(READ | more(n) | first)
        entered = {first + n + t: mem[first + t] for t in range(n) if mem[first + t]}
        if entered:
            step = engine.wait_until(lambda: all(mem[left] >= k for left, k in entered.items()), frozenset(entered))
            stores = world.stores_to(frozenset(entered))
            world.edges += [(step, stores[left][k - 1]) for left, k in entered.items()]
        engine.smp_mb()


class Program:
    """A test in the world of the explorer: `bodies` are its tasks, `outcome` how an execution has ended."""

    def __init__(self, test: Test, memory: str) -> None:
        self.test = test
        self.words = layout(test.places)
        self.named = frozenset(self.words.values())
        self.addresses: Registers = {f"&{place}": ADDRESS + word for place, word in self.words.items()}
        self.registers: list[Registers] = []
        self.names = [test.registers(thread) for thread in range(len(test.threads))]
        self._begin(memory)

    def _begin(self, memory: str) -> None:
        world.clear()
        start = [0] * (max(self.words.values(), default=0) + 1)
        self.start: list[Registers] = [dict.fromkeys(names, 0) for names in self.names]
        for name, value in self.test.init.items():
            thread, _, register = name.partition(":")
            if register and int(thread) < len(self.start):
                self.start[int(thread)][register] = value.of(self.addresses)
            elif not register:
                start[self.words[name]] = value.of(self.addresses)
        self.field = Field("location", start)
        self.sections: dict[Any, Sections] = {}
        for one in (one for thread in self.test.threads for outer in thread for one in outer.all()):
            if "rcu" in one.op and (domain := self._domain(one)) not in self.sections:
                self.sections[domain] = Sections(len(self.test.threads))
        bug = Field("bug", [0])
        world.bug = bug.base
        impose(TRACED if memory == "sc" else memory)
        if memory != "sc":
            world.buffers.shared = bytearray(len(world.mem))
            for word in self._shared():
                world.buffers.shared[word] = 1
        self.memory = list(world.mem)

    def _shared(self) -> list[int]:
        """The words that go through store buffers: locations, and how often sections were left."""
        shared = list(range(self.field.base, self.field.base + self.field.size))
        for one in self.sections.values():
            shared += range(one.field.base + one.threads, one.field.base + 2 * one.threads)
        return shared

    def _domain(self, one: Operation) -> str:
        return one.address.text if one.address is not None else ""

    def bodies(self) -> list[Callable[[], None]]:
        """The tasks of a new execution, and memory as it is before."""
        world.mem[:] = self.memory
        for one in self.sections.values():
            one.depth[:] = [0] * one.threads
        self.registers = [{**self.addresses, **start} for start in self.start]
        return [self._body(thread) for thread in range(len(self.test.threads))]

    def _body(self, thread: int) -> Callable[[], None]:
        return lambda: self._run(self.test.threads[thread], thread, self.registers[thread])

    def _run(self, operations: Iterable[Operation], thread: int, registers: Registers) -> None:
        for one in operations:
            if one.op == "if":
                self._run(one.then if one.values["cond"].of(registers) else one.otherwise, thread, registers)
                continue
            value = _RUN[one.op](self, one, thread, registers)
            if one.reg:
                registers[one.reg] = value

    def word(self, one: Operation, registers: Registers) -> Value:
        """The place of the word that an operation accesses: what is no location is refused when it is used."""
        assert one.address is not None
        return apply(self._checked, one.address.of(registers))

    def _checked(self, address: int) -> int:
        if address - ADDRESS not in self.named:
            raise BadTest(f"{self.test.source}: an access to address {address:#x}, where no location is")
        return address - ADDRESS

    def outcome(self) -> Outcome:
        """The registers of each thread, then the locations."""
        seen = [tuple(int(self.registers[t][name]) for name in names) for t, names in enumerate(self.names)]
        return (*seen, tuple(world.mem[self.field.base + self.words[place]] for place in self.test.places))

    def environment(self, outcome: Outcome) -> Registers:
        """The names of conditions, as an execution has left them."""
        env: Registers = defaultdict(int, self.addresses)
        for thread, names in enumerate(self.names):
            env |= {f"{thread}:{name}": value for name, value in zip(names, outcome[thread], strict=True)}
        return env | dict(zip(self.test.places, outcome[-1], strict=True))


def holds(condition: Expression, environment: Mapping[str, Value]) -> bool:
    """True if a condition is met."""
    return bool(condition.of(environment))


# --- what each operation does: its value is the register's ----------------------------------------------------------


def _load(p: Program, one: Operation, thread: int, r: Registers) -> Value:
    at = p.word(one, r)
    if one.kind == "plain":
        return p.field[at]
    return engine.smp_load_acquire(p.field, at) if one.kind == "acquire" else engine.read_once(p.field, at)


def _store(p: Program, one: Operation, thread: int, r: Registers) -> None:
    at, value = p.word(one, r), one.values["val"].of(r)
    if one.kind == "plain":
        p.field[at] = value
    elif one.kind == "release":
        engine.smp_store_release(p.field, at, value)
    else:
        engine.write_once(p.field, at, value)


def _fence(p: Program, one: Operation, thread: int, r: Registers) -> None:
    _FENCES.get(one.kind, engine.smp_mb)()


def _update(p: Program, one: Operation, r: Registers, change: Callable[..., int | None], *operands: Value) -> Value:
    return engine.update(p.field, p.word(one, r), change, *operands, order=_ORDERS[one.kind])


def _xchg(p: Program, one: Operation, thread: int, r: Registers) -> Value:
    return _update(p, one, r, lambda old, new: new, one.values["val"].of(r))


def _cmpxchg(p: Program, one: Operation, thread: int, r: Registers) -> Value:
    old, new = one.values["old"].of(r), one.values["new"].of(r)
    return _update(p, one, r, lambda seen, old, new: new if seen == old else None, old, new)


def _rmw(p: Program, one: Operation, thread: int, r: Registers) -> Value:
    function, value = _FUNCTIONS[one.function], one.values["val"].of(r)
    old = _update(p, one, r, function, value)
    return old if one.returns == "old" else apply(function, old, value)


def _add_unless(p: Program, one: Operation, thread: int, r: Registers) -> Value:
    value, unless = one.values["val"].of(r), one.values["unless"].of(r)
    old = _update(p, one, r, lambda old, value, unless: None if old == unless else old + value, value, unless)
    return apply(operator.ne, old, unless)


def _set(p: Program, one: Operation, thread: int, r: Registers) -> Value:
    return one.values["val"].of(r)


def _lock(p: Program, one: Operation, thread: int, r: Registers) -> None:
    engine.take_lock(p.field, p.word(one, r), 1)


def _unlock(p: Program, one: Operation, thread: int, r: Registers) -> None:
    engine.smp_store_release(p.field, p.word(one, r), 0)


def _is_locked(p: Program, one: Operation, thread: int, r: Registers) -> Value:
    return engine.read_once(p.field, p.word(one, r)) != 0


def _read_lock(p: Program, one: Operation, thread: int, r: Registers) -> int:
    p.sections[p._domain(one)].lock(thread)
    return 0


def _read_unlock(p: Program, one: Operation, thread: int, r: Registers) -> None:
    p.sections[p._domain(one)].unlock(thread)


def _synchronize(p: Program, one: Operation, thread: int, r: Registers) -> None:
    p.sections[p._domain(one)].synchronize()


_RUN: dict[str, Callable[[Program, Operation, int, Registers], Value]] = {
    "load": _load,
    "store": _store,
    "fence": _fence,
    "xchg": _xchg,
    "cmpxchg": _cmpxchg,
    "rmw": _rmw,
    "add_unless": _add_unless,
    "set": _set,
    "lock": _lock,
    "unlock": _unlock,
    "is_locked": _is_locked,
    "rcu_read_lock": _read_lock,
    "rcu_read_unlock": _read_unlock,
    "synchronize_rcu": _synchronize,
    "srcu_read_lock": _read_lock,
    "srcu_read_unlock": _read_unlock,
    "synchronize_srcu": _synchronize,
}
