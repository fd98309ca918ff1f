"""The state of the machine at every step of a traced execution: tables, locks, what each CPU has cached or has still
to store.

Told are words that the story is about, as a list of values with the steps from which on they hold. What a word held at
the start is what its first change found there, or its first look.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import NamedTuple

from emulator.mm_types import EPOCH_BITS, PSC_ENTRIES, PTRS_PER_TABLE, TLB_ENTRIES
from emulator.pgtable_types import PAGE_SHIFT, PMD_SHIFT
from workers.telling.access import BUFFERED, Access
from workers.telling.held import Held
from workers.telling.phrases import Names, noun, value

MOST_ENTRIES = 12  # of a story that goes through whole tables
TABLES, WORDS, LOCKS, CACHES, BUFFERS = "tables", "other words", "locks", "caches", "store buffers"
QUIET = ("none", "empty")
NOBODY = Names({}, ())
Word = tuple[str, int]


@dataclass
class Watched:
    """What is watched: a name in a group, and (step, text) for each change of it; the first holds from the start."""

    group: str
    name: str
    values: list[tuple[int, str]] = field(default_factory=list)

    def note(self, step: int, text: str) -> None:
        """It is so from this step on."""
        if self.values and self.values[-1][0] == step:
            self.values.pop()
        if not self.values or self.values[-1][1] != text:
            self.values.append((step, text))


def _words_of(accesses: Sequence[Access], told: Set[int], causal: Set[int], guilty: Set[int]) -> list[Word]:
    """The words to watch: those that clash, counts and states of the tables told of, and entries, the first ones."""
    words: dict[Word, None] = {}
    entries = 0
    chosen = [one for one in accesses if one.step in told or (one.step in causal and _sets_entry(one))]
    for access in sorted(chosen, key=lambda one: one.step not in guilty):
        if access.field == "entry" or access.field.startswith("ptdesc.p") or access.field == "ptdesc.state":
            table = access.index // PTRS_PER_TABLE if access.field == "entry" else access.index
            words.update({("ptdesc.state", table): None, ("ptdesc.pte_refcount", table): None})
        if access.field == "entry" and access.length == 1 and entries < MOST_ENTRIES:
            entries += ("entry", access.index) not in words
            words["entry", access.index] = None
        if access.step in guilty and access.field and access.length == 1:
            words[access.field, access.index] = None
    return sorted(words, key=lambda word: (_group(word) != TABLES, word[0] == "entry", word[1], word[0]))


def _group(word: Word) -> str:
    return TABLES if word[0] == "entry" or word[0].startswith(("ptdesc.", "ptnote.")) else WORDS


def _sets_entry(access: Access) -> bool:
    return access.field == "entry" and access.length == 1 and access.changes


def _at_the_start(accesses: Sequence[Access]) -> dict[Word, int]:
    """What each word held: as its first change found it, or its first look if nothing changes it."""
    found: dict[Word, int] = {}
    changed: set[Word] = set()
    for access in accesses:
        if not access.field or access.op == "issue":
            continue
        for index in range(access.index, access.index + access.length):
            word = access.field, index
            if word not in found or (access.changes and word not in changed):
                found[word] = access.old
            if access.changes:
                changed.add(word)
    return found


class View(NamedTuple):
    """A cache of translations: its fields, what it is called, slots per CPU, and what a tag counts."""

    name: str
    leads_to: str
    called: str
    size: int
    shift: int


VIEWS = (
    View("tlb", "tlb.entry", "TLB", TLB_ENTRIES, PAGE_SHIFT),
    View("psc", "psc.table", "paging-structure cache", PSC_ENTRIES, PMD_SHIFT),
)


class _Cache:
    """The translations that one CPU has cached in a view."""

    def __init__(self, memory: Mapping[Word, int], cpu: int, view: View) -> None:
        self._memory, self._cpu, self._view = memory, cpu, view
        tags = (index for field, index in memory if field == f"{view.name}.tag")
        self._slots = sorted(index for index in tags if index // view.size == cpu)

    def text(self) -> str:
        """Addresses, and where they lead."""
        memory, view = self._memory, self._view
        epoch = memory.get((f"cpu.{view.name}_epoch", self._cpu), 0)
        found = []
        for slot in self._slots:
            tag = memory[f"{view.name}.tag", slot]
            if tag and tag & ((1 << EPOCH_BITS) - 1) == epoch:
                text = value(view.leads_to, slot, memory.get((view.leads_to, slot), 0), NOBODY)
                found.append(f"{tag >> EPOCH_BITS << view.shift:#x}: {text}")
        return "; ".join(found) or "empty"


class _Watch:
    """Goes through the accesses and notes what becomes of each thing that is watched."""

    def __init__(self, accesses: Sequence[Access], words: Sequence[Word], names: Names) -> None:
        self.names, self.memory, self.held = names, _at_the_start(accesses), Held()
        self.words = {
            word: Watched(_group(word), "", [(0, value(*word, self.memory[word], names))])
            for word in words
            if word in self.memory
        }
        self.locks = [Watched(LOCKS, name, [(0, "none")]) for name in names.tasks]
        self.buffers = [Watched(BUFFERS, name, [(0, "empty")]) for name in names.tasks]
        self.pending: dict[int, dict[Word, str]] = {}
        cpus = range(len(names.tasks) - 1)
        self.caches = [
            (_Cache(self.memory, cpu, view), Watched(CACHES, f"{view.called} of {names.tasks[cpu]}"))
            for cpu in cpus
            for view in VIEWS
        ]
        for cache, row in self.caches:
            row.note(0, cache.text())

    def follow(self, access: Access) -> None:
        """An access happens."""
        if access.field == "ptdesc.level":
            self.names.levels[access.index] = access.new
        self.held.follow(access, self.names)
        self.locks[access.task].note(access.step, self.held.words(access.task) or "none")
        if access.op in BUFFERED:
            self._buffer(access)
        if access.op != "issue" and access.changes:
            for index in range(access.index, access.index + access.length):
                self._set((access.field, index), access)
            if access.field.startswith(("tlb.", "psc.", "cpu.tlb_epoch", "cpu.psc_epoch")):
                for cache, row in self.caches:
                    row.note(access.step, cache.text())

    def _set(self, word: Word, access: Access) -> None:
        self.memory[word] = access.new
        if word in self.words:
            self.words[word].note(access.step, value(*word, access.new, self.names))

    def _buffer(self, access: Access) -> None:
        """A store enters the store buffer of its CPU, or leaves it for memory."""
        mine, word = self.pending.setdefault(access.task, {}), (access.field, access.index)
        mine.pop(word, None)
        if access.op == "issue":
            mine[word] = f"{noun(*word, self.names)}: {value(*word, access.new, self.names)}"
        self.buffers[access.task].note(access.step, "; ".join(mine.values()) or "empty")

    def rows(self) -> list[Watched]:
        """What was noted; a cache or buffer that stays empty, and a task without locks, is left out."""
        for word, row in self.words.items():
            row.name = noun(*word, self.names)
        others = [*self.locks, *self.buffers, *(row for _, row in self.caches)]
        return [*self.words.values(), *(row for row in others if len(row.values) > 1 or row.values[0][1] not in QUIET)]


def states(
    accesses: Sequence[Access], told: Set[int], causal: Set[int], guilty: Set[int], names: Names
) -> list[Watched]:
    """Everything that is watched, each with its values over the execution. `names` are those of the start."""
    watch = _Watch(accesses, _words_of(accesses, told, causal, guilty), names.copy())
    for access in accesses:
        watch.follow(access)
    return watch.rows()
