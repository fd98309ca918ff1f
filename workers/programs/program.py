"""Programs: rows of instructions, built in Python and copied into the segment."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from emulator import lazy_numpy as np
from emulator import uapi
from emulator.mm_types import INSN, PAGE_SIZE
from emulator.uapi import (
    VM_ACCESS_FLAGS,
    VM_DONTCOPY,
    VM_EXEC,
    VM_HUGEPAGE,
    VM_HUGETLB,
    VM_PFNMAP,
    VM_READ,
    VM_SHARED,
    VM_UFFD_MISSING,
    VM_WRITE,
    Op,
)

ADVICE = {number: name for name, number in vars(uapi).items() if name.startswith("MADV_")}
PROT = {0: "none"} | {
    bits: "".join(letter for bit, letter in ((VM_READ, "r"), (VM_WRITE, "w"), (VM_EXEC, "x")) if bits & bit)
    for bits in range(1, VM_ACCESS_FLAGS + 1)
}


_ADDRESSES = (Op.STORE, Op.LOAD, Op.UPROBE)
_RANGES = (
    *(Op.TOUCH, Op.READ, Op.MMAP, Op.MUNMAP, Op.MLOCK, Op.MINCORE, Op.INSERT_PAGES, Op.GUP),
    *(Op.MSYNC, Op.UFFD_UNREGISTER, Op.SMAPS, Op.PAGEMAP),
)
_RANGES_AND_MORE = (
    Op.MREMAP,
    Op.MREMAP_FIXED,
    Op.UFFD_REGISTER,
    Op.UFFD_COPY,
    Op.UFFD_MOVE,
    Op.CLEAR_REFS,
    Op.MOVE_CHARGE,
)
OPERANDS = {  # what is worth saying of the operands of each operation
    **dict.fromkeys(_ADDRESSES, "{addr:#x}"),
    **dict.fromkeys(_RANGES, "{addr:#x} {length:#x}"),
    **dict.fromkeys(_RANGES_AND_MORE, "{addr:#x} {length:#x} {arg:#x}"),
    **dict.fromkeys((Op.MADVISE, Op.PROCESS_MADVISE), "{addr:#x} {length:#x} {advice}"),
    **dict.fromkeys((Op.FORK, Op.FORK_HOLD), "{arg}"),
    **dict.fromkeys((Op.WRITEBACK, Op.RETRACT), "file {addr}"),
    **dict.fromkeys((Op.PAGEMAP_COUNT, Op.ACCESS_VM, Op.UFFD_WRITEPROTECT), "{addr:#x} {length:#x} {arg:#x}"),
    **dict.fromkeys((Op.COUNT_VMAS, Op.MSEAL), "{addr:#x} {length:#x}"),
    **dict.fromkeys((Op.IN_CHILD, Op.EXIT_CHILD), "{addr}"),
    Op.MREMAP_CALL: "{addr:#x} {length:#x} {step:#x} flags {arg} to {more:#x}",
    Op.MLOCKALL: "{arg}",
    Op.MPROTECT: "{addr:#x} {length:#x} {prot}",
    Op.BARRIER: "{addr}",
    Op.FOLLOW: "CPU {addr} to post {arg}",
    Op.JUMP: "{addr}",
    Op.KSM: "{addr:#x} {arg:#x}",
    Op.SWAPOUT: "{arg} pages",
    Op.MIGRATE: "{arg} pages",
    Op.TRUNCATE: "file {addr} to {arg} pages",
    Op.PUNCH_HOLE: "file {addr} page {arg} {length} pages",
    Op.COMPUTE: "{arg} us",
}


class Insn(NamedTuple):
    """One instruction; emulator/mm_types.py (INSN) says what the operands are."""

    op: Op
    addr: int = 0
    length: int = 0
    step: int = 0
    arg: int = 0
    record: int = -1
    more: int = 0

    def __str__(self) -> str:
        """The instruction as a user would write it."""
        name, form = self.op.name.lower(), OPERANDS.get(self.op, "")
        match self.op:
            case Op.MMAP if self.arg & VM_HUGETLB:
                form += f" hugetlbfs page {self.step >> 8}"
            case Op.MMAP if self.step:
                kind = "shared" if self.arg & VM_SHARED else "private"
                form += f" {kind} file {(self.step & 255) - 1} page {self.step >> 8}"
            case Op.MLOCK if not self.arg:
                name = "munlock"
            case Op.MIGRATE if self.addr:
                form = "{addr:#x}"
            case Op.JUMP if self.arg:
                form += " ({arg} times)"
        more = {"advice": ADVICE.get(self.arg, self.arg), "prot": PROT.get(self.arg, self.arg)}
        return f"{name} {form}".rstrip().format(**self._asdict(), **more)


def store(addr: int, value: int) -> Insn:
    """Store one word."""
    return Insn(Op.STORE, addr, 8, 8, value)


def load(addr: int) -> Insn:
    """Load one word."""
    return Insn(Op.LOAD, addr, 8, 8)


def touch(addr: int, length: int, step: int = PAGE_SIZE, value: int = 1) -> Insn:
    """Store to one word per `step` bytes."""
    return Insn(Op.TOUCH, addr, length, step, value)


def read(addr: int, length: int, step: int = PAGE_SIZE) -> Insn:
    """Load one word per `step` bytes."""
    return Insn(Op.READ, addr, length, step)


def mmap(addr: int, length: int, writable: bool = True, huge: bool = False) -> Insn:
    """Map private anonymous memory at a fixed address; `huge` as with MADV_HUGEPAGE."""
    flags = VM_READ | (VM_WRITE if writable else 0) | (VM_HUGEPAGE if huge else 0)
    return Insn(Op.MMAP, addr, length, 0, flags)


def munmap(addr: int, length: int, step: int = 0) -> Insn:
    """Unmap, in calls of `step` bytes if given."""
    return Insn(Op.MUNMAP, addr, length, step)


def dontneed(addr: int, length: int, step: int = 0) -> Insn:
    """madvise(MADV_DONTNEED), in calls of `step` bytes if given."""
    return Insn(Op.MADVISE, addr, length, step, uapi.MADV_DONTNEED)


def free(addr: int, length: int, step: int = 0) -> Insn:
    """madvise(MADV_FREE), in calls of `step` bytes if given."""
    return Insn(Op.MADVISE, addr, length, step, uapi.MADV_FREE)


def advise(advice: int, addr: int, length: int, step: int = 0) -> Insn:
    """madvise, in calls of `step` bytes if given."""
    return Insn(Op.MADVISE, addr, length, step, advice)


def process_madvise(advice: int, addr: int, length: int, step: int) -> Insn:
    """One process_madvise with a vector of pieces of `step` bytes."""
    return Insn(Op.PROCESS_MADVISE, addr, length, step, advice)


def mprotect(addr: int, length: int, prot: str) -> Insn:
    """mprotect; `prot` is none, or letters of rwx."""
    return Insn(Op.MPROTECT, addr, length, 0, next(bits for bits, name in PROT.items() if name == prot))


def mlock(addr: int, length: int) -> Insn:
    """Lock a range: all its pages come, and stay."""
    return Insn(Op.MLOCK, addr, length, 0, 1)


def munlock(addr: int, length: int) -> Insn:
    """Unlock a range."""
    return Insn(Op.MLOCK, addr, length)


def mremap(addr: int, length: int, new_length: int) -> Insn:
    """mremap in place."""
    return Insn(Op.MREMAP, addr, length, 0, new_length)


def mremap_fixed(addr: int, length: int, to: int) -> Insn:
    """mremap to another address, whatever is there (MREMAP_MAYMOVE | MREMAP_FIXED)."""
    return Insn(Op.MREMAP_FIXED, addr, length, 0, to)


def fork(instructions: int = 0, hold: bool = False) -> Insn:
    """Fork; the next so many instructions are the child's, which exits then, or stays until REAP."""
    return Insn(Op.FORK_HOLD if hold else Op.FORK, arg=instructions)


