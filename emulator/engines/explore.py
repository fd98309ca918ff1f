"""Engine `explore`: kernels are plain Python, CPUs are greenlets of one process, and a scheduler decides every step.

A step is one marked access to shared memory (a primitive of atomic.py) with the plain code behind it. Before each, the
task says what it is about to do and the strategy chooses who goes on; so every interleaving of marked accesses can be
run, and run again. Plain accesses are no scheduling points.

A task that spins or sleeps is blocked until one of the words it has read since its last turn is changed: it neither
diverges nor starves. A sleep without a timeout is blocked on its own word alone. If nobody can move, that is a
deadlock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, TypeVar

from greenlet import getcurrent, greenlet

from emulator.mm_types import VIEWS, WORD

NAME = "explore"
EXPLORES = True
READ, WRITE, UPDATE, ADD = 0, 1, 2, 3  # kinds of a step; UPDATE is a read-modify-write, ADD one nobody looks at
INDEX_BITS = 24  # a location is the number of its field << INDEX_BITS | index
MAX_STEPS = 20_000  # of one execution: more is a loop that changes what it reads
_F = TypeVar("_F", bound=Callable[..., Any])
Options = dict[int, tuple[int, int]]  # task -> (kind, location) of the step it is about to take
Step = tuple[int, int, int]  # task, kind, location


class Task:
    """One process of the machine: a greenlet, what it is about to do, and the words it waits for."""

    __slots__ = ("body", "green", "number", "reads", "waits")

    def __init__(self, number: int, body: Callable[[], Any]) -> None:
        self.number, self.body = number, body
        self.green: Any = None
        self.reads: dict[int, int] = {}  # location -> value, since the last turn of a waiting loop
        self.waits: dict[int, int] | None = None  # blocked until one of these changes


class World:
    """The memory and the tasks of the one execution under way, and the steps it has taken.

    `choose(options, current)` is the strategy: the number of the task that takes the next step, -1 to end.
    `steps[k]` is (task, kind, location).
    """

    def __init__(self) -> None:
        self.fields: list[Field] = []
        self.undo: list[tuple[list[int], int, int]] = []
        self.bug: Any = [0]  # the words of run.bug
        self.tasks: list[Task] = []
        self.current = Task(-1, int)
        self.pending: Options = {}
        self.steps: list[Step] = []
        self.choose: Callable[[Options, int], int] = lambda options, current: next(iter(options))
        self.clock = 0
        self.main: Any = None
        self.starting = False
        self.deadlock = False

    def reset(self) -> None:
        """Put every word back to what it was before the execution."""
        for words, i, old in reversed(self.undo):
            words[i] = old
        self.undo.clear()

    def run(self, bodies: Sequence[Callable[[], Any]]) -> None:
        """Run the tasks to their end, to a violation or to a deadlock. Leaves memory as it is then."""
        self.steps, self.pending = [], {}
        self.clock, self.deadlock = 0, False
        self.main = getcurrent()
        self.tasks = [Task(number, body) for number, body in enumerate(bodies)]
        self.starting = True
        for task in self.tasks:  # each up to its first step
            self.current = task
            task.green = greenlet(self._body, self.main)
            task.green.switch(task)
        self.starting = False
        self.current = self.tasks[0]
        while (task := self._next()) is not None:
            self.current = task
            task.green.switch()
        for task in self.tasks:
            task.green.throw()  # GreenletExit: unwinds whoever is in the middle of something

    def _body(self, task: Task) -> None:
        task.body()
        self.pending.pop(task.number, None)

    def _movable(self) -> Options:
        """Who can move, and what each is about to do."""
        if all(task.waits is None for task in self.tasks):
            return dict(self.pending)
        return {number: op for number, op in self.pending.items() if not self._blocked(self.tasks[number])}

    def _blocked(self, task: Task) -> bool:
        if task.waits is None:
            return False
        for loc, value in task.waits.items():
            if self.fields[loc >> INDEX_BITS].words[loc & 0xFFFFFF] != value:
                return False
        return True

    def _next(self) -> Task | None:
        """Ask the strategy who takes the next step; None if the execution is over."""
        if self.bug[0] or len(self.steps) >= MAX_STEPS:
            return None
        options = self._movable()
        if not options:
            self.deadlock = bool(self.pending)
            return None
        number = self.choose(options, self.current.number)
        if number < 0:
            return None
        task = self.tasks[number]
        task.waits = None
        kind, loc = options[number]
        self.steps.append((number, kind, loc))
        return task

    def step(self, kind: int, loc: int) -> None:
        """The current task is about to take a step; returns when it is its turn."""
        task = self.current
        self.pending[task.number] = (kind, loc)
        if self.starting:
            self.main.switch()
            return
        chosen = self._next()
        if chosen is task:
            return
        if chosen is None:
            self.main.switch()  # over: it will be unwound
            return
        self.current = chosen
        chosen.green.switch()

    def turn(self) -> None:
        """One turn of a loop that waits: blocked until a word read since the last turn changes."""
        task = self.current
        task.waits, task.reads = task.reads, {}


world = World()


class Field:
    """`m.view.field`: elements, and plain accesses to them."""

    __slots__ = ("base", "name", "words")

    def __init__(self, name: str, words: list[int]) -> None:
        self.name, self.words = name, words
        self.base = len(world.fields) << INDEX_BITS
        world.fields.append(self)

    def __getitem__(self, i: int) -> int:
        return self.words[i]

    def __setitem__(self, i: int, value: int) -> None:
        words = self.words
        world.undo.append((words, i, words[i]))
        words[i] = value


def kernel(function: _F) -> _F:
    """Run it as it stands."""
    return function


kernel_inline = kernel
entry_point = kernel


def is_prepared() -> bool:
    """True: there is nothing to compile."""
    return True


def prepare() -> None:
    """Nothing to do."""


def attach(segment: Any) -> SimpleNamespace:
    """The `m` of a segment: copies of its views as lists; the world holds one machine at a time."""
    world.fields.clear()
    world.undo.clear()
    m = SimpleNamespace(segment=segment)
    for view, (layout, _) in VIEWS.items():
        fields = {
            name: Field(f"{view}.{name}" if layout is not WORD else view, segment.views[view][name].tolist())
            for name in layout.comments
        }
        setattr(m, view, fields["word"] if layout is WORD else SimpleNamespace(**fields))
    world.bug = m.run.bug.words
    return m


def write_back(m: Any) -> None:
    """Copy the words into the segment's views, for the audit and the report."""
    for view, (layout, _) in VIEWS.items():
        for name in layout.comments:
            field = getattr(m, view) if layout is WORD else getattr(getattr(m, view), name)
            m.segment.views[view][name] = field.words


