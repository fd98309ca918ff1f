"""Random programs of every instruction, for CPUs that are to meet: few tables, and ranges that cross their borders.

A seed names a workload: the programs of all CPUs, the mm each runs, the machine they need. The CPUs of one mm share
four 2 MiB slots, two on each side of a 512 GiB border and of a GiB border. In every slot some pages are stored to by
one CPU alone, and they lie between those of the others. The detectors know what such a page must hold, and the table is
shared all the same.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from emulator.mm_types import NR_BARRIERS, NR_MEMCGS, PAGE_SIZE, PCP_BATCH, Geometry
from emulator.uapi import (
    MADV_COLD,
    MADV_COLLAPSE,
    MADV_DOFORK,
    MADV_DONTFORK,
    MADV_DONTNEED_LOCKED,
    MADV_GUARD_INSTALL,
    MADV_GUARD_REMOVE,
    MADV_HUGEPAGE,
    MADV_KEEPONFORK,
    MADV_NOHUGEPAGE,
    MADV_PAGEOUT,
    MADV_POPULATE_READ,
    MADV_POPULATE_WRITE,
    MADV_REMOVE,
    MADV_WILLNEED,
    MADV_WIPEONFORK,
    VM_UFFD,
    VM_UFFD_MISSING,
    VM_UFFD_WP,
)
from workers.programs.program import (
    DEVICE_REMOVE,
    EXIT,
    FREE_PTES,
    REAP,
    STOP,
    SWAPOFF,
    Insn,
    advise,
    barrier,
    clear_refs,
    compute,
    dontneed,
    fork,
    free,
    gup,
    insert_pages,
    jump,
    ksm,
    load,
    migrate,
    mincore,
    mlock,
    mmap,
    mmap_device,
    mmap_file,
    mmap_hugetlb,
    move_charge,
    mprotect,
    mremap,
    mremap_fixed,
    msync,
    munlock,
    munmap,
    pagemap,
    process_madvise,
    punch_hole,
    read,
    remove,
    retract,
    smaps,
    store,
    swapout,
    touch,
    truncate,
    uffd_copy,
    uffd_move,
    uffd_register,
    uffd_unregister,
    uffd_writeprotect,
    uffd_zeropage,
    uprobe,
    writeback,
)

KEEPING = (MADV_COLD, MADV_PAGEOUT, MADV_WILLNEED, MADV_REMOVE, MADV_POPULATE_READ, MADV_POPULATE_WRITE)
SLOT = 2 << 20
SLOT_PAGES = SLOT // PAGE_SIZE
AREAS = ((1 << 39) - SLOT, (5 << 30) - SLOT)  # two slots each, with the border between them
SLOTS = tuple(area + i * SLOT for area in AREAS for i in range(2))
DEVICE_PAGE = SLOTS[1] + 300 * PAGE_SIZE  # of mm 0 alone: the device's file has one VMA
GIB = 1 << 30
GIBS = (7 * GIB, 9 * GIB)  # where whole PMD tables move to and fro
HUGETLB_GIBS = (11 * GIB, 13 * GIB)  # where hugetlbfs is mapped, so that its tables are shared
FILES, FILE_PAGES = 2, 96  # of all mms
HUGE_FILE = FILES  # in shared memory, and large enough for a huge page
SWAP_PAGES = 256  # fewer than there are pages: it is full now and then
CHILDREN = 2  # of each CPU at a time: one that stays, one that runs
MEETINGS = 4  # barriers in a program; all CPUs have the same number, none in a loop, so nobody waits for ever


@dataclass(frozen=True)
class Workload:
    """Programs that run together. `mm_of_cpu[i]` is the mm of CPU i; `scarce` if memory is to run out."""

    programs: Sequence[Sequence[Insn]]
    mm_of_cpu: Sequence[int]
    scarce: bool = False

    def geometry(self) -> Geometry:
        """A machine with room for all of it: also for what CPUs keep free, gather, or leave to a grace period.

        If memory is scarce half of the pages fit at a time, and tables have to come back from grace periods. What one
        CPU keeps for itself another one lacks. A memory control group is at its limit then, too.
        """
        cpus, mms = len(self.programs), max(self.mm_of_cpu) + 1
        children = CHILDREN * cpus
        pages = len(SLOTS) * SLOT_PAGES
        return Geometry(
            cpus=cpus,
            mms=mms + children,
            vmas=1024,
            insns=sum(len(program) for program in self.programs),
            frames=pages * (2 * mms + cpus) // 4 + cpus * PCP_BATCH
            if self.scarce
            else pages * (mms + children) + 2 * FILES * FILE_PAGES + cpus * (8192 + 4 * SLOT_PAGES),
            tables=16 + 8 * mms + children + cpus * 2 * PCP_BATCH // 3 if self.scarce else 1024 + cpus * 512,
            files=FILES + 1,
            shmem=1,
            file_pages=SLOT_PAGES,
            swap_pages=SWAP_PAGES,
            memcg_limit=FILES * FILE_PAGES // 2 if self.scarce else 0,
        )


@dataclass(frozen=True)
class Author:
    """The author of instructions for one CPU, the `rank`-th of `sharers` in its mm. `device`: it may map the device.

    `slots` are those it uses most. If they are few, ranges begin at their edges: the CPUs meet in each table.
    """

    rng: random.Random
    rank: int = 0
    sharers: int = 1
    device: bool = False
    slots: Sequence[int] = SLOTS

    def piece(self) -> tuple[int, int]:
        """Address and length of a range: within a slot, across a border, a slot, or an area."""
        rng, slot = self.rng, self.rng.choice(self.slots)
        kind = rng.randrange(8)
        if kind < 5:
            anywhere = rng.randrange(SLOT_PAGES if len(self.slots) == len(SLOTS) else 4)
            first = rng.choice((0, 1, 2, 255, 510, 511, anywhere))
            pages = min(rng.choice((1, 1, 2, 3, 16, 64)), SLOT_PAGES - first)
            return slot + first * PAGE_SIZE, pages * PAGE_SIZE
        if kind == 5:
            before, behind = rng.choice((1, 2, 40)), rng.choice((1, 2, 40))
            return slot + SLOT - before * PAGE_SIZE, (before + behind) * PAGE_SIZE
        if kind == 6:
            return slot, SLOT
        return rng.choice(AREAS), 2 * SLOT

    def own(self) -> tuple[int, int, int]:
        """Address, length and step of pages that no other CPU stores to but by `piece`."""
        stride = self.sharers * PAGE_SIZE
        pages = min(self.rng.choice((1, 3, 16, 60)), SLOT_PAGES // self.sharers)
        first = self.rng.randrange(SLOT_PAGES // self.sharers - pages + 1)
        return self.rng.choice(self.slots) + first * stride + self.rank * PAGE_SIZE, pages * stride, stride

    def value(self) -> int:
        """A word to store, not zero and hardly ever the same twice."""
        return self.rng.getrandbits(40) << 8 | (self.rank + 1)

    def step(self) -> int:
        """Bytes per call of a stepped munmap or madvise; mostly one call."""
        return self.rng.choice((0, 0, 0, 7 * PAGE_SIZE, 64 * PAGE_SIZE))

    def touch_own(self) -> list[Insn]:
        """Store to own pages and read them back, something else in between or not."""
        addr, length, step = self.own()
        between = self.anything() if self.rng.random() < 0.3 else []
        return [touch(addr, length, step, self.value()), *between, read(addr, length, step)]

    def touch_shared(self) -> list[Insn]:
        """Store where others store, too."""
        return [touch(*self.piece(), value=self.value())]

    def read_shared(self) -> list[Insn]:
        """Load, which maps the zero page."""
        return [read(*self.piece())]

    def word(self) -> list[Insn]:
        """Store one word or load one."""
        addr = self.piece()[0] + 8 * self.rng.randrange(3)
        return [store(addr, self.value()) if self.rng.random() < 0.5 else load(addr)]

    def release(self) -> list[Insn]:
        """MADV_DONTNEED."""
        return [dontneed(*self.piece(), self.step())]

    def release_slot(self) -> list[Insn]:
        """MADV_DONTNEED of a whole slot: its table goes."""
        return [dontneed(self.rng.choice(self.slots), SLOT)]

    def lazyfree(self) -> list[Insn]:
        """MADV_FREE."""
        return [free(*self.piece(), self.step())]

    def unmap(self) -> list[Insn]:
        """munmap; mostly the range comes back, perhaps after something else."""
        addr, length = self.piece()
        between = self.anything() if self.rng.random() < 0.3 else []
        again = [mmap(addr, length)] if self.rng.random() < 0.8 else []
        return [munmap(addr, length, self.step()), *between, *again]

    def protect(self) -> list[Insn]:
        """mprotect to less, something else in between or not, and mostly back."""
        addr, length = self.piece()
        between = self.anything() if self.rng.random() < 0.3 else [touch(addr, length, value=self.value())]
        again = [mprotect(addr, length, "rw")] if self.rng.random() < 0.9 else []
        return [mprotect(addr, length, self.rng.choice(("r", "r", "none"))), *between, *again]

    def advise(self) -> list[Insn]:
        """madvise that keeps the pages or fetches them, in steps or as a vector."""
        advice = self.rng.choice(KEEPING)
        if self.rng.random() < 0.2:
            return [process_madvise(advice, *self.piece(), 7 * PAGE_SIZE)]
        return [advise(advice, *self.piece(), self.step())]

    def guard(self) -> list[Insn]:
        """Guards, an access that meets them, and mostly their removal."""
        addr, length = self.piece()
        between = self.anything() if self.rng.random() < 0.3 else [touch(addr, length, value=self.value())]
        again = [advise(MADV_GUARD_REMOVE, *self.rng.choice(((addr, length), self.piece())))]
        return [advise(MADV_GUARD_INSTALL, addr, length), *between, *(again if self.rng.random() < 0.9 else [])]

    def lock(self) -> list[Insn]:
        """mlock, what it forbids and what it allows, munlock."""
        addr, length = self.piece()
        tried = [dontneed(addr, length), advise(MADV_DONTNEED_LOCKED, addr, length)]
        return [mlock(addr, length), *tried[: self.rng.randrange(3)], munlock(addr, length)]

    def move(self) -> list[Insn]:
        """mremap to another place, perhaps of a whole table; mostly the source is mapped again."""
        if self.rng.random() < 0.4:
            addr, to, length = self.rng.choice(self.slots), self.rng.choice(SLOTS), SLOT
        else:
            addr, length = self.piece()
            to = self.rng.choice((addr ^ SLOT, self.rng.choice(SLOTS) + self.rng.randrange(SLOT_PAGES) * PAGE_SIZE))
        between = self.anything() if self.rng.random() < 0.3 else []
        again = [mmap(addr, length)] if self.rng.random() < 0.9 else []
        before = self.map_file((addr, length)) if self.rng.random() < 0.2 else []
        return [*before, mremap_fixed(addr, length, to), *between, *again]

    def move_gib(self) -> list[Insn]:
        """mremap of a whole PMD table, with two PTE tables or none under it."""
        here, there = self.rng.sample(GIBS, 2)
        at = here + self.rng.randrange(400) * SLOT - PAGE_SIZE
        words = [touch(max(at, here), 2 * PAGE_SIZE, value=self.value())] if self.rng.random() < 0.8 else []
        between = self.anything() if self.rng.random() < 0.3 else []
        moved = mremap_fixed(here, GIB, there)
        return [mmap(here, GIB), *words, moved, *between, read(at - here + there, PAGE_SIZE), munmap(there, GIB)]

    def resize(self) -> list[Insn]:
        """mremap in place: shrink and grow back."""
        addr, length = self.piece()
        return [mremap(addr, length, PAGE_SIZE), mremap(addr, PAGE_SIZE, length), mmap(addr, length)]

    def fork(self) -> list[Insn]:
        """Fork a child that does something; it exits, or stays while the parent does something."""
        body = [insn for _ in range(self.rng.randrange(4)) for insn in self.anything()]
        if self.rng.random() < 0.7:
            return [fork(len(body)), *body]
        between = self.anything() + self.anything()
        return [fork(len(body), hold=True), *body, *between, *([REAP] if self.rng.random() < 0.8 else [])]

    def inherit(self) -> list[Insn]:
        """madvise that says what a child gets."""
        addr, length = self.piece()
        advice, back = self.rng.choice(((MADV_DONTFORK, MADV_DOFORK), (MADV_WIPEONFORK, MADV_KEEPONFORK)))
        return [advise(advice, addr, length), *self.fork(), advise(back, addr, length)]

    def userfault(self) -> list[Insn]:
        """Watch a range with userfaultfd: miss pages, fill them, move others there, protect them; mostly unregister."""
        addr, length = self.piece()
        fill = self.rng.choice((uffd_copy(addr, length, self.value()), uffd_zeropage(addr, length)))
        move = uffd_move(self.piece()[0], min(length, 16 * PAGE_SIZE), addr)
        body = [dontneed(addr, length), fill, dontneed(addr, length), move, touch(addr, length, value=self.value())]
        body += self.anything() if self.rng.random() < 0.3 else []
        what = self.rng.choice((VM_UFFD_MISSING, VM_UFFD_WP, VM_UFFD))
        if what & VM_UFFD_WP:
            for on in (True, False):
                piece = self.piece() if self.rng.random() < 0.2 else (addr, length)
                body.insert(self.rng.randint(0, len(body)), uffd_writeprotect(*piece, on))
        between = [insn for insn in body if self.rng.random() < 0.6]
        again = [uffd_unregister(addr, length)] if self.rng.random() < 0.9 else []
        return [uffd_register(addr, length, self.rng.choice((1, 100, 400)), what), *between, *again]

    def resolve(self) -> list[Insn]:
        """Fill what another CPU may be missing."""
        return [uffd_copy(*self.piece(), self.value()) if self.rng.random() < 0.7 else uffd_zeropage(*self.piece())]

    def map(self) -> list[Insn]:
        """mmap over what is there; rarely read-only."""
        return [mmap(*self.piece(), writable=self.rng.random() < 0.9)]

    def look(self) -> list[Insn]:
        """mincore, or what reads a file of /proc/PID."""
        return [self.rng.choice((mincore, mincore, smaps, pagemap))(*self.piece())]

    def forget(self) -> list[Insn]:
        """Clear accessed or soft-dirty bits, or charge pages to another control group."""
        if self.rng.random() < 0.3:
            return [move_charge(*self.piece(), self.rng.randrange(NR_MEMCGS))]
        return [clear_refs(*self.piece(), soft_dirty=self.rng.random() < 0.4)]

    def map_file(self, piece: tuple[int, int] | None = None) -> list[Insn]:
        """Map a file over what is there: a part that fits, or more than it has."""
        addr, length = piece or self.piece()
        length = min(length, (FILE_PAGES + 8) * PAGE_SIZE)
        shared, writable = self.rng.random() < 0.6, self.rng.random() < 0.8
        return [mmap_file(addr, length, self.file(), shared, self.rng.choice((0, 0, 3, 40)), writable)]

    def file(self) -> int:
        """A file."""
        return self.rng.randrange(FILES)

    def write_back(self) -> list[Insn]:
        """Write a file's dirty pages to the disk, or what a range maps of one."""
        return [writeback(self.file()) if self.rng.random() < 0.7 else msync(*self.piece())]

    def cut_file(self) -> list[Insn]:
        """Truncate a file, and perhaps make it whole again; or punch a hole, by file or by address."""
        file, rng = self.file(), self.rng
        if rng.random() < 0.2:
            return [remove(*self.piece(), self.step())]
        if rng.random() < 0.5:
            return [punch_hole(file, rng.randrange(FILE_PAGES), rng.choice((1, 1, 4, FILE_PAGES)))]
        again = [truncate(file, FILE_PAGES)] if rng.random() < 0.9 else []
        return [truncate(file, rng.choice((0, 1, 7, 50))), *again]

    def retract(self) -> list[Insn]:
        """Take empty tables of a file out; mostly of a slot that maps it and was used."""
        file, slot = self.file(), self.rng.choice(SLOTS)
        use = [mmap_file(slot, SLOT, file, self.rng.random() < 0.6), read(slot, PAGE_SIZE), dontneed(slot, SLOT)]
        return [*(use if self.rng.random() < 0.7 else []), retract(file)]

    def insert(self) -> list[Insn]:
        """insert_pages."""
        return [insert_pages(*self.piece())]

    def huge(self) -> list[Insn]:
        """Huge pages in a slot: by a fault, or by a collapse of what is there, used, and perhaps no longer wanted."""
        rng, slot = self.rng, self.rng.choice(self.slots)
        setup = rng.choice(([], [dontneed(slot, SLOT)], [mmap(slot, SLOT)]))
        first = rng.choice((read, touch))(slot + rng.randrange(SLOT_PAGES) * PAGE_SIZE, PAGE_SIZE)
        between = self.anything() if rng.random() < 0.5 else []
        last = rng.choice(
            ([], [dontneed(slot, SLOT)], [advise(MADV_NOHUGEPAGE, slot, SLOT)], *[[mmap(slot, SLOT)]] * 3)
        )
        return [*setup, advise(MADV_HUGEPAGE, slot, SLOT), first, *self.word(), *between, *last]

    def share(self) -> list[Insn]:
        """Map hugetlbfs over a GiB, use it, map other memory in a hole of it, here or in a child; each of it or not."""
        rng, at = self.rng, self.rng.choice(HUGETLB_GIBS)
        hole = at + rng.randrange(3) * SLOT  # the third is past the end of the file
        word = at + rng.randrange(2 * SLOT_PAGES) * PAGE_SIZE
        fill = [
            munmap(hole, SLOT),
            mmap(hole, SLOT, huge=rng.random() < 0.3),
            touch(hole, PAGE_SIZE, value=self.value()),
        ]
        child = [load(at), *fill[: rng.randrange(4)], store(word, self.value())]
        parts = [
            [touch(word, PAGE_SIZE, value=self.value()), read(at, 2 * SLOT, SLOT)],
            [gup(word, PAGE_SIZE, self.value())],
            [fork(len(child)), *child],
            fill,
            [rng.choice((mincore, smaps, pagemap, clear_refs, mlock))(at, 3 * SLOT)],
            [mprotect(hole, SLOT, "r"), load(hole), mprotect(at, GIB, "rw")],
            self.anything(),
        ]
        between = [insn for part in parts if rng.random() < 0.5 for insn in part]
        again = [munmap(at, GIB)] if rng.random() < 0.7 else []
        return [mmap_hugetlb(at, GIB, writable=rng.random() < 0.8), *between, load(word), *again]

    def collapse(self) -> list[Insn]:
        """MADV_COLLAPSE of a slot or more, with something in it or not."""
        addr, length = self.rng.choice(
            ((self.rng.choice(self.slots), SLOT), (self.rng.choice(AREAS), 2 * SLOT), self.piece())
        )
        first = [touch(addr, PAGE_SIZE, value=self.value())] if self.rng.random() < 0.6 else []
        return [*first, advise(MADV_COLLAPSE, addr, length)]

    def share_huge(self) -> list[Insn]:
        """A file in shared memory over a slot, a huge page of it, and what takes that apart; each of it or not."""
        rng, slot = self.rng, self.rng.choice(self.slots)
        page = slot + rng.randrange(SLOT_PAGES) * PAGE_SIZE
        parts = [
            [mmap_file(slot, SLOT, HUGE_FILE, rng.random() < 0.8, 0, rng.random() < 0.9)],
            [touch(page, PAGE_SIZE, value=self.value())],
            [advise(MADV_COLLAPSE, slot, SLOT)],
            [rng.choice((read, touch))(slot + rng.randrange(SLOT_PAGES) * PAGE_SIZE, PAGE_SIZE)],
            rng.choice(
                (
                    [punch_hole(HUGE_FILE, rng.randrange(SLOT_PAGES), rng.choice((1, 9, SLOT_PAGES)))],
                    [truncate(HUGE_FILE, rng.choice((0, 9, 400))), truncate(HUGE_FILE, SLOT_PAGES)],
                    [advise(rng.choice((MADV_COLD, MADV_PAGEOUT)), slot, rng.choice((PAGE_SIZE, SLOT)))],
                    [dontneed(slot, rng.choice((PAGE_SIZE, SLOT)))],
                    self.anything(),
                )
            ),
            [touch(page, PAGE_SIZE, value=self.value()), load(page)],
        ]
        return [insn for part in parts if rng.random() < 0.8 for insn in part]

    def pin(self) -> list[Insn]:
        """A device uses pages: those of a range, or own ones, mostly a few."""
        addr, length, _ = (*self.piece(), 0) if self.rng.random() < 0.7 else self.own()
        return [gup(addr, min(length, 16 * PAGE_SIZE), self.value() if self.rng.random() < 0.7 else 0)]

    def reclaim(self) -> list[Insn]:
        """Pages go to swap: anybody's, or those of a range; rarely all come back."""
        kind = self.rng.randrange(8)
        if kind == 0:
            return [SWAPOFF]
        if kind < 4:
            return [swapout(self.rng.choice((1, 4, 40)))]
        addr, length = self.piece()
        between = [advise(MADV_WILLNEED, addr, length)] if kind == 7 else self.anything() if kind == 6 else []
        return [advise(MADV_PAGEOUT, addr, min(length, 64 * PAGE_SIZE)), *between, read(addr, length)]

    def migrate(self) -> list[Insn]:
        """Pages move to other frames: anybody's, or those of a range."""
        if self.rng.random() < 0.5:
            return [migrate(pages=self.rng.choice((1, 3, 20)))]
        addr, length = self.piece()
        return [migrate(at) for at in range(addr, addr + min(length, 4 * PAGE_SIZE), PAGE_SIZE)]

    def replace(self) -> list[Insn]:
        """Pages with the same words become one frame; or a page is replaced by a copy, or taken away."""
        (addr, _), (other, _) = self.piece(), self.piece()
        if self.rng.random() < 0.4:
            return [uprobe(addr)]
        value = self.value()
        return [touch(addr, PAGE_SIZE, value=value), touch(other, PAGE_SIZE, value=value), ksm(addr, other)]

    def pause(self) -> list[Insn]:
        """compute; then somebody asks for empty tables."""
        return [compute(self.rng.randrange(20)), FREE_PTES]

    def use_device(self) -> list[Insn]:
        """Map the device's frame, use it, have it taken away; each of it or not."""
        if not self.device:
            return [DEVICE_REMOVE]
        whole = [
            mmap_device(DEVICE_PAGE),
            store(DEVICE_PAGE, self.value()),
            load(DEVICE_PAGE),
            munmap(DEVICE_PAGE, PAGE_SIZE),
            DEVICE_REMOVE,
        ]
        return [insn for insn in whole if self.rng.random() < 0.6]

    def collide(self, slot: int) -> list[Insn]:
        """What all do at once after a barrier: fault in a slot that the others release."""
        addr = slot + self.rank * PAGE_SIZE
        return [insn for _ in range(8) for insn in (store(addr, self.value()), dontneed(slot, SLOT))]

    def anything(self) -> list[Insn]:
        """One of the above, by weight."""
        return self.rng.choices(STEPS, _WEIGHTS)[0](self)


