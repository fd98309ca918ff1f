"""Events of all inputs in their order, made the lines of one trace."""

from __future__ import annotations

import re
from collections.abc import Iterable

from scenarios.imports.account import Account
from scenarios.imports.calls import (
    CALL,
    CREATES,
    ENTER,
    FAULT,
    GONE,
    MAPPED,
    NOT_MODELLED,
    PLAIN,
    SAMPLE,
    SNAPSHOT,
    WITHOUT_EFFECT,
    Event,
    Plain,
    Unknown,
    call_of,
    number,
)
from scenarios.imports.memory_calls import Left, MemoryCalls, failed
from scenarios.imports.people import Memory, People, Task
from scenarios.imports.placing import Placing
from scenarios.imports.touches import Touches
from scenarios.imports.writer import Writer

_AT_ENTRY = ("munmap",)  # what it unmaps may be somebody else's before it returns
_FREEING = ("mremap", "shmdt")  # so may what these free, but what else they do is told when they return
_PLACED = {"mmap": "len", "mmap2": "len", "old_mmap": "len", "mremap": "new_len", "shmat": ""}  # call -> its length
_FIXED = re.compile(r"MAP_FIXED\b|MREMAP_FIXED|SHM_REMAP")
_MOST_WAITING = 100_000
_MOST_HELD = 64  # exec itself makes fewer faults
_EXECS = ("execve", "execveat")
_MOMENTS = frozenset((*CREATES, *_EXECS))  # what a child has, or exec leaves, is what there is at their line
_ENDS = ("exit", "exit_group")


