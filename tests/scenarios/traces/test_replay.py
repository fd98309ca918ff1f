"""Random traces, replayed and compared line by line with a naive model of the same rules.

The model knows nothing of the emulator: pages and tables are sets, VMAs a list. Units are pages.

Covers: emulator/pages/vma, emulator/syscalls/m*, emulator/syscalls/vma_pieces, emulator/tables/mmu_gather,
scenarios/traces/replay_command
"""

from __future__ import annotations

import gzip
import json
import os
import pty
import random
import subprocess
from pathlib import Path

import numpy as np
import pytest
from command import COMMAND, ENVIRONMENT, ptelab
from support import ROOT

from emulator.checks import Frozen
from emulator.mm_types import GATHER_PAGES, PAGE_SIZE, PTRS_PER_TABLE
from emulator.policy.policies import POLICIES
from emulator.uapi import VM_DONTCOPY, VM_HUGEPAGE, VM_LOCKED, VM_NOHUGEPAGE, VM_READ, VM_WIPEONFORK, VM_WRITE
from scenarios.traces.footprint import geometry_for
from scenarios.traces.replay import run_replay
from scenarios.traces.trace import parse
from workers.machine import Machine
from workers.programs.program import STOP

REPLAY = ["replay", "--engine", "semaphore"]
ECHILD, EFAULT, ENOMEM, EINVAL = -10, -14, -12, -22
LEVELS = (9, 18, 27)  # pages per PTE, PMD and PUD table, as powers of two
TASK_SIZE = (1 << 35) - 1
WINDOWS, WINDOW = 1 << 32, 1 << 24


# What a page is: the zero page, its own frame, one that a child had, one that somebody else has as well, a guard.
ZERO, FRAME, SHARED, HELD, GUARD = range(5)
FRAMES = (FRAME, SHARED, HELD)
START, END, FLAGS, ANON, PGOFF = range(5)  # of a VMA
R, W, LOCKED, DONTFORK, WIPEONFORK, HUGE, NOHUGE = 1, 2, 4, 8, 16, 32, 64
SLOT = 512  # pages of a huge page


