"""Loads out of order: the memory model `arm`, on top of the store buffers of `pso`.

A load of a shared word is a step of a task. Each CPU has one such task per word, so the search chooses when the load
happens:

    early   before its instruction: the value is kept, and the load that comes to it takes it, unless something that
            stands before the load has happened since then: then it is dropped, and the load happens again
    late    behind its instruction, until its value is used: a branch, an address and an operand of a
            read-modify-write wait for it, a store of it enters the store buffer and waits there

A load waits for earlier acquires, for loads that its address depends on, and for earlier accesses of its CPU to its
word. Behind smp_rmb it waits for all earlier loads, behind smp_mb and full read-modify-writes for everything. A store
reaches memory after what pso says and after loads of its word. It also waits for loads that its value, its address or a
branch before it depends on, a release for all loads. A branch orders no load behind it. Memory is one for all: a store
that one CPU sees, all do. Plain loads happen where they stand.

Which words a CPU loads, and how often, is learned; a search starts again when it has met more. In a loop that waits
"how often" is of one turn, so no load is early by more. A turn that sees what the last one saw is none.

Source: Pulte et al., POPL 2018 (the flat model of Armv8); Alglave et al., ASPLOS 2018 (what Linux relies on).
"""

from __future__ import annotations

import operator
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from emulator.engines.access_log import (
    ACQUIRE,
    ADD,
    COUNT_BIT,
    COUNT_MASK,
    LOOK,
    PLAIN_LOAD,
    READ,
    RELEASE,
    WRITE,
    more,
)
from emulator.engines.explore import ACQUIRING, FULL, RELEASING, Field, Task, World, world
from emulator.engines.store_buffer import Buffers, Store

MOST_BEHIND = 8  # steps before a load that are kept one by one; the latest of them always is


class Load:
    """One load of a CPU: the step at which it happened, -1 if it has not, and its value."""

    __slots__ = ("at", "behind", "looked", "place", "value", "word")

    def __init__(self, word: int, at: int = -1, value: int = 0, place: int = -1) -> None:
        self.word, self.at, self.value, self.place = word, at, value, place
        self.behind: list[int] = []
        self.looked = False  # True once its CPU has waited for it


class Loaded:
    """A value that depends on loads. It is an int to code that computes with it; code that decides on it waits for
    them.
    """

    __slots__ = ("compute", "loads")

    def __init__(self, loads: tuple[Load, ...], compute: Callable[[], int]) -> None:
        self.loads, self.compute = loads, compute

    def __int__(self) -> int:
        for load in self.loads:
            world.buffers.wait(load)
        return self.compute()

    __index__ = __int__

    def __bool__(self) -> bool:
        return int(self) != 0

    def __hash__(self) -> int:
        return hash(int(self))

    def __format__(self, how: str) -> str:
        return format(int(self), how)

    def derived(self, function: Callable[..., int], operands: tuple[Any, ...]) -> Any:
        """The function's value, which depends on what its operands depend on."""
        loads = tuple(dict.fromkeys(load for one in operands if isinstance(one, Loaded) for load in one.loads))

        def compute() -> int:
            return int(function(*(one.compute() if isinstance(one, Loaded) else one for one in operands)))

        if all(load.at >= 0 for load in loads):
            value = compute()
            return Loaded(loads, lambda: value)
        return Loaded(loads, compute)


