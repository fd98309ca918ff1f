"""Random programs whose every answer is known beforehand: errors, words that loads find, and RSS where it is certain.

Each CPU has a file and addresses of its own, in an mm of its own or in 2 MiB of one that all share. So a sequential
model (space.py) says what each call returns and what each page holds. What is done to memory meanwhile must not be
seen: reclaim, migration, write-back, collapse, forks, and what the others do in the same mm. Addresses lie at the edges
of VMAs and of tables, few and used again and again. After each call the pages at both sides of its edges are loaded.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from emulator.mm_types import PAGE_SIZE, PCP_BATCH, Geometry
from emulator.uapi import (
    EINVAL,
    ENOMEM,
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
    MADV_WILLNEED,
    MADV_WIPEONFORK,
)
from workers.programs.program import (
    EXIT,
    STOP,
    SWAPOFF,
    Insn,
    advise,
    clear_refs,
    dontneed,
    exit_child,
    fork_as,
    free,
    gup,
    in_child,
    ksm,
    load,
    migrate,
    mincore,
    mlock,
    mmap,
    mmap_file,
    mprotect,
    mremap,
    mremap_fixed,
    msync,
    munlock,
    munmap,
    pagemap,
    punch_hole,
    retract,
    smaps,
    store,
    swapout,
    touch,
    truncate,
    uffd_copy,
    uffd_register,
    uffd_unregister,
    writeback,
)
from workers.programs.space import ANON, AREA_PAGES, AREAS, PAGES, SLOT_PAGES, File, Space, address

EDGES = (0, 1, SLOT_PAGES - 1, SLOT_PAGES, SLOT_PAGES + 1, AREA_PAGES - 1)
SLOT_EDGES = (0, 1, 2, SLOT_PAGES - 2, SLOT_PAGES - 1)
FILE_PAGES = 40  # of each file
CHILDREN = 2  # of each CPU at a time
SWAP_PAGES = 512
LAST_LOOKS = 60  # pages that are loaded at the end of a program


@dataclass(frozen=True)
class Answer:
    """What one instruction must end with. `error` is None where anything may be; so is `rss`, in frames."""

    error: int | None
    values: tuple[int, ...] = ()
    rss: int | None = None
    of_child: bool = False


@dataclass
class Foretold:
    """Programs that run at once, and their answers: a row of the machine's records each. `together`: in one mm."""

    together: bool = False
    programs: list[list[Insn]] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)

    @property
    def mm_of_cpu(self) -> list[int]:
        """Each CPU has its mm, or they share one."""
        return [0 if self.together else cpu for cpu in range(len(self.programs))]

    def geometry(self) -> Geometry:
        """A machine with memory for all of it."""
        cpus = len(self.programs)
        mms = cpus * (2 + CHILDREN)  # swapoff may keep one that has exited for a while
        return Geometry(
            cpus=cpus,
            mms=mms,
            vmas=512,
            insns=sum(map(len, self.programs)),
            records=len(self.answers),
            frames=PAGES * mms + FILE_PAGES * cpus + cpus * (2048 + PCP_BATCH),
            tables=256 + 256 * cpus,
            files=cpus,
            file_pages=FILE_PAGES,
            swap_pages=SWAP_PAGES,
        )

    def wrong(self, views: Mapping[str, Any]) -> list[str]:
        """The answers of a machine at rest that are not as foretold, one line each."""
        record = views["record"]
        found = []
        for cpu, program in enumerate(self.programs):
            for at, insn in enumerate(program):
                if insn.record >= 0 and (what := _differs(record[insn.record], self.answers[insn.record])):
                    said = f"{insn}: {program[at + 1]}" if self.answers[insn.record].of_child else str(insn)
                    found.append(f"CPU {cpu} instruction {at}, {said}: {what}")
        return found


def _differs(row: Any, answer: Answer) -> str | None:
    """How a row of the records differs from an answer."""
    error, value = int(row["error"]), int(row["value"])
    if answer.error is not None and error != answer.error:
        return f"ends with {error}, not {answer.error}"
    if answer.values and value not in answer.values:
        return f"finds {value:#x}, not {' or '.join(f'{one:#x}' for one in answer.values)}"
    rss = int(row["child_rss_anon" if answer.of_child else "rss_anon"])
    if answer.rss is not None and rss != answer.rss:
        return f"leaves {rss} anonymous pages, not {answer.rss}"
    return None


