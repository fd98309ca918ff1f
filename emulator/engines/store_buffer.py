"""Store buffers: what a store does between the instruction and memory, for `--memory tso` and `pso`.

Each CPU has the stores it has made and nobody else can see yet, in order. Its own loads find them there. A store
reaches memory in a step of a task of its own, so the search chooses when:

    tso    one task per CPU: stores reach memory in the order they were made, as on x86
    pso    one task per CPU and word: in any order, but two of one word; smp_wmb and a release keep what stands before
           them in front of what stands behind

smp_mb and read-modify-writes wait until the buffer is empty; so does atomic_add under tso, where x86 has a locked
instruction. Under pso it is no barrier: the addition enters the buffer like a store, as arm64's stadd may, and is made
to what memory holds when it gets there. A load of a word that its own CPU is adding to waits until the buffer is empty.

Loads are made in order, so address dependencies hold, and smp_rmb and acquire have nothing to do; load-load and
load-store reordering (arm64, POWER) are not modelled.

Only words that more than one task accesses go through the buffer: nobody can see the others late. Which those are is
learned; a search starts again when it has met a new one.
"""

from __future__ import annotations

from dataclasses import dataclass

from emulator.engines.access_log import (
    ADD,
    BLOCKED,
    COUNT_BIT,
    COUNT_MASK,
    ISSUE,
    PLAIN_LOAD,
    PLAIN_STORE,
    RELEASE,
    WOKEN,
    WRITE,
)
from emulator.engines.explore import MAX_TASKS, Field, Task, World, world

MODELS = ("sc", "tso", "pso")


class TooManyTasks(Exception):
    """The program has more tasks and words in flight than a search can tell apart."""


