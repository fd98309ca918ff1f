"""Tasks, the processes that they are threads of, and whose memory these have.

A process is a line's `in K` in the trace, but the first, whose lines have none. Processes begin by fork, get new
memory by exec, and share that of another by CLONE_VM.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from scenarios.imports.account import Account
from scenarios.imports.calls import CLONE_THREAD, CLONE_VM, ENTER, Event, bits
from scenarios.imports.order import Order
from scenarios.imports.space import Space
from scenarios.imports.writer import MOST_CHILDREN, MOST_THREADS, Writer


@dataclass
class Memory:
    """The memory of a process, an mm: its mappings, the order of their changes, where its heap ends, the tasks it has.

    `number` is its name in the trace, 0 of the first; None if the trace has no room for it. `files` are the files that
    its descriptors stand for, as far as the input says.
    """

    number: int | None
    order: Order
    who: str = ""  # how its lines begin
    space: Space = field(default_factory=Space)
    heap: int | None = None  # where it begins
    brk: int | None = None
    tasks: set[int] = field(default_factory=set)
    files: dict[int, str] = field(default_factory=dict)
    guesses: dict[str, int] = field(default_factory=dict)  # where a file is taken to lie
    bound: dict[str, str] = field(default_factory=dict)  # path -> the mapped file, of which only a descriptor is known
    stack: int | None = None  # its lowest address, as far as it is known
    placed: bool = False  # a snapshot has said what exec has mapped


@dataclass
class Task:
    """A thread: the process it is part of, its memory, and the child that it is about to make."""

    group: int
    memory: Memory
    making: dict[str, str] | None = None
    making_name: str = ""
    guessed: bool = False  # nobody knows whether it is a thread or a process that shares memory: until it execs


class People:
    """All tasks of the input."""

    def __init__(self, writer: Writer, account: Account) -> None:
        self._writer, self._account = writer, account
        self.tasks: dict[int, Task] = {}
        self.main: Memory | None = None
        self._names = list(range(MOST_CHILDREN, 0, -1))
        self.most = 0
        self.threads: dict[int, int] = {}  # tasks of the first process -> their names in the trace, small numbers
        self.several = False  # there were several of them at a time
        self.gone_first = False  # the first process has ended, and its memory is still there
        self.when_executed: Callable[[Memory], None] = lambda memory: None

    def of(self, event: Event) -> Task:
        """The task that an event is of; one that nobody has seen yet is the child that somebody makes, or a thread."""
        task = self.tasks.get(event.tid)
        if task is None:
            task = self._unknown(event)
        elif event.kind != ENTER and task.making is not None and event.name != task.making_name:
            task.making = None
        return task

    def _unknown(self, event: Event) -> Task:
        if self.main is None:
            self.main = Memory(0, Order(self._writer, ""))
            return self._enter(event.tid, event.group or event.tid, self.main)
        if event.group and event.group != event.tid:
            leader = next((task for task in self.tasks.values() if task.group == event.group), None)
            if leader is not None:
                return self._enter(event.tid, event.group, leader.memory)
        makers = [task for task in self.tasks.values() if task.making is not None]
        if makers:
            return self.create(makers[0], event.tid, event.group == event.tid and event.group != 0)
        if event.group:
            return self._enter(event.tid, event.group, self._new(self.main))
        self._account.assumed["a task that nobody was seen to make, taken as a thread of the first process"] += 1
        task = self._enter(event.tid, event.tid, self.main)
        task.guessed = True
        return task

    def _enter(self, tid: int, group: int, memory: Memory) -> Task:
        task = self.tasks[tid] = Task(group, memory)
        memory.tasks.add(tid)
        if memory is self.main:
            taken = set(self.threads.values())
            self.threads[tid] = next((number for number in range(MOST_THREADS) if number not in taken), 0)
            self.several = self.several or len(self.threads) > 1
        return task

    def _leave(self, tid: int, memory: Memory) -> None:
        """A task is none of a memory's any more."""
        memory.tasks.discard(tid)
        if memory is self.main:
            self.threads.pop(tid, None)

    def _new(self, parent: Memory) -> Memory:
        """Memory that begins as a copy of another's, and is empty then."""
        child = self._fork(parent)
        self.clear(child)
        return child

    def _fork(self, parent: Memory) -> Memory:
        """Memory that begins as a copy of another's."""
        number = self._names.pop() if self._names and parent.number is not None else None
        if number is None:
            self._account.leave_out(f"a process beside {MOST_CHILDREN} others, and all it does", "")
            return Memory(None, Order(self._writer, ""))
        parent.order.settle()
        self._writer.fork(parent.who, number)
        self.most = max(self.most, MOST_CHILDREN - len(self._names))
        who = f"in {number} "
        child = Memory(number, Order(self._writer, who), who, parent.space.copy(), parent.heap, parent.brk)
        child.stack = parent.stack
        child.files, child.guesses, child.bound = dict(parent.files), dict(parent.guesses), dict(parent.bound)
        child.placed = parent.placed
        return child

    def begin(self, event: Event) -> None:
        """A call that makes a task begins."""
        task = self.of(event)
        task.making, task.making_name = event.args, event.name

    def create(self, maker: Task, tid: int, process: bool = False) -> Task:
        """The child that a task makes, by a number that nobody has."""
        guessed = "uargs" in (maker.making or {}) and not process
        flags = self._flags(maker.making_name, maker.making or {})
        if process:
            flags &= ~(CLONE_THREAD | CLONE_VM)
        maker.making = None
        if flags & CLONE_VM:
            thread = flags & CLONE_THREAD and not guessed
            task = self._enter(tid, maker.group if thread else tid, maker.memory)
            task.guessed = guessed
            return task
        return self._enter(tid, tid, self._fork(maker.memory))

    def _flags(self, name: str, args: dict[str, str]) -> int:
        """What a call shares between a task and its child."""
        text = args.get("clone_flags", "")
        if name in ("fork", "vfork"):
            return CLONE_VM if name == "vfork" else 0
        if "uargs" in args:  # the tool does not look into the structure: pthread_create, for all that is known
            self._account.assumed["flags of clone3 that the tool does not show, taken as those of a thread"] += 1
            return CLONE_VM | CLONE_THREAD
        begin = text.find("flags=")
        words = text[begin + 6 :] if begin >= 0 else text
        for end in (",", "}", " "):
            words = words.partition(end)[0]
        return bits("clone", words)

    def created(self, event: Event) -> None:
        """A call that makes a task has returned, with the child's number in the maker."""
        task = self.of(event)
        if event.failed or not event.result or event.result < 0 or event.result in self.tasks:
            task.making = None
        else:
            if task.making is None:
                task.making, task.making_name = event.args, event.name
            self.create(task, event.result)

    def execute(self, task: Task, tid: int) -> None:
        """exec: a new, empty memory, of the task alone."""
        memory = task.memory
        mates = {other for other in memory.tasks if self.tasks[other].group != task.group}
        for other in memory.tasks - mates - {tid}:  # the other threads are killed
            self._leave(other, memory)
            del self.tasks[other]
        if mates:
            task.memory = self._new(memory)
            self._leave(tid, memory)
            memory = task.memory
        else:
            self.clear(memory)
        memory.tasks = {tid}
        self.when_executed(memory)

    def clear(self, memory: Memory) -> None:
        """Unmap all that a process has."""
        memory.order.settle()
        memory.order.freeing.clear()
        for start, end in memory.space.runs():
            self._writer.unmap(memory.who, start, end)
        memory.space, memory.heap, memory.brk, memory.stack = Space(), None, None, None
        memory.guesses, memory.bound, memory.placed = {}, {}, False

    def gone(self, tid: int, whole: bool) -> None:
        """A task has ended; `whole`: its process with it."""
        task = self.tasks.get(tid)
        if task is None:
            return
        memory = task.memory
        memory.order.freeing.pop(tid, None)
        mates = [one for one in memory.tasks if self.tasks[one].group == task.group or self.tasks[one].guessed]
        for other in mates if whole and not task.guessed else [tid]:
            self._leave(other, memory)
            del self.tasks[other]
        if memory.tasks:
            return
        memory.order.settle()
        if memory is self.main:
            self.gone_first = True  # its memory stays, so that the last figures are those of its end
        elif memory.number is not None:
            self._writer.exit(memory.number)
            self._names.append(memory.number)

    def settle(self) -> None:
        """Before anything else happens: the first process has ended, and gives its memory up."""
        if self.gone_first and self.main is not None and self.tasks:
            self.gone_first = False
            self.clear(self.main)