class Teller:
    """Writes the program of one CPU and its answers. `quiet`: nothing is reclaimed or made huge, so RSS is certain."""

    def __init__(self, rng: random.Random, foretold: Foretold, number: int, quiet: bool) -> None:
        self.rng, self.foretold, self.number, self.quiet = rng, foretold, number, quiet
        self.span = SLOT_PAGES if foretold.together else AREA_PAGES  # of the pages that are this CPU's
        self.file = File(FILE_PAGES)
        self.space = self.parent = Space(self.file)
        self.children: dict[int, Space] = {}
        self.program: list[Insn] = []
        if foretold.together:
            area = number * SLOT_PAGES
            self.hot = [area + edge for edge in SLOT_EDGES] + [area + rng.randrange(SLOT_PAGES) for _ in range(3)]
        else:
            area = rng.randrange(len(AREAS)) * AREA_PAGES
            self.hot = [area + edge for edge in EDGES] + [rng.randrange(PAGES) for _ in range(4)]
        self.stored: set[int] = set()

    # --- saying

    def say(self, insn: Insn, error: int | None, values: tuple[int, ...] = ()) -> None:
        """Add an instruction of the present space and its answer."""
        child = self.space is not self.parent
        rss = self.space.rss if self.quiet else None
        row = len(self.foretold.answers)
        self.foretold.answers.append(Answer(error, values, rss, child))
        if child:
            name = next(name for name, space in self.children.items() if space is self.space)
            self.program += [in_child(name)._replace(record=row), insn]
        else:
            self.program.append(insn._replace(record=row))

    def look(self, page: int) -> None:
        """Load a word, and know what it is."""
        word = self.rng.choice((0, 0, 1, 7))
        self.say(load(address(page) + 8 * word), *self.space.load(page, word))

    def look_around(self, first: int, n: int) -> None:
        """Load at both sides of both edges, and somewhere."""
        pages = [first - 1, first, first + n - 1, first + n, self.rng.choice(self.hot)]
        ours = [page for page in pages if page // self.span == first // self.span]
        for page in self.rng.sample(ours, 2):
            self.look(page)
        self.look(first)

    # --- choosing

    def piece(self) -> tuple[int, int]:
        """First page and number of pages, from or to a hot one."""
        rng, span = self.rng, self.span
        first = rng.choice(self.hot)
        n = rng.choice((1, 1, 2, 3, 5, 16, 64, SLOT_PAGES, span))
        low = first // span * span
        if n == SLOT_PAGES:
            first &= -SLOT_PAGES
        elif n == span:
            first = low
        elif rng.random() < 0.4:
            first = max(low, first - n + 1)  # a hot page is its last
        return first, min(n, low + span - first)

    def length(self, n: int) -> int:
        """Bytes that make n pages when they are rounded up."""
        return n * PAGE_SIZE - self.rng.choice((0, 0, 0, 1, PAGE_SIZE - 1))

    def value(self) -> int:
        """A word to store, hardly ever the same twice."""
        return self.rng.getrandbits(40) << 8 | (self.number + 1)

    # --- what there is to do

    def store(self) -> None:
        """Store a word."""
        page = self.rng.choice(self.hot)
        self.stored.add(page)
        for word in self.rng.choice(((0,), (1,), (7,), (0, 1, 7))):
            value = self.value()
            self.say(store(address(page) + 8 * word, value), self.space.store(page, word, value))
        self.look(page)

    def touch(self) -> None:
        """Store to a range."""
        (first, n), value = self.piece(), self.value()
        self.stored.update(range(first, first + min(n, 4)))
        self.say(touch(address(first), n * PAGE_SIZE, value=value), self.space.touch(first, n, value))
        self.look_around(first, n)

    def device(self) -> None:
        """A device stores to an anonymous page that it pins."""
        page, value = self.rng.choice(self.hot), self.value()
        if self.space.offset[page] == ANON and self.space is self.parent:
            self.say(gup(address(page), PAGE_SIZE, value), self.space.store(page, 0, value))
            self.look(page)

    def map(self) -> None:
        """mmap, anonymous or of the file, over what is there."""
        first, n = self.piece()
        if self.rng.random() < 0.6:
            writable = self.rng.random() < 0.9
            self.say(
                mmap(address(first), self.length(n), writable), self.space.mmap(first, n, "rw" if writable else "r")
            )
        else:
            n, page = min(n, 24), self.rng.choice((0, 0, 3, FILE_PAGES - 4))
            shared, prot = self.rng.random() < 0.6, self.rng.choice(("rw", "rw", "r"))
            insn = mmap_file(address(first), self.length(n), self.number, shared, page, prot == "rw")
            self.say(insn, self.space.mmap(first, n, prot, page, shared))
        self.look_around(first, n)

    def unmap(self) -> None:
        """munmap."""
        first, n = self.piece()
        self.say(munmap(address(first), self.length(n)), self.space.munmap(first, n))
        self.look_around(first, n)

    def protect(self) -> None:
        """mprotect; locked pages stay read-only, or they would come at once."""
        (first, n), prot = self.piece(), self.rng.choice(("rw", "rw", "r", "none"))
        if prot == "rw" and self.space.locked[first : first + n].any():
            prot = "r"
        self.say(mprotect(address(first), self.length(n), prot), self.space.mprotect(first, n, prot))
        self.look_around(first, n)
        if self.rng.random() < 0.5:
            page, value = self.rng.choice((first, first + n - 1)), self.value()
            self.say(store(address(page), value), self.space.store(page, 0, value))

    def release(self) -> None:
        """MADV_DONTNEED, of locked memory as well or not."""
        first, n = self.piece()
        if self.rng.random() < 0.8:
            self.say(dontneed(address(first), self.length(n)), self.space.dontneed(first, n))
        else:
            insn = advise(MADV_DONTNEED_LOCKED, address(first), self.length(n))
            self.say(insn, self.space.dontneed(first, n, locked=True))
        self.look_around(first, n)

    def lazyfree(self) -> None:
        """MADV_FREE: a word is there still, or zero."""
        first, n = self.piece()
        self.say(free(address(first), self.length(n)), self.space.lazyfree(first, n))
        self.look_around(first, n)

    def guard(self) -> None:
        """Guards, or none."""
        first, n = self.piece()
        if self.rng.random() < 0.5:
            insn = advise(MADV_GUARD_INSTALL, address(first), self.length(n))
            self.say(insn, self.space.guard_install(first, n))
        else:
            self.say(advise(MADV_GUARD_REMOVE, address(first), self.length(n)), self.space.guard_remove(first, n))
        self.look_around(first, n)

    def lock(self) -> None:
        """mlock or munlock."""
        first, n = self.piece()
        if self.rng.random() < 0.4:
            self.say(mlock(address(first), self.length(n)), self.space.mlock(first, n))
        else:
            self.say(munlock(address(first), self.length(n)), self.space.munlock(first, n))
        self.look_around(first, n)

    def populate(self) -> None:
        """MADV_POPULATE_READ or _WRITE."""
        (first, n), write = self.piece(), self.rng.random() < 0.5
        advice = MADV_POPULATE_WRITE if write else MADV_POPULATE_READ
        self.say(advise(advice, address(first), n * PAGE_SIZE), self.space.populate(first, n, write))
        self.look_around(first, n)

    def inherit(self) -> None:
        """What a child gets."""
        first, n = self.piece()
        array, yes, no = self.rng.choice(
            (
                (self.space.dontcopy, MADV_DONTFORK, MADV_DOFORK),
                (self.space.wipe, MADV_WIPEONFORK, MADV_KEEPONFORK),
            )
        )
        value = self.rng.random() < 0.5
        self.say(advise(yes if value else no, address(first), self.length(n)), self.space.flag(first, n, array, value))

    def move(self) -> None:
        """mremap to where it does not overlap: a few pages, or a whole table."""
        (first, n), to = self.piece(), self.piece()[0]
        if n == SLOT_PAGES:
            to &= -SLOT_PAGES
        n = min(n, self.span - to % self.span, self.span - first % self.span)
        if first < to + n and to < first + n:
            return
        self.say(mremap_fixed(address(first), self.length(n), address(to)), self.space.move(first, n, to))
        self.look_around(first, n)
        self.look_around(to, n)

    def resize(self) -> None:
        """mremap in place: to fewer pages, or the last page of a VMA to more."""
        first, n = self.piece()
        if (first + 1) % self.span != 0 and self.space.can_grow(first):
            n = min(n + 1, self.span - first % self.span)
            self.say(mremap(address(first), PAGE_SIZE, self.length(n)), self.space.grow(first, n))
        else:
            left = self.rng.randrange(1, n + 1)
            self.say(mremap(address(first), self.length(n), self.length(left)), self.space.shrink(first, n, left))
            self.look_around(first, left)
        self.look_around(first, n)

    def fill(self) -> None:
        """UFFD_COPY into fresh memory; what was missing holds the word all over."""
        (first, n), value = self.piece(), self.value()
        n = min(n, 16)
        at, length = address(first), n * PAGE_SIZE
        self.say(mmap(at, length), self.space.mmap(first, n, "rw"))
        self.say(uffd_register(at, length, 1), 0)
        self.space.fill(first, n, value)
        self.say(uffd_copy(at, length, value), 0)
        self.say(uffd_unregister(at, length), 0)
        self.look_around(first, n)

    def truncate(self) -> None:
        """Make the file shorter, or as long as it was; or punch a hole."""
        rng, spaces = self.rng, (self.parent, *self.children.values())
        if rng.random() < 0.5:
            pages = rng.choice((FILE_PAGES, FILE_PAGES, 1, 5, FILE_PAGES - 3))
            self.say(truncate(self.number, pages), 0)
            before, self.file.size = self.file.size, pages
            self.file.words[pages:] = 0
            for space in spaces if pages < before else ():
                space.forget_file(pages, FILE_PAGES + PAGES, True)
            if self.quiet:  # the children's pages went as well
                self.foretold.answers[-1] = Answer(0, (), self.space.rss, self.space is not self.parent)
        else:
            first, n = rng.randrange(FILE_PAGES), rng.choice((1, 2, FILE_PAGES))
            self.say(punch_hole(self.number, first, n), 0)
            self.file.words[first : first + n] = 0
        self.look(rng.choice(self.hot))

    def refuse(self) -> None:
        """Calls that must not do anything."""
        first, n = self.piece()
        odd = address(first) + 1
        insn, error = self.rng.choice(
            (
                (munmap(odd, PAGE_SIZE), -EINVAL),
                (munmap(address(first), 0), -EINVAL),
                (mprotect(odd, PAGE_SIZE, "r"), -EINVAL),
                (dontneed(odd, PAGE_SIZE), -EINVAL),
                (mmap(odd, PAGE_SIZE), -EINVAL),
                (mmap(address(first), 0), -EINVAL),
                (mmap(address(first), 1 << 50), -ENOMEM),
                (mremap_fixed(address(first), n * PAGE_SIZE, address(first) + (n - 1) * PAGE_SIZE), -EINVAL),
                (munmap(address(first), 1 << 50), -EINVAL),
            )
        )
        self.say(insn, error)
        self.look(first)

    def fork(self) -> None:
        """A child; what it and its parent do next is their own."""
        self.space = self.parent
        if self.rng.random() < 0.3:
            self.inherit()
        if len(self.children) == CHILDREN:
            name = self.rng.choice(list(self.children))
            self.say(exit_child(name), 0)
            del self.children[name]
        name = next(name for name in range(1, CHILDREN + 1) if name not in self.children)
        child = self.parent.fork()
        self.say(fork_as(name), 0)
        self.children[name] = child
        for space in self.rng.choice(((child, self.parent), (self.parent, child), (child,), (self.parent,))):
            self.space = space
            for page in self.rng.sample(self.hot, 3):
                self.look(page)
                value = self.value()
                self.say(store(address(page), value), self.space.store(page, 0, value))

    def someone_else(self) -> None:
        """Another space goes on: a child, or the parent."""
        self.space = self.rng.choice((self.parent, *self.children.values()))

    def disturb(self) -> None:
        """What nobody may notice but by RSS."""
        rng, (first, n) = self.rng, self.piece()
        at, length, slot = address(first), n * PAGE_SIZE, address(first & -SLOT_PAGES)
        self.quiet = False
        insns = [
            swapout(rng.choice((1, 8, 64, 400))),
            SWAPOFF,
            migrate(pages=rng.choice((1, 8, 64))),
            migrate(at),
            advise(MADV_COLLAPSE, slot, SLOT_PAGES * PAGE_SIZE),
            advise(MADV_NOHUGEPAGE, slot, SLOT_PAGES * PAGE_SIZE),
            advise(MADV_WILLNEED, at, length),
            clear_refs(at, length),
            clear_refs(at, length, soft_dirty=True),
            rng.choice((smaps, pagemap, mincore, msync))(at, length),
            writeback(self.number),
            retract(self.number),
            ksm(at, address(rng.choice(self.hot))),
        ]
        self.say(rng.choice(insns), None)
        self.look_around(first, n)

    def page_out(self) -> None:
        """MADV_PAGEOUT or _COLD: pages go to swap, or to the disk, and come back."""
        first, n = self.piece()
        self.quiet = False
        if self.rng.random() < 0.5:
            self.say(writeback(self.number), 0)
        advice = self.rng.choice((MADV_COLD, MADV_PAGEOUT, MADV_PAGEOUT))
        self.say(advise(advice, address(first), n * PAGE_SIZE), self.space.keep(first, n))
        self.look_around(first, n)

    def huge(self) -> None:
        """A huge page where one fits, by a fault or by a collapse; what comes next may take it apart."""
        first = self.rng.choice(self.hot) & -SLOT_PAGES
        at, length = address(first), SLOT_PAGES * PAGE_SIZE
        self.quiet = False
        self.say(mmap(at, length), self.space.mmap(first, SLOT_PAGES, "rw"))
        by_fault = self.rng.random() < 0.6
        if by_fault:
            self.say(advise(MADV_HUGEPAGE, at, length), 0)
        pages = [page for page in self.hot if page & -SLOT_PAGES == first]
        for page in self.rng.sample(pages, min(3, len(pages))):
            self.look(page)
            value = self.value()
            self.say(store(address(page), value), self.space.store(page, 0, value))
        if not by_fault:
            self.say(advise(MADV_COLLAPSE, at, length), None)
        self.look_around(first, SLOT_PAGES)


_CHOICES: dict[Callable[[Teller], None], int] = {
    Teller.store: 12,
    Teller.touch: 12,
    Teller.device: 3,
    Teller.map: 8,
    Teller.unmap: 4,
    Teller.protect: 7,
    Teller.release: 6,
    Teller.lazyfree: 3,
    Teller.guard: 5,
    Teller.lock: 2,
    Teller.populate: 2,
    Teller.inherit: 2,
    Teller.move: 7,
    Teller.resize: 4,
    Teller.truncate: 3,
    Teller.fill: 2,
    Teller.refuse: 2,
    Teller.fork: 5,
    Teller.someone_else: 6,
}


def foretell(foretold: Foretold, rng: random.Random, number: int, calls: int, quiet: bool) -> None:
    """Add the program of one more CPU, of so many calls, and its answers."""
    teller = Teller(rng, foretold, number, quiet)
    choices = dict(_CHOICES) if quiet else {**_CHOICES, Teller.disturb: 18, Teller.page_out: 7, Teller.huge: 5}
    for first in (number * SLOT_PAGES,) if foretold.together else range(0, PAGES, AREA_PAGES):
        teller.say(mmap(address(first), teller.span * PAGE_SIZE), teller.space.mmap(first, teller.span, "rw"))
    for call in rng.choices(list(choices), list(choices.values()), k=calls):
        call(teller)
    for space in (teller.parent, *teller.children.values()):
        teller.space = space
        for page in rng.sample(sorted(teller.stored), min(LAST_LOOKS, len(teller.stored))):
            teller.look(page)
    foretold.programs.append([*teller.program, rng.choice((EXIT, STOP))])


def foretold_workload(seed: int, calls: int) -> Foretold:
    """The programs that a seed names: of one CPU in peace, of one, of two in an mm each, or of three in one."""
    rng = random.Random(f"{seed} {calls}")
    kind = seed % 4
    foretold = Foretold(together=kind == 3)
    for number in range(max(1, kind)):
        foretell(foretold, random.Random(rng.getrandbits(64)), number, calls, kind == 0)
    return foretold