def _binary(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda self, other: self.derived(function, (self, other))


def _reflected(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda self, other: self.derived(lambda a, b: function(b, a), (self, other))


def _unary(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda self: self.derived(function, (self,))


for _name in ("add", "sub", "mul", "floordiv", "mod", "and_", "or_", "xor", "lshift", "rshift"):
    _function = getattr(operator, _name)
    setattr(Loaded, f"__{_name.strip('_')}__", _binary(_function))
    setattr(Loaded, f"__r{_name.strip('_')}__", _reflected(_function))
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(Loaded, f"__{_name}__", _binary(getattr(operator, _name)))
for _name in ("neg", "invert", "abs"):
    setattr(Loaded, f"__{_name}__", _unary(getattr(operator, _name)))


def loads_of(value: Any) -> tuple[Load, ...]:
    """The loads that a value depends on."""
    return value.loads if isinstance(value, Loaded) else ()


class Queue:
    """The loads of one word by one CPU: those whose instruction has come, and values that wait for theirs."""

    __slots__ = ("early", "expected", "issued", "met", "number", "taken", "word")

    def __init__(self, number: int, word: int) -> None:
        self.number, self.word = number, word
        self.expected = self.met = 0  # loads of one execution: what a search knows of, and what it has met
        self.issued: deque[Load] = deque()
        self.early: deque[Load] = deque()
        self.taken = 0  # instructions that have come, in this turn of a loop that waits

    def begin(self) -> None:
        """A new execution."""
        self.issued.clear()
        self.early.clear()
        self.taken = 0


class Reordering(Buffers):
    """Store buffers and load queues of all CPUs of a world."""

    def __init__(self, world: World) -> None:
        super().__init__(world, True)
        self._by_key: dict[tuple[int, int], Queue] = {}
        self._floor: list[list[int]] = []  # per CPU: steps before whatever it loads from here on
        self._recent: list[dict[int, Load]] = []  # per CPU and word: the latest load since the last full barrier
        self._own: list[dict[int, int]] = []  # ... the step of the latest access that was in order
        self._turn: list[list[Load]] = []  # loads of this turn of a loop that waits

    def begin(self, tasks: list[Task]) -> None:
        """Add the tasks of buffers and queues to those of an execution."""
        super().begin(tasks)
        cpus = self._cpus
        self._floor, self._recent = [[] for _ in range(cpus)], [{} for _ in range(cpus)]
        self._own, self._turn = [{} for _ in range(cpus)], [[] for _ in range(cpus)]
        for queue in self.queues.values():
            queue.begin()
            self._settle_queue(queue)

    def learn(self) -> bool:
        """True if an execution has made more loads than were known of: a search starts again."""
        new = False
        for queue in self.queues.values():
            new |= queue.met > queue.expected
            queue.expected = max(queue.met, queue.expected)
        return new

    def known(self) -> Any:
        """What a search has learned: tasks, and how many loads there are of each word."""
        return self.numbers, {number: queue.expected for number, queue in self.queues.items()}

    def restore(self, known: Any) -> None:
        """Know what another process has learned."""
        self.numbers, expected = known
        self._by_key.clear()
        self.queues.clear()
        for (cpu, word, size), number in self.numbers.items():
            if size == 0:
                self._by_key[cpu, word] = self.queues[number] = Queue(number, word)
                self.queues[number].expected = expected[number]

    def _queue(self, word: int) -> Queue:
        key = (self.world.current.number, word)
        if key not in self._by_key:
            number = self._numbered((*key, 0)).number
            self._by_key[key] = self.queues[number] = Queue(number, word)
        return self._by_key[key]

    def _settle_queue(self, queue: Queue) -> None:
        """Whether the next load of a queue may happen, and whether it has to."""
        task = self.world.tasks[queue.number]
        task.optional = not queue.issued
        may = bool(queue.issued) or queue.taken + len(queue.early) < queue.expected
        task.pending = READ | queue.word if may else -1
        self._block(task, not may)

    def take(self, task: Task) -> None:
        """A load happens, or a store reaches memory."""
        w, queue = self.world, self.queues.get(task.number)
        if queue is None:
            store = self._commit(task)
            w.edges += [(w.count - 1, load.at) for load in store.behind]
            self._own[task.owner] |= dict.fromkeys(range(store.word, store.word + store.size), w.count - 1)
        else:
            if queue.issued:
                load = queue.issued.popleft()
            else:
                load = Load(queue.word)
                queue.early.append(load)
            load.at, load.value, load.place = w.count, w.mem[queue.word], len(w.log)
            w.edges += [(load.at, step) for step in load.behind]
            w.count += 1
            w.append(task.tag | READ | queue.word)
            self._settle_queue(queue)
            self._settle(task.owner)
        w.ask_again(w.tasks[task.owner])

    def wait(self, load: Load) -> None:
        """The current CPU goes on once a load has happened."""
        if load.looked:
            return
        load.looked = True
        if load.at < 0:
            self.world.hold(lambda: load.at >= 0)
        self.world.make_step(LOOK | load.word)
        self.world.edges.append((self.world.count - 1, load.at))

    def _wait_for_all(self, words: Iterable[int] | None = None) -> None:
        """The current CPU goes on once its loads have happened, or those of some words."""
        cpu = self.world.current.number
        for load in list(self._recent[cpu].values()):
            if load.at < 0 and (words is None or load.word in words):
                self.wait(load)

    def _shares(self, word: int, size: int = 1) -> bool:
        return any(self.shared[word : word + size])

    def read(self, op: int, field: Field, i: int) -> Any:
        """One marked load: its value, or what will be."""
        before = loads_of(i)
        word = field.base + int(i)
        if not self._shares(word):
            self.world.make_step(op | word)
            return self.world.mem[word]
        cpu = self.world.current.number
        if self.is_adding(word):
            self.full_barrier()
        if any(store.covers(word) for store in self.pending[cpu]):
            load, value = self._read_in_order(op, word)
        else:
            load = self._issue_load(word, [one.at for one in before])
            value = Loaded((load,), lambda: load.value)
        self._recent[cpu][word] = load
        self._turn[cpu].append(load)
        if op == ACQUIRE:
            self.wait(load)
            self._stand(load.at)
        return value

    def _read_in_order(self, op: int, word: int) -> tuple[Load, Any]:
        """A load behind an own store that is still in the buffer, or was when the load's turn came."""
        w = self.world
        self._wait_for_all((word,))
        self.world.make_step(op | word)
        value: Any = self.load(word)
        load = Load(word, w.count - 1, 0, len(w.log) - 1)
        load.looked = True
        self._own[w.current.number][word] = w.count - 1
        return load, Loaded((load, *loads_of(value)), lambda: value.compute() if isinstance(value, Loaded) else value)

    def _issue_load(self, word: int, before: list[int]) -> Load:
        """The instruction of a load has come: what happened early will do if it is behind what it must be."""
        cpu, queue = self.world.current.number, self._queue(word)
        behind = [*self._floor[cpu], *before]
        if word in self._own[cpu]:
            behind.append(self._own[cpu][word])
        queue.taken += 1
        queue.met = max(queue.met, queue.taken)
        while queue.early:
            load = queue.early.popleft()
            if all(load.at > step for step in behind):
                self.world.edges += [(load.at, step) for step in behind]
                break
        else:
            load = Load(word)
            load.behind = behind
            queue.issued.append(load)
        self._settle_queue(queue)
        self.world.until = 0
        return load

    def _stand(self, step: int) -> None:
        """Whatever the current CPU loads from here on stands behind a step."""
        floor = self._floor[self.world.current.number]
        if step >= 0 and step not in floor:
            floor.append(step)
            if len(floor) > MOST_BEHIND:
                floor.remove(min(floor))

    def _stand_alone(self) -> None:
        """The step just taken stands behind everything before it, and before everything behind it."""
        w, cpu = self.world, self.world.current.number
        w.edges += [(w.count - 1, load.at) for load in self._recent[cpu].values()]
        self._recent[cpu].clear()
        self._floor[cpu] = [w.count - 1]

    def plain(self, op: int, field: Field, i: int) -> Any:
        """One plain load, where it stands."""
        word = field.base + int(i)
        if self.is_adding(word):
            self.full_barrier()
        if self._shares(word):
            self._wait_for_all((word,))
            self._own[self.world.current.number][word] = self.world.count - 1
        self.world.append(self.world.tag | op | word)
        value: Any = self.load(word)
        return value

    def or_words(self, field: Field, i: int, n: int) -> int:
        """Plain loads of `n` words, or-ed together."""
        w, first = self.world, field.base + int(i)
        self._wait_for_all(range(first, first + n))
        self._own[w.current.number] |= {word: w.count - 1 for word in range(first, first + n) if self.shared[word]}
        w.append(w.tag | PLAIN_LOAD | more(n) | first)
        result = 0
        for word in range(first, first + n):
            result |= int(self.load(word))
        return result

    def store(self, op: int, field: Field, i: int, value: Any) -> None:
        """The current CPU stores: it goes on, and the store waits for what it depends on."""
        w, word, size = self.world, field.base + int(i), (op >> COUNT_BIT & COUNT_MASK) + 1
        if not self._shares(word, size):
            value = self._through_memory(value)
            self._store_unseen(op, word, size, value)
            return
        cpu = w.current.number
        before = {*loads_of(value), *(load for load in self._recent[cpu].values() if word <= load.word < word + size)}
        if op == RELEASE:
            self.barrier()
            before.update(self._recent[cpu].values())
        kind, task = ADD if op == ADD else WRITE, self._task(cpu, word, size)
        self._issue(Store(word, size, value, w.count - 1, self.epoch[cpu], task, kind, tuple(before)))

    def _through_memory(self, value: Any) -> int:
        """A value on its way into a word of this CPU: nobody will know there what it depends on."""
        number = int(value)
        for load in loads_of(value):
            self._stand(load.at)
        return number

    def add(self, field: Field, i: int, n: int) -> None:
        """The current CPU adds to a word."""
        super().add(field, int(i), int(n))

    def update(
        self, op: int, order: int, field: Field, i: int, change: Callable[..., int | None], *operands: int
    ) -> Any:
        """A read-modify-write; the value before."""
        before, i, operands = (loads_of(i), int(i), tuple(map(int, operands)))
        w, word = self.world, field.base + i
        old = super().update(op, order, field, i, change, *operands)
        self._own[w.current.number][word] = w.count - 1
        if order == FULL:
            self._stand_alone()
            return old
        if order == ACQUIRING:
            self._stand(w.count - 1)
        load = Load(word, w.count - 1, old, len(w.log) - 1)
        load.looked = True
        self._recent[w.current.number][word] = load
        self._turn[w.current.number].append(load)
        return Loaded((load, *before), lambda: old)

    def _before_update(self, order: int, word: int) -> None:
        if order in (FULL, RELEASING):
            self._wait_for_all()
        else:
            self._wait_for_all((word,))
        super()._before_update(order, word)

    def hold_for_lock(self, word: Any) -> int:
        """The current CPU must not take a lock before all it has done is done, and the lock is free; its word."""
        number = int(word)
        self._wait_for_all()
        return super().hold_for_lock(number)

    def locked(self) -> None:
        """The current CPU has just taken a lock."""
        self._stand_alone()

    def full_barrier(self) -> None:
        """The current CPU goes on once all it has done is done."""
        self._wait_for_all()
        super().full_barrier()
        self._stand_alone()

    def read_barrier(self) -> None:
        """What the current CPU loads from here on stands behind what it has loaded."""
        self._wait_for_all()
        for load in self._recent[self.world.current.number].values():
            self._stand(load.at)

    def section_begins(self) -> None:
        """Loads of a read section stand behind its beginning."""
        self._stand(self.world.count - 1)

    def pause(self) -> None:
        """The current CPU waits, and issues no load before it goes on."""
        self.world.make_step(LOOK)

    def loads_of_turn(self, cpu: int) -> list[Load]:
        """The loads of a CPU since its last turn of a loop that waits."""
        turn, self._turn[cpu] = self._turn[cpu], []
        for number, queue in self.queues.items():
            if self.world.tasks[number].owner == cpu:
                queue.taken = 0
                self._settle_queue(queue)
        return turn

    def _may_commit(self, store: Store) -> bool:
        return all(load.at >= 0 for load in store.behind)
