"""The story of one traced execution: what each CPU did, oldest first, in the kernel's words.

The explorer records every access to shared memory; most of them are bookkeeping. Of the accesses that the failure
depends on those to words that matter to another task are told. So is every change of a lock, an RCU read section, a
count or a table's state. The two accesses that clash are always told.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from emulator.mm_types import PTRS_PER_TABLE
from workers.telling.access import Access
from workers.telling.columns import WIDTH, Row, column_lines, hanging
from workers.telling.held import NO_LOCK, Held
from workers.telling.phrases import Names, phrase, range_phrase
from workers.telling.state import Watched, states
from workers.telling.telling import told_steps
from workers.telling.violation import Violation
from workers.telling.whereabouts import many

STORY_LINES = 40
MARGIN = 8  # of the story: steps
WHOLE = 1 << 62  # events: all of them


@dataclass(frozen=True)
class Trace:
    """An execution that failed, and what is known of why."""

    accesses: list[Access]
    causal: frozenset[int]  # steps that the failure depends on
    guilty: tuple[int, int] | None  # the two accesses that clash
    names: Names  # of tasks "CPU 0", ..., "the coordinator"; levels of tables as at the start
    violation: Violation | None
    what: str  # "count-saturated", "deadlock", "data-race", a check's name
    schedule: str
    command: str  # the command that repeats it

    @property
    def tasks(self) -> list[str]:
        """The names of the tasks."""
        return list(self.names.tasks)


@dataclass(frozen=True)
class StoryLine:
    """One event: `times` how often in a row, `skipped` how many events before it are not told."""

    step: int
    task: int
    function: str
    text: str
    source: str
    callers: tuple[str, ...]
    instruction: str
    old: int
    new: int
    guilty: bool
    causal: bool
    notes: tuple[str, ...]  # what the task holds from here on, where that changed
    times: int = 1
    skipped: int = 0

    @property
    def earlier(self) -> str:
        """What stands before it in place of events that are not told."""
        return f"... {many(self.skipped, 'earlier event')}"


@dataclass(frozen=True)
class Story:
    """The events in order, the tasks that have any, how each task stood at the end, how many events have no link.

    `watched` is the state of the machine over the whole execution, whichever events are told.
    """

    columns: list[str]
    lines: list[StoryLine]
    tasks: list[str]
    ending: dict[str, str]
    unconnected: int  # left out because the failure does not depend on them
    watched: list[Watched]

    def as_json(self) -> dict[str, Any]:
        """The record."""
        return asdict(self)


class _Teller:
    """Writes the lines while it goes through the accesses, and knows what each task holds at every moment."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.names = trace.names.copy()
        self.held = Held()
        self.lines: list[StoryLine] = []
        self.run: tuple[Access, Access] | None = None  # first and last access of the latest line
        guilty = trace.guilty or ()
        self.words = {(access.field, access.index) for access in trace.accesses if access.step in guilty}
        self.kept: set[int] = set()  # steps at which a word was looked at or changed on which two accesses clash
        self.noted: dict[int, str] = {}  # what was last said of a task's locks

    def follow(self, access: Access) -> None:
        """An access happens, told or not."""
        if access.field == "ptdesc.level":
            self.names.levels[access.index] = access.new
        self.held.follow(access, self.names)

    def tell(self, access: Access) -> None:
        """Write its line, or fold it into the latest one."""
        trace = self.trace
        guilty = access.step in (trace.guilty or ())
        held = self.held.text(access.task)
        function, source = access.teller
        line = StoryLine(
            step=access.step,
            task=access.task,
            function=function,
            text=phrase(access, self.names),
            source=source,
            callers=access.callers,
            instruction=access.instruction,
            old=access.old,
            new=access.new,
            guilty=guilty,
            causal=access.step in trace.causal,
            notes=(held,) if guilty or self.noted.get(access.task, NO_LOCK) != held else (),
        )
        self.noted[access.task] = held
        if (access.field, access.index) in self.words:
            self.kept.add(access.step)
        folded = self._folded(line, access)
        if folded is None:
            self.lines.append(line)
            self.run = access, access
        else:
            self.lines[-1] = folded

    def _folded(self, line: StoryLine, access: Access) -> StoryLine | None:
        """The latest line with this event in it, if it is the same event, or the same done to the next entry."""
        if self.run is None:
            return None
        before, (first, last) = self.lines[-1], self.run
        if line.guilty or before.guilty or (before.task, before.function) != (line.task, line.function):
            return None
        if before.text == line.text:
            return replace(before, times=before.times + 1, notes=before.notes or line.notes)
        if (last.field, last.op, last.old, last.new) == ("entry", access.op, access.old, access.new) and (
            access.index == last.index + 1 and access.index % PTRS_PER_TABLE != 0 and access.field == "entry"
        ):
            self.run = first, access
            text = range_phrase(first, access, self.names)
            return replace(before, text=text, notes=before.notes or line.notes)
        return None


