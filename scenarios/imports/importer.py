"""Events of all inputs in their order, made the lines of one trace."""

from __future__ import annotations

from collections import deque
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
    RANGED,
    SAMPLE,
    SNAPSHOT,
    WITHOUT_EFFECT,
    Event,
    Unknown,
    as_call,
)
from scenarios.imports.memory_calls import Left, MemoryCalls, failed
from scenarios.imports.people import People, Task
from scenarios.imports.placing import Placing
from scenarios.imports.touches import Touches
from scenarios.imports.writer import Writer

_AT_ENTRY = ("munmap",)  # what it unmaps may be somebody else's before it returns
_RECENT = 16  # faults that exec itself may have made
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
        self._any_call = False
        self._recent: deque[Event] = deque(maxlen=_RECENT)  # faults

    def take(self, events: Iterable[Event]) -> None:
        """Enter all events."""
        handlers = {
            ENTER: self._enter,
            CALL: self._call,
            FAULT: self._fault,
            SNAPSHOT: self._snapshot,
            MAPPED: self._mapped,
            SAMPLE: self._sample,
        }
        for event in events:
            try:
                if event.kind == RANGED:
                    if not self._ranged(event):
                        self._call(as_call(event))
                elif event.kind == GONE:
                    self.people.gone(event.tid, event.name == "process")
                else:
                    handlers[event.kind](event)
            except Left as left:
                self._account.leave_out(str(left), event.where)
            except Unknown as unknown:
                self._account.refuse(event.where, f"{event.name}: {unknown}")
            except (KeyError, IndexError, ValueError) as error:
                self._account.refuse(event.where, f"{event.name}: an operand is missing or strange ({error})")

    def comparisons(self) -> list[str]:
        """What snapshots said of the mappings, the latest of each process."""
        return list(self._placing.comparisons.values())

    def _ranged(self, event: Event) -> bool:
        """Enter madvise or mprotect of what is known to be mapped; False if there is more to it."""
        task = self.people.tasks.get(event.tid)
        if task is None or task.making is not None or self.people.gone_first or event.tid in self._entered:
            return False
        if not self._calls.ranged(task.memory, event.name, *event.args):
            return False
        self._account.understood += 1
        return True

    def _task(self, event: Event) -> Task:
        self.people.settle()
        task = self.people.of(event)
        if event.name not in ("execve", "execveat"):
            self._placing.begin_late(self.people)
        return task

    def _enter(self, event: Event) -> None:
        """The first half of a call."""
        if event.name in CREATES:
            self.people.settle()
            self.people.begin(event)
        elif event.name in _ENDS:
            self.people.gone(event.tid, event.name == "exit_group")
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
        if event.tid in self._entered:
            self._entered.discard(event.tid)
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
            if name in ("execve", "execveat"):
                self._execute(task, event)
            elif task.memory.number is None:
                raise Left("what a process does that is left out")
            else:
                self._any_call = True
                self._calls.known[name](task.memory, event)
        self._account.understood += 1

    def _execute(self, task: Task, event: Event) -> None:
        """exec: the faults since it began are those of the new memory."""
        since = [one for one in self._recent if one.tid == event.tid and event.time and (one.time or 0) >= event.time]
        if event.time is None and task.memory is self.people.main and not self._any_call:
            since = list(self._recent)
        self._recent.clear()
        self.people.execute(task, event.tid)
        for one in since:
            self._placing.fault(task.memory, one)

    def _fault(self, event: Event) -> None:
        """A page fault."""
        memory = self._task(event).memory
        if memory.number is None:
            raise Left("what a process does that is left out")
        self._placing.fault(memory, event)
        self._recent.append(event)
        self.faults += 1
        self._account.understood += 1

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
            self._touches.writer.line(task.memory.who, f"expect {event.args['vmpte']}K {event.args['rss']}K")

    def _snapshot(self, event: Event) -> None:
        """What /proc says of a process at some time."""
        self.people.settle()
        if event.snapshot is not None:
            self._placing.snapshot(self.people, event.snapshot)