@dataclass(frozen=True)
class Store:
    """One store in a buffer: `size` words from `word` on; `made` is the step behind which it was made.

    `kind` is WRITE, or ADD: then `value` is what will be added.
    """

    word: int
    size: int
    value: int
    made: int
    epoch: int  # barriers before it
    task: Task
    kind: int = WRITE

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
        self.draining: set[int] = set()
        self._cpus = 0

    def begin(self, tasks: list[Task]) -> None:
        """Add the buffers' tasks to those of an execution."""
        self._cpus = len(tasks)
        self.pending = [[] for _ in tasks]
        self.epoch = [0] * len(tasks)
        self.commits.clear()
        self.draining.clear()
        for (cpu, _, _), number in self.numbers.items():
            assert number == len(tasks)
            tasks.append(self._buffer(number, cpu))

    def _task(self, cpu: int, word: int, size: int) -> Task:
        key = (cpu, word, size) if self.pso else (cpu, 0, 0)
        number = self.numbers.get(key)
        if number is None:
            number = self._cpus + len(self.numbers)
            if number >= MAX_TASKS:
                raise TooManyTasks(f"more than {MAX_TASKS} tasks and words in store buffers; a smaller program may fit")
            self.numbers[key] = number
            self.world.tasks.append(self._buffer(number, cpu))
        return self.world.tasks[number]

    @staticmethod
    def _buffer(number: int, cpu: int) -> Task:
        task = Task(number, None, cpu)
        task.blocked = True  # until there is something in it
        return task

    def load(self, word: int) -> int:
        """What the current CPU sees at a word: its own latest store, or memory."""
        for store in reversed(self.pending[self.world.current.number]):
            if store.word <= word < store.word + store.size:
                return store.value
        return self.world.mem[word]

    def add(self, word: int, n: int) -> bool:
        """The current CPU adds to a word, which is no barrier here; False if it is one, or nobody else could see it."""
        if not self.pso or not self.shared[word]:
            return False
        self.issue(ADD, word, n)
        return True

    def is_adding(self, word: int) -> bool:
        """True if what the current CPU would see at a word depends on an addition that is in its buffer."""
        for store in reversed(self.pending[self.world.current.number]):
            if store.word <= word < store.word + store.size:
                return store.kind == ADD
        return False

    def issue(self, op: int, word: int, value: int) -> None:
        """The current CPU stores; `op` has the kind and the number of words."""
        w, size = self.world, (op >> COUNT_BIT & COUNT_MASK) + 1
        cpu = w.current.number
        if not any(self.shared[word : word + size]):
            self._store_unseen(op, word, size, value)
            return
        if op == RELEASE:
            self.barrier()
        w.append(w.tag | ISSUE | (size - 1) << COUNT_BIT | word)
        task = self._task(cpu, word, size)
        kind = ADD if op == ADD else WRITE
        self.pending[cpu].append(Store(word, size, value, w.count - 1, self.epoch[cpu], task, kind))
        self._settle(cpu)
        w.until = 0  # from now on it may reach memory at any step

    def _store_unseen(self, op: int, word: int, size: int, value: int) -> None:
        """A store to words that nobody else accesses."""
        w = self.world
        if op & ~(COUNT_MASK << COUNT_BIT) != PLAIN_STORE:
            if w.count >= w.until:
                w.step(op | word)
            w.count += 1
        w.append(w.tag | op | word)
        for at in range(word, word + size):
            if at in w.waited and w.mem[at] != value:  # somebody does access it, as this execution is about to learn
                w.wake(at)
            w.mem[at] = value

    def _settle(self, cpu: int) -> None:
        """Which of a CPU's stores may reach memory next, and whether the CPU may go on."""
        stores = self.pending[cpu]
        first: dict[int, Store] = {}
        ready: set[int] = set()
        for k, store in enumerate(stores):
            if first.setdefault(store.task.number, store) is not store:
                continue
            before = stores[:k]
            if self.pso:
                free = all(one.epoch == store.epoch and not one.overlaps(store) for one in before)
            else:
                free = not before
            if free:
                ready.add(store.task.number)
        for task in self.world.tasks[self._cpus :]:
            if task.owner == cpu:
                head = first.get(task.number)
                task.pending = -1 if head is None else head.kind | (head.size - 1) << COUNT_BIT | head.word
                self._block(task, task.number not in ready)

    def _block(self, task: Task, blocked: bool) -> None:
        if task.blocked != blocked:
            task.blocked = blocked
            self.world.append(task.tag | (BLOCKED if blocked else WOKEN))

    def commit(self, task: Task) -> None:
        """The store at the head of a buffer reaches memory: one step."""
        w, stores = self.world, self.pending[task.owner]
        store = next(one for one in stores if one.task is task)
        stores.remove(store)
        self.commits.append((w.count, store.made, store.epoch))
        w.count += 1
        w.append(task.tag | store.kind | (store.size - 1) << COUNT_BIT | store.word)
        for word in range(store.word, store.word + store.size):
            value = store.value + (w.mem[word] if store.kind == ADD else 0)
            if word in w.waited and w.mem[word] != value:
                w.wake(word)
            w.mem[word] = value
        self._settle(task.owner)
        if not stores and task.owner in self.draining:
            self.draining.remove(task.owner)
            self._block(w.tasks[task.owner], False)

    def drain(self) -> None:
        """The current CPU must not take its next step before its buffer is empty."""
        cpu = self.world.current.number
        if self.pending[cpu]:
            self.draining.add(cpu)
            self._block(self.world.current, True)
            self.world.until = 0

    def barrier(self) -> None:
        """What the current CPU stores from now on stays behind what it has stored."""
        cpu = self.world.current.number
        if self.pso and self.pending[cpu]:
            self.epoch[cpu] += 1


class BufferedField(Field):
    """`m.view.field` where there are store buffers."""

    __slots__ = ()

    def __getitem__(self, i: int) -> int:
        word = self.base + i
        world.append(world.tag | PLAIN_LOAD | word)
        return int(world.buffers.load(word))

    def __setitem__(self, i: int, value: int) -> None:
        world.buffers.issue(PLAIN_STORE, self.base + i, value)
