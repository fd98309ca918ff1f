"""Engine `explore`: kernels are plain Python, CPUs are greenlets of one process, and a strategy decides every step.

A step is one marked access to shared memory (a primitive of atomic.py) with the plain code behind it. Before each, the
task can be made to wait while others go on; so every interleaving of marked accesses can be run, and run again. Plain
accesses are no steps: if they race, the search reports it (emulator/engines/partial_order.py), and if they do not, no
interleaving of theirs matters.

Every access is written to a log, plain ones too: task, kind, first word and number of words in one int. The strategy
reads it when the execution is over. While an execution runs, a step that nobody wants to be asked about costs one
comparison: `count < until`.

A task that spins or sleeps is blocked until one of the words it has read since its last turn is changed. It neither
diverges nor starves. A sleep without a timeout ends when wake_all is called for its word, and not when the word
changes. A wake-up that is lost is a deadlock, as is any state in which nobody can move.

Memory is sequentially consistent, or each task has a store buffer (store_buffer.py). What reaches memory from there is
a step of a task of its own.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, TypeVar

from greenlet import getcurrent, greenlet

from emulator.engines import compile_cache
from emulator.engines.access_log import (
    ACQUIRE,
    ADD,
    BLOCKED,
    DATA_RACE,
    KIND_BIT,
    KIND_MASK,
    LOCK,
    LOOK,
    MB,
    PLAIN_LOAD,
    PLAIN_STORE,
    READ,
    RELAXED,
    RELEASE,
    TASK_BIT,
    UPDATE,
    WMB,
    WOKEN,
    WORD_MASK,
    WRITE,
    more,
)
from emulator.mm_types import VIEWS, WORD

NAME = "explore"
EXPLORES = True
_F = TypeVar("_F", bound=Callable[..., Any])

MAX_STEPS = 20_000  # of one execution: more is a loop that changes what it reads
MAX_TASKS = 60  # what fits into a mask, store buffers included
NEVER = 1 << 60
FULL, ACQUIRING, RELEASING, UNORDERED = range(4)  # what a read-modify-write promises
MANY_WORDS = 60  # more than a loop that waits looks at
CONSTANT = ("config", "point")  # views that nobody writes while the machine runs; so are the fields
CONSTANT_FIELDS = ("zone.limit", "zone.slots", "zone.pcp_high", "zone.batch", "mm.pgd", "barrier.parties")


class Task:
    """One process of the machine, or one store buffer: where it is and what it is about to do.

    `pending` is the log entry of its next step, -1 if there is none. `waits` are the words of which one must change
    before it can move. With `ready` it cannot move while that says no, asked again when one of `waits` changes. An
    execution may end without the step of a task that is `optional`.
    """

    __slots__ = (
        *("blocked", "body", "green", "number", "optional", "owner", "pending", "place", "ready", "since", "tag"),
        "waits",
    )

    def __init__(self, number: int, body: Callable[[], Any] | None, owner: int) -> None:
        self.number, self.body, self.owner = number, body, owner
        self.tag = number << TASK_BIT
        self.place: tuple[int, ...] = (0, number)  # among all: the same whatever order buffers were met in
        self.green: Any = None
        self.pending = -1
        self.blocked = False
        self.waits: frozenset[int] = frozenset()
        self.ready: Callable[[], bool] | None = None
        self.optional = False
        self.since = 0  # where its last turn is in the log


class Crash(BaseException):
    """The task dies here."""


class World:
    """The memory and the tasks of the one execution under way, and the log of its accesses.

    `strategy.choose(world)` gives the number of the task that takes the next step, -1 to end, and sets `until`. The
    number of steps up to which nobody asks again as long as that task can move.
    """

    def __init__(self) -> None:
        self.mem: list[int] = []
        self.fields: list[Field] = []
        self.log: list[int] = []
        self.append = self.log.append
        self.bug = 0  # the word of run.bug
        self.tasks: list[Task] = []
        self.current = Task(0, None, 0)
        self.tag = 0
        self.count = 0  # steps taken
        self.until = NEVER
        self.waiting: list[Task] = []
        self.waited: set[int] = set()  # the words they wait for
        self.asleep: list[Task] = []  # until wake_all of the word they wait for
        self.buffers: Any = None  # store_buffer.Buffers, or None: sequential consistency
        self.edges: list[tuple[int, int]] = []  # a step, and one that it stands behind whatever words they touch
        self.strategy: Any = None
        self.clock = 0
        self.main: Any = None
        self.starting = False
        self.deadlock = False
        self.crash = (-1, 0)  # a task, and the number of the step behind which it dies
        self.taken = 0  # steps of that one

    def clear(self) -> None:
        """Forget everything: another machine, or none."""
        self.mem.clear()
        self.fields.clear()
        self.buffers = None
        self.bug, self.crash = 0, (-1, 0)

    def run(self, bodies: Sequence[Callable[[], Any]]) -> None:
        """Run the tasks to their end, to a violation or to a deadlock. Leaves memory as it is then."""
        self.log.clear()
        self.count = self.clock = self.taken = 0
        self.deadlock = False
        self.waiting.clear()
        self.waited.clear()
        self.asleep.clear()
        self.edges.clear()
        self.main = getcurrent()
        self.tasks = [Task(number, body, number) for number, body in enumerate(bodies)]
        if self.buffers is not None:
            self.buffers.begin(self.tasks)
        self.starting, self.until = True, 0
        for task in self.tasks[: len(bodies)]:  # each up to its first step
            self.current, self.tag = task, task.tag
            task.green = greenlet(task.body, self.main)
            task.green.switch()
        self.starting = False
        self.current = self.tasks[0]
        while (task := self._next()) is not None:
            self.current, self.tag = task, task.tag
            task.green.switch()
        for task in self.tasks[: len(bodies)]:
            task.green.throw()  # GreenletExit: unwinds a task in the middle of something

    def movable(self) -> list[int]:
        """The numbers of the tasks that can take a step."""
        return [task.number for task in self.tasks if task.pending >= 0 and not task.blocked]

    def _next(self) -> Task | None:
        """The task that takes the next step; None if the execution is over. Stores reach memory on the way."""
        while True:
            if self.mem[self.bug] or self.count >= MAX_STEPS:
                return None
            if self.current.green.dead:
                self.current.pending = -1
            if not any(task.pending >= 0 and not task.blocked and not task.optional for task in self.tasks):
                self.deadlock = any(task.pending >= 0 and not task.optional for task in self.tasks)
                return None
            number = self.strategy.choose(self)
            self.until = min(self.until, MAX_STEPS)
            if number < 0:
                return None
            task = self.tasks[number]
            if number == self.crash[0]:
                self.taken, self.until = self.taken + 1, self.count + 1
            if task.green is not None:
                return task
            self.buffers.take(task)

    def step(self, op: int) -> None:
        """The current task is about to take a step; returns when it is its turn."""
        task = self.current
        if self.taken == self.crash[1] and task.number == self.crash[0]:
            self.crash = (-1, 0)
            raise Crash
        task.pending = op
        if self.starting:
            self.main.switch()
            task.since = len(self.log)
        else:
            chosen = self._next()
            if chosen is None:
                self.main.switch()  # over: it will be unwound
            elif chosen is not task:
                self.current, self.tag = chosen, chosen.tag
                chosen.green.switch()
        if task.ready is not None:
            task.ready, task.waits = None, frozenset()
            if task in self.waiting:
                self._forget(task)

    def make_step(self, op: int) -> None:
        """The current task takes a step."""
        if self.count >= self.until:
            self.step(op)
        self.count += 1
        self.append(self.tag | op)

    def stores_to(self, words: frozenset[int]) -> dict[int, list[int]]:
        """The steps so far that stored to each of these words."""
        count = -1
        stores: dict[int, list[int]] = {word: [] for word in words}
        for entry in self.log:
            kind = entry & KIND_MASK << KIND_BIT
            count += kind <= LOOK or (kind == MB and self.buffers is not None)
            if WRITE <= kind <= ADD and entry & WORD_MASK in words:
                stores[entry & WORD_MASK].append(count)
        return stores

    def hold(self, ready: Callable[[], bool], words: frozenset[int] = frozenset()) -> None:
        """The current task cannot take its next step, which it must ask for, while `ready` says no."""
        task = self.current
        task.ready, task.waits = ready, words
        if words:
            self.waiting.append(task)
            self.waited |= words
        self.until = 0
        self.ask_again(task)

    def ask_again(self, task: Task) -> None:
        """What a task waits for may have come about, or may have gone again."""
        if task.ready is not None and task.blocked is task.ready():
            task.blocked = not task.blocked
            self.append(task.tag | (BLOCKED if task.blocked else WOKEN))

    def _forget(self, task: Task) -> None:
        """A task waits for no word any more."""
        self.waiting.remove(task)
        self.waited = set().union(*(other.waits for other in self.waiting))

    def turn(self) -> None:
        """One turn of a loop that waits: blocked until one of the words changes that it has read since the last."""
        task = self.current
        words = self._read_since(task)
        task.since = len(self.log)
        if words:
            task.blocked, task.waits = True, words
            self.waiting.append(task)
            self.waited |= words
            self.append(task.tag | BLOCKED)
        self.until = 0  # a task that is blocked cannot go on unasked
        if words and self.buffers is not None:
            self.buffers.pause()

    def sleep(self, word: int) -> None:
        """The current task is blocked until wake_all of a word."""
        task = self.current
        task.since = len(self.log)
        task.blocked, task.waits = True, frozenset((word,))
        self.asleep.append(task)
        self.append(task.tag | BLOCKED)
        self.until = 0

    def rouse(self, word: int) -> None:
        """A sleeper on a word can move."""
        self.until = 0
        for task in [task for task in self.asleep if word in task.waits]:
            self.asleep.remove(task)
            self._unblock(task)

    def _read_since(self, task: Task) -> frozenset[int] | None:
        """The words that a task has read since its last turn; None if one of them was changed meanwhile.

        None, too, if they are many: this is the first turn of a loop, and the next one will know.
        """
        mine, since = task.number, self.log[task.since :]
        read: dict[int, int] = {}  # word -> when it was read first: what it said then may have led here
        for at in [at for at, entry in enumerate(since) if entry >> TASK_BIT == mine]:
            if since[at] & KIND_MASK << KIND_BIT in (READ, ACQUIRE, UPDATE, RELAXED):
                read.setdefault(since[at] & WORD_MASK, at)
        if self.buffers is not None and (loads := self.buffers.loads_of_turn(mine)):
            start = min(task.since, *(load.place for load in loads))
            since = self.log[start:]
            read = {word: at + task.since - start for word, at in read.items()}
            for load in loads:
                read[load.word] = min(load.place - start, read.get(load.word, load.place - start))
        if len(read) > MANY_WORDS:
            return None
        for at in [at for at, entry in enumerate(since) if entry & WORD_MASK in read and entry >> TASK_BIT != mine]:
            kind = since[at] & KIND_MASK << KIND_BIT
            if (WRITE <= kind <= ADD or kind == PLAIN_STORE) and at > read[since[at] & WORD_MASK]:
                return None
        return frozenset(read)

    def set(self, word: int, value: int) -> None:
        """Store to a word that somebody may wait for."""
        changed = word in self.waited and self.mem[word] != value
        self.mem[word] = value
        if changed:
            self.wake(word)

    def wake(self, word: int) -> None:
        """A word has changed: a task that waits for it can move, and may be more urgent than the one that runs."""
        self.until = 0
        for task in [task for task in self.waiting if word in task.waits]:
            if task.ready is not None:
                self.ask_again(task)
                continue
            self.waiting.remove(task)
            self._unblock(task)
        self.waited = set().union(*(task.waits for task in self.waiting))

    def _unblock(self, task: Task) -> None:
        task.blocked, task.waits = False, frozenset()
        self.append(task.tag | WOKEN)


world = World()


class Field:
    """`m.view.field`: where its elements are in memory, and plain accesses to them."""

    __slots__ = ("base", "name", "size")

    def __init__(self, name: str, values: list[int]) -> None:
        self.name, self.size = name, len(values)
        self.base = len(world.mem)
        world.mem.extend(values)
        world.fields.append(self)

    def __getitem__(self, i: int) -> int:
        word, w = self.base + i, world
        w.append(w.tag | PLAIN_LOAD | word)
        return w.mem[word]

    def __setitem__(self, i: int, value: int) -> None:
        word, w = self.base + i, world
        w.append(w.tag | PLAIN_STORE | word)
        if word in w.waited:
            w.set(word, value)
        else:
            w.mem[word] = value


def kernel(function: _F) -> _F:
    """Run it as it stands."""
    return function


kernel_inline = kernel
entry_point = kernel


CACHE_DIRECTORY = compile_cache.directory(
    tuple(f"emulator/engines/{name}.py" for name in ("access_log", "partial_order", "race_detector"))
)


def is_prepared() -> bool:
    """True if prepare() will only load what an earlier process compiled: no kernel, but what reads the log."""
    return compile_cache.is_complete(CACHE_DIRECTORY)


def remark() -> str:
    """What a user should know of where compiled code is kept."""
    return compile_cache.remark


def prepare() -> None:
    """Compile what reads the log, or load it from the cache. Call before the first fork."""
    from emulator.engines import partial_order, race_detector  # numba looks for its cache when it is imported
    from emulator.engines.whole_program import whole_program

    with compile_cache.filling(CACHE_DIRECTORY), whole_program(partial_order.ENTRIES, frozenset(), kernels=False):
        partial_order.compile_all()
        race_detector.compile_all()


def attach(segment: Any, field: type[Field] = Field) -> SimpleNamespace:
    """The `m` of a segment: a copy of its views; the world holds one machine at a time.

    What nobody writes while the machine runs is a plain list: there is nothing to see.
    """
    world.clear()
    m = SimpleNamespace(segment=segment)
    for view, (layout, _) in VIEWS.items():
        fields: dict[str, Any] = {}
        for name in layout.comments:
            values = segment.views[view][name].tolist()
            constant = view in CONSTANT or f"{view}.{name}" in CONSTANT_FIELDS or (view == "insn" and name != "left")
            fields[name] = values if constant else field(f"{view}.{name}" if layout is not WORD else view, values)
        setattr(m, view, fields["word"] if layout is WORD else SimpleNamespace(**fields))
    world.bug = m.run.bug.base
    return m


# --- the primitives; atomic.py says what each means -----------------------------------------------------------------


def read_once(field: Field, i: int) -> int:
    """One load."""
    w = world
    if w.buffers is not None:
        return w.buffers.read(READ, field, i)
    word = field.base + i
    if w.count >= w.until:
        w.step(READ | word)
    w.count += 1
    w.append(w.tag | READ | word)
    return w.mem[word]


def smp_load_acquire(field: Field, i: int) -> int:
    """One load, and nothing behind it before it."""
    w = world
    if w.buffers is not None:
        return w.buffers.read(ACQUIRE, field, i)
    word = field.base + i
    if w.count >= w.until:
        w.step(ACQUIRE | word)
    w.count += 1
    w.append(w.tag | ACQUIRE | word)
    return w.mem[word]


def write_once(field: Field, i: int, value: int) -> None:
    """One store."""
    w = world
    if w.buffers is not None:
        w.buffers.store(WRITE, field, i, value)
        return
    word = field.base + i
    if w.count >= w.until:
        w.step(WRITE | word)
    w.count += 1
    w.append(w.tag | WRITE | word)
    if word in w.waited:
        w.set(word, value)
    else:
        w.mem[word] = value


def smp_store_release(field: Field, i: int, value: int) -> None:
    """One store, behind everything that stands before it."""
    w = world
    if w.buffers is not None:
        w.buffers.store(RELEASE, field, i, value)
        return
    word = field.base + i
    if w.count >= w.until:
        w.step(RELEASE | word)
    w.count += 1
    w.append(w.tag | RELEASE | word)
    if word in w.waited:
        w.set(word, value)
    else:
        w.mem[word] = value


def atomic_add(field: Field, i: int, n: int) -> None:
    """Add: two of these commute. No barrier where stores leave in any order."""
    w = world
    if w.buffers is not None:
        w.buffers.add(field, i, n)
        return
    word = field.base + i
    if w.count >= w.until:
        w.step(ADD | word)
    w.count += 1
    w.append(w.tag | ADD | word)
    w.mem[word] += n
    if word in w.waited:
        w.wake(word)


def update(field: Field, i: int, change: Callable[..., int | None], *operands: int, order: int = FULL) -> int:
    """A read-modify-write: store change(value, *operands) if it is not None; the value before.

    `order` is FULL, or what a relaxed, acquire or release form promises; store buffers make full ones of all but
    relaxed and acquire.
    """
    w = world
    if w.buffers is not None:
        op = UPDATE if order in (FULL, RELEASING) else RELAXED
        return w.buffers.update(op, order, field, i, change, *operands)
    word = field.base + i
    if w.count >= w.until:
        w.step(UPDATE | word)
    w.count += 1
    w.append(w.tag | UPDATE | word)
    old = w.mem[word]
    new = change(old, *operands)
    if new is not None:
        w.set(word, new)
    return old


def atomic_fetch_add(field: Field, i: int, n: int) -> int:
    """Add; the value before."""
    return update(field, i, operator.add, n)


def atomic_add_return(field: Field, i: int, n: int) -> int:
    """Add; the value after."""
    return update(field, i, operator.add, n) + n


def _second(old: int, new: int) -> int:
    return new


def _second_if(seen: int, old: int, new: int) -> int | None:
    return new if seen == old else None


def xchg(field: Field, i: int, new: int) -> int:
    """Swap; the value before."""
    return update(field, i, _second, new)


def cmpxchg(field: Field, i: int, old: int, new: int) -> int:
    """Store `new` if it is `old`; the value before."""
    return update(field, i, _second_if, old, new)


def take_lock(field: Field, i: int, new: int) -> None:
    """Store `new` once the word is 0: one step, which cannot be made before. A full barrier."""
    w, word = world, field.base + i
    if w.buffers is not None:
        word = w.buffers.hold_for_lock(word)
    elif w.count >= w.until or w.mem[word] != 0:
        w.hold(lambda: w.mem[word] == 0, frozenset((word,)))
    if w.count >= w.until:
        w.step(LOCK | word)
    w.count += 1
    w.append(w.tag | LOCK | word)
    w.set(word, new)
    if w.buffers is not None:
        w.buffers.locked()


def wait_until(ready: Callable[[], bool], words: frozenset[int]) -> int:
    """One step that is not made before `ready` says so, asked whenever one of `words` changes; the step's number."""
    w = world
    w.hold(ready, words)
    w.step(LOOK)
    w.count += 1
    w.append(w.tag | LOOK)
    return w.count - 1