class Importer:
    """What the events so far have said. A call has its line where it returned; munmap, where it began."""

    def __init__(self, writer: Writer, account: Account, touch: str) -> None:
        self._account = account
        self._touches = Touches(writer, account, touch)
        self.people = People(writer, account)
        self._calls = MemoryCalls(self.people, self._touches)
        self._placing = Placing(self._calls, self._touches)
        self._entered: set[int] = set()  # tasks whose munmap is in the trace, and has not returned
        self.people.when_executed = self._placing.executed
        self.faults = 0
        self._origin: float | None = None  # when the first event was
        self._held: dict[int, list[Event]] = {}  # task -> faults where nothing is mapped
        self._ready: dict[int, tuple[Memory, int | None]] = {}  # task -> what _prepare says of it
        self._awaited: int | None = None  # the task whose call has freed what another has mapped already
        self._waiting: list[Event] = []  # that one, and all behind it
        self._handlers = {
            ENTER: self._enter,
            CALL: self._call,
            FAULT: self._fault,
            SNAPSHOT: self._snapshot,
            MAPPED: self._mapped,
            SAMPLE: self._sample,
        }

    def take(self, events: Iterable[Event]) -> None:
        """Enter all events."""
        for event in events:
            if self._origin is None:
                self._origin = event.time
            if event.kind == PLAIN:
                self._take_plain(event)
            else:
                self._ready.clear()  # whatever happens now, it may be somebody's end
                self._take(event)
        while self._awaited is not None:
            self._go_on()
        self._placing.begin_alone(self.people)
        for tid in list(self._held):
            self._release(tid)
        for task in self.people.tasks.values():
            task.memory.order.settle()

    def _take_plain(self, event: Event) -> None:
        """Enter plain calls."""
        writer, plain, ready, origin = self._touches.writer, self._calls.plain, self._ready, self._origin or 0.0
        understood = 0
        for one in event.args:
            _, tid, name, operands, result, time, began = one
            known = ready.get(tid) or self._prepare(event, one)
            if known is not None:
                memory, thread = known
                if thread is None or time is None:
                    writer.when = None
                elif began == time:
                    now = int((time - origin) * 1e6 + 0.5) if time > origin else 0
                    writer.when = thread, now, now
                else:
                    writer.when = self._when(thread, name, time, began)
                try:
                    if plain[name](memory, operands, result):
                        understood += 1
                        continue
                except ValueError:
                    pass
            ready.clear()
            self._take(call_of(event, one))
        self._account.understood += understood

    def _take(self, event: Event) -> None:
        """Enter an event that is not plain, when it is its turn."""
        if self._awaited is None:
            self._enter_event(event)
        elif event.tid == self._awaited:
            self._go_on(event)
        else:
            self._waiting.append(event)
            if len(self._waiting) > _MOST_WAITING:
                self._go_on()

    def _go_on(self, returned: Event | None = None) -> None:
        """The call that was awaited has returned: it came before what it has made room for; or nobody waits longer."""
        waiting = self._waiting
        if returned is not None:
            times = [time for time in (returned.time, waiting[0].time) if time is not None]
            returned = returned._replace(time=min(times, default=None))
        elif self._awaited in self.people.tasks:
            self.people.tasks[self._awaited].memory.order.freeing.pop(self._awaited, None)
        self._awaited, self._waiting = None, []
        for event in [returned, *waiting] if returned is not None else waiting:
            self._take(event)

    def _makes_room(self, task: Task, event: Event) -> int | None:
        """The other task whose call must have made room for what this one has mapped, where the kernel chose."""
        order, args = task.memory.order, event.args
        if not order.freeing or event.name not in _PLACED or not event.result:
            return None
        if _FIXED.search(args.get("flags", args.get("shmflg", ""))):
            return None
        length = number(args.get(_PLACED[event.name], "1"))
        maker = order.freed_by(event.result, event.result + length)
        return maker if maker != event.tid else None

    def _enter_event(self, event: Event) -> None:
        """Enter an event whose turn it is."""
        self._touches.writer.when = self._now(event) if self.people.several else None
        try:
            if event.kind == GONE:
                self._release(event.tid)
                self.people.gone(event.tid, event.name == "process")
            else:
                self._handlers[event.kind](event)
        except Left as left:
            self._account.leave_out(str(left), event.where)
        except Unknown as unknown:
            self._account.refuse(event.where, f"{event.name}: {unknown}")
        except (KeyError, IndexError, ValueError) as error:
            self._account.refuse(event.where, f"{event.name}: an operand is missing or strange ({error})")

    def _prepare(self, event: Event, plain: Plain) -> tuple[Memory, int | None] | None:
        """Whose memory the plain calls of a task change, until something else happens, and its thread if that is to be
        said; None if there is more to them.
        """
        tid = plain[1]
        task = self.people.tasks.get(tid)
        if task is None or task.making is not None or self.people.gone_first or tid in self._entered:
            return None
        if self._awaited is not None or task.memory.order.freeing:
            return None
        if self._held:
            self._touches.writer.when = self._now(call_of(event, plain)) if self.people.several else None
            self._release(tid)
        if task.memory.number is None:
            return None
        thread = self.people.threads.get(tid, 0) if self.people.several else None
        self._ready[tid] = task.memory, thread
        return self._ready[tid]

    def _now(self, event: Event) -> tuple[int, int, int] | None:
        """Which thread of the first process, from when to when."""
        return self._when(self.people.threads.get(event.tid, 0), event.name, event.time, event.began)

    def _when(self, thread: int, name: str, time: float | None, began: float | None) -> tuple[int, int, int] | None:
        """A thread, and an interval in microseconds from the first event on."""
        origin = self._origin
        if time is None or origin is None:
            return None
        end = int((time - origin) * 1e6 + 0.5) if time > origin else 0
        if began == time or began is None or name in _MOMENTS:
            return thread, end, end
        return thread, min(end, int((began - origin) * 1e6 + 0.5)) if began > origin else 0, end

    def comparisons(self) -> list[str]:
        """What snapshots said of the mappings, the latest of each process."""
        return list(self._placing.comparisons.values())

    def _task(self, event: Event) -> Task:
        self.people.settle()
        task = self.people.of(event)
        if self.people.several:  # since now, it may be
            self._touches.writer.when = self._now(event)
        if event.name not in _EXECS:
            self._placing.begin_late(self.people)
        return task

    def _enter(self, event: Event) -> None:
        """The first half of a call."""
        if event.name not in _EXECS:
            self._release(event.tid)
        if event.name in CREATES:
            self.people.settle()
            self.people.begin(event)
        elif event.name in _ENDS:
            self.people.gone(event.tid, event.name == "exit_group")
        elif event.name in _FREEING:
            memory = self._task(event).memory
            start = number(event.args["addr" if event.name == "mremap" else "shmaddr"])
            there = memory.space.at(start)
            if event.name == "mremap":
                memory.order.freeing[event.tid] = start, start + number(event.args["old_len"])
            elif there is not None:
                memory.order.freeing[event.tid] = there.start, there.end
        elif event.name in _AT_ENTRY:
            memory = self._task(event).memory
            if memory.number is not None:
                self._calls.known[event.name](memory, event)
                self._entered.add(event.tid)

    def _call(self, event: Event) -> None:
        """A call that has returned."""
        name = event.name
        if name in _ENDS:
            self._account.understood += 1
            self.people.gone(event.tid, name == "exit_group")
            return
        if (task := self.people.tasks.get(event.tid)) is not None:
            task.memory.order.freeing.pop(event.tid, None)
        if event.tid in self._entered:
            self._entered.discard(event.tid)
            self._task(event).memory.order.left(event.tid)
            if name in _AT_ENTRY:
                self._account.understood += 1
                return
        if name in NOT_MODELLED:
            if not event.failed:
                raise Left(name)
        elif name in CREATES:
            self.people.settle()
            self.people.created(event)
        elif name not in WITHOUT_EFFECT and not failed(event):
            task = self._task(event)
            if (maker := self._makes_room(task, event)) is not None:
                self._awaited, self._waiting = maker, [event]
                return
            if name in _EXECS:
                self._execute(task, event)
            elif task.memory.number is None:
                raise Left("what a process does that is left out")
            else:
                self._release(event.tid)
                self._calls.known[name](task.memory, event)
        self._account.understood += 1

    def _execute(self, task: Task, event: Event) -> None:
        """exec: the faults that are held are those of the new memory."""
        held = self._held.pop(event.tid, [])
        self.people.execute(task, event.tid)
        for fault in held:
            self._place(task.memory, fault)

    def _release(self, tid: int) -> None:
        """The task goes on as it is: the faults that are held are those of its memory."""
        task = self.people.tasks.get(tid)
        for fault in self._held.pop(tid, []):
            if task is not None and task.memory.number is not None:
                self._place(task.memory, fault)

    def _place(self, memory: Memory, fault: Event) -> None:
        """Enter a fault that was held."""
        try:
            self._placing.fault(memory, fault)
        except Left as left:
            self._account.understood -= 1
            self._account.leave_out(str(left), fault.where)

    def _fault(self, event: Event) -> None:
        """A page fault. One where nothing is mapped is held until the task says what it does: it may be exec's."""
        memory = self._task(event).memory
        if memory.number is None:
            raise Left("what a process does that is left out")
        self.faults += 1
        self._account.understood += 1
        held = self._held.get(event.tid)
        if held is not None or self._placing.unmapped(memory, event):
            self._held.setdefault(event.tid, []).append(event)
            if held is not None and len(held) > _MOST_HELD:
                self._release(event.tid)
        else:
            self._placing.fault(memory, event)

    def _mapped(self, event: Event) -> None:
        """A mapping that no call says."""
        memory = self._task(event).memory
        if memory.number is None:
            raise Left("what a process does that is left out")
        self._placing.mapped(memory, event.args["mapping"])
        self._account.understood += 1

    def _sample(self, event: Event) -> None:
        """What the process has now, as its kernel counts it: the trace expects it here."""
        self.people.settle()
        task = self.people.tasks.get(event.tid)
        if task is not None and task.memory.number is not None:
            task.memory.order.settle()
            self._touches.writer.line(task.memory.who, f"expect {event.args['vmpte']}K {event.args['rss']}K")

    def _snapshot(self, event: Event) -> None:
        """What /proc says of a process at some time."""
        self.people.settle()
        if event.snapshot is not None:
            self._placing.snapshot(self.people, event.snapshot)