class Oracle:
    """What Linux does with private anonymous memory, as simply as it can be said."""

    def __init__(self):
        self.vmas = []  # [start, end, flags, anon_vma or 0, page it first began at], sorted
        self.pages = {}  # page -> what it is
        self.folios = {}  # page -> number of the folio that its frame is part of
        self.stored = set()  # pages that hold something
        self.lazy = set()  # pages that MADV_FREE was told nobody needs
        self.clean = set()  # pages that nobody has stored to since
        self.tables = {level: set() for level in LEVELS}
        self.leaves = set()  # numbers of 2 MiB that are one huge page
        self.faults = self.anon_vmas = self.last_folio = 0
        self.sizes = {}  # of what was mapped last at the beginning of each window
        self.child = ""
        self.held = False  # a child stays

    def figures(self, between="\t"):
        tables = sum(len(tables) for tables in self.tables.values())
        frames = sum(what in FRAMES for what in self.pages.values())
        return between.join(map(str, (4 * tables, 4 * frames, self.faults)))

    def row(self, error):
        return f"{self.figures()}\t{error}\t{self.child}"

    def vma_at(self, page):
        return next((vma for vma in self.vmas if vma[0] <= page < vma[1]), None)

    def split(self, page):
        vma = self.vma_at(page)
        if vma is not None and vma[0] != page:
            if page % SLOT:
                self.leaves.discard(page // SLOT)
            self.vmas.insert(self.vmas.index(vma) + 1, [page, *vma[1:PGOFF], vma[PGOFF] + page - vma[0]])
            vma[1] = page

    def within(self, start, end):
        """The VMAs of a range, split off."""
        self.split(start)
        self.split(end)
        return [vma for vma in self.vmas if start <= vma[0] < end]

    def unmap(self, start, end):
        gone = self.within(start, end)
        self.vmas = [vma for vma in self.vmas if vma not in gone]
        self.drop([page for page in self.pages if start <= page < end])
        self.leaves = {slot for slot in self.leaves if slot * SLOT >= end or (slot + 1) * SLOT <= start}
        for level, tables in self.tables.items():
            for table in list(tables):
                first, last = table << level, table + 1 << level
                overlapped = any(vma[0] < last and first < vma[1] for vma in gone)
                if overlapped and not any(vma[0] < last and first < vma[1] for vma in self.vmas):
                    tables.remove(table)

    @staticmethod
    def follows(left, right):
        return left[END] == right[START] and left[PGOFF] + left[END] - left[START] == right[PGOFF]

    def merge(self):
        """Join the first two neighbours that may be one; True if there were any."""
        for left, right in zip(self.vmas, self.vmas[1:], strict=False):
            same = self.follows(left, right) and left[FLAGS] == right[FLAGS]
            if same and (left[ANON] == right[ANON] or 0 in (left[ANON], right[ANON])):
                left[END], left[ANON] = right[END], left[ANON] or right[ANON]
                self.vmas.remove(right)
                return True
        return False

    def merge_all(self):
        while self.merge():
            pass

    def mmap(self, start, length, flags):
        if length == 0:
            return EINVAL
        end = start + -(-length // 4096)
        if end > TASK_SIZE:
            return ENOMEM
        if start % 1:
            return EINVAL
        start, end = int(start), int(end)
        self.unmap(start, end)
        self.vmas = sorted([*self.vmas, [start, end, flags, 0, start]])
        self.merge_all()
        return 0

    def munmap(self, start, length):
        end = start + -(-length // 4096)
        if start % 1 or length == 0 or end > TASK_SIZE:
            return EINVAL
        self.unmap(int(start), int(end))
        return 0

    def each_vma(self, start, length, what):
        """Follow advice VMA by VMA: -ENOMEM in the end for holes, and nothing behind the first error."""
        if start % 1:
            return EINVAL
        start, end = int(start), int(start) + -(-length // 4096)
        mapped = 0
        for vma in [] if length == 0 else [vma for vma in self.vmas if vma[START] < end and start < vma[END]]:
            inside = range(max(vma[START], start), min(vma[END], end))
            mapped += len(inside)
            if error := what(vma, inside):
                return error
        return 0 if mapped == end - start else ENOMEM

    def zap(self, vma, inside, allowed=0):
        if vma[FLAGS] & LOCKED & ~allowed:
            return EINVAL
        for slot in self.slots(inside):
            if slot in self.leaves and slot * SLOT in inside and slot * SLOT + SLOT - 1 in inside:
                self.tables[LEVELS[0]].remove(slot)
            self.leaves.discard(slot)
        self.drop([page for page, what in self.pages.items() if page in inside and what != GUARD])
        return 0

    def drop(self, pages):
        """Nothing is at these pages any more."""
        for page in pages:
            del self.pages[page]
            self.folios.pop(page, None)
        for marked in (self.stored, self.lazy, self.clean):
            marked.difference_update(pages)

    @staticmethod
    def slots(inside):
        """The numbers of the 2 MiB that a range of pages touches."""
        return range(inside.start // SLOT, (inside.stop - 1) // SLOT + 1)

    def dontneed(self, start, length):
        return self.each_vma(start, length, self.zap)

    def dontneed_locked(self, start, length):
        return self.each_vma(start, length, lambda vma, inside: self.zap(vma, inside, LOCKED))

    def busy(self, folio):
        return any(self.pages[page] == HELD for page, number in self.folios.items() if number == folio)

    def split_folio(self, folio):
        """The zero page takes the place of what nobody stored to, and did not lock."""
        for page in [page for page, number in self.folios.items() if number == folio]:
            del self.folios[page]
            if page not in self.stored and not self.vma_at(page)[FLAGS] & LOCKED:
                self.drop([page])
                self.pages[page] = ZERO

    def whole_folio(self, slot, inside):
        """The folio whose pages are all those of 2 MiB of the range, or None."""
        pages = range(slot * SLOT, slot * SLOT + SLOT)
        numbers = {self.folios.get(page) for page in pages}
        return numbers.pop() if pages[0] in inside and pages[-1] in inside and len(numbers) == 1 else None

    def split_folios(self, slot, inside, whole_too):
        """Split the folios that the range has a part of; the pages of 2 MiB that the advice is for then."""
        pages = range(max(slot * SLOT, inside.start), min(slot * SLOT + SLOT, inside.stop))
        if slot in self.leaves and self.pages[slot * SLOT] == ZERO:
            return []
        whole = self.whole_folio(slot, inside)
        if whole is not None:
            if self.busy(whole):
                return []
            if not whole_too or slot * SLOT in self.lazy:
                return pages
        for folio in {self.folios[page] for page in pages if page in self.folios}:
            if not self.busy(folio):
                self.leaves.discard(slot)
                self.split_folio(folio)
        return [page for page in pages if page not in self.folios]

    def advice(self, start, length, each, whole_too=False):
        """What MADV_COLD, FREE and PAGEOUT have in common."""

        def advise(vma, inside):
            if vma[FLAGS] & LOCKED:
                return EINVAL
            for slot in self.slots(inside):
                each({page for page in self.split_folios(slot, inside, whole_too) if self.pages.get(page) in FRAMES})
            return 0

        return self.each_vma(start, length, advise)

    def cold(self, start, length):
        return self.advice(start, length, lambda pages: None)

    def free(self, start, length):
        def mark(pages):
            self.lazy |= pages
            self.clean |= pages

        return self.advice(start, length, mark)

    def pageout(self, start, length):
        def forget(pages):
            self.leaves -= {page // SLOT for page in pages}
            alone = {page for page in pages if self.pages[page] != HELD}
            self.drop(alone & self.lazy & self.clean)
            self.lazy -= alone - self.clean

        return self.advice(start, length, forget, True)

    def willneed(self, start, length):
        return self.each_vma(start, length, lambda vma, inside: 0)

    def remove(self, start, length):
        return self.each_vma(start, length, lambda vma, inside: EINVAL)

    def guard(self, start, length):
        def install(vma, inside):
            if error := self.zap(vma, inside):
                return error
            self.prepare_anon_vma(vma)
            for page in inside:
                self.pages[page] = GUARD
                self.add_tables(page)
            return 0

        return self.each_vma(start, length, install)

    def unguard(self, start, length):
        def remove(vma, inside):
            self.drop([page for page, what in self.pages.items() if page in inside and what == GUARD])

        return self.each_vma(start, length, remove)

    def change_flags(self, start, end, clear, add):
        """Change the flags of what is mapped in a range."""
        for vma in [vma for vma in self.vmas if vma[START] < end and start < vma[END]]:
            flags = vma[FLAGS] & ~clear | add
            for part in self.within(max(start, vma[START]), min(end, vma[END])) if flags != vma[FLAGS] else []:
                part[FLAGS] = flags
        self.merge_all()

    def inherit(self, start, length, flag, clear=0):
        error = self.each_vma(start, length, lambda vma, inside: 0)
        if error != EINVAL:
            self.change_flags(int(start), int(start) + -(-length // 4096), clear, flag)
        return error

    def hugepage(self, start, length):
        return self.inherit(start, length, HUGE, NOHUGE)

    def nohugepage(self, start, length):
        return self.inherit(start, length, NOHUGE, HUGE)

    def collapse(self, start, length):
        def one(vma, inside):
            last = vma[END] // SLOT - 1
            if last * SLOT < vma[START] or vma[FLAGS] & NOHUGE or not vma[ANON]:
                return EINVAL
            slots = range(-(-inside.start // SLOT), inside.stop // SLOT)
            return 0 if slots.start <= slots.stop and all([self.collapse_slot(slot) for slot in slots]) else EINVAL

        return self.each_vma(start, length, one)

    def collapse_slot(self, slot):
        """True if 2 MiB are a huge page then."""
        pages = range(slot * SLOT, slot * SLOT + SLOT)
        if slot not in self.tables[LEVELS[0]] or any(self.pages.get(page) == GUARD for page in pages):
            return False
        if slot not in self.leaves:
            self.fill(slot, FRAME)
        return True

    def dontfork(self, start, length):
        return self.inherit(start, length, DONTFORK)

    def wipeonfork(self, start, length):
        return self.inherit(start, length, WIPEONFORK)

    def first_hole(self, start, end):
        """The first page of a range that is not mapped, or its end."""
        return next((page for page in range(start, end) if self.vma_at(page) is None), end)

    def mprotect(self, start, length, prot):
        if start % 1:
            return EINVAL
        start, end = int(start), int(start) + -(-length // 4096)
        hole = self.first_hole(start, end)
        flags = {"none": 0, "r": R, "rw": R | W}[prot]
        before = {page: self.vma_at(page)[FLAGS] for page in range(start, hole)}
        if hole > start:
            self.change_flags(start, hole, R | W, flags)
        for page in range(start, hole):  # those that were locked are copied at once, as far as it goes
            if before[page] & (LOCKED | W) == LOCKED and flags & W and self.fault(self.vma_at(page), page, True):
                break
        return 0 if hole == end else ENOMEM

    def populate(self, start, length, write=True):
        if start % 1:
            return EINVAL
        for page in range(int(start), int(start) + -(-length // 4096)):
            vma = self.vma_at(page)
            if vma is None:
                return ENOMEM
            if not vma[FLAGS] & (W if write else R | W):
                return EINVAL
            if error := self.fault(vma, page, write):
                return error
        return 0

    def populate_read(self, start, length):
        return self.populate(start, length, False)

    def lock(self, start, length, flag):
        end = -int(-(start + length / 4096) // 1)
        start = int(start)
        hole = self.first_hole(start, end)
        if hole > start:
            self.change_flags(start, hole, LOCKED, flag)
        if hole < end:
            return ENOMEM
        return self.fault_in(start, end) if flag else 0

    def fault_in(self, start, end):
        """Populate what mlock has locked; what it says if that fails."""
        for page in range(start, end):
            vma = self.vma_at(page)
            if not vma[FLAGS] & (R | W) or self.fault(vma, page, vma[FLAGS] & W):
                return ENOMEM
        return 0

    def mremap(self, start, size, before):
        if size == 0:
            return EINVAL
        end, new_end = start + -(-before // 4096), start + -(-size // 4096)
        vma = self.vma_at(start)
        if vma is None:
            return EFAULT
        if new_end < end:
            self.unmap(new_end, end)
        if new_end <= end:
            return 0
        if end == start:
            return EINVAL
        if vma[END] < end:
            return EFAULT
        if new_end > end:
            if vma[END] != end or any(end <= other[START] < new_end for other in self.vmas):
                return ENOMEM
            vma[END] = new_end
            self.merge_all()
            if self.vma_at(start)[FLAGS] & LOCKED:
                self.fault_in(end, new_end)
        return 0

    def mremapmv(self, start, length, to):
        pages = -(-length // 4096)
        if start % 1 or to % 1 or length == 0 or to + pages > TASK_SIZE or (start < to + pages and to < start + pages):
            return EINVAL
        start, to = int(start), int(to)
        if self.vma_at(start) is None:
            return EFAULT
        offset, end = to - start, start + pages
        for vma in [list(vma) for vma in self.vmas if vma[START] < end and start < vma[END]]:
            at, until = max(vma[START], start), min(vma[END], end)
            self.unmap(at + offset, until + offset)
            pgoff = vma[PGOFF] + at - vma[START] if vma[ANON] else at + offset
            self.vmas = sorted([*self.vmas, [at + offset, until + offset, vma[FLAGS], vma[ANON], pgoff]])
            self.merge_all()
            self.move_tables(at, until, offset)
            whole = [slot for slot in self.leaves if at <= slot * SLOT and slot * SLOT + SLOT <= until]
            leaves = set() if offset % SLOT else {slot + offset // SLOT for slot in whole}
            moved = [page for page in self.pages if at <= page < until]
            self.pages |= {page + offset: self.pages[page] for page in moved}
            self.folios |= {page + offset: self.folios[page] for page in moved if page in self.folios}
            for marked in (self.stored, self.lazy, self.clean):
                marked |= {page + offset for page in marked.intersection(moved)}
            self.unmap(at, until)
            self.leaves |= leaves
        return 0

    def move_tables(self, start, end, offset):
        """A table that is wholly moved leaves its place; of the others the destination gets its own.

        Of the topmost level it gets one wherever the source has one of the level below, whatever is in that.
        """
        for at in {start, *range(-(-start // 2**18) * 2**18, end, 2**18)}:
            if at >> LEVELS[1] in self.tables[LEVELS[1]]:
                for page in (at, min((at | 2**18 - 1) + 1, end) - 1):
                    self.tables[LEVELS[2]].add(page + offset >> LEVELS[2])
        level = LEVELS[0]
        for table in list(self.tables[level]):
            first, last = max(start, table << level), min(end, table + 1 << level)
            if first < last:
                for page in (first, last - 1):
                    self.add_tables(page + offset)
                if last - first == 1 << level and offset % (1 << level) == 0:
                    self.tables[level].remove(table)
        level = LEVELS[1]
        for table in list(self.tables[level]):
            whole = start <= table << level and table + 1 << level <= end and offset % (1 << level) == 0
            if whole:
                self.tables[level].remove(table)
                self.add_upper(table + (offset >> level))

    def add_upper(self, pmd_table):
        self.tables[LEVELS[1]].add(pmd_table)
        self.tables[LEVELS[2]].add(pmd_table >> LEVELS[2] - LEVELS[1])

    def add_tables(self, page):
        for level, tables in self.tables.items():
            tables.add(page >> level)

    def fault(self, vma, page, write):
        """Access a page that the VMA allows: 0, or -EFAULT at a guard."""
        what = self.pages.get(page)
        slot = page // SLOT
        if what == GUARD:
            return EFAULT
        if write:
            self.clean.difference_update(range(slot * SLOT, slot * SLOT + SLOT) if slot in self.leaves else (page,))
        covers = vma[FLAGS] & HUGE and vma[START] <= slot * SLOT and slot * SLOT + SLOT <= vma[END]
        if covers and slot not in self.tables[LEVELS[0]]:
            self.faults += 1
            self.add_tables(page)
            self.prepare_anon_vma(vma)
            self.fill(slot, FRAME if write else ZERO)
            return 0
        if slot in self.leaves and write and what == ZERO:
            self.faults += 1
            self.fill(slot, FRAME)
            return 0
        if slot in self.leaves and write and what == SHARED:
            self.faults += 1
            self.pages.update(dict.fromkeys(range(slot * SLOT, slot * SLOT + SLOT), FRAME))
            return 0
        if slot in self.leaves and write and what != FRAME:
            self.leaves.remove(slot)
        if what is None or (write and what != FRAME):
            self.faults += 1
            if what == HELD:
                self.folios.pop(page, None)
                self.lazy.discard(page)
            self.pages[page] = FRAME if write else ZERO
            self.add_tables(page)
            if write:
                self.prepare_anon_vma(vma)
        return 0

    def fill(self, slot, what):
        """Let 2 MiB be one huge page that nobody else has."""
        pages = range(slot * SLOT, slot * SLOT + SLOT)
        self.pages.update(dict.fromkeys(pages, what))
        self.leaves.add(slot)
        self.lazy.difference_update(pages)
        self.clean.difference_update(pages)
        if what == FRAME:
            self.last_folio += 1
            self.folios.update(dict.fromkeys(pages, self.last_folio))

    def access(self, at, end, stride, write):
        while at < end:
            vma = self.vma_at(at // 4096)
            if vma is None or not vma[FLAGS] & (W if write else R | W):
                return EFAULT
            if error := self.fault(vma, at // 4096, write):
                return error
            if write:
                self.stored.add(at // 4096)
            at += stride
        return 0

    def prepare_anon_vma(self, vma):
        if vma[ANON]:
            return
        i = self.vmas.index(vma)
        behind, before = self.vmas[i + 1 : i + 2], self.vmas[max(i - 1, 0) : i]
        numbers = [right[ANON] for right in behind if self.follows(vma, right) and self.may_share(vma, right)]
        numbers += [left[ANON] for left in before if self.follows(left, vma) and self.may_share(left, vma)]
        vma[ANON] = next(filter(None, numbers), 0)
        if not vma[ANON]:
            self.anon_vmas += 1
            vma[ANON] = self.anon_vmas

    @staticmethod
    def may_share(one, other):
        return (one[FLAGS] ^ other[FLAGS]) & ~(R | W) == 0

    def fork(self, line="", hold=False):
        """A child that follows a line and exits, or stays."""
        child = Oracle()
        child.vmas = [list(vma) for vma in self.vmas if not vma[FLAGS] & DONTFORK]
        copied = [vma for vma in child.vmas if vma[ANON] and not vma[FLAGS] & WIPEONFORK]
        for vma in child.vmas:
            vma[FLAGS] &= ~LOCKED
            if vma not in copied:
                vma[ANON] = 0
        for vma in copied:
            for page, what in self.pages.items():
                if vma[START] <= page < vma[END]:
                    child.pages[page] = HELD if what in FRAMES else what
            for slot in self.leaves:
                if vma[START] <= slot * SLOT < vma[END]:
                    child.leaves.add(slot)
            for table in self.tables[LEVELS[0]]:
                if vma[START] < table + 1 << LEVELS[0] and table << LEVELS[0] < vma[END]:
                    child.add_tables(table << LEVELS[0])
            for level in LEVELS[1:]:  # these come before it is known that nothing is below them
                for table in self.tables[level]:
                    if vma[START] < table + 1 << level and table << level < vma[END]:
                        child.tables[level].add(table)
        for page, what in child.pages.items():
            if what == HELD and self.pages[page] != HELD:
                self.pages[page] = HELD if hold else SHARED
        child.folios, child.last_folio = dict(self.folios), self.last_folio
        child.stored, child.lazy, child.clean = set(self.stored), set(self.lazy), set(self.clean)
        child.sizes = dict(self.sizes)
        error = child.run(line) if line else 0
        self.child = child.figures(":")
        return error

    def run(self, line):
        name, *words = line.split()
        self.child = ""
        if name == "forkdo":
            return self.fork(" ".join(words))
        if name in ("fork", "forkhold"):
            self.held = self.held or name == "forkhold"
            return self.fork(hold=name == "forkhold")
        if name == "reap":
            held, self.held = self.held, False
            self.pages = {page: SHARED if what == HELD else what for page, what in self.pages.items()}
            return 0 if held else ECHILD
        if name == "mark":
            return 0
        number = [int(word, 0) if word.isdigit() else word for word in words]
        window = WINDOWS + number[0] * WINDOW
        if name in ("mmap", "mmapr", "mmapthp"):
            if number[2] == 0:
                self.sizes[number[0]] = number[1]
            error = self.mmap(window + number[2] / 4096, number[1], R if name == "mmapr" else R | W)
            return self.hugepage(window + number[2] / 4096, number[1]) if name == "mmapthp" and not error else error
        if name == "mremap":
            before, self.sizes[number[0]] = self.sizes.get(number[0], 0), number[1]
            return self.mremap(window, number[1], before)
        at, length = window + number[1] / 4096, number[2]
        if name in ("touch", "read"):
            first = window * 4096 + number[1]
            return self.access(first, first + length, number[3] if len(number) > 3 else 4096, name == "touch")
        if name in ("mlock", "munlock"):
            return self.lock(at, length, LOCKED if name == "mlock" else 0)
        if name == "mprotect":
            return self.mprotect(at, length, number[3])
        if name == "mremapmv":
            return self.mremapmv(at, length, WINDOWS + number[3] * WINDOW + number[4] / 4096)
        step = number[3] if len(number) > 3 else length
        call = self.dontneed if name == "vdontneed" else getattr(self, name)
        if name == "munmap":
            call = self.munmap
        errors = [call(at, min(step, length))]
        for done in range(step, length, step or 1):
            if name == "vdontneed" and errors[-1]:
                break
            errors.append(call(at + done / 4096, min(step, length - done)))
        if name == "vdontneed":
            return errors[0] if len(errors) <= 1024 else EINVAL
        return next((error for error in errors if error), 0)


# Around borders of 2 MiB, 1 GiB and 512 GiB: windows and offsets in pages. The third is reached from both windows.
PLACES = ((0, 0), (0, 512), (0, 1 << 18), (7, 1 << 24), (8, 0))
LENGTHS = (1, 1, 2, 16, 255, 256, 512, 513, 1024)
NAMES = ("mmap", "mmap", "mmap", "mmapr", "touch", "touch", "touch", "read", "munmap", "dontneed", "free")
ADVICE = ("cold", "pageout", "populate", "populate_read", "willneed", "remove", "dontneed_locked", "guard", "unguard")
MORE = (*NAMES, *ADVICE, "dontfork", "wipeonfork", "vdontneed", "mlock", "munlock")
MORE = (*MORE, *("mprotect",) * 4, *("mremapmv",) * 4, "mremap", *("forkdo",) * 2, "fork", "forkhold", "reap")
HUGE_PAGES = (*MORE, *("mmapthp",) * 4, "hugepage", "hugepage", "nohugepage", *("collapse",) * 4)
STRIDES = (4096, 4096, 4096, 8192, 100_000, 1 << 20, 2 << 20)


FORKS = ("fork", "forkhold", "forkdo", "reap")


def random_place(rng):
    window, page = rng.choice(PLACES)
    page += rng.choice((0, 0, 0, 1, -1, 16, -256, 256, -512, 512, rng.randrange(-600, 600)))
    return (window, page) if page >= 0 else (window, 0)


def random_line(rng, names=NAMES):
    window, page = random_place(rng)
    length = rng.choice(LENGTHS) * 4096
    if rng.random() < 0.05:
        length = rng.choice((0, 1, 4097, length - 1))
    offset = page * 4096
    name = rng.choice(names)
    if name in ("fork", "forkhold", "reap"):
        return name
    if name == "forkdo":
        return f"forkdo {random_line(rng, [name for name in names if name not in FORKS])}"
    if name in ("mmap", "mmapr", "munmap", "mremapmv", "collapse") and rng.random() < 0.1:
        length = rng.choice((1 << 30, (1 << 30) + 4096, 3 << 29, 1 << 21))
    if name in ("touch", "read"):
        stride = rng.choice(STRIDES)
        length = min(length * (stride // 4096), 1 << 31)
        return f"{name} {window} {offset + rng.choice((0, 0, 0, 1, 4095))} {length} {stride}"
    if name == "mremap":
        return f"mremap {window} {length}"
    if rng.random() < 0.03:
        offset += rng.choice((1, 2048))
    if name in ("mmap", "mmapr", "mmapthp"):
        return f"{name} {window} {length} {offset}"
    if name in ("mlock", "munlock"):
        return f"{name} {window} {offset} {length}"
    if name == "mprotect":
        return f"{name} {window} {offset} {length} {rng.choice(('r', 'rw', 'rw', 'none'))}"
    if name == "mremapmv":
        other, to = random_place(rng)
        return f"{name} {window} {offset} {length} {other} {to * 4096}"
    step = f" {rng.choice((65536, 1 << 20, 100_000))}" if rng.random() < 0.2 and length < 1 << 24 else ""
    if name == "vdontneed":
        step = f" {rng.choice((65536, 1 << 20, 100_000))}"
    return f"{name} {window} {offset} {length}{step}"


def random_trace(seed):
    rng = random.Random(seed)
    names = NAMES if seed % 4 == 0 else MORE if seed < 100 else HUGE_PAGES
    return [random_line(rng, names) for _ in range(rng.randrange(20, 90))]


@pytest.mark.parametrize("seed", [*range(60), *range(100, 160)])
def test_a_random_trace_gives_the_rows_of_the_naive_model(seed, tmp_path):
    lines = random_trace(seed)
    path = tmp_path / f"seed{seed}.trace"
    path.write_text("\n".join(lines) + "\n")
    oracle = Oracle()

    result = run_replay(path)

    for number, (line, row) in enumerate(zip(lines, result.rows, strict=True), 1):
        error = oracle.run(line)
        assert row == f"{oracle.row(error)}\t{line}", f"seed {seed}, line {number}"
    assert result.violation is None
    assert not any(result.checks.values()), result.checks


KERNEL_FLAGS = {VM_READ: R, VM_WRITE: W, VM_LOCKED: LOCKED, VM_DONTCOPY: DONTFORK, VM_WIPEONFORK: WIPEONFORK}
KERNEL_FLAGS |= {VM_HUGEPAGE: HUGE, VM_NOHUGEPAGE: NOHUGE}


def vmas_of(path: Path):
    """The VMAs a trace leaves, in pages, as the model has them."""
    program = [insn._replace(record=-1) for insn in parse(path).program()]
    with Machine(geometry_for(program)) as machine:
        machine.load(0, [*program, STOP])
        machine.start()
        machine.wait()
        rows = machine.views["vma"][Frozen(machine.views, machine.geometry).vmas(0)]
        flags = sum((rows["flags"] & bit != 0) * ours for bit, ours in KERNEL_FLAGS.items())
        return np.stack([rows["start"] >> 12, rows["end"] >> 12, flags, rows["anon_vma"], rows["pgoff"]], 1).tolist()


@pytest.mark.parametrize("seed", [*range(60, 80), *range(160, 175)])
def test_a_random_trace_leaves_the_vmas_of_the_naive_model(seed, tmp_path):
    lines = random_trace(seed)
    path = tmp_path / f"seed{seed}.trace"
    path.write_text("\n".join(lines) + "\n")
    oracle = Oracle()

    for line in lines:
        oracle.run(line)

    assert vmas_of(path) == oracle.vmas


@pytest.mark.parametrize("policy", POLICIES)
def test_a_gather_that_fills_up_with_the_last_page_of_a_table_is_flushed(policy, tmp_path):
    size = (GATHER_PAGES + 2 * PTRS_PER_TABLE) * PAGE_SIZE
    path = tmp_path / "a.trace"
    path.write_text(f"mmap 0 1G\ntouch 0 0 {size}\ndontneed 0 0 {size}\ntouch 0 0 {size}\nmunmap 0 0 1G\n")

    result = run_replay(path, policy)

    assert [row.split("\t")[1] for row in result.rows] == ["0", str(size // 1024), "0", str(size // 1024), "0"]
    assert result.passed, (result.violation, result.checks)


def test_a_mapping_between_two_that_were_written_apart_joins_the_one_before_it(tmp_path):
    path = tmp_path / "a.trace"
    path.write_text("mmap 0 4K 0\nmmap 0 4K 8K\ntouch 0 0 4K\ntouch 0 8K 4K\nmmap 0 4K 4K\n")

    first, second = [WINDOWS, WINDOWS + 2, R | W, 1, WINDOWS], [WINDOWS + 2, WINDOWS + 3, R | W, 2, WINDOWS + 2]
    assert vmas_of(path) == [first, second]


def test_the_json_of_a_replay_has_a_row_per_line_with_its_figures(tmp_path):
    trace = ROOT / "tests" / "conformance" / "cases" / "shmem_child_fills.trace"
    text = ptelab("replay", str(trace), "--engine", "semaphore")
    run = ptelab("replay", str(trace), "--engine", "semaphore", "--json", "-")

    record = json.loads(run.stdout)
    assert (run.returncode, record["scenario"], record["verdict"]) == (0, "replay", "pass")
    rows = record["rows"]
    assert [row["operation"] for row in rows] == [line.split("\t")[-1] for line in text.stdout.splitlines()]
    assert [(row["vmpte_kb"], row["rss_anon_kb"], row["minflt"], row["error"]) for row in rows] == [
        tuple(map(int, line.split("\t")[:4])) for line in text.stdout.splitlines()
    ]
    assert [row["child"] for row in rows if row["child"]] == [{"vmpte_kb": 12, "rss_anon_kb": 0, "minflt": 256}]


def test_a_replay_whose_kill_never_happened_is_inconclusive(tmp_path):
    (tmp_path / "t.trace").write_text("mmap 0 1G\n")

    run = ptelab("replay", str(tmp_path / "t.trace"), "--engine", "semaphore", "--kill", "0@mincore.walking")

    assert run.returncode == 4
    assert "CPU 0 was not killed: it never passed mincore.walking" in run.stderr


# --- what is printed ------------------------------------------------------------------------------------------------


@pytest.fixture
def short(tmp_path):
    file = tmp_path / "short.trace"
    file.write_text("mmap 0 1G\ntouch 0 0 64M\n# a remark\ndontneed 0 0 64M\nmincore 0 0 4K\ntouch 0 0 4K\n")
    return str(file)


def test_a_summary_has_peak_and_end_of_each_policy_as_the_rows_have_them(short):
    whole = ptelab(*REPLAY, short, "--policy", "none,refcount").stdout
    summary = ptelab(*REPLAY, short, "--policy", "none,refcount", "--summary").stdout

    for policy, rows in zip(("none", "refcount"), whole.removeprefix("# none\n").split("# refcount\n"), strict=True):
        figures = [list(map(int, row.split("\t")[:4])) for row in rows.splitlines()]
        (line,) = (line.split() for line in summary.splitlines() if line.startswith(f"{policy} "))
        vmpte, rss = ([figure[column] for figure in figures] for column in (0, 1))
        assert [int(word.replace(",", "")) for word in line[1:]] == [
            max(vmpte), vmpte[-1], 12, max(rss), rss[-1], figures[-1][2], sum(bool(f[3]) for f in figures), len(figures)
        ]  # fmt: skip
    assert "VmPTE peak" in summary


def test_every_so_many_lines_there_is_a_row_with_its_line_and_the_last_is_never_left_out(short):
    whole = ptelab(*REPLAY, short).stdout.splitlines()
    heading, *rows = ptelab(*REPLAY, short, "--every", "2").stdout.splitlines()

    assert heading.split("\t")[:3] == ["line", "VmPTE kB", "RssAnon kB"]
    assert rows == [f"2\t{whole[1]}", f"5\t{whole[3]}", f"6\t{whole[4]}"]


@pytest.mark.parametrize("name", ["short.trace", "short.trace.gz"])
def test_the_heading_names_every_column(short, name):
    text = Path(short).read_bytes()
    file = Path(short).with_name(name)
    file.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)

    heading, *rows = ptelab(*REPLAY, str(file), "--every", "1").stdout.splitlines()

    assert [row.count("\t") for row in rows if "mincore" in row or row.startswith("5\t")] == [heading.count("\t")]
    assert len(rows) == 5


def test_a_terminal_gets_a_heading_and_a_pipe_does_not(short):
    shown, terminal = pty.openpty()
    with subprocess.Popen([*COMMAND, *REPLAY, short], stdout=terminal, env=ENVIRONMENT, cwd=ROOT) as process:
        os.close(terminal)
        first = os.read(shown, 4096).split(b"\r\n")[0]
        process.wait()
    os.close(shown)

    assert first.startswith(b"VmPTE kB\tRssAnon kB\tminor faults\t")
    assert ptelab(*REPLAY, short).stdout.startswith("0\t0\t0\t0\t\tmmap 0 1G\n")


def test_a_summary_and_rows_are_not_asked_for_at_once(short):
    run = ptelab(*REPLAY, short, "--summary", "--every", "3")

    assert (run.returncode, run.stderr) == (2, "ptelab: --summary and --every exclude each other\n")