def fork_as(name: int) -> Insn:
    """Fork a child that stays, by a name that is not 0."""
    return Insn(Op.FORK_HOLD, name)


def in_child(name: int) -> Insn:
    """The next instruction is done by the child of a name."""
    return Insn(Op.IN_CHILD, name)


def exit_child(name: int) -> Insn:
    """The child of a name exits."""
    return Insn(Op.EXIT_CHILD, name)


def remove(addr: int, length: int, step: int = 0) -> Insn:
    """madvise(MADV_REMOVE), in calls of `step` bytes if given: a hole in the file that is mapped there."""
    return Insn(Op.MADVISE, addr, length, step, uapi.MADV_REMOVE)


def barrier(number: int = 0) -> Insn:
    """Wait for the other CPUs."""
    return Insn(Op.BARRIER, number)


def arrive(number: int = 0) -> Insn:
    """Let the other CPUs go on from a barrier, and do not wait for them there."""
    return Insn(Op.BARRIER, number, arg=1)


POST = Insn(Op.POST)


def follow(cpu: int, posts: int) -> Insn:
    """Wait until another CPU has posted so often."""
    return Insn(Op.FOLLOW, cpu, arg=posts)


def jump(target: int, times: int = 0) -> Insn:
    """Go back to instruction `target` of the program, `times` times; for ever if 0."""
    return Insn(Op.JUMP, target, arg=times)


