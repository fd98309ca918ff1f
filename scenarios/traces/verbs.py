"""The verbs of a trace: what each takes, what instruction it stands for, and what it means. One table.

The parser, `ptelab help traces`, docs/traces.md and the random traces of `ptelab agree` come from it, so a verb that is
entered here is everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from emulator import uapi
from emulator.mm_types import PAGE_SIZE
from emulator.uapi import PM_GUARD_REGION, PM_PRESENT, PM_SWAP, VM_SHARED, Op
from workers.programs.program import (
    FREE_PTES,
    MARK,
    PROT,
    REAP,
    Insn,
    advise,
    exit_child,
    fork,
    fork_as,
    in_child,
    mlock,
    mmap,
    mmap_file,
    mprotect,
    mremap,
    mremap_fixed,
    munlock,
    munmap,
    process_madvise,
    punch_hole,
    read,
    touch,
    truncate,
)

Operands = dict[str, int]  # by name; ID and OFF are `at`, DSTID and DSTOFF `to`, and NEWSIZE has `before` beside it

MAP_WORDS = {
    "fixed": uapi.MAP_FIXED,
    "noreplace": uapi.MAP_FIXED_NOREPLACE,
    "shared": uapi.MAP_SHARED,
    "populate": uapi.MAP_POPULATE,
    "locked": uapi.MAP_LOCKED,
    "account": uapi.MAP_ACCOUNT,
    "growsdown": uapi.MAP_GROWSDOWN,
    "droppable": uapi.MAP_DROPPABLE,
}
MOVE_WORDS = {"0": 0, "may": uapi.MREMAP_MAYMOVE, "fixed": uapi.MREMAP_FIXED, "keep": uapi.MREMAP_DONTUNMAP}
SYNC_WORDS = {"0": 0, "async": uapi.MS_ASYNC, "inval": uapi.MS_INVALIDATE, "sync": uapi.MS_SYNC}
LOCK_WORDS = {"current": uapi.MCL_CURRENT, "future": uapi.MCL_FUTURE, "onfault": uapi.MCL_ONFAULT}
PAGEMAP_WORDS = {"present": PM_PRESENT, "swapped": PM_SWAP, "guard": PM_GUARD_REGION, "protected": uapi.PM_UFFD_WP}
PROT_WORDS = {name: bits for bits, name in PROT.items()}
WORDS: dict[str, dict[str, int]] = {  # operands that are words, of which those in MANY may be joined by commas
    "PROT": PROT_WORDS,
    "MAPFLAGS": MAP_WORDS,
    "MOVEFLAGS": MOVE_WORDS,
    "SYNCFLAGS": SYNC_WORDS,
    "LOCKFLAGS": LOCK_WORDS,
    "SHARING": {"shared": VM_SHARED, "private": 0},
    "FOR": {"missing": uapi.VM_UFFD_MISSING, "wp": uapi.VM_UFFD_WP},
    "WHAT": PAGEMAP_WORDS,
}
MANY = ("MAPFLAGS", "MOVEFLAGS", "SYNCFLAGS", "LOCKFLAGS", "FOR")
LENGTHS = ("LEN", "OLD", "NEW")  # up to 2**64 where the kernel gets them; a touch goes as far as user space does
LOOKS = ("put", "get", "pagemap", "vmas")  # these are no system calls
LIMITS = {
    "K": 63,
    "T": 255,
    "BEGIN": 1 << 62,
    "END": 1 << 62,
    "N": 199,
    "BYTE": 255,
    "ON": 1,
    "PAGE": 1 << 35,
    "NUMBER": (1 << 31) - 1,
}  # those that are no sizes
FIRST = {"K": 1, "BYTE": 1}
DANGEROUS = (100, 101)  # MADV_HWPOISON and MADV_SOFT_OFFLINE take memory away from the whole machine


class Verb(NamedTuple):
    """One kind of operation: its operands, how many it needs, the instruction, and what it means.

    `value` says what the last column has, if there is one.
    """

    operands: tuple[str, ...]
    required: int
    insn: Callable[[Operands], Insn]
    text: str
    value: str = ""

    @property
    def usage(self) -> str:
        """The operands as a user is told of them."""
        needed, optional = self.operands[: self.required], self.operands[self.required :]
        return " ".join([*needed, f"[{' '.join(optional)}]"] if optional else needed)


def _verb(usage: str, insn: Callable[[Operands], Insn], text: str, value: str = "") -> Verb:
    required = len(usage.partition("[")[0].split())
    return Verb(tuple(usage.replace("[", "").replace("]", "").split()), required, insn, text, value)


def _ranged(function: Callable[[int, int], Insn]) -> Callable[[Operands], Insn]:
    """An instruction for an address and a length."""
    return lambda given: function(given["at"], given["LEN"])


def _advice(advice: int, text: str) -> Verb:
    def insn(given: Operands) -> Insn:
        return advise(advice, given["at"], given["LEN"], given.get("STEP", 0))

    return _verb("ID OFF LEN [STEP]", insn, text)


def _mapping(text: str, function: Callable[[int, int], Insn]) -> Verb:
    return _verb("ID SIZE [OFF]", lambda given: function(given["at"], given["SIZE"]), text)


def _mm(given: Operands) -> Insn:
    how = given.get("MAPFLAGS", 0)
    shared = VM_SHARED if how & uapi.MAP_SHARED else 0
    backing = 1 if shared else 0  # a file of its own, numbered by the parser
    return Insn(Op.MMAP, given["at"], given["SIZE"], backing, given["PROT"] | shared, more=how & ~uapi.MAP_SHARED)


def _mf(given: Operands) -> Insn:
    backing = given["PAGE"] << 8 | given["N"] + 1
    return Insn(Op.MMAP, given["at"], given["SIZE"], backing, given["PROT"] | given["SHARING"])


def _mr(given: Operands) -> Insn:
    return Insn(
        Op.MREMAP_CALL, given["at"], given["OLD"], given["NEW"], given["MOVEFLAGS"], more=given.get("to", given["at"])
    )


def _pages(size: int) -> int:
    return -(-size // PAGE_SIZE)


def _access(store: bool, given: Operands) -> Insn:
    return Insn(Op.ACCESS_VM, given["at"], given["LEN"], 0, int(store))


VERBS = {
    "mmap": _mapping("private anonymous memory, readable and writable, without huge pages", mmap),
    "mmapr": _mapping("as mmap, PROT_READ", partial(mmap, writable=False)),
    "mmapthp": _mapping("mmap, then MADV_HUGEPAGE", partial(mmap, huge=True)),
    "mmapsh": _mapping("shared anonymous memory", lambda at, size: mmap_file(at, size, 0, shared=True)),
    "mmapfile": _mapping("private mapping of a file of SIZE", lambda at, size: mmap_file(at, size, 0)),
    "touch": _verb(
        "ID OFF LEN [STRIDE]",
        lambda given: touch(given["at"], given["LEN"], given.get("STRIDE", PAGE_SIZE)),
        "store one byte, 1, per STRIDE (4 KiB)",
    ),
    "read": _verb(
        "ID OFF LEN [STRIDE]",
        lambda given: read(given["at"], given["LEN"], given.get("STRIDE", PAGE_SIZE)),
        "load one byte per STRIDE (4 KiB)",
    ),
    "dontneed": _advice(uapi.MADV_DONTNEED, "MADV_DONTNEED"),
    "free": _advice(uapi.MADV_FREE, "MADV_FREE"),
    "cold": _advice(uapi.MADV_COLD, "MADV_COLD"),
    "pageout": _advice(uapi.MADV_PAGEOUT, "MADV_PAGEOUT"),
    "populate": _advice(uapi.MADV_POPULATE_WRITE, "MADV_POPULATE_WRITE"),
    "populate_read": _advice(uapi.MADV_POPULATE_READ, "MADV_POPULATE_READ"),
    "willneed": _advice(uapi.MADV_WILLNEED, "MADV_WILLNEED"),
    "remove": _advice(uapi.MADV_REMOVE, "MADV_REMOVE"),
    "dontneed_locked": _advice(uapi.MADV_DONTNEED_LOCKED, "MADV_DONTNEED_LOCKED"),
    "guard": _advice(uapi.MADV_GUARD_INSTALL, "MADV_GUARD_INSTALL"),
    "unguard": _advice(uapi.MADV_GUARD_REMOVE, "MADV_GUARD_REMOVE"),
    "hugepage": _advice(uapi.MADV_HUGEPAGE, "MADV_HUGEPAGE"),
    "nohugepage": _advice(uapi.MADV_NOHUGEPAGE, "MADV_NOHUGEPAGE"),
    "collapse": _advice(uapi.MADV_COLLAPSE, "MADV_COLLAPSE"),
    "dontfork": _advice(uapi.MADV_DONTFORK, "MADV_DONTFORK"),
    "dofork": _advice(uapi.MADV_DOFORK, "MADV_DOFORK"),
    "wipeonfork": _advice(uapi.MADV_WIPEONFORK, "MADV_WIPEONFORK"),
    "keeponfork": _advice(uapi.MADV_KEEPONFORK, "MADV_KEEPONFORK"),
    "normal": _advice(uapi.MADV_NORMAL, "MADV_NORMAL"),
    "random": _advice(uapi.MADV_RANDOM, "MADV_RANDOM"),
    "sequential": _advice(uapi.MADV_SEQUENTIAL, "MADV_SEQUENTIAL"),
    "dontdump": _advice(uapi.MADV_DONTDUMP, "MADV_DONTDUMP"),
    "dodump": _advice(uapi.MADV_DODUMP, "MADV_DODUMP"),
    "mergeable": _advice(uapi.MADV_MERGEABLE, "MADV_MERGEABLE; nobody merges"),
    "unmergeable": _advice(uapi.MADV_UNMERGEABLE, "MADV_UNMERGEABLE"),
    "adv": _verb(
        "ID OFF LEN NUMBER",
        lambda given: advise(given["NUMBER"], given["at"], given["LEN"]),
        "madvise with any advice but 100 and 101, which take memory from the whole machine",
    ),
    "vdontneed": _verb(
        "ID OFF LEN STEP",
        lambda given: process_madvise(uapi.MADV_DONTNEED, given["at"], given["LEN"], given["STEP"]),
        "one process_madvise, MADV_DONTNEED, with LEN/STEP pieces",
    ),
    "munmap": _verb(
        "ID OFF LEN [STEP]", lambda given: munmap(given["at"], given["LEN"], given.get("STEP", 0)), "munmap"
    ),
    "mprotect": _verb(
        "ID OFF LEN PROT", lambda given: mprotect(given["at"], given["LEN"], PROT[given["PROT"]]), "mprotect"
    ),
    "mremap": _verb(
        "ID NEWSIZE",
        lambda given: mremap(given["at"], given["before"], given["NEWSIZE"]),
        "mremap in place; its old size is what mmap at offset 0, or mremap, of the ID said last",
    ),
    "mremapmv": _verb(
        "ID OFF LEN DSTID DSTOFF",
        lambda given: mremap_fixed(given["at"], given["LEN"], given["to"]),
        "mremap with MREMAP_MAYMOVE and MREMAP_FIXED, of the same size",
    ),
    "mlock": _verb("ID OFF LEN", _ranged(mlock), "mlock"),
    "munlock": _verb("ID OFF LEN", _ranged(munlock), "munlock"),
    "mm": _verb(
        "ID SIZE OFF PROT [MAPFLAGS]", _mm, "mmap of anonymous memory: fixed, and MAP_NORESERVE but for `account`"
    ),
    "mf": _verb("ID SIZE OFF PROT SHARING N PAGE", _mf, "mmap of file N from its page PAGE on"),
    "file": _verb("N SIZE", lambda given: MARK, "file N, in shared memory, has SIZE from the start of the trace on"),
    "trunc": _verb("N SIZE", lambda given: truncate(given["N"], _pages(given["SIZE"])), "ftruncate of file N"),
    "punch": _verb(
        "N OFFSET LEN",
        lambda given: punch_hole(given["N"], given["OFFSET"] // PAGE_SIZE, given["LEN"] // PAGE_SIZE),
        "a hole in file N: fallocate with FALLOC_FL_PUNCH_HOLE, of whole pages",
    ),
    "mr": _verb("ID OFF OLD NEW MOVEFLAGS [DSTID DSTOFF]", _mr, "mremap with its operands; `keep` is MREMAP_DONTUNMAP"),
    "mlock2": _verb("ID OFF LEN", _ranged(lambda at, length: Insn(Op.MLOCK, at, length, 0, 2)), "with MLOCK_ONFAULT"),
    "mlockall": _verb("LOCKFLAGS", lambda given: Insn(Op.MLOCKALL, arg=given["LOCKFLAGS"]), "mlockall"),
    "munlockall": _verb("", lambda given: Insn(Op.MLOCKALL), "munlockall"),
    "msync": _verb(
        "ID OFF LEN SYNCFLAGS",
        lambda given: Insn(Op.MSYNC, given["at"], given["LEN"], 0, given["SYNCFLAGS"]),
        "msync; 0 is MS_SYNC",
    ),
    "mseal": _verb("ID OFF LEN", _ranged(partial(Insn, Op.MSEAL)), "mseal"),
    "put": _verb(
        "ID OFF LEN BYTE",
        lambda given: touch(given["at"], given["LEN"], PAGE_SIZE, given["BYTE"]),
        "store BYTE to one byte of each page",
    ),
    "get": _verb(
        "ID OFF LEN",
        _ranged(lambda at, length: read(at, length, PAGE_SIZE)),
        "load one byte of each page",
        "what the last page holds: 0, or what was put or touched there",
    ),
    "mincore": _verb("ID OFF LEN", _ranged(partial(Insn, Op.MINCORE)), "mincore", "pages in memory"),
    "pagemap": _verb(
        "ID OFF LEN [WHAT]",
        lambda given: Insn(Op.PAGEMAP_COUNT, given["at"], given["LEN"], 0, given.get("WHAT", PM_PRESENT)),
        "look at /proc/self/pagemap",
        "pages that are present, or what WHAT says",
    ),
    "vmas": _verb(
        "ID OFF LEN", _ranged(partial(Insn, Op.COUNT_VMAS)), "look at /proc/self/maps", "VMAs that have a part of it"
    ),
    "gupread": _verb("ID OFF LEN", partial(_access, False), "process_vm_readv on itself", "bytes read, or -errno"),
    "gupwrite": _verb("ID OFF LEN", partial(_access, True), "process_vm_writev on itself", "bytes, or -errno"),
    "uffd": _verb(
        "ID OFF LEN FOR",
        lambda given: Insn(Op.UFFD_REGISTER, given["at"], given["LEN"], given["FOR"], 1),
        "UFFDIO_REGISTER of missing pages, or of what uwp protects: a fault for it is a signal",
    ),
    "uwp": _verb(
        "ID OFF LEN ON",
        lambda given: Insn(Op.UFFD_WRITEPROTECT, given["at"], given["LEN"], 0, given["ON"]),
        "UFFDIO_WRITEPROTECT; of what is not there as well (UFFD_FEATURE_WP_UNPOPULATED)",
    ),
    "unreg": _verb("ID OFF LEN", _ranged(partial(Insn, Op.UFFD_UNREGISTER)), "UFFDIO_UNREGISTER"),
    "uncopy": _verb(
        "ID OFF LEN",
        _ranged(lambda at, length: Insn(Op.UFFD_COPY, at, length, 0, 1)),
        "UFFDIO_COPY of pages that hold 1",
    ),
    "uzero": _verb("ID OFF LEN", _ranged(partial(Insn, Op.UFFD_COPY)), "UFFDIO_ZEROPAGE"),
    "umove": _verb(
        "ID OFF LEN DSTID DSTOFF",
        lambda given: Insn(Op.UFFD_MOVE, given["at"], given["LEN"], 0, given["to"]),
        "UFFDIO_MOVE",
    ),
    "fork": _verb(
        "[K]",
        lambda given: fork_as(given["K"]) if "K" in given else fork(),
        "a child starts, reports, exits; with K it stays, as child K",
    ),
    "forkhold": _verb("", lambda given: fork(hold=True), "a child starts, reports, and stays until reap"),
    "forkdo": _verb("OPERATION", lambda given: fork(1), "a child does one operation, reports, exits"),
    "in": _verb("K OPERATION", lambda given: in_child(given["K"]), "child K does one operation, fork as well; reports"),
    "on": _verb(
        "T BEGIN END OPERATION",
        lambda given: MARK,
        "thread T does one operation, from BEGIN to END; a line without it is thread 0's, and overlaps none "
        "(replay --timing)",
    ),
    "exit": _verb("K", lambda given: exit_child(given["K"]), "child K exits"),
    "reap": _verb("", lambda given: REAP, "all children that stay exit"),
    "expect": _verb(
        "VMPTE RSSANON", lambda given: MARK, "nothing; what a process that was recorded had here, for whatif to compare"
    ),
    "free_ptes": _verb("", lambda given: FREE_PTES, "empty and all-zero tables go, where a policy waits to be asked"),
    "mark": _verb("", lambda given: MARK, "nothing: the figures as they are"),
}
NOT_IN_CHILDREN = ("forkhold", "reap", "in", "on", "exit", "file")  # what `in` has no room for
FORKS = ("fork", "forkhold", "forkdo", "reap", "in", "on", "exit", "file")  # nor a child that does one thing
