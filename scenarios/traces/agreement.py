"""Which figures of a replay must be those of a real Linux, and where they are not.

Rows are lines of text, as replay and record print them. A MADV_DONTNEED that covers a whole aligned 2 MiB slot frees
that slot's table on a kernel with CONFIG_PT_RECLAIM; no policy frees exactly those. From the first one on VmPTE may
differ: under `none` it is never smaller. All other columns are the same on every line.
"""

from __future__ import annotations

from emulator.mm_types import PAGE_SIZE
from emulator.pgtable_types import PMD_SIZE
from emulator.uapi import MADV_DONTNEED, MADV_DONTNEED_LOCKED, Op
from scenarios.traces.trace import Trace
from workers.programs.program import Insn

VMPTE, CHILD = 0, 4  # columns of a row without number


def covers_a_slot(insn: Insn | None) -> bool:
    """True if one call, or one piece, of this MADV_DONTNEED covers a whole aligned 2 MiB slot."""
    if insn is None or insn.op not in (Op.MADVISE, Op.PROCESS_MADVISE):
        return False
    if insn.arg not in (MADV_DONTNEED, MADV_DONTNEED_LOCKED):
        return False
    end = -(-(insn.addr + insn.length) // PAGE_SIZE) * PAGE_SIZE
    size = -(-(insn.step or insn.length or 1) // PAGE_SIZE) * PAGE_SIZE
    calls = range(insn.addr, end, insn.step or insn.length or 1)
    return any(-(-at // PMD_SIZE) * PMD_SIZE + PMD_SIZE <= min(at + size, end) for at in calls)


def first_dependent(trace: Trace) -> int:
    """Index of the first row that depends on CONFIG_PT_RECLAIM; the number of rows if there is none."""
    rows = enumerate(trace.operations)
    return next((i for i, at in rows if covers_a_slot(at.insn) or covers_a_slot(at.child)), len(trace.operations))


def vmpte_and_rest(row: str, numbered: bool = False) -> tuple[list[int], list[str]]:
    """VmPTE in a row, that of a child as well, and the other fields."""
    fields = row.split("\t")[numbered:]
    child = fields[CHILD].split(":") if len(fields) > CHILD and fields[CHILD] else []
    vmpte = [int(fields[VMPTE]), *map(int, child[:1])]
    return vmpte, [*fields[VMPTE + 1 : CHILD], *child[1:], *fields[CHILD + 1 :]]


def first_difference(trace: Trace, rows: list[str], recorded: list[str]) -> int | None:
    """Index of the first row, of a replay under `none`, that is not as a real Linux has it; None if all are."""
    dependent = first_dependent(trace)
    for i, (ours, theirs) in enumerate(zip(rows, recorded, strict=False)):
        if ours == theirs:
            continue
        (our_vmpte, our_rest), (their_vmpte, their_rest) = (
            vmpte_and_rest(row, trace.numbered) for row in (ours, theirs)
        )
        larger = len(our_vmpte) == len(their_vmpte) and all(a >= b for a, b in zip(our_vmpte, their_vmpte, strict=True))
        if i < dependent or our_rest != their_rest or not larger:
            return i
    return None if len(rows) == len(recorded) else min(len(rows), len(recorded))
