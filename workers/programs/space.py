"""What an address space holds, told without page tables: a sequential model of the system calls, page by page.

Each page has its permissions, what it maps, and the words that a load finds. None of it is learned from the emulated
kernel: what that answers is compared with this (foretold.py). The pages are those of two areas, each with a border of 2
MiB in its middle. That is one of 512 GiB, or of a GiB, as well.

A call goes page by page where the kernel goes VMA by VMA. How VMAs merge is not modelled, so no call is made here whose
answer depends on it.
"""

from __future__ import annotations

from emulator import lazy_numpy as np
from emulator.mm_types import PAGE_SIZE
from emulator.uapi import EBUS, EFAULT, EINVAL, ENOMEM

SLOT_PAGES = 512
AREA_PAGES = 2 * SLOT_PAGES
AREAS = ((1 << 39) - SLOT_PAGES * PAGE_SIZE, (5 << 30) - SLOT_PAGES * PAGE_SIZE)
PAGES = AREA_PAGES * len(AREAS)
WORDS = 8  # of a page that are modelled, and that a frame has
ANON = -1  # in place of a file
PROT = {"none": (False, False), "r": (True, False), "rw": (True, True)}


def address(page: int) -> int:
    """The address of a page, by its number in the model."""
    return AREAS[page // AREA_PAGES] + page % AREA_PAGES * PAGE_SIZE


class File:
    """A file that one program uses: its size in pages, and its words."""

    def __init__(self, pages: int) -> None:
        self.size = pages
        self.words = np.zeros((pages, WORDS), np.int64)


class Space:
    """One address space. Every call takes the first page and how many, and returns 0 or -errno; a load its words."""

    def __init__(self, file: File) -> None:
        self.contents = file
        self.mapped, self.readable, self.writable, self.shared = np.zeros((4, PAGES), np.bool_)
        self.guard, self.locked, self.dontcopy, self.wipe = np.zeros((4, PAGES), np.bool_)
        self.anon = np.zeros(PAGES, np.bool_)  # it has a page of its own
        self.offset = np.full(PAGES, ANON, np.int64)  # the page of the file it maps
        self.words = np.zeros((PAGES, WORDS), np.int64)  # of the page of its own
        self.free = np.zeros((PAGES, WORDS), np.bool_)  # MADV_FREE: the word may be zero as well
        self._arrays = [value for value in vars(self).values() if isinstance(value, np.ndarray)]

    @property
    def rss(self) -> int:
        """Anonymous pages, if none is in swap and no huge page brought others along."""
        return int(self.anon.sum())

    # --- accesses

    def fault(self, page: int, write: bool) -> int:
        """What an access ends with: 0, -EFAULT for SIGSEGV, -EBUS for SIGBUS."""
        allowed = self.writable[page] if write else self.readable[page]
        if not self.mapped[page] or not allowed or self.guard[page]:
            return -EFAULT
        past = self.offset[page] != ANON and not self.anon[page] and self.offset[page] >= self.contents.size
        return -EBUS if past else 0

    def own(self, page: int) -> None:
        """A write fault: a private page becomes its own, with what it held."""
        if not self.shared[page] and not self.anon[page]:
            self.words[page] = 0 if self.offset[page] == ANON else self.contents.words[self.offset[page]]
            self.anon[page] = True

    def store(self, page: int, word: int, value: int) -> int:
        """Store a word."""
        error = self.fault(page, True)
        if error == 0:
            self.own(page)
            if self.shared[page]:
                self.contents.words[self.offset[page], word] = value
            else:
                self.words[page, word] = value
                self.free[page, word] = False
        return error

    def touch(self, first: int, n: int, value: int) -> int:
        """Store the first word of each page until one fails."""
        return self._until_failure(first, n, lambda page: self.store(page, 0, value))

    def load(self, page: int, word: int) -> tuple[int, tuple[int, ...]]:
        """The error, and the words that a load may find."""
        error = self.fault(page, False)
        if error != 0:
            return error, ()
        if self.anon[page]:
            value = int(self.words[page, word])
            return 0, (value, 0) if self.free[page, word] else (value,)
        return 0, (int(self.contents.words[self.offset[page], word]) if self.offset[page] != ANON else 0,)

    def fill(self, first: int, n: int, value: int) -> None:
        """Fresh pages that hold a word all over."""
        self.anon[first : first + n] = True
        self.words[first : first + n] = value

    def populate(self, first: int, n: int, write: bool) -> int:
        """MADV_POPULATE_WRITE, _READ."""

        def one(page: int) -> int:
            if not self.mapped[page]:
                return -ENOMEM
            if not (self.writable if write else self.readable)[page]:
                return -EINVAL
            error = self.fault(page, write)
            if error == 0 and write:
                self.own(page)
            return -EFAULT if error else 0

        return self._until_failure(first, n, one)

    @staticmethod
    def _until_failure(first: int, n: int, one: object) -> int:
        for page in range(first, first + n):
            error = one(page)  # type: ignore[operator]
            if error != 0:
                return int(error)
        return 0

    # --- what changes the mapping

    def _reset(self, pages: slice | np.ndarray) -> None:
        for array in self._arrays:
            array[pages] = ANON if array is self.offset else 0

    def mmap(self, first: int, n: int, prot: str, offset: int = ANON, shared: bool = False) -> int:
        """Map over what is there; from a page of the file on, or anonymous memory."""
        pages = slice(first, first + n)
        self._reset(pages)
        self.mapped[pages] = True
        self.readable[pages], self.writable[pages] = PROT[prot]
        self.shared[pages] = shared
        if offset != ANON:
            self.offset[pages] = np.arange(offset, offset + n)
        return 0

    def munmap(self, first: int, n: int) -> int:
        """Unmap."""
        self._reset(slice(first, first + n))
        return 0

    def mprotect(self, first: int, n: int, prot: str) -> int:
        """Other permissions, up to the first hole."""
        holes = np.flatnonzero(~self.mapped[first : first + n])
        pages = slice(first, first + (int(holes[0]) if len(holes) else n))
        self.readable[pages], self.writable[pages] = PROT[prot]
        return -ENOMEM if len(holes) else 0

    def move(self, first: int, n: int, to: int) -> int:
        """mremap to another place, which does not overlap: what is mapped goes there, gaps leave it as it is."""
        if not self.mapped[first]:
            return -EFAULT
        there = np.flatnonzero(self.mapped[first : first + n])
        for array in self._arrays:
            array[to + there] = array[first + there]
        self._reset(first + there)
        return 0

    def shrink(self, first: int, n: int, left: int) -> int:
        """mremap in place to fewer pages."""
        if not self.mapped[first]:
            return -EFAULT
        return self.munmap(first + left, n - left) if left < n else 0

    def can_grow(self, page: int) -> bool:
        """True if the VMA of a page ends there, whatever merges: nothing is mapped behind it."""
        behind = page + 1
        return behind % AREA_PAGES != 0 and bool(
            self.mapped[page] and not self.mapped[behind] and not self.locked[page]
        )

    def grow(self, page: int, n: int) -> int:
        """mremap in place of the last page of a VMA to n pages."""
        pages = slice(page + 1, page + n)
        if self.mapped[pages].any():
            return -ENOMEM
        for array in (self.mapped, self.readable, self.writable, self.shared, self.dontcopy, self.wipe):
            array[pages] = array[page]
        if self.offset[page] != ANON:
            self.offset[pages] = self.offset[page] + np.arange(1, n)
        return 0

    # --- advice

    def _advise(self, first: int, n: int, forbidden: np.ndarray) -> tuple[np.ndarray, int]:
        """The pages that advice reaches, and the error: holes are passed over, what is forbidden ends the call."""
        pages = np.arange(first, first + n)
        stops = np.flatnonzero(self.mapped[pages] & forbidden[pages])
        reached = pages[: stops[0]] if len(stops) else pages
        there = reached[self.mapped[reached]]
        if len(stops):
            return there, -EINVAL
        return there, 0 if len(there) == n else -ENOMEM

    def dontneed(self, first: int, n: int, locked: bool = False) -> int:
        """MADV_DONTNEED, or with `locked` MADV_DONTNEED_LOCKED."""
        pages, error = self._advise(first, n, self.locked & (not locked))
        self._zap(pages)
        return error

    def _zap(self, pages: np.ndarray) -> None:
        self.anon[pages] = False
        self.words[pages] = 0
        self.free[pages] = False

    def lazyfree(self, first: int, n: int) -> int:
        """MADV_FREE."""
        pages, error = self._advise(first, n, self.locked | (self.offset != ANON))
        self.free[pages] |= self.anon[pages, None]
        return error

    def keep(self, first: int, n: int) -> int:
        """MADV_COLD or _PAGEOUT."""
        return self._advise(first, n, self.locked)[1]

    def flag(self, first: int, n: int, array: np.ndarray, value: bool) -> int:
        """Advice that is kept with the VMA: MADV_DONTFORK, _WIPEONFORK and their opposites."""
        forbidden = self.offset != ANON if array is self.wipe and value else np.zeros(PAGES, np.bool_)
        pages, error = self._advise(first, n, forbidden)
        array[pages] = value
        return error

    def guard_install(self, first: int, n: int) -> int:
        """MADV_GUARD_INSTALL."""
        pages, error = self._advise(first, n, self.locked)
        self._zap(pages)
        self.guard[pages] = True
        return error

    def guard_remove(self, first: int, n: int) -> int:
        """MADV_GUARD_REMOVE."""
        pages, error = self._advise(first, n, np.zeros(PAGES, np.bool_))
        self.guard[pages] = False
        return error

    def mlock(self, first: int, n: int) -> int:
        """mlock: what may be written gets pages of its own."""
        if (error := self._lock(first, n, True)) != 0:
            return error

        def one(page: int) -> int:
            if self.writable[page] and not self.shared[page]:
                error = self.fault(page, True)
                if error == 0:
                    self.own(page)
                return error
            return self.fault(page, False)

        return -ENOMEM if self._until_failure(first, n, one) else 0

    def munlock(self, first: int, n: int) -> int:
        """munlock."""
        return self._lock(first, n, False)

    def _lock(self, first: int, n: int, locked: bool) -> int:
        holes = np.flatnonzero(~self.mapped[first : first + n])
        self.locked[first : first + (int(holes[0]) if len(holes) else n)] = locked
        return -ENOMEM if len(holes) else 0

    # --- files and children

    def forget_file(self, first: int, end: int, even_cows: bool) -> None:
        """Pages [first, end) of the file are gone, and with `even_cows` their private copies."""
        if even_cows:
            self._zap(np.flatnonzero((self.offset >= first) & (self.offset < end)))

    def fork(self) -> Space:
        """The child."""
        child = Space(self.contents)
        for mine, theirs in zip(child._arrays, self._arrays, strict=True):
            mine[:] = theirs
        child.locked[:] = False
        wiped = np.flatnonzero(child.wipe)
        child._zap(wiped)
        child.guard[wiped] = False
        child._reset(np.flatnonzero(self.dontcopy))
        return child
