"""Store buffers: what a store does between the instruction and memory, for `--memory tso` and `pso`.

Each CPU has the stores it has made and nobody else can see yet, in order. Its own loads find them there. A store
reaches memory in a step of a task of its own, so the search chooses when:

    tso    one task per CPU: stores reach memory in the order they were made, as on x86
    pso    one task per CPU and word: in any order, but two of one word; smp_wmb and a release keep what stands before
           them in front of what stands behind

smp_mb and read-modify-writes wait until the buffer is empty. Under pso a relaxed or acquire form only until the own
stores to its word have left it. So does atomic_add under tso, where x86 has a locked instruction. Under pso it is no
barrier. The addition enters the buffer like a store, as arm64's stadd may, and is made to what memory holds when it
gets there. A load of a word that its own CPU is adding to waits until the buffer is empty.

Loads are made in order, so address dependencies hold, and smp_rmb and acquire have nothing to do. load_queue.py is the
model in which they are not.

Only words that more than one task accesses go through the buffer: nobody can see the others late. Which those are is
learned; a search starts again when it has met a new one.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from emulator.engines.access_log import (
    ADD,
    BLOCKED,
    COUNT_BIT,
    COUNT_MASK,
    ISSUE,
    MB,
    PLAIN_LOAD,
    PLAIN_STORE,
    RELEASE,
    WOKEN,
    WRITE,
    TooManyTasks,
    more,
)
from emulator.engines.explore import FULL, MAX_TASKS, RELEASING, Field, Task, World, world


@dataclass(frozen=True)
class Store:
    """One store in a buffer: `size` words from `word` on; `made` is the step behind which it was made.

    `kind` is WRITE, or ADD: then `value` is what will be added.
    """

    word: int
    size: int
    value: Any  # an int, or one that depends on loads
    made: int
    epoch: int  # barriers before it
    task: Task
    kind: int = WRITE
    behind: tuple[Any, ...] = ()  # loads before it (load_queue.py)

    @property
    def number(self) -> int:
        """The value, once every load is made that it depends on."""
        return self.value if isinstance(self.value, int) else int(self.value.compute())

    def covers(self, word: int) -> bool:
        """True if it stores to a word."""
        return self.word <= word < self.word + self.size

    def overlaps(self, other: Store) -> bool:
        """True if both store to some word."""
        return self.word < other.word + other.size and other.word < self.word + self.size


class Buffers:
    """The store buffers of all CPUs of a world."""

    def __init__(self, world: World, pso: bool) -> None:
        self.world, self.pso = world, pso
        self.shared = bytearray(len(world.mem))
        self.numbers: dict[tuple[int, int, int], int] = {}  # (CPU, word, size) -> task, the same in every execution
        self.pending: list[list[Store]] = []  # per CPU, oldest first
        self.epoch: list[int] = []
        self.commits: list[tuple[int, int, int]] = []  # step, step behind which the store was made, epoch
        self.queues: dict[int, Any] = {}  # task -> its load queue
        self._cpus = 0

    def begin(self, tasks: list[Task]) -> None:
        """Add the buffers' tasks to those of an execution."""
        self._cpus = len(tasks)
        self.pending = [[] for _ in tasks]
        self.epoch = [0] * len(tasks)
        self.commits.clear()
        for key, number in self.numbers.items():
            assert number == len(tasks)
            tasks.append(self._buffer(number, key))

    def _task(self, cpu: int, word: int, size: int) -> Task:
        return self._numbered((cpu, word, size) if self.pso else (cpu, 0, 0))

    def _numbered(self, key: tuple[int, int, int]) -> Task:
        number = self.numbers.get(key)
        if number is None:
            number = self._cpus + len(self.numbers)
            if number >= MAX_TASKS:
                raise TooManyTasks(f"more than {MAX_TASKS} tasks and words in store buffers; a smaller program may fit")
            self.numbers[key] = number
            self.world.tasks.append(self._buffer(number, key))
        return self.world.tasks[number]

    @staticmethod
    def _buffer(number: int, key: tuple[int, int, int]) -> Task:
        task = Task(number, None, key[0])
        task.place = (1, *key)
        task.blocked = True  # until there is something in it
        return task

    def load(self, word: int) -> Any:
        """What the current CPU sees at a word: its own latest store, or memory."""
        for store in reversed(self.pending[self.world.current.number]):
            if store.covers(word):
                return store.value
        return self.world.mem[word]

    def add(self, field: Field, i: int, n: int) -> None:
        """The current CPU adds to a word: no barrier under pso, where others could see it late."""
        if self.pso and self.shared[field.base + i]:
            self.store(ADD, field, i, n)
        else:
            self.update(ADD, FULL, field, i, operator.add, n)

    def is_adding(self, word: int) -> bool:
        """True if what the current CPU would see at a word depends on an addition that is in its buffer."""
        for store in reversed(self.pending[self.world.current.number]):
            if store.covers(word):
                return store.kind == ADD
        return False

    def read(self, op: int, field: Field, i: int) -> int:
        """One marked load."""
        if self.is_adding(field.base + i):
            self.full_barrier()
        self.world.make_step(op | field.base + i)
        return self.load(field.base + i)

    def plain(self, op: int, field: Field, i: int) -> int:
        """One plain load."""
        if self.is_adding(field.base + i):
            self.full_barrier()
        self.world.append(self.world.tag | op | field.base + i)
        return self.load(field.base + i)

    def or_words(self, field: Field, i: int, n: int) -> int:
        """Plain loads of `n` words, or-ed together."""
        first = field.base + i
        self.world.append(self.world.tag | PLAIN_LOAD | more(n) | first)
        return functools.reduce(operator.or_, (self.load(word) for word in range(first, first + n)))

    def store(self, op: int, field: Field, i: int, value: int) -> None:
        """The current CPU stores; `op` has the kind and the number of words."""
        w, word, size = self.world, field.base + i, (op >> COUNT_BIT & COUNT_MASK) + 1
        if not any(self.shared[word : word + size]):
            self._store_unseen(op, word, size, value)
            return
        if op == RELEASE:
            self.barrier()
        cpu, kind = w.current.number, ADD if op == ADD else WRITE
        self._issue(Store(word, size, value, w.count - 1, self.epoch[cpu], self._task(cpu, word, size), kind))

    def _issue(self, store: Store) -> None:
        """A store enters the buffer of the current CPU."""
        w, cpu = self.world, self.world.current.number
        w.append(w.tag | ISSUE | (store.size - 1) << COUNT_BIT | store.word)
        self.pending[cpu].append(store)
        self._settle(cpu)
        w.until = 0  # from now on it may reach memory at any step

    def update(
        self, op: int, order: int, field: Field, i: int, change: Callable[..., int | None], *operands: int
    ) -> int:
        """A read-modify-write; the value before."""
        w, word = self.world, field.base + i
        self._before_update(order, word)
        self.world.make_step(op | word)
        old = w.mem[word]
        new = change(old, *operands)
        if new is not None:
            w.set(word, new)
        return old

    def _before_update(self, order: int, word: int) -> None:
        """The current CPU must not make a read-modify-write before its stores have reached memory that stand before."""
        cpu = self.world.current.number
        stores = self.pending[cpu]
        if order in (FULL, RELEASING) or not self.pso:
            self._drain()
        elif any(store.covers(word) or store.epoch < self.epoch[cpu] for store in stores):
            self.world.hold(lambda: not any(one.covers(word) or one.epoch < self.epoch[cpu] for one in stores))

    def hold_for_lock(self, word: int) -> int:
        """The current CPU must not take a lock before its buffer is empty and the lock is free; the lock's word."""
        w, stores = self.world, self.pending[self.world.current.number]
        w.hold(lambda: not stores and w.mem[word] == 0, frozenset((word,)))
        return word

    def full_barrier(self) -> None:
        """The current CPU goes on once its buffer is empty."""
        self._drain()
        self.world.make_step(MB)

    def read_barrier(self) -> None:
        """Loads are in order as they are."""

    def section_begins(self) -> None:
        """Loads are in order as they are."""

    def locked(self) -> None:
        """A lock is a full barrier as it is."""

    def known(self) -> Any:
        """What a search has learned: another process may `restore` it."""
        return self.numbers

    def restore(self, known: Any) -> None:
        """Know what another process has learned."""
        self.numbers = known

    def pause(self) -> None:
        """The current CPU waits: its next step does."""

    def loads_of_turn(self, cpu: int) -> list[Any]:
        """Loads that are steps of another task: none."""
        return []

    def learn(self) -> bool:
        """True if a search must start again."""
        return False

    def _drain(self) -> None:
        """The current CPU must not take its next step before its buffer is empty."""
        stores = self.pending[self.world.current.number]
        if stores:
            self.world.hold(lambda: not stores)

    def _store_unseen(self, op: int, word: int, size: int, value: int) -> None:
        """A store to words that nobody else accesses."""
        w = self.world
        if op & ~(COUNT_MASK << COUNT_BIT) != PLAIN_STORE:
            self.world.make_step(op | word)
        else:
            w.append(w.tag | op | word)
        for at in range(word, word + size):
            w.set(at, value)  # somebody may wait for it after all, as this execution is about to learn

    def _settle(self, cpu: int) -> None:
        """Which of a CPU's stores may reach memory next, and whether the CPU may go on."""
        stores = self.pending[cpu]
        first: dict[int, Store] = {}
        ready: set[int] = set()
        for k, store in enumerate(stores):
            if first.setdefault(store.task.number, store) is not store:
                continue
            before = stores[:k]
            if not self._may_commit(store):
                free = False
            elif self.pso:
                free = all(one.epoch == store.epoch and not one.overlaps(store) for one in before)
            else:
                free = not before
            if free:
                ready.add(store.task.number)
        for task in self.world.tasks[self._cpus :]:
            if task.owner == cpu and task.number not in self.queues:
                head = first.get(task.number)
                task.pending = -1 if head is None else head.kind | (head.size - 1) << COUNT_BIT | head.word
                self._block(task, task.number not in ready)

    def _block(self, task: Task, blocked: bool) -> None:
        if task.blocked != blocked:
            task.blocked = blocked
            self.world.append(task.tag | (BLOCKED if blocked else WOKEN))

    def _may_commit(self, store: Store) -> bool:
        """True if nothing but earlier stores keeps a store in the buffer."""
        return True

    def take(self, task: Task) -> None:
        """The store at the head of a buffer reaches memory: one step."""
        self._commit(task)
        self.world.ask_again(self.world.tasks[task.owner])

    def _commit(self, task: Task) -> Store:
        w, stores = self.world, self.pending[task.owner]
        store = next(one for one in stores if one.task is task)
        stores.remove(store)
        self.commits.append((w.count, store.made, store.epoch))
        w.count += 1
        w.append(task.tag | store.kind | (store.size - 1) << COUNT_BIT | store.word)
        for word in range(store.word, store.word + store.size):
            w.set(word, store.number + (w.mem[word] if store.kind == ADD else 0))
        self._settle(task.owner)
        return store

    def barrier(self) -> None:
        """What the current CPU stores from now on stays behind what it has stored."""
        cpu = self.world.current.number
        if self.pso and self.pending[cpu]:
            self.epoch[cpu] += 1


class BufferedField(Field):
    """`m.view.field` where there are store buffers."""

    __slots__ = ()

    def __getitem__(self, i: int) -> int:
        return int(world.buffers.plain(PLAIN_LOAD, self, i))

    def __setitem__(self, i: int, value: int) -> None:
        world.buffers.store(PLAIN_STORE, self, i, value)