_CHOICES: dict[Callable[[Author], list[Insn]], int] = {  # the simplest first: hypothesis shrinks towards it
    Author.read_shared: 8,
    Author.touch_shared: 16,
    Author.word: 8,
    Author.touch_own: 20,
    Author.release: 12,
    Author.release_slot: 8,
    Author.lazyfree: 4,
    Author.unmap: 6,
    Author.map: 3,
    Author.protect: 6,
    Author.advise: 4,
    Author.guard: 4,
    Author.lock: 2,
    Author.move: 5,
    Author.move_gib: 1,
    Author.resize: 1,
    Author.fork: 4,
    Author.inherit: 1,
    Author.look: 5,
    Author.forget: 2,
    Author.userfault: 3,
    Author.resolve: 3,
    Author.map_file: 4,
    Author.write_back: 3,
    Author.cut_file: 2,
    Author.insert: 3,
    Author.retract: 2,
    Author.pin: 5,
    Author.reclaim: 6,
    Author.migrate: 6,
    Author.replace: 3,
    Author.huge: 5,
    Author.share: 3,
    Author.collapse: 3,
    Author.share_huge: 3,
    Author.pause: 2,
    Author.use_device: 3,
}
STEPS, _WEIGHTS = tuple(_CHOICES), tuple(_CHOICES.values())
SETUP = tuple(mmap(area, 2 * SLOT) for area in AREAS)


