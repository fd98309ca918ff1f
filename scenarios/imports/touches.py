"""Which pages a process touches: those that the input says, or what is assumed where it says nothing."""

from __future__ import annotations

from scenarios.imports.account import Account
from scenarios.imports.people import Memory
from scenarios.imports.space import PAGE, Mapping
from scenarios.imports.writer import Writer

MODES = ("none", "all", "rss", "pagemap")
SPARSE = 1 << 30  # bytes: of a mapping of MAP_NORESERVE that is larger, most is taken never to be touched
_STACK = 16 * PAGE  # what a thread is taken to use of its stack
_MAPPED = "touched as soon as it could be: a range of memory (--touch all)"


class Touches:
    """Accesses to memory. `mode` is one of MODES, and what `all` assumes is seen in the account."""

    def __init__(self, writer: Writer, account: Account, mode: str) -> None:
        self.writer, self.account, self.mode = writer, account, mode

    def mapped(self, memory: Memory, mapping: Mapping | None, stack: bool = False) -> None:
        """A range can be accessed from now on."""
        if self.mode != "all" or mapping is None:
            return
        start, end, prot, shared, file, _, lazy, left_out = mapping
        if not prot & 3 or lazy or left_out:
            return
        if stack:
            start = max(start, end - _STACK)
        self.account.assumed[_MAPPED] += 1
        self.writer.touch(memory.who, start, end, prot & 2 != 0 and (shared or not file))

    def released(self, memory: Memory, parts: list[Mapping]) -> None:
        """Some ranges are about to be released: nobody releases what was never touched."""
        for part in parts if self.mode == "all" else ():
            if part.lazy and part.prot & 2:
                self.account.assumed["touched before it was released: a part of a sparse mapping (--touch all)"] += 1
                self.writer.touch(memory.who, part.start, part.end, True)

    def fault(self, memory: Memory, address: int, write: bool | None) -> bool:
        """A page fault at an address; False if nothing is mapped there."""
        there = memory.space.at(address)
        if there is None:
            return False
        page = address // PAGE * PAGE
        if write is None:
            write = bool(there.prot & 2)
        if there.prot & 3:
            self.writer.touch(memory.who, page, page + PAGE, write and bool(there.prot & 2))
        return True

    def present(self, memory: Memory, part: Mapping, kind: str) -> None:
        """A part of a mapping has pages of a kind (snapshot.KINDS) now: touch them, if they can be touched."""
        who, start, end = memory.who, part.start, part.end
        if start >= end or part.left_out:
            return
        self.account.assumed[f"touched when a snapshot had it: a range of pages (--touch {self.mode})"] += 1
        if kind == "guard":
            self.writer.line(who, f"guard @ {start:#x} {end - start:#x}")
        elif kind in ("anon", "swap") and not part.prot & 2 and not part.shared:  # it was writable at the store
            self.writer.protect(who, hex(start), end - start, 3)
            self.writer.touch(who, start, end, True)
            self.writer.protect(who, hex(start), end - start, part.prot)
        elif part.prot & 3:
            self.writer.touch(who, start, end, kind in ("anon", "swap") and bool(part.prot & 2))
