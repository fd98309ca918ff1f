"""The system calls that an import looks at: their operands by the kernel's names, and how each tool writes a value."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, NamedTuple

from emulator import uapi
from scenarios.imports.snapshot import Snapshot

_RANGE = ("start", "len")
PARAMETERS = {
    "mmap": ("addr", "len", "prot", "flags", "fd", "off"),
    "mmap2": ("addr", "len", "prot", "flags", "fd", "off"),
    "old_mmap": ("addr", "len", "prot", "flags", "fd", "off"),
    "munmap": ("addr", "len"),
    "mprotect": ("start", "len", "prot"),
    "pkey_mprotect": ("start", "len", "prot", "pkey"),
    "mremap": ("addr", "old_len", "new_len", "flags", "new_addr"),
    "madvise": ("start", "len_in", "behavior"),
    "process_madvise": ("pidfd", "vec", "vlen", "behavior", "flags"),
    "brk": ("brk",),
    "remap_file_pages": ("start", "size", "prot", "pgoff", "flags"),
    "map_shadow_stack": ("addr", "len", "flags"),
    "io_setup": ("nr_events", "ctxp"),
    "io_destroy": ("ctx",),
    "ioctl": ("fd", "cmd", "arg"),
    "mlock": _RANGE,
    "mlock2": (*_RANGE, "flags"),
    "mlockall": ("flags",),
    "munlock": _RANGE,
    "munlockall": (),
    "msync": (*_RANGE, "flags"),
    "mseal": (*_RANGE, "flags"),
    "shmget": ("key", "size", "shmflg"),
    "shmat": ("shmid", "shmaddr", "shmflg"),
    "shmdt": ("shmaddr",),
    "ftruncate": ("fd", "length"),
    "fallocate": ("fd", "mode", "offset", "len"),
    "open": ("filename", "flags", "mode"),
    "openat": ("dfd", "filename", "flags", "mode"),
    "memfd_create": ("uname", "flags"),
    "memfd_secret": ("flags",),
    "close": ("fd",),
    "pidfd_open": ("pid", "flags"),
    "fork": (),
    "vfork": (),
    "clone": ("clone_flags",),
    "clone3": ("uargs", "size"),
    "execve": ("filename",),
    "execveat": ("fd", "filename"),
    "exit": ("error_code",),
    "exit_group": ("error_code",),
}
NUMBERS = {  # of x86-64
    **{
        2: "open",
        3: "close",
        9: "mmap",
        10: "mprotect",
        11: "munmap",
        12: "brk",
        16: "ioctl",
        25: "mremap",
        26: "msync",
    },
    **{27: "mincore", 28: "madvise", 29: "shmget", 30: "shmat", 56: "clone", 57: "fork", 58: "vfork", 59: "execve"},
    **{60: "exit", 67: "shmdt", 77: "ftruncate", 134: "uselib", 149: "mlock", 150: "munlock", 151: "mlockall"},
    **{152: "munlockall", 206: "io_setup", 207: "io_destroy", 216: "remap_file_pages", 231: "exit_group", 237: "mbind"},
    **{238: "set_mempolicy", 239: "get_mempolicy", 256: "migrate_pages", 257: "openat", 279: "move_pages"},
    **{285: "fallocate", 319: "memfd_create", 322: "execveat", 323: "userfaultfd", 324: "membarrier", 325: "mlock2"},
    **{329: "pkey_mprotect", 330: "pkey_alloc", 331: "pkey_free", 425: "io_uring_setup", 427: "io_uring_register"},
    **{434: "pidfd_open", 435: "clone3", 440: "process_madvise", 447: "memfd_secret", 448: "process_mrelease"},
    **{450: "set_mempolicy_home_node", 453: "map_shadow_stack", 462: "mseal"},
}
WITHOUT_EFFECT = {  # on mappings and page tables; a page that goes to another node keeps its entry
    *("mincore", "get_mempolicy", "set_mempolicy", "set_mempolicy_home_node", "mbind", "migrate_pages", "move_pages"),
    *("membarrier", "pkey_alloc", "pkey_free", "io_uring_setup", "io_uring_register", "userfaultfd"),
    "process_mrelease",  # of a process that is about to give all up
}
NOT_MODELLED = {"uselib", "syz_clone", "syz_clone3"}
CREATES = ("fork", "vfork", "clone", "clone2", "clone3")
NO_RETURN = {*CREATES, *WITHOUT_EFFECT, "munmap", "exit", "exit_group", "execve", "execveat"}  # enough is known without

CLONE_VM, CLONE_VFORK, CLONE_THREAD = 0x100, 0x4000, 0x10000
MAP_SHARED, MAP_PRIVATE, MAP_FIXED, MAP_ANONYMOUS = 1, 2, 0x10, 0x20
MAP_GROWSDOWN, MAP_LOCKED, MAP_NORESERVE, MAP_POPULATE = 0x100, 0x2000, 0x4000, 0x8000
MAP_STACK, MAP_HUGETLB, MAP_FIXED_NOREPLACE, MAP_DROPPABLE = 0x20000, 0x40000, 0x100000, 0x8

_PROT = {"NONE": 0, "READ": 1, "WRITE": 2, "EXEC": 4, "SEM": 0, "GROWSDOWN": 0, "GROWSUP": 0, "BTI": 0, "MTE": 0}
_MAP = {
    **{"SHARED": 1, "PRIVATE": 2, "SHARED_VALIDATE": 3, "DROPPABLE": 8, "TYPE": 0, "FILE": 0, "FIXED": 0x10},
    **{"ANONYMOUS": 0x20, "ANON": 0x20, "32BIT": 0x40, "GROWSDOWN": 0x100, "DENYWRITE": 0x800, "EXECUTABLE": 0x1000},
    **{"LOCKED": 0x2000, "NORESERVE": 0x4000, "POPULATE": 0x8000, "NONBLOCK": 0x10000, "STACK": 0x20000},
    **{"HUGETLB": 0x40000, "SYNC": 0x80000, "FIXED_NOREPLACE": 0x100000, "UNINITIALIZED": 0x4000000},
    **{"ABOVE4G": 0x80, "HUGE_2MB": 21 << 26, "HUGE_1GB": 30 << 26},
}
_CLONE = {
    **{"VM": 0x100, "FS": 0x200, "FILES": 0x400, "SIGHAND": 0x800, "PIDFD": 0x1000, "PTRACE": 0x2000},
    **{"VFORK": 0x4000, "PARENT": 0x8000, "THREAD": 0x10000},
}
_FALLOC = {
    **{"KEEP_SIZE": 1, "PUNCH_HOLE": 2, "NO_HIDE_STALE": 4, "COLLAPSE_RANGE": 8, "ZERO_RANGE": 16},
    **{"INSERT_RANGE": 32, "UNSHARE_RANGE": 64},
}
_ADVICE = {name[5:]: value for name, value in vars(uapi).items() if name.startswith("MADV_")}
FLAGS: dict[str, tuple[str, dict[str, int]]] = {  # kind -> the prefix that a tool may leave out, the names
    "prot": ("PROT_", _PROT),
    "map": ("MAP_", _MAP),
    "mremap": ("MREMAP_", {"MAYMOVE": 1, "FIXED": 2, "DONTUNMAP": 4}),
    "advice": ("MADV_", {**_ADVICE, "HWPOISON": 100, "SOFT_OFFLINE": 101}),
    "msync": ("MS_", {"ASYNC": 1, "INVALIDATE": 2, "SYNC": 4}),
    "mcl": ("MCL_", {"CURRENT": 1, "FUTURE": 2, "ONFAULT": 4}),
    "mlock2": ("MLOCK_", {"ONFAULT": 1}),
    "falloc": ("FALLOC_FL_", _FALLOC),
    "clone": ("CLONE_", _CLONE),
}
_LENIENT = ("clone", "map")  # flags of theirs that nobody knows have nothing to do with the layout, or say little
_NUMBER = re.compile(r"\s*(-?)(0x[0-9a-fA-F]+|\d+)")


class Unknown(ValueError):
    """A value that nobody can read; the text is which."""


def number(text: str) -> int:
    """A number as the tools write it: 0x10, 16, -1, NULL, 3</lib/x.so>, 0x3 /* PROT_READ */. Raises Unknown."""
    try:
        return int(text, 16 if text[:2] == "0x" else 10)
    except ValueError:
        return _number(text)


def _number(text: str) -> int:
    """One with more behind it, or with a name."""
    found = _NUMBER.match(text)
    if found is not None:
        value = int(found[2], 0 if found[2][:2] == "0x" else 10)
        return -value if found[1] else value
    if text.strip() in ("NULL", "nil"):
        return 0
    raise Unknown(f"'{text.strip()[:40]}' is no number")


@lru_cache(4096)
def bits(kind: str, text: str) -> int:
    """Flags as the tools write them: names joined by |, with or without their prefix, numbers, 21<<MAP_HUGE_SHIFT.

    Raises Unknown.
    """
    prefix, names = FLAGS[kind]
    value = 0
    for word in text.partition("/*")[0].split("|"):
        word = word.strip()
        name = word.removeprefix(prefix)
        shifted = re.fullmatch(r"(\d+)<<MAP_HUGE_SHIFT", word)
        if name in names:
            value |= names[name]
        elif shifted:
            value |= int(shifted[1]) << 26
        elif _NUMBER.match(word):
            value |= number(word) & (1 << 64) - 1
        elif word and not (kind in _LENIENT or word.startswith("SIG")):
            raise Unknown(f"'{word[:40]}' is no {prefix}* that is known")
    return value


_MARKED = re.compile(r'["<\[{(=]')
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"?\.*')
_OPEN, _CLOSE = "[{(<", "]})>"
_SPECIAL = re.compile(r'[][{}()<>,"]')
_ARG_NAME = re.compile(r"[a-z_][a-z_0-9]*=(?=[^=])")


def split(text: str) -> list[str]:
    """The operands of a call, parted at commas that stand in no string, path or structure."""
    if _MARKED.search(text) is None:
        return text.split(", ") if text else []
    parts, depth, at, begun = [], 0, 0, 0
    while (found := _SPECIAL.search(text, at)) is not None:
        at, letter = found.start(), found[0]
        if letter == '"' and (quoted := _QUOTED.match(text, at)):
            at = quoted.end()
            continue
        if letter in _OPEN and text[at : at + 2] != "<<":
            depth += 1
        elif letter in _CLOSE and text[at - 1 : at + 1] not in ("=>", "->") and depth:
            depth -= 1
        elif letter == "<":
            at += 1
        elif letter == "," and not depth:
            parts.append(text[begun:at])
            begun = at + 1
        at += 1
    parts.append(text[begun:])
    stripped = [part.strip() for part in parts]
    return [part[part.index("=") + 1 :] if _ARG_NAME.match(part) else part for part in stripped]


class Event(NamedTuple):
    """What one line of an input says happened, or two lines that are halves of one.

    `kind` is one of those below; `source` and `line` say where. `time` is in seconds or None, `began` when a call began
    that had ended at `time`. `group` is the process of the thread `tid` where the tool says it. A call has its operands
    by name and its result, None if that is not known. `args` of PLAIN are calls that succeeded, as Plain. That of a
    fault has `address` or `file` and `offset`, and `write` if that is known; that of a sample `vmpte` and `rss`, in kB.
    """

    kind: str
    source: str
    line: int
    time: float | None
    tid: int
    name: str = ""
    args: Any = {}  # noqa: RUF012  # nobody changes it
    result: int | None = None
    failed: str = ""
    group: int = 0
    snapshot: Snapshot | None = None
    began: float | None = None

    @property
    def where(self) -> str:
        """FILE:LINE."""
        return f"{self.source}:{self.line}"


WANTED = {*PARAMETERS, *WITHOUT_EFFECT, *NOT_MODELLED, *CREATES}  # calls that bear on memory

ENTER, CALL, PLAIN, FAULT, GONE = "enter", "call", "plain", "fault", "gone"
SNAPSHOT, MAPPED, SAMPLE = "snapshot", "mapped", "sample"


Plain = tuple[int, int, str, str, str, float | None, float | None]
"""A call that succeeded: line, task, name, operands as they are written (none is a string, a path or a structure),
result, when it ended and when it began."""


def call_of(event: Event, plain: Plain) -> Event:
    """One of the calls of a PLAIN event, with operands by name."""
    line, tid, name, operands, result, time, began = plain
    args = dict(zip(PARAMETERS[name], operands.split(", "), strict=False))
    return Event(CALL, event.source, line, time, tid, name, args, int(result, 0), began=began)
