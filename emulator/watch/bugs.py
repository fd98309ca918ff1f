"""What the emulated kernel can find wrong while it runs: the name of each bug, what is said of it, and why it is wrong.

A detector is a check in the kernels that ends in `BUG(m, cpu, bug, subject, was, seen)`. Where it stands decides the
meaning of the three numbers, and the texts here put them into words.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class Bug(IntEnum):
    """What BUG and the watchdog can find. The texts are in BUGS."""

    NONE = 0
    COUNT_UNDERFLOW = 1
    FREED_TABLE_NOT_EMPTY = 2
    TABLE_LEFT_AT_TEARDOWN = 3
    UNLOCK_NOT_OWNER = 4
    PMD_CHANGED_UNDER_PIN = 5
    FRAME_COUNT_UNDERFLOW = 6
    TABLE_DOUBLE_FREE = 7
    RETRY_BOUND = 8
    COUNT_SATURATED = 9
    COUNT_FROM_ZERO = 10
    TABLE_USE_AFTER_FREE = 11
    TLB_HIT_FREED_FRAME = 12
    PSC_HIT_FREED_TABLE = 13
    FOREIGN_CONTENTS = 14
    LOST_STORE = 15
    STALE_AFTER_DONTNEED = 16
    FREED_UNDER_RCU_READER = 17
    LOCK_ORDER = 18
    LOCK_RECURSION = 19
    PTLOCK_DEAD = 20
    FRAME_DOUBLE_FREE = 21
    WALK_FREED_TABLE = 22
    NO_PROGRESS = 23
    VALUE_NEVER_STORED = 24
    TABLE_LEAKED = 30
    STORE_TO_CLEAN_PAGE = 31
    STORE_TO_SHARED = 40
    BAD_MM_AT_EXIT = 41
    PIN_NOT_MAPPED = 50
    DEPOSIT_LEFT = 51
    DEPOSIT_MISSING = 52
    FOREIGN_PIN = 53
    WALKED_FREED_TABLE = 60
    SWAP_COUNT_UNDERFLOW = 70
    LOCK_NOT_HELD = 80
    SLEEP_IN_ATOMIC = 81
    READ_SECTION = 82
    INTERRUPTS_ON = 83
    GATHER_NOT_OPEN = 84
    STALE_TRANSLATION = 90
    STALE_TABLE = 91

    @property
    def detector(self) -> str:
        """The name that tables and reports show."""
        return self.name.lower().replace("_", "-")


class BugText(NamedTuple):
    """What BUG saw, with {subject}, {was} and {seen} to fill in; why it is wrong; what `subject` numbers."""

    saw: str
    why: str
    subject: str = "table"


BUGS = {
    Bug.COUNT_UNDERFLOW: BugText(
        "pte_put: the reference count of table {subject} fell from {was} to {seen}",
        "somebody dropped a reference that was never taken, or a reference was lost: the table can go while in use",
    ),
    Bug.COUNT_SATURATED: BugText(
        "the reference count of table {subject} went from {was} to {seen}, more than entries and CPUs can make",
        "the word did not hold a count: it was poisoned, or not yet initialised, when the reference was taken",
    ),
    Bug.COUNT_FROM_ZERO: BugText(
        "the reference count of table {subject} was raised from {was} to {seen}",
        "zero is absorbing: the CPU that took the last reference away is freeing the table already",
    ),
    Bug.FREED_TABLE_NOT_EMPTY: BugText(
        "free_pte_table: the count of table {subject} is zero, but its entries, or-ed together, are {seen}",
        "an entry holds a reference: a table with one must not be freed, its page is lost",
    ),
    Bug.TABLE_LEFT_AT_TEARDOWN: BugText(
        "free_pte_range: table {subject} is still installed, with count {seen}",
        "zap has cleared every entry, so the last put ought to have freed it: a reference leaked (BUG in patch 5)",
    ),
    Bug.BAD_MM_AT_EXIT: BugText(
        "check_mm: mm {subject} has exited with {was} pages mapped and {seen} bytes of page tables",
        "exit unmaps every VMA and frees every table: an entry or a table was lost, or counted twice",
        "mm",
    ),
    Bug.PMD_CHANGED_UNDER_PIN: BugText(
        "the pmd {subject} of a table in use reads {seen}, expected table {was}",
        "a reference keeps the pmd as it is; somebody cleared or replaced it all the same",
        "pmd",
    ),
    Bug.TABLE_DOUBLE_FREE: BugText(
        "table {subject} is freed in state {seen}, generation {was}",
        "it is free already or waits for a grace period: it would be handed out twice",
    ),
    Bug.TABLE_USE_AFTER_FREE: BugText(
        "table {subject} is used by a walker that pinned generation {was} of it; it is in state {seen} now",
        "the memory is free, somebody else's, or not initialised: entries read there mean nothing, stores corrupt",
    ),
    Bug.WALK_FREED_TABLE: BugText(
        "the hardware walk read table {subject}, which was freed (generation {was}, now {seen})",
        "the upper levels named it when the walk began: it was freed before this CPU took the flush",
    ),
    Bug.WALKED_FREED_TABLE: BugText(
        "a page walk read table {subject}, above the PTE tables, which was freed (generation {was}, now {seen})",
        "munmap frees the tables of addresses that no VMA has under mmap_lock for reading: a walker must stay in VMAs",
    ),
    Bug.PSC_HIT_FREED_TABLE: BugText(
        "the paging-structure cache led to table {subject} of generation {was}; it is at generation {seen}",
        "the table was freed before this CPU dropped the pmd it had cached: hardware walks foreign memory",
    ),
    Bug.TLB_HIT_FREED_FRAME: BugText(
        "the TLB translated to frame {subject} of generation {was}; it is at generation {seen}",
        "the frame was freed before this CPU dropped its translation: it reads or writes somebody else's memory",
        "frame",
    ),
    Bug.FRAME_COUNT_UNDERFLOW: BugText(
        "put_page: the reference count of frame {subject} fell to {seen}", "more puts than gets", "frame"
    ),
    Bug.FRAME_DOUBLE_FREE: BugText(
        "frame {subject} is freed with mapcount {seen}", "an entry still maps the frame that is freed", "frame"
    ),
    Bug.FOREIGN_CONTENTS: BugText(
        "the word at {subject} lies in a frame that holds the words of {seen}",
        "one frame serves two addresses: a stale translation stored into a frame that was freed and taken again",
        "address",
    ),
    Bug.LOST_STORE: BugText(
        "the word at {subject} reads {seen}, this CPU stored {was}, and nobody has released the page since",
        "the store went to a page that is no longer mapped here: its table or frame was freed with the entry set",
        "address",
    ),
    Bug.VALUE_NEVER_STORED: BugText(
        "the word at {subject} reads {seen}, which no CPU has stored to that page",
        "a page holds what was stored to it or zero: its frame was written through another page's translation",
        "address",
    ),
    Bug.STORE_TO_SHARED: BugText(
        "a store to {subject} went to frame {was}, which fork has shared; {seen} entries map it",
        "the entry was not write-protected, or its old translation not flushed: the other mm sees the word",
        "address",
    ),
    Bug.STALE_AFTER_DONTNEED: BugText(
        "the word at {subject} still reads {seen} after this CPU's MADV_DONTNEED has returned",
        "a released page reads zero; a translation survived because a flush was left to another CPU and not waited for",
        "address",
    ),
    Bug.FREED_UNDER_RCU_READER: BugText(
        "a read section that found table {subject} is still open at age {seen} of the table (7: it is free already)",
        "a grace period ends only when every reader that could see the table has left: no age above 1 may occur",
    ),
    Bug.TABLE_LEAKED: BugText(
        "a page fault begins with table {subject} in hand, preallocated by the one before",
        "a fault that ends gives back what it did not install, or the next one overwrites it: nobody will free it",
    ),
    Bug.STORE_TO_CLEAN_PAGE: BugText(
        "a store to {subject} goes to a page of a file that is clean (page {seen} of the cache)",
        "write-back takes the right to store away before it takes the page for clean: this translation is stale, and "
        "what is stored will not be written",
        "address",
    ),
    Bug.SWAP_COUNT_UNDERFLOW: BugText(
        "swap_free: the count of swap slot {subject} fell from {was} to {seen}",
        "more swap entries were cleared than made: the slot is, or will be, somebody else's page",
        "slot",
    ),
    Bug.PIN_NOT_MAPPED: BugText(
        "a device has stored to frame {was}, which it has pinned for {subject}; frame {seen} is mapped there",
        "a CPU that takes a page away looks whether it is pinned: this store is lost to the program",
        "address",
    ),
    Bug.FOREIGN_PIN: BugText(
        "fast GUP of mm {was} has pinned frame {subject} through a table of mm {seen}",
        "the table was shared and has been given up: it is the other mm's alone, and what it maps is not ours",
        "frame",
    ),
    Bug.DEPOSIT_MISSING: BugText(
        "the huge page at the pmd {subject}, which reads {seen}, has no table deposited",
        "a split has nothing to put in its place: the table went another way, or the leaf stands where none was set",
        "pmd",
    ),
    Bug.DEPOSIT_LEFT: BugText(
        "PMD table {subject} is freed with table {seen} deposited in it",
        "each is kept for a huge page, and is withdrawn with it: a huge page went another way",
    ),
    Bug.PTLOCK_DEAD: BugText(
        "the ptl of table {subject} is taken after it was destroyed",
        "the lock must live as long as the table: until the grace period ends",
    ),
    Bug.UNLOCK_NOT_OWNER: BugText(
        "the lock of row {subject} is released by a CPU that does not hold it; it holds {seen}, not {was}",
        "two CPUs were inside of one critical section, or a lock was released twice",
        "lock",
    ),
    Bug.LOCK_RECURSION: BugText(
        "the lock of row {subject} is taken by the CPU that holds it", "it waits for itself for ever", "lock"
    ),
    Bug.LOCK_ORDER: BugText(
        "lock class {seen} is taken while {was} is held; the other order has been seen as well",
        "two CPUs that do both at the same time wait for each other for ever",
        "lock",
    ),
    Bug.LOCK_NOT_HELD: BugText(
        "a kernel was called without the lock of row {subject}, class {was}, that its caller holds: it reads {seen}",
        "the kernel relies on what that lock keeps as it is: its caller took another, or let go too early",
        "lock",
    ),
    Bug.SLEEP_IN_ATOMIC: BugText(
        "might_sleep: with spinlocks of the classes {subject}, {was} read sections open, interrupts off {seen} deep",
        "a sleeper there keeps others spinning, or a grace period or a flush waiting, for as long",
        "lock",
    ),
    Bug.READ_SECTION: BugText(
        "CPU {subject} is in {seen} read sections where it must be inside of one ({was}: 1) or outside (0)",
        "outside, the table that was found may be freed; inside, a wait for a grace period waits for itself",
        "CPU",
    ),
    Bug.INTERRUPTS_ON: BugText(
        "CPU {subject} walks without a lock and takes interrupts",
        "only interrupts that are off keep the flush of a freed table waiting for this walk",
        "CPU",
    ),
    Bug.GATHER_NOT_OPEN: BugText(
        "CPU {subject} clears entries with no gather open",
        "nobody will flush what it clears, and what it unmaps goes before the flush",
        "CPU",
    ),
    Bug.STALE_TRANSLATION: BugText(
        "the TLB translated {subject} by the entry {was}; the page tables have {seen}, and nobody is about to flush",
        "a CPU that takes a page, or a right, away flushes before it lets go of the lock: this CPU was left out",
        "address",
    ),
    Bug.STALE_TABLE: BugText(
        "the paging-structure cache led {subject} to table {was}; the page tables have {seen}, and nobody is about to "
        "flush",
        "a table that moves, goes, or comes under a huge page is flushed from those caches as well",
        "address",
    ),
    Bug.RETRY_BOUND: BugText(
        "pte_alloc_try_get: table {subject} is dying and its pmd was not cleared in {seen} tries",
        "between count zero and the cleared pmd nobody can be waited for: the freer is gone or forgot",
    ),
    Bug.NO_PROGRESS: BugText(
        "CPU {subject} stands still, and so does everybody it waits for",
        "what it waits for will not come: the waits are below",
        "CPU",
    ),
}