def mincore(addr: int, length: int) -> Insn:
    """Look at which pages of a range are present."""
    return Insn(Op.MINCORE, addr, length)


def insert_pages(addr: int, length: int) -> Insn:
    """A driver maps what the page cache has of a range."""
    return Insn(Op.INSERT_PAGES, addr, length)


def mmap_file(addr: int, length: int, file: int, shared: bool = False, page: int = 0, writable: bool = True) -> Insn:
    """Map a file from page `page` on."""
    flags = VM_READ | (VM_WRITE if writable else 0) | (VM_SHARED if shared else 0)
    return Insn(Op.MMAP, addr, length, page << 8 | file + 1, flags)


def mmap_hugetlb(addr: int, length: int, page: int = 0, writable: bool = True) -> Insn:
    """Map the hugetlbfs file, shared, from its 4 KiB page `page` on."""
    flags = VM_READ | (VM_WRITE if writable else 0) | VM_SHARED | VM_HUGETLB
    return Insn(Op.MMAP, addr, length, page << 8, flags)


def writeback(file: int) -> Insn:
    """Write the dirty pages of a file to the disk."""
    return Insn(Op.WRITEBACK, file)


def msync(addr: int, length: int) -> Insn:
    """Write the dirty pages that a range maps, shared, to the disk."""
    return Insn(Op.MSYNC, addr, length)


def smaps(addr: int, length: int) -> Insn:
    """Count what a range maps, as /proc/PID/smaps does."""
    return Insn(Op.SMAPS, addr, length)


def pagemap(addr: int, length: int) -> Insn:
    """Walk a range; the word that /proc/PID/pagemap has for its last page is what is loaded."""
    return Insn(Op.PAGEMAP, addr, length)


def clear_refs(addr: int, length: int, soft_dirty: bool = False) -> Insn:
    """Clear accessed bits, or soft-dirty bits, as /proc/PID/clear_refs does."""
    return Insn(Op.CLEAR_REFS, addr, length, arg=4 if soft_dirty else 1)


def move_charge(addr: int, length: int, group: int) -> Insn:
    """Charge the pages of a range to a memory control group; 0 is the root's."""
    return Insn(Op.MOVE_CHARGE, addr, length, arg=group)


def uffd_register(addr: int, length: int, patience: int = 0, what: int = VM_UFFD_MISSING) -> Insn:
    """A range is for userfaultfd: VM_UFFD flags; a fault waits so many microseconds, 0: for ever."""
    return Insn(Op.UFFD_REGISTER, addr, length, what, patience)