# --- the primitives; atomic.py says what each means -----------------------------------------------------------------


def read_once(field: Field, i: int) -> int:
    """One load."""
    loc = field.base + i
    world.step(READ, loc)
    value = field.words[i]
    world.current.reads[loc] = value
    return value


smp_load_acquire = read_once


def write_once(field: Field, i: int, value: int) -> None:
    """One store."""
    world.step(WRITE, field.base + i)
    words = field.words
    world.undo.append((words, i, words[i]))
    words[i] = value


smp_store_release = write_once


def _update(field: Field, i: int, kind: int, change: Callable[[int], int]) -> int:
    loc = field.base + i
    world.step(kind, loc)
    words = field.words
    old = words[i]
    new = change(old)
    if new != old:
        world.undo.append((words, i, old))
        words[i] = new
    world.current.reads[loc] = new
    return old


def atomic_add(field: Field, i: int, n: int) -> None:
    """Add: two of these commute."""
    _update(field, i, ADD, lambda old: old + n)


def atomic_fetch_add(field: Field, i: int, n: int) -> int:
    """Add; the value before."""
    return _update(field, i, UPDATE, lambda old: old + n)


def atomic_add_return(field: Field, i: int, n: int) -> int:
    """Add; the value after."""
    return _update(field, i, UPDATE, lambda old: old + n) + n


def xchg(field: Field, i: int, new: int) -> int:
    """Swap; the value before."""
    return _update(field, i, UPDATE, lambda old: new)


def cmpxchg(field: Field, i: int, old: int, new: int) -> int:
    """Store `new` if it is `old`; the value before."""
    return _update(field, i, UPDATE, lambda seen: new if seen == old else seen)


def smp_mb() -> None:
    """A full barrier: nothing to do, memory is sequentially consistent."""


smp_rmb = smp_wmb = smp_mb__before_atomic = smp_mb__after_atomic = smp_mb


def data_race(field: Field, i: int) -> int:
    """One plain load."""
    return field[i]


def memset(field: Field, i: int, n: int, value: int) -> None:
    """Plain stores to n elements."""
    for at in range(i, i + n):
        field[at] = value


def or_words(field: Field, i: int, n: int) -> int:
    """Plain loads of n elements, or-ed together."""
    words = 0
    for at in range(i, i + n):
        words |= field[at]
    return words


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
    """Sleep while field[i] == value; with a timeout, until anything this task has read changes."""
    if read_once(field, i) != value:
        return
    if microseconds == 0:
        world.current.reads = {field.base + i: value}
    world.turn()


def wake_all(m: Any, field: Field, i: int) -> None:
    """Whoever sleeps sees that the word has changed."""
