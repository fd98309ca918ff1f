"""What an access to a word of the segment means, in the kernel's words: one entry per field that tells something.

A change reads "noun: old -> new" and a look "noun is value" unless the field has a verb of its own (VERBS).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from emulator.mm_types import EPOCH_BITS, PTRS_PER_TABLE
from emulator.pgtable_types import (
    DIRTY,
    FILE,
    PAGE_SHIFT,
    PMD_LEVEL,
    PMD_SHIFT,
    POISON,
    PRESENT,
    PSE,
    PTE_LEVEL,
    RW,
    SPECIAL,
    TABLE_STATES,
)
from emulator.watch.bugs import Bug
from workers.telling.access import LOADS, Access
from workers.telling.whereabouts import many, number_text


@dataclass(frozen=True)
class Names:
    """What the numbers of a machine mean: the level of each table, now, and the names of tasks and sleeping locks."""

    levels: dict[int, int]
    tasks: Sequence[str]
    mutexes: Sequence[str] = ()

    def copy(self) -> Names:
        """The same, to go through an execution with."""
        return replace(self, levels=dict(self.levels))

    def mutex(self, row: int) -> str:
        """A sleeping lock."""
        return self.mutexes[row].removeprefix("the ") if row < len(self.mutexes) else f"mutex {row}"


ENTRY_NAMES = {1: "pte", 2: "pmd", 3: "pud", 4: "pgd"}

NOUNS = {
    "ptdesc.pte_refcount": "count of table {i}",
    "ptnote.nr_entries": "entries of table {i}",
    "ptdesc.state": "table {i}",
    "ptdesc.pmd": "back-pointer of table {i}",
    "ptdesc.mm": "mm of table {i}",
    "ptdesc.level": "level of table {i}",
    "ptdesc.generation": "generation of table {i}",
    "ptdesc.next": "next callback behind table {i}",
    "ptnote.gp_seq": "grace periods when table {i} was unhooked",
    "ptnote.unhooked_ns": "time at which table {i} was unhooked",
    "ptnote.ptl_dead": "life of the ptl of table {i}",
    "page.refcount": "refcount of frame {i}",
    "page.mapcount": "mapcount of frame {i}",
    "page.mapping": "family and index of frame {i}",
    "page.generation": "generation of frame {i}",
    "frame": "word {i} of the frames",
    "mm.mmap_readers": "readers of mm {i}",
    "mm.mmap_writer": "writer of mm {i}",
    "mm.mmap_lock_seq": "releases of mmap_lock of mm {i}",
    "mm.mmap_lock_sleepers": "sleepers on mmap_lock of mm {i}",
    "mm.first_vma": "first VMA of mm {i}",
    "mm.uffd_seq": "answers to userfaults of mm {i}",
    "mm.uffd_sleepers": "faults of mm {i} that wait for userfaultfd",
    "mm.tlb_gen": "tlb_gen of mm {i}",
    "mm.tlb_flush_pending": "gathers open on mm {i}",
    "mm.cached_tables": "first table that mm {i} keeps",
    "vma.start": "start of VMA {i}",
    "vma.end": "end of VMA {i}",
    "vma.anon_vma": "anon_vma of VMA {i}",
    "vma.lock_readers": "readers of the lock of VMA {i}",
    "vma.i_mmap_next": "VMA that maps the file behind VMA {i}",
    "place.start": "address at place {i} of the VMA tree",
    "place.row": "VMA or leaf at place {i} of the VMA tree",
    "cpu.mm": "mm of {cpu}",
    "cpu.lazy": "lazy-TLB mode of {cpu}",
    "cpu.idle": "{cpu}",
    "cpu.finished": "end of the program of {cpu}",
    "cpu.ipi_request": "IPI of {cpu}",
    "cpu.ipi_ack": "latest IPI acknowledged by {cpu}",
    "cpu.tlb_gen": "tlb_gen of {cpu}",
    "cpu.rcu_qs": "latest quiescent state of {cpu}",
    "cpu.rcu_nesting": "RCU nesting of {cpu}",
    "cpu.cb_head": "callbacks of {cpu}",
    "cpu.flush_state": "flush of {cpu}",
    "cpu.wake": "wake-up number of {cpu}",
    "cpu.wake_sleepers": "{cpu}",
    "rcu.gp_seq": "latest grace period",
    "rcu.gp_completed": "latest grace period that ended",
    "rcu.wake": "wake-up number of the coordinator",
    "rcu.asleep": "the coordinator",
    "rcu.synchronizing": "CPUs in synchronize_rcu",
    "rcu.hurry": "hurry of the grace period",
    "rcu.taking": "callbacks on their way",
    "zone.lock": "zone lock of the {zone}",
    "htable.lock": "htable lock {i}",
    "mutex.owner": "{mutex}",
    "mutex.waiter": "next holder of {mutex}",
    "mutex.seq": "releases of {mutex}",
    "mutex.sleepers": "sleepers on {mutex}",
    "cache.frame": "frame of cached page {i}",
    "cache.dirty": "cached page {i}",
    "cache.writeback": "writer of cached page {i}",
    "file.size": "size of file {i}",
    "file.i_mmap": "first VMA that maps file {i}",
    "device.frame": "the device's frame",
    "device.mm": "i_mmap of the device file",
    "device.addr": "where the device is mapped",
    "device.moves_to": "where the mapping of the device moves",
    "tlb.tag": "tag in the TLB",
    "tlb.entry": "the TLB has",
    "psc.tag": "tag in the paging-structure cache",
    "psc.table": "the paging-structure cache has",
    "barrier.generation": "rounds of barrier {i}",
    "barrier.arrived": "arrived at barrier {i}",
    "run.stop": "stop of the machine",
    "run.bug": "BUG",
}

LOCKS = frozenset({"ptdesc.ptl", "zone.lock", "htable.lock", "mutex.owner"})


def entry_text(entry: int, level: int) -> str:
    """An entry of a table of that level: none, the table or frame it names, poison."""
    if entry in (0, POISON):
        return "none" if entry == 0 else "poison"
    number = entry >> PAGE_SHIFT
    if entry & PRESENT == 0:
        return f"not present {entry:#x}"
    if level == PMD_LEVEL and entry & PSE:
        return f"a leaf, frames from {number} on"
    if level != PTE_LEVEL:
        return f"table {number}"
    owner = "device " if entry & SPECIAL else "file " if entry & FILE else ""
    kind = "zero page" if number == 0 else f"{owner}frame {number}"
    return kind + (" rw" if entry & RW else "") + (" dirty" if entry & DIRTY else "")


def _owner(word: int, tasks: Sequence[str]) -> str:
    return "free" if word == 0 else f"held by {tasks[word - 1]}" if word <= len(tasks) else number_text(word)


VALUES: dict[str, Callable[[int], str]] = {
    "ptnote.ptl_dead": lambda v: "over" if v else "good",
    "ptdesc.state": lambda v: TABLE_STATES[v] if 0 <= v < len(TABLE_STATES) else number_text(v),
    "ptdesc.mm": lambda v: f"mm {v - 1}" if v else "none",
    "ptdesc.next": lambda v: f"table {v}" if v else "none",
    "cpu.cb_head": lambda v: f"table {v}" if v else "none",
    "mm.cached_tables": lambda v: f"table {v}" if v else "none",
    "cpu.flush_state": lambda v: {0: "none", 1: "requested", 2: "done"}.get(v, number_text(v)),
    "cpu.lazy": lambda v: "on" if v else "off",
    "cpu.idle": lambda v: "idle" if v else "not idle",
    "cpu.wake_sleepers": lambda v: "asleep" if v else "awake",
    "rcu.asleep": lambda v: {0: "awake", 1: "asleep", 2: "asleep, nothing to do"}.get(v, number_text(v)),
    "mm.mmap_writer": lambda v: f"CPU {v - 1}" if v else "none",
    "mutex.waiter": lambda v: f"CPU {v - 1}" if v else "nobody",
    "cache.frame": lambda v: f"frame {v}" if v else "none",
    "cache.dirty": lambda v: "dirty" if v else "clean",
    "cache.writeback": lambda v: f"CPU {v - 1}" if v else "none",
    "device.frame": lambda v: f"frame {v}" if v else "none",
    "device.mm": lambda v: f"the VMA of mm {v - 1}" if v else "empty",
    "device.addr": hex,
    "vma.start": hex,
    "vma.end": hex,
    "tlb.tag": lambda v: f"{v >> EPOCH_BITS << PAGE_SHIFT:#x}" if v else "none",
    "tlb.entry": lambda v: entry_text(v, PTE_LEVEL),
    "psc.tag": lambda v: f"{v >> EPOCH_BITS << PMD_SHIFT:#x}" if v else "none",
    "psc.table": lambda v: f"table {v}",
}

# field -> what was done by a change of it: (old, new, noun, name of the CPU it belongs to) -> text
VERBS: dict[str, Callable[[int, int, str, str], str]] = {
    "mm.mmap_readers": lambda old, new, noun, cpu: (
        f"mmap_read_{'lock' if new > old else 'unlock'} ({many(new, 'reader')})"
    ),
    "mm.mmap_writer": lambda old, new, noun, cpu: "mmap_write_lock" if new else "mmap_write_unlock",
    "mm.tlb_gen": lambda old, new, noun, cpu: f"flush {noun}: {old} -> {new}",
    "mm.tlb_flush_pending": lambda old, new, noun, cpu: f"{'opens' if new > old else 'closes'} a gather ({new} open)",
    "cpu.lazy": lambda old, new, noun, cpu: f"{'enters' if new else 'leaves'} lazy-TLB mode",
    "cpu.idle": lambda old, new, noun, cpu: "goes idle" if new else "comes back from idle",
    "cpu.ipi_request": lambda old, new, noun, cpu: f"IPI {new} to {cpu} requested",
    "cpu.ipi_ack": lambda old, new, noun, cpu: f"IPI {new} acknowledged",
    "cpu.tlb_gen": lambda old, new, noun, cpu: f"{cpu} has flushed up to tlb_gen {new}",
    "cpu.rcu_qs": lambda old, new, noun, cpu: f"quiescent state of {cpu} in grace period {new}",
    "cpu.cb_head": lambda old, new, noun, cpu: f"call_rcu table {new}" if new else f"takes the callbacks of {cpu}",
    "cpu.flush_state": lambda old, new, noun, cpu: {
        0: "the flush is done: goes on",
        1: "asks the flush agent for a flush",
        2: f"flush of {cpu} done",
    }.get(new, noun),
    "cpu.wake": lambda old, new, noun, cpu: f"wakes {cpu}",
    "cpu.finished": lambda old, new, noun, cpu: f"the program of {cpu} has ended",
    "cpu.tlb_epoch": lambda old, new, noun, cpu: f"{cpu} empties its TLB",
    "cpu.psc_epoch": lambda old, new, noun, cpu: f"{cpu} empties its paging-structure cache",
    "tlb.entry": lambda old, new, noun, cpu: f"the TLB takes {entry_text(new, PTE_LEVEL)}",
    "psc.table": lambda old, new, noun, cpu: f"the paging-structure cache takes table {new}",
    "tlb.tag": lambda old, new, noun, cpu: f"the TLB forgets {old >> EPOCH_BITS << PAGE_SHIFT:#x}",
    "psc.tag": lambda old, new, noun, cpu: f"the paging-structure cache forgets {old >> EPOCH_BITS << PMD_SHIFT:#x}",
    "rcu.gp_seq": lambda old, new, noun, cpu: f"grace period {new} begins",
    "rcu.gp_completed": lambda old, new, noun, cpu: f"grace period {new} ends",
    "rcu.wake": lambda old, new, noun, cpu: "wakes the coordinator",
    "rcu.asleep": lambda old, new, noun, cpu: "about to sleep" if new else "is awake",
    "run.bug": lambda old, new, noun, cpu: f"BUG: {Bug(new).detector}" if new in list(Bug) else "BUG",
}


def lock_name(field: str, index: int, names: Names) -> str:
    """A spinlock by its name; the ptl of an upper table is a pmd_lock."""
    if field == "ptdesc.ptl":
        return f"ptl of table {index}" if names.levels.get(index) == PTE_LEVEL else f"pmd_lock of table {index}"
    return NOUNS[field].format(i=index, zone="tables" if index else "frames", mutex=names.mutex(index))


def noun(field: str, index: int, names: Names) -> str:
    """The word itself, in the words of the kernel."""
    if field in LOCKS:
        return lock_name(field, index, names)
    if field == "entry":
        table, at = divmod(index, PTRS_PER_TABLE)
        return f"{ENTRY_NAMES.get(names.levels.get(table, 0), 'entry')} {at} of table {table}"
    if field in NOUNS:
        cpu = names.tasks[index] if index < len(names.tasks) else index
        return NOUNS[field].format(i=index, cpu=cpu, mutex=names.mutex(index) if field.startswith("mutex.") else "")
    return f"{field}[{index}]"


def value(field: str, index: int, word: int, names: Names) -> str:
    """What a word holds."""
    if field in LOCKS:
        return _owner(word, names.tasks)
    if field == "entry":
        return entry_text(word, names.levels.get(index // PTRS_PER_TABLE, 0))
    return VALUES.get(field, number_text)(word)


def _rcu(old: int, new: int) -> str:
    depth = max(old, new)
    return ("rcu_read_lock" if new > old else "rcu_read_unlock") + (f" (nesting {new})" if depth > 1 else "")


def range_phrase(first: Access, last: Access, names: Names) -> str:
    """What was done to, or seen in, entries that follow each other."""
    table, at = divmod(first.index, PTRS_PER_TABLE)
    one = phrase(last, names)
    name = noun("entry", last.index, names)
    kind = name.partition(" ")[0]
    many_name = f"{'entries' if kind == 'entry' else kind + 's'} {at}-{last.index % PTRS_PER_TABLE} of table {table}"
    return one.replace(name, many_name).replace(" is ", " are ")


def _span(access: Access) -> str:
    """An access to many words at once: the entries of a table, or the contents of a frame."""
    what = f"{access.length} words from {access.field}[{access.index}] on"
    if access.field == "entry":
        what = f"table {access.index // PTRS_PER_TABLE}"
    if access.op == "or_words":
        return f"{what} is {'empty' if access.new == 0 else 'not empty'}"
    return {0: "zeroes ", POISON: "poisons "}.get(access.new, "fills ") + what


def phrase(access: Access, names: Names) -> str:
    """What one access did or saw, without the function that made it. `names` are those of this moment."""
    field, index, old, new = access.field, access.index, access.old, access.new
    if not field:
        return access.op
    if access.length > 1:
        text = _span(access)
    elif access.op in LOADS or (access.op == "cmpxchg" and old == new):
        name = noun(field, index, names)
        text = f"{name}{'' if name.endswith(' has') else ' is'} {value(field, index, new, names)}"
    elif field in LOCKS:
        kind = "mutex" if field == "mutex.owner" else "spin"
        text = f"{kind}_{'lock' if new else 'unlock'} {lock_name(field, index, names)}"
    elif field == "cpu.rcu_nesting":
        return _rcu(old, new)  # its own CPU's: what a store buffer does with it is nobody's business
    elif field in VERBS:
        cpu = names.tasks[index] if index < len(names.tasks) else str(index)
        text = VERBS[field](old, new, noun(field, index, names), cpu)
    else:
        was, now = (value(field, index, word, names) for word in (old, new))
        text = f"{noun(field, index, names)}: {was} -> {now}"
    return text + {"issue": " (in the store buffer)", "commit": " (reaches memory)"}.get(access.op, "")