def data_race(field: Field, i: int) -> int:
    """One plain load that may race."""
    w = world
    if w.buffers is not None:
        return w.buffers.plain(DATA_RACE, field, i)
    word = field.base + i
    w.append(w.tag | DATA_RACE | word)
    return w.mem[word]


def memset(field: Field, i: int, n: int, value: int) -> None:
    """Plain stores to `n` words, at most MOST_WORDS, as one."""
    w = world
    if w.buffers is not None:
        w.buffers.store(PLAIN_STORE | more(n), field, i, value)
        return
    word = field.base + i
    w.append(w.tag | PLAIN_STORE | more(n) | word)
    w.mem[word : word + n] = [value] * n
    for one in w.waited.intersection(range(word, word + n)):
        w.wake(one)


def or_words(field: Field, i: int, n: int) -> int:
    """Plain loads of `n` words, at most MOST_WORDS, or-ed together."""
    word, w = field.base + i, world
    if w.buffers is not None:
        return w.buffers.or_words(field, i, n)
    w.append(w.tag | PLAIN_LOAD | more(n) | word)
    words = w.mem[word : word + n]
    result = 0
    for value in set(words):
        result |= value
    return result


def smp_mb() -> None:
    """A full barrier: behind it the store buffer is empty."""
    w = world
    if w.buffers is not None:
        w.buffers.full_barrier()
        return
    w.append(w.tag | MB)


