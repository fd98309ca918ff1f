"""How large a machine a trace needs: the most frames, tables and VMAs that it can have at once.

The trace is followed without running it, as sets of page numbers; where that would be long-winded the answer is rounded
up. A child begins with what its parent has, and shares none of it. Policies that free more need no more, since a table
in its grace period is waited for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from itertools import islice

from emulator.mm_types import MAX_MAP_COUNT, Geometry
from emulator.pgtable_types import PTRS_PER_PTE
from emulator.uapi import Op
from scenarios.traces.process import Footprint
from workers.programs.program import Insn

_SPARE_FRAMES, _SPARE_TABLES, _SPARE_VMAS = 64, 1024, 8
_SPARE_BLOCKS = 4096  # frames: whole blocks need room to be whole
MOST_MACHINES = 5  # each twice as large as the one before


class Family:
    """The processes that live, and the most that they have had together."""

    def __init__(self, file_pages: int = 0) -> None:
        self.blocks_of_a_file = -(-file_pages // PTRS_PER_PTE)  # huge pages of the largest
        self.file_blocks = 0  # huge pages of files, each time that one may have come
        self.main = Footprint(self)
        self.held: list[Footprint] = []  # children that stay
        self.named: dict[int, Footprint] = {}  # those that do more
        self.frames = self.tables = self.vmas = self.children = self.blocks = self.file_pages = 0

    def note(self, child: Footprint | None = None) -> None:
        """Look whether this is the most so far, with a child that runs."""
        living = [self.main, *self.held, *self.named.values(), *([child] if child else [])]
        self.frames = max(self.frames, sum(one.frames for one in living))
        self.tables = max(self.tables, sum(map(len, (tables for one in living for tables in one.tables.values()))))
        self.vmas = max(self.vmas, *(len(one.regions) + one.splits for one in living))
        self.blocks = max(self.blocks, sum(one.blocks for one in living))
        self.children = max(self.children, len(living) - 1)

    def run(self, program: Iterator[Insn]) -> None:
        """Take all instructions into account."""
        for insn in program:
            who: Footprint | None = self.main
            if insn.op == Op.IN_CHILD:
                who, insn = self.named.get(insn.addr), next(program)
            if insn.op in (Op.FORK, Op.FORK_HOLD):
                self.fork(who or self.main, list(islice(program, insn.arg)), insn)
            elif insn.op == Op.EXIT_CHILD:
                self.named.pop(insn.addr, None)
            elif insn.op == Op.REAP:
                self.held, self.named = [], {}
            elif who is not None:
                who.follow(insn)

    def fork(self, parent: Footprint, insns: list[Insn], how: Insn) -> None:
        """Take a child into account that executes some instructions, and stays if `how` says so."""
        child = parent.copy()
        self.note(child)
        for insn in insns:
            child.follow(insn)
            self.note(child)
        if how.op == Op.FORK_HOLD and how.addr:
            self.named[how.addr] = child
        elif how.op == Op.FORK_HOLD:
            self.held.append(child)


def geometry_for(insns: Sequence[Insn], files: Collection[int] = ()) -> Geometry:
    """A machine of one CPU in which the instructions, and one more that ends them, fit; `files`: pages of each file."""
    room = [insn.arg for insn in insns if insn.op == Op.TRUNCATE]
    file_pages = max([*files, *room], default=1)
    family = Family(file_pages)
    family.run(iter(insns))
    if family.file_blocks:
        file_pages = -(-file_pages // PTRS_PER_PTE) * PTRS_PER_PTE
    blocks = family.blocks + family.file_blocks
    return Geometry(
        mms=1 + family.children,
        vmas=min(family.vmas, MAX_MAP_COUNT) + _SPARE_VMAS,
        insns=len(insns) + 1,
        records=max(1, len(insns)),
        frames=family.frames
        + min(family.file_pages, sum([*files, *room]))
        + (blocks + 1) * bool(blocks) * PTRS_PER_PTE
        + _SPARE_FRAMES,
        tables=family.tables + family.children + _SPARE_TABLES,
        files=len(files),
        shmem=len(files),  # as those of the recorded machine
        file_pages=file_pages,
    )


def larger(geometry: Geometry) -> Geometry:
    """Twice the machine, for programs that found the first one too small."""
    return replace(
        geometry,
        mms=2 * geometry.mms,
        vmas=max(geometry.vmas, min(2 * geometry.vmas, MAX_MAP_COUNT + _SPARE_VMAS)),
        frames=2 * geometry.frames + _SPARE_BLOCKS,
        tables=2 * geometry.tables,
    )
