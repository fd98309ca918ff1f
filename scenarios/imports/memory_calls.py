"""What each system call does to the memory of a process, as operations of a trace."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import lru_cache

from emulator import uapi
from scenarios.imports import calls
from scenarios.imports.calls import Event, Unknown, bits, number
from scenarios.imports.people import Memory, People
from scenarios.imports.space import PAGE, TOP, Mapping, page_up
from scenarios.imports.touches import SPARSE, Touches
from scenarios.imports.writer import LARGEST_FILE

_ENOMEM = "ENOMEM"
_VERBS = {
    **{"DONTNEED": "dontneed", "FREE": "free", "COLD": "cold", "PAGEOUT": "pageout", "POPULATE_WRITE": "populate"},
    **{"POPULATE_READ": "populate_read", "WILLNEED": "willneed", "REMOVE": "remove", "GUARD_INSTALL": "guard"},
    **{"GUARD_REMOVE": "unguard", "HUGEPAGE": "hugepage", "NOHUGEPAGE": "nohugepage", "COLLAPSE": "collapse"},
    **{"DONTFORK": "dontfork", "DOFORK": "dofork", "WIPEONFORK": "wipeonfork", "KEEPONFORK": "keeponfork"},
    **{"NORMAL": "normal", "RANDOM": "random", "SEQUENTIAL": "sequential", "DONTDUMP": "dontdump"},
    **{"DODUMP": "dodump", "MERGEABLE": "mergeable", "UNMERGEABLE": "unmergeable"},
    "DONTNEED_LOCKED": "dontneed_locked",
}
_ADVICE = {getattr(uapi, f"MADV_{name}"): verb for name, verb in _VERBS.items() if hasattr(uapi, f"MADV_{name}")}
_BY_WORD = {f"MADV_{name}": verb for name, verb in _VERBS.items()}
_RELEASES = (uapi.MADV_DONTNEED, uapi.MADV_DONTNEED_LOCKED, uapi.MADV_FREE)
_POISON = (100, 101)
_PIECE = re.compile(r"(?:iov_base=|\{)(0x[0-9a-f]+|NULL), (?:iov_len=)?(\d+)")
_DELETED = re.compile(r"^(-?\d+)<(.*)>(?:\(deleted\))?$")
_USUAL = calls.MAP_PRIVATE | calls.MAP_FIXED | calls.MAP_ANONYMOUS | calls.MAP_NORESERVE | calls.MAP_STACK
_RING, _RING_HEADER, _RING_EVENT = "a ring of io_setup", 32, 32
_FIELD = re.compile(r"(\w+)=(0x[0-9a-f]+|\d+)")
_MISSING_ONLY = re.compile(r"mode=(?:UFFDIO_REGISTER_MODE_MISSING|0x1|1)\b(?!\|)")
_USERFAULTS = {"REGISTER": "uffd", "UNREGISTER": "unreg", "COPY": "uncopy", "ZEROPAGE": "uzero", "MOVE": "umove"}
_TIMES = "mapped as anonymous memory: the file is larger than a machine has room for"


def _anonymous(start: int, end: int, prot: int, lazy: bool = False) -> Mapping:
    """A mapping of private memory, made in half the time."""
    return tuple.__new__(Mapping, (start, end, prot, False, "", 0, lazy, False))


@lru_cache(4096)
def _usual_flags(text: str) -> tuple[int, int]:
    """Protection and flags of an mmap of private memory, by the last four of its operands; no flags if it is none."""
    prot, named, _, _ = text.split(", ")
    flags = bits("map", named)
    usual = not flags & ~_USUAL and flags & calls.MAP_ANONYMOUS
    return bits("prot", prot) & 7, flags if usual else 0


class Left(Exception):
    """A call that the language of traces has no word for; the text is which."""


def _in_user_space(start: int, length: int) -> None:
    """Raises Left if a range is not one of 47 bits."""
    if not 0 <= start <= TOP or not 0 <= length <= TOP - start:
        raise Left("an address or a length outside of 47 bits")


class MemoryCalls:
    """The calls, by name: each of `known` takes the memory and the event, and raises Left, Unknown, and KeyError if an
    operand is missing. Each of `plain` takes the operands of a call that succeeded as they are written. It gives False,
    or raises ValueError, if there is more to it than they say.
    """

    def __init__(self, people: People, touches: Touches) -> None:
        self._people, self._touches = people, touches
        self._writer, self._account = touches.writer, touches.account
        self._segments: dict[int, int] = {}  # shared memory segment -> bytes
        self._fresh = 0  # files that have no name
        self.plain: dict[str, Callable[[Memory, str, str], bool]] = {
            "madvise": self._plain_madvise,
            "mprotect": self._plain_mprotect,
            "munmap": self._plain_munmap,
            "mmap": self._plain_mmap,
            "brk": self._plain_brk,
        }
        self.known: dict[str, Callable[[Memory, Event], None]] = {
            "mmap": self._mmap,
            "mmap2": self._mmap,
            "old_mmap": self._mmap,
            "munmap": self._munmap,
            "mprotect": self._mprotect,
            "pkey_mprotect": self._mprotect,
            "mremap": self._mremap,
            "madvise": self._madvise,
            "process_madvise": self._process_madvise,
            "brk": self._brk,
            "mlock": self._mlock,
            "mlock2": self._mlock,
            "munlock": self._mlock,
            "mlockall": self._mlockall,
            "munlockall": self._mlockall,
            "msync": self._msync,
            "mseal": self._mlock,
            "remap_file_pages": self._remap_file_pages,
            "map_shadow_stack": self._map_shadow_stack,
            "io_setup": self._io_setup,
            "io_destroy": self._io_destroy,
            "ioctl": self._userfault,
            "shmget": self._shmget,
            "shmat": self._shmat,
            "shmdt": self._shmdt,
            "ftruncate": self._ftruncate,
            "fallocate": self._fallocate,
            "open": self._open,
            "openat": self._open,
            "memfd_create": self._open,
            "memfd_secret": self._open,
            "pidfd_open": self._open,
            "close": self._close,
        }

    def _plain_madvise(self, memory: Memory, operands: str, result: str) -> bool:
        start, size, word = operands.split(", ")
        low, length, verb = int(start, 16), int(size), _BY_WORD.get(word)
        there = memory.space.around(low, low + length)
        if verb is None or there is None or there.left_out or there.lazy or not 0 < length <= TOP:
            return False
        self._writer.line(memory.who, f"{verb} @ {start} {size}")
        return True

    def _plain_mprotect(self, memory: Memory, operands: str, result: str) -> bool:
        start, size, word = operands.split(", ")
        low, length = int(start, 16), page_up(int(size))
        there = memory.space.around(low, low + length)
        if there is None or there.left_out or there.lazy or not 0 < length <= TOP:
            return False
        prot = bits("prot", word) & 7
        self._writer.protect(memory.who, start, length, prot)
        if prot != there.prot:
            self._protected(memory, low, length, prot)
        return True

    def _plain_munmap(self, memory: Memory, operands: str, result: str) -> bool:
        at, size = operands.split(", ")
        start, length = int(at, 16), int(size) + PAGE - 1 & -PAGE
        if not 0 < length <= TOP - start:
            return False
        self.unmap(memory, start, start + length)
        return True

    def _plain_mmap(self, memory: Memory, operands: str, result: str) -> bool:
        _, size, named = operands.split(", ", 2)
        prot, flags = _usual_flags(named)
        start, length = int(result, 0), int(size) + PAGE - 1 & -PAGE
        if not flags or not 0 < length <= TOP - start:
            return False
        end = start + length
        lazy = length > SPARSE and bool(flags & calls.MAP_NORESERVE)
        mapping = _anonymous(start, end, prot, lazy)
        memory.order.change(start, end)
        memory.space.replace(start, end, [mapping])
        self._writer.anonymous(memory.who, start, length, prot)
        self._touches.mapped(memory, mapping, bool(flags & calls.MAP_STACK))
        return True

    def _plain_brk(self, memory: Memory, operands: str, result: str) -> bool:
        now = int(result, 0)
        if not 0 < now <= TOP - PAGE:
            return False
        self._brk_to(memory, now)
        return True

    def _covered(self, memory: Memory, start: int, end: int) -> None:
        """See to it that a range is mapped: what nobody was seen to map was there before, or exec has mapped it."""
        for low, high in memory.space.holes(start, end):
            self._account.assumed["a range that is in use and was never mapped: made by exec, or before the log"] += 1
            self.map(memory, Mapping(low, high, 3), ())
            self._touches.mapped(memory, memory.space.at(low))

    def map(self, memory: Memory, mapping: Mapping, words: tuple[str, ...]) -> None:
        """Map a range in the trace and in what is known of it."""
        memory.order.change(mapping.start, mapping.end)
        memory.space.replace(mapping.start, mapping.end, [mapping])
        if mapping.left_out:
            self._writer.unmap(memory.who, mapping.start, mapping.end)
        elif not self._writer.map(memory.who, mapping, words):
            self._account.assumed[_TIMES] += 1

    def _mmap(self, memory: Memory, event: Event) -> None:
        args = event.args
        flags, prot = bits("map", args.get("flags", "0")), bits("prot", args.get("prot", "0"))
        length, start = page_up(number(args["len"])), event.result
        if start is None:
            start = number(args.get("addr", "0"))
        _in_user_space(start, length)
        if not length:
            raise Left("mmap of nothing")
        file, offset = "", 0
        shared = bool(flags & calls.MAP_SHARED) and flags & 0xF != calls.MAP_DROPPABLE
        if flags & calls.MAP_HUGETLB:
            self.map(memory, Mapping(start, start + length, prot, left_out=True), ())
            raise Left("mmap of hugetlb pages (they are left unmapped)")
        if flags & calls.MAP_ANONYMOUS:
            if shared:
                self._fresh += 1
                file = f"shared memory {self._fresh}"
        else:
            offset = number(args.get("off", "0")) * (PAGE if event.name == "mmap2" else 1)
            file = self._file_of(memory, args.get("fd", "-1"), start, offset, flags)
        lazy = bool(flags & calls.MAP_NORESERVE) and length > SPARSE
        words = {
            "populate": flags & calls.MAP_POPULATE and prot,
            "locked": flags & calls.MAP_LOCKED,
            "growsdown": flags & calls.MAP_GROWSDOWN,
            "droppable": flags & 0xF == calls.MAP_DROPPABLE,
        }
        mapping = Mapping(start, start + length, prot & 7, shared, file, offset, lazy)
        self.map(memory, mapping, tuple(word for word, given in words.items() if given))
        if file and flags & (calls.MAP_POPULATE | calls.MAP_LOCKED) and prot:
            verb = "populate" if shared and prot & 2 else "populate_read"
            self._writer.line(memory.who, f"{verb} @ {start:#x} {length:#x}")
        if not flags & (calls.MAP_POPULATE | calls.MAP_LOCKED):
            self._touches.mapped(memory, mapping, bool(flags & calls.MAP_STACK))

    def _file_of(self, memory: Memory, fd: str, start: int, offset: int, flags: int) -> str:
        """The name of the file that a descriptor stands for."""
        named = _DELETED.match(fd)
        if named and not named[2].startswith("anon_inode"):
            return named[2]
        known = memory.files.get(number(fd))
        if known is not None:
            return known
        there = memory.space.at(start)
        if flags & calls.MAP_FIXED and there is not None and there.file.startswith(f"descriptor {number(fd)} "):
            return there.file  # the loader maps the segments of a library over its first mapping
        self._fresh += 1
        return f"descriptor {number(fd)} {self._fresh}"

    def _munmap(self, memory: Memory, event: Event) -> None:
        start, length = number(event.args.get("addr", "0")), page_up(number(event.args["len"]))
        _in_user_space(start, length)
        if event.kind == calls.ENTER:
            memory.order.leave(event.tid, start, start + length)
            memory.space.replace(start, start + length, [])
        else:
            self.unmap(memory, start, start + length)

    def unmap(self, memory: Memory, start: int, end: int) -> None:
        """Unmap a range in the trace and in what is known of it."""
        memory.order.change(start, end)
        self._writer.unmap(memory.who, start, end)
        memory.space.replace(start, end, [])

    def _mprotect(self, memory: Memory, event: Event) -> None:
        start, length = number(event.args["start"]), page_up(number(event.args["len"]))
        prot = bits("prot", event.args.get("prot", "0")) & 7
        _in_user_space(start, length)
        if not event.failed:
            self._covered(memory, start, start + length)
        if event.name == "pkey_mprotect" and number(event.args.get("pkey", "-1")) > 0:
            self._account.assumed["pkey_mprotect as mprotect: the language has no keys"] += 1
        self._writer.protect(memory.who, hex(start), length, prot)
        self._protected(memory, start, length, prot)

    def _protected(self, memory: Memory, start: int, length: int, prot: int) -> None:
        """A range has another protection, and may be touched if it had none."""
        for part in memory.space.protect(start, start + length, prot):
            if prot and not part.prot:
                self._touches.mapped(memory, Mapping(part.start, part.end, prot, *part[3:6]))

    def _mremap(self, memory: Memory, event: Event) -> None:
        args = event.args
        start, old, new = (number(args[name]) for name in ("addr", "old_len", "new_len"))
        flags, to = bits("mremap", args.get("flags", "0")), event.result
        old, new = page_up(old), page_up(new)
        _in_user_space(start, old)
        _in_user_space(-1 if to is None else to, new)
        assert to is not None
        self._covered(memory, start, start + (old or PAGE))
        parts = memory.space.within(start, start + (old or PAGE))
        first = parts[0]
        if any(part.left_out for part in parts):
            raise Left("mremap of hugetlb pages")
        memory.order.change(start, start + max(old, new if to == start else 0))
        if to != start:
            memory.order.change(to, to + new)
        if to == start and old:
            self._writer.line(memory.who, f"mr @ {start:#x} {old:#x} {new:#x} 0")
            if new < old:
                memory.space.replace(start + new, start + old, [])
        else:
            keep = ",keep" if flags & uapi.MREMAP_DONTUNMAP else ""
            self._writer.line(memory.who, f"mr @ {start:#x} {old:#x} {new:#x} may,fixed{keep} @ {to:#x}")
            if old and not keep:
                memory.space.replace(start, start + old, [])
            moved = [part.moved(to + part.start - start, to + part.end - start) for part in parts if old]
            memory.space.replace(to, to + new, [part.cut(to, to + new) for part in moved if part.start < to + new])
        grown = to + old, to + new
        if grown[0] < grown[1]:
            offset = first.offset + (old if first.file else 0)
            end = Mapping(*grown, first.prot, first.shared, first.file, offset, first.lazy)
            memory.space.replace(*grown, [end])
            self._touches.mapped(memory, end)

    def _madvise(self, memory: Memory, event: Event) -> None:
        start, length = number(event.args.get("start", "0")), number(event.args["len_in"])
        self._advise(memory, event, start, length)

    def _advise(self, memory: Memory, event: Event, start: int, length: int) -> None:
        advice = bits("advice", event.args.get("behavior", "0"))
        if advice >> 31:
            raise Unknown(f"{advice:#x} is no advice")
        if advice in _POISON:
            raise Left("madvise that takes memory from the whole machine")
        _in_user_space(start, length)
        end = start + page_up(length)
        if not event.failed:
            self._covered(memory, start, end)
        parts = memory.space.within(start, end)
        if any(part.left_out for part in parts):
            raise Left("madvise of hugetlb pages")
        if advice in _RELEASES:
            self._touches.released(memory, parts)
        if advice in _ADVICE:
            self._writer.line(memory.who, f"{_ADVICE[advice]} @ {start:#x} {length:#x}")
        else:
            self._writer.line(memory.who, f"adv @ {start:#x} {length:#x} {advice}")

    def _process_madvise(self, memory: Memory, event: Event) -> None:
        target = self._target(memory, event.args["pidfd"])
        left = event.result if event.result is not None and event.result >= 0 else 0
        pieces = _PIECE.findall(event.args["vec"])
        if not pieces:
            raise Left("process_madvise whose vector the tool does not show")
        for at, length in pieces:
            size = min(number(length), left)
            left -= size
            if size:
                self._advise(target, event, number(at), size)

    def _target(self, memory: Memory, pidfd: str) -> Memory:
        """Whose memory a descriptor of a process stands for."""
        named = _DELETED.match(pidfd)
        name = named[2] if named else memory.files.get(number(pidfd), "")
        found = re.search(r"pid:(\d+)", name)
        if found is None and number(pidfd) < 0:  # PIDFD_SELF and its like
            return memory
        task = self._people.tasks.get(int(found[1])) if found else None
        if task is None:
            raise Left("process_madvise of a process that is not in the input")
        return task.memory

    def _brk(self, memory: Memory, event: Event) -> None:
        now = event.result
        _in_user_space(-1 if now is None else now, PAGE)
        assert now is not None
        self._brk_to(memory, now)

    def _brk_to(self, memory: Memory, now: int) -> None:
        """The heap ends somewhere now."""
        if memory.brk is None:
            memory.heap = memory.brk = now
            return
        before, after = memory.brk + PAGE - 1 & -PAGE, now + PAGE - 1 & -PAGE
        memory.brk = now
        if after > before:
            mapping = _anonymous(before, after, 3)
            memory.order.change(before, after)
            memory.space.grow(mapping)  # one mapping, however often it has grown
            self._writer.anonymous(memory.who, before, after - before, 3)
            self._touches.mapped(memory, mapping)
        elif after < before:
            self.unmap(memory, after, before)

    def _mlock(self, memory: Memory, event: Event) -> None:
        start, length = number(event.args["start"]), number(event.args["len"])
        _in_user_space(start, length)
        if not event.failed:
            self._covered(memory, start // PAGE * PAGE, page_up(start + length))
        onfault = event.name == "mlock2" and bits("mlock2", event.args.get("flags", "0"))
        verb = "mlock" if event.name == "mlock2" and not onfault else event.name
        self._writer.line(memory.who, f"{verb} @ {start:#x} {length:#x}")

    def _mlockall(self, memory: Memory, event: Event) -> None:
        flags = bits("mcl", event.args.get("flags", "0"))
        words = [word for bit, word in ((1, "current"), (2, "future"), (4, "onfault")) if flags & bit]
        self._writer.line(memory.who, f"{event.name} {','.join(words)}".rstrip())

    def _msync(self, memory: Memory, event: Event) -> None:
        start, length = number(event.args["start"]), number(event.args["len"])
        _in_user_space(start, length)
        flags = bits("msync", event.args.get("flags", "0"))
        words = [word for bit, word in ((1, "async"), (2, "inval"), (4, "sync")) if flags & bit]
        self._writer.line(memory.who, f"msync @ {start:#x} {length:#x} {','.join(words) or '0'}")

    def _remap_file_pages(self, memory: Memory, event: Event) -> None:
        """A range shows another part of its file."""
        start, size = number(event.args["start"]), page_up(number(event.args["size"]))
        there = memory.space.around(start, start + size)
        if there is None or not there.file or not there.shared:
            raise Left("remap_file_pages of what nobody was seen to map")
        offset = number(event.args["pgoff"]) * PAGE
        self.map(memory, Mapping(start, start + size, there.prot, True, there.file, offset), ())

    def _map_shadow_stack(self, memory: Memory, event: Event) -> None:
        size, start = page_up(number(event.args["len"])), event.result
        _in_user_space(-1 if start is None else start, size)
        assert start is not None
        self.map(memory, Mapping(start, start + size, 3), ())

    def _io_setup(self, memory: Memory, event: Event) -> None:
        """A ring for events of asynchronous I/O is mapped. Source: aio_setup_ring, ioctx_alloc of fs/aio.c."""
        start = number(event.args["ctxp"].strip("[]"))
        events = 2 * max(number(event.args["nr_events"]), 4 * (os.cpu_count() or 1)) + 2
        size = page_up(_RING_HEADER + events * _RING_EVENT)
        _in_user_space(start, size)
        self._fresh += 1
        self.map(memory, Mapping(start, start + size, 3, True, f"{_RING} {self._fresh}"), ())

    def _io_destroy(self, memory: Memory, event: Event) -> None:
        there = memory.space.at(number(event.args["ctx"]))
        if there is None or not there.file.startswith(_RING):
            raise Left("io_destroy of what nobody was seen to set up")
        self.unmap(memory, there.start, there.end)

    def _userfault(self, memory: Memory, event: Event) -> None:
        """What is done by way of userfaultfd: strace shows the structures."""
        kind = event.args["cmd"].removeprefix("UFFDIO_")
        if kind in ("API", "WAKE"):
            return
        given = {name: number(value) for name, value in _FIELD.findall(event.args["arg"])}
        start, length = given.get("dst", given.get("start", -1)), given.get(kind.lower(), given.get("len", 0))
        if kind not in _USERFAULTS or (kind == "REGISTER" and not _MISSING_ONLY.search(event.args["arg"])):
            raise Left("userfaultfd of write protection, minor faults or poison")
        _in_user_space(start, length)
        if any(part.file or part.left_out for part in memory.space.within(start, start + length)):
            raise Left("userfaultfd over files, shared memory or hugetlb pages")
        verb = _USERFAULTS[kind]
        if kind == "MOVE":
            self._writer.line(memory.who, f"{verb} @ {given['src']:#x} {length:#x} @ {start:#x}")
        else:
            self._writer.line(memory.who, f"{verb} @ {start:#x} {length:#x}{' missing' * (kind == 'REGISTER')}")

    def _shmget(self, memory: Memory, event: Event) -> None:
        if event.result is not None and "size" in event.args:
            size = number(event.args["size"])
            self._segments[event.result] = max(size, self._segments.get(event.result, 0))

    def _shmat(self, memory: Memory, event: Event) -> None:
        segment, start = number(event.args["shmid"]), event.result
        size = page_up(self._segments.get(segment, 0))
        if not size or start is None:
            raise Left("shmat of a segment whose size is not in the input")
        _in_user_space(start, size)
        prot = 1 if "SHM_RDONLY" in event.args.get("shmflg", "") else 3
        mapping = Mapping(start, start + size, prot, True, f"shared memory segment {segment}")
        self.map(memory, mapping, ())
        self._touches.mapped(memory, mapping)

    def _shmdt(self, memory: Memory, event: Event) -> None:
        start = number(event.args["shmaddr"])
        there = memory.space.at(start)
        if there is None or not there.file.startswith("shared memory segment"):
            raise Left("shmdt of what nobody was seen to attach")
        end = start + page_up(self._segments[int(there.file.rsplit(" ", 1)[1])])
        self.unmap(memory, start, end)

    def _ftruncate(self, memory: Memory, event: Event) -> None:
        size = page_up(number(event.args["length"]))
        self._punch(memory, event.args["fd"], size, LARGEST_FILE)

    def _fallocate(self, memory: Memory, event: Event) -> None:
        if bits("falloc", event.args.get("mode", "0")) & 2:
            self._punch(memory, event.args["fd"], number(event.args["offset"]), number(event.args["len"]))

    def _punch(self, memory: Memory, fd: str, offset: int, length: int) -> None:
        """Take pages out of a file, if some process of the trace maps it."""
        named = _DELETED.match(fd)
        file = named[2] if named else memory.files.get(number(fd), "")
        _in_user_space(offset, length)
        for at, size in self._writer.pieces(file, offset, length):
            self._writer.line("", f"punch 0 {at:#x} {size:#x}")

    def _open(self, memory: Memory, event: Event) -> None:
        if event.result is None or event.result < 0:
            return
        if event.name == "pidfd_open":
            memory.files[event.result] = f"pid:{number(event.args['pid'])}"
        else:
            path = event.args.get("filename", event.args.get("uname", ""))
            if path.rstrip('"').endswith("/clear_refs"):
                raise Left("clear_refs: soft-dirty and accessed bits, which leave no table less")
            unnamed = event.name.startswith("memfd_") or path[:1].isdecimal()  # the tool shows where it stands alone
            self._fresh += unnamed
            unique = f"{self._fresh}" if unnamed else ""
            memory.files[event.result] = path.strip('"') + unique

    def _close(self, memory: Memory, event: Event) -> None:
        memory.files.pop(number(event.args["fd"]), None)


def failed(event: Event) -> bool:
    """True if a call failed and has changed nothing: madvise goes past holes, and fails at the end."""
    return bool(event.failed) and not (event.name == "madvise" and event.failed == _ENOMEM)


__all__ = ["Left", "MemoryCalls", "Unknown", "failed"]
