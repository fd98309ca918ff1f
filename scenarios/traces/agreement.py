"""Which figures of a replay must be those of a real Linux, and where they are not.

Rows are lines of text, as replay and record print them. A MADV_DONTNEED that covers a whole aligned 2 MiB slot frees
that slot's table on a kernel with CONFIG_PT_RECLAIM, and `none` does not. From the first one on VmPTE may differ: under
`none` it is never smaller. All other columns are the same, but where a huge page may come. It comes, by a fault or by
MADV_COLLAPSE, if there is no table or one, so faults, RssAnon and errno depend on it as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest
from typing import NamedTuple

from emulator.mm_types import PAGE_SIZE
from emulator.pgtable_types import PMD_SIZE, TASK_SIZE
from emulator.policy.policies import POLICIES
from emulator.uapi import EINVAL, MADV_COLLAPSE, MADV_DONTNEED, MADV_DONTNEED_LOCKED, MADV_HUGEPAGE, VM_HUGEPAGE, Op
from scenarios.traces.trace import Trace
from workers.host.kernel_facts import kernel_facts
from workers.programs.program import Insn

VMPTE, ERROR, CHILD = 0, 3, 4  # columns of a row without number
ZERO = (0, 0, 0)
PT_RECLAIM = "pt-reclaim"


def covers_a_slot(insn: Insn) -> bool:
    """True if one call, or one piece, of this MADV_DONTNEED covers a whole aligned 2 MiB slot."""
    if insn.op not in (Op.MADVISE, Op.PROCESS_MADVISE) or not 0 <= insn.length <= TASK_SIZE:
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
    return next((i for i, at in rows if covers_a_slot(at.done)), len(trace.operations))


def vmpte_and_rest(row: str, numbered: bool = False) -> tuple[list[int], list[str]]:
    """VmPTE in a row, that of a child as well, and the other fields."""
    fields = row.split("\t")[numbered:]
    child = fields[CHILD].split(":") if len(fields) > CHILD and fields[CHILD] else []
    vmpte = [int(fields[VMPTE]), *map(int, child[:1])]
    return vmpte, [*fields[VMPTE + 1 : CHILD], *child[1:], *fields[CHILD + 1 :]]


class Difference(NamedTuple):
    """A row that is not the same here and there; `known` if what the host's kernel frees explains it. `by` are the
    distances in VmPTE and RssAnon, in kB, and in faults.
    """

    row: int
    ours: str
    theirs: str
    known: bool
    by: tuple[int, int, int]


def first_that_makes_huge(trace: Trace) -> int:
    """Index of the first row behind which a huge page may come, where there is no table; the number of rows if none."""
    for i, at in enumerate(trace.operations):
        made = at.done.op == Op.MMAP and at.done.arg & VM_HUGEPAGE
        if made or (at.done.op == Op.MADVISE and at.done.arg in (MADV_HUGEPAGE, MADV_COLLAPSE)):
            return i
    return len(trace.operations)


def differences(trace: Trace, ours: list[str], theirs: list[str], policy: str = "none") -> list[Difference]:
    """The rows of a replay that are not as a real Linux has them. Under `none` some are explained by CONFIG_PT_RECLAIM,
    if there was one of the rows it depends on; userfaultfd watches anonymous memory alone here.
    """
    dependent = first_dependent(trace) if policy == "none" else len(trace.operations)
    watched = first_watched_file(trace, ours, theirs)
    huge = first_that_makes_huge(trace) < len(trace.operations)
    found = []
    for i, (our, their) in enumerate(zip_longest(ours, theirs, fillvalue="nothing")):
        if our != their:
            known = i >= watched or (i >= dependent and (huge or only_larger(trace, our, their)))
            found.append(Difference(i, our, their, known, distance(trace, our, their)))
    return found


def first_watched_file(trace: Trace, ours: list[str], theirs: list[str]) -> int:
    """Index of the first row where Linux lets userfaultfd watch a file, which the emulator refuses: what comes behind
    it depends on that. The number of rows if there is none.
    """
    error = ERROR + trace.numbered
    for i, (at, our, their) in enumerate(zip(trace.operations, ours, theirs, strict=False)):
        watches = at.done.op == Op.UFFD_REGISTER
        if watches and our.split("\t")[error] == str(-EINVAL) and their.split("\t")[error] == "0":
            return i
    return len(trace.operations)


def only_larger(trace: Trace, ours: str, theirs: str) -> bool:
    """True if nothing but VmPTE differs between two rows, and ours is the larger one."""
    if "nothing" in (ours, theirs):
        return False
    (our_vmpte, our_rest), (their_vmpte, their_rest) = (vmpte_and_rest(row, trace.numbered) for row in (ours, theirs))
    same = len(our_vmpte) == len(their_vmpte) and our_rest == their_rest
    return same and all(a >= b for a, b in zip(our_vmpte, their_vmpte, strict=True))


def distance(trace: Trace, ours: str, theirs: str) -> tuple[int, int, int]:
    """How far two rows are apart in VmPTE and RssAnon, in kB, and in faults."""
    if "nothing" in (ours, theirs):
        return ZERO
    rows = [list(map(int, row.split("\t")[trace.numbered :][:3])) for row in (ours, theirs)]
    vmpte, rss, faults = (abs(a - b) for a, b in zip(*rows, strict=True))
    return vmpte, rss, faults


def largest(found: Iterable[Difference]) -> str:
    """The largest differences, as a user reads them."""
    vmpte, rss, faults = (max(column, default=0) for column in zip(*(one.by for one in found), strict=True))
    return f"VmPTE by up to {vmpte} kB, RssAnon by {rss} kB, faults by {faults}"


def first_difference(trace: Trace, rows: list[str], recorded: list[str]) -> int | None:
    """Index of the first row, of a replay under `none`, that is not as a real Linux has it; None if all are.

    Stricter than `differences`: whatever a huge page may explain is a difference here.
    """
    dependent = first_dependent(trace)
    for one in differences(trace, rows, recorded):
        if one.row < dependent or not only_larger(trace, one.ours, one.theirs):
            return one.row
    return None


def host_policy() -> str:
    """The policy that frees what this host's kernel frees."""
    return PT_RECLAIM if PT_RECLAIM in POLICIES and kernel_facts()["pt_reclaim"] == "yes" else "none"