def _lines(trace: Trace, told: set[int]) -> tuple[list[StoryLine], set[int], dict[str, str]]:
    """Every event that may be told, which of them must be, and how each task stood at the end."""
    teller = _Teller(trace)
    at: dict[int, str] = {}
    for access in trace.accesses:
        teller.follow(access)
        at[access.task] = access.instruction
        if access.step in told:
            teller.tell(access)
    ending = {
        trace.tasks[task]: (f"at {at[task]}; " if at[task] else "") + teller.held.text(task)
        for task in sorted(at)
        if task in teller.noted or teller.held.text(task) != NO_LOCK
    }
    return teller.lines, teller.kept, ending


def story_of(trace: Trace, limit: int = STORY_LINES) -> Story:
    """The story, of so many events: what has no link to the failure goes first, then the oldest.

    A look at the word on which two accesses clash, or a change of it, is never left out.
    """
    told = told_steps(trace.accesses, trace.causal, trace.guilty, trace.what)
    lines, must, ending = _lines(trace, told)
    unconnected = 0
    if len(lines) > limit:
        linked = [line for line in lines if line.causal or line.guilty]
        unconnected, lines = len(lines) - len(linked), linked
    too_many = len(lines) - limit
    kept: list[StoryLine] = []
    skipped = 0
    for line in lines:
        if too_many > 0 and not line.guilty and line.step not in must:
            too_many, skipped = too_many - 1, skipped + 1
            continue
        kept.append(replace(line, skipped=skipped))
        skipped = 0
    columns = [name for task, name in enumerate(trace.tasks) if any(line.task == task for line in kept)]
    watched = states(trace.accesses, told, trace.causal, set(trace.guilty or ()), trace.names)
    return Story(columns, kept, trace.tasks, ending, unconnected, watched)


def _text_of(line: StoryLine, before: StoryLine | None) -> list[str]:
    """The lines of one event; a function is named once for events of it that follow each other."""
    same = before is not None and before.function == line.function and before.instruction == line.instruction
    text = f"{'  ' if same else f'{line.function}: '}{line.text}{f'  x{line.times}' if line.times > 1 else ''}"
    begins = line.instruction and (before is None or before.instruction != line.instruction)
    return [f"[{line.instruction}]", text] if begins else [text]


def story_text(story: Story, width: int = WIDTH) -> list[str]:
    """The story for a terminal of so many columns: one per task, the accesses that clash marked >>."""
    if not story.lines:
        return []
    rows: list[Row | str] = []
    before: dict[int, StoryLine] = {}
    for line in story.lines:
        if line.skipped:
            rows.append(line.earlier)
        text = _text_of(line, before.get(line.task))
        if line.guilty:
            text += [f"    {more}" for more in (line.source, *line.notes)]
        rows.append(Row(f"{line.step:>6}", story.tasks[line.task], ">> " if line.guilty else "", text))
        before[line.task] = line
    lines = column_lines(story.columns, rows, MARGIN, width, "  step")
    ending = [f"at the end  {name:<16} {text}" for name, text in story.ending.items()]
    if story.unconnected:
        ending.append(f"not told: {many(story.unconnected, 'event')} on which the failure does not depend")
    return [*lines, "", *(part for line in ending for part in hanging(line, width))]