smp_mb__before_atomic = smp_mb__after_atomic = smp_mb


def smp_wmb() -> None:
    """Stores before it reach memory before stores behind it."""
    if world.buffers is not None:
        world.buffers.barrier()
    world.append(world.tag | WMB)


def smp_rmb() -> None:
    """Loads before it are made before loads behind it."""
    if world.buffers is not None:
        world.buffers.read_barrier()


def cpu_relax() -> None:
    """One turn of a loop that waits."""
    world.turn()


sched_yield = cpu_relax


def now_ns(m: Any, cpu: int) -> int:
    """A clock that moves by a microsecond whenever it is looked at."""
    world.clock += 1000
    return world.clock


get_cycles = now_ns


def raise_signal(number: int) -> None:
    """No process can be killed here."""


def sleep_on(m: Any, cpu: int, field: Field, i: int, value: int, microseconds: int) -> None:
    """Sleep while field[i] == value; with a timeout, until anything this task has read changes. A full barrier."""
    smp_mb()
    if _look_once_more(field, i) != value:
        return
    if microseconds == 0:
        world.sleep(field.base + int(i))
    else:
        world.turn()
    if world.buffers is not None:
        smp_mb()  # a step: what it stores next must not enter the store buffer before it is awake


def _nothing(old: int) -> None:
    """The change of a word that is only looked at."""


def _look_once_more(field: Field, i: int) -> int:
    """What a word holds at the step that puts its reader to sleep: no wake-up comes in between, as in a futex."""
    return read_once(field, i) if world.buffers is None else update(field, i, _nothing)


def wake_all(m: Any, field: Field, i: int) -> None:
    """Wake the sleepers on the word. A full barrier, and a step. It must not commute with the look of one that is about
    to sleep, so the log has it as an addition of nothing.
    """
    smp_mb()
    word, w = field.base + int(i), world
    w.make_step(ADD | word)
    if word in w.waited:
        w.wake(word)
    w.rouse(word)