def uffd_unregister(addr: int, length: int) -> Insn:
    """Missing pages of a range are empty again, and nothing there is protected."""
    return Insn(Op.UFFD_UNREGISTER, addr, length)


def uffd_writeprotect(addr: int, length: int, on: bool) -> Insn:
    """Stores to a range are for userfaultfd, or no longer."""
    return Insn(Op.UFFD_WRITEPROTECT, addr, length, arg=int(on))


def uffd_copy(addr: int, length: int, value: int) -> Insn:
    """Fill missing pages with a word, not 0."""
    return Insn(Op.UFFD_COPY, addr, length, arg=value)


def uffd_zeropage(addr: int, length: int) -> Insn:
    """Map the zero page where pages are missing."""
    return Insn(Op.UFFD_COPY, addr, length)


def uffd_move(addr: int, length: int, to: int) -> Insn:
    """Move pages to where they are missing."""
    return Insn(Op.UFFD_MOVE, addr, length, arg=to)


def truncate(file: int, pages: int) -> Insn:
    """Make a file so many pages long."""
    return Insn(Op.TRUNCATE, file, arg=pages)


def punch_hole(file: int, page: int, pages: int) -> Insn:
    """Take pages out of a file: they read zero afterwards."""
    return Insn(Op.PUNCH_HOLE, file, pages, arg=page)


def swapout(pages: int) -> Insn:
    """Reclaim anonymous pages of any mm."""
    return Insn(Op.SWAPOUT, arg=pages)


def migrate(addr: int = 0, pages: int = 1) -> Insn:
    """Move the page at an address to another frame, or so many pages of anybody."""
    return Insn(Op.MIGRATE, addr, arg=pages)


def ksm(addr: int, other: int) -> Insn:
    """Let two addresses map one frame, if their pages hold the same."""
    return Insn(Op.KSM, addr, arg=other)


def uprobe(addr: int) -> Insn:
    """Put a copy in place of a page, or nothing if the original is the same."""
    return Insn(Op.UPROBE, addr)


def gup(addr: int, length: int = PAGE_SIZE, value: int = 0) -> Insn:
    """A device pins each page and stores a word to it, or loads one if `value` is 0."""
    return Insn(Op.GUP, addr, length, arg=value)


def retract(file: int) -> Insn:
    """Take the empty PTE tables of the ranges that map a file out."""
    return Insn(Op.RETRACT, file)


def compute(microseconds: int) -> Insn:
    """Touch no memory for so long, at most a second. Raises ValueError."""
    if not 0 <= microseconds <= 1_000_000:
        raise ValueError(f"compute for {microseconds} us; at most a second")
    return Insn(Op.COMPUTE, arg=microseconds)


def mmap_device(addr: int) -> Insn:
    """Map the device's frame at a page (VM_PFNMAP), which a child does not inherit."""
    return Insn(Op.MMAP, addr, PAGE_SIZE, 0, VM_READ | VM_WRITE | VM_PFNMAP | VM_DONTCOPY)


DEVICE_REMOVE = Insn(Op.DEVICE_REMOVE)
SWAPOFF = Insn(Op.SWAPOFF)
EXIT, STOP, MARK, REAP = Insn(Op.EXIT), Insn(Op.STOP), Insn(Op.MARK), Insn(Op.REAP)
FREE_PTES = Insn(Op.FREE_PTES)


def assemble(program: Iterable[Insn] | np.ndarray) -> np.ndarray:
    """The rows of `m.insn` for a program; an array of rows passes through."""
    if isinstance(program, np.ndarray):
        return program
    rows = list(program)
    assembled = np.zeros(len(rows), INSN.dtype)
    columns = np.array([tuple(int(x) for x in row) for row in rows], np.int64).reshape(len(rows), len(Insn._fields))
    for i, name in enumerate(Insn._fields):
        assembled[name] = columns[:, i]
    assembled["left"] = assembled["arg"]
    return assembled


def disassemble(row: Any) -> Insn:
    """The instruction in one row of `m.insn`."""
    op, *operands = (int(row[name]) for name in Insn._fields)
    return Insn(Op(op), *operands)