def random_program(author: Author, length: int, end: Insn) -> list[Insn]:
    """Setup, about `length` instructions with a few short loops, MEETINGS barriers on the way, `end`."""
    rng, program = author.rng, [*SETUP, barrier()]
    for meeting in range(MEETINGS):
        program += author.collide(SLOTS[meeting % len(SLOTS)])
        start, until = len(program), len(program) + length // MEETINGS
        while len(program) < until:
            program += author.anything()
            if rng.random() < 0.02:
                program.append(jump(max(start, len(program) - 6), rng.randrange(1, 4)))
                start = len(program)  # loops do not nest
        program.append(barrier(1 + meeting % (NR_BARRIERS - 1)))
    return [*program, end]


def random_workload(seed: int, cpus: int, mms: int, length: int) -> Workload:
    """The workload a seed names. CPUs are dealt to the mms in turn; an mm's CPUs end with EXIT, with STOP, or mixed.

    Memory is scarce for one seed in four; two in three have all CPUs in two slots.
    """
    rng = random.Random(f"{seed} {cpus} {mms} {length}")
    mm_of_cpu = [cpu % mms for cpu in range(cpus)]
    ends = [rng.choice(((STOP, STOP), (EXIT, EXIT), (STOP, EXIT))) for _ in range(mms)]
    slots = rng.choice((SLOTS, SLOTS[:2], SLOTS[2:]))
    programs = []
    for cpu, mm in enumerate(mm_of_cpu):
        author = Author(random.Random(rng.getrandbits(64)), cpu // mms, mm_of_cpu.count(mm), mm == 0, slots)
        programs.append(random_program(author, length, ends[mm][cpu // mms % 2]))
    return Workload(programs, mm_of_cpu, scarce=rng.random() < 0.25)
