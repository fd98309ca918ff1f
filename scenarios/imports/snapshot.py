"""Copies of /proc/PID/maps, smaps and of what pagemap says, as files that people keep.

pagemap is binary, so its text is ours, one range a line: `START-END KIND`, in hexadecimal, of KINDS.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from scenarios.imports.account import Account
from scenarios.imports.lines import Lines
from scenarios.imports.space import TOP

KINDS = ("anon", "file", "zero", "swap", "guard")
_MAPS = re.compile(r"([0-9a-f]+)-([0-9a-f]+) ([-r])([-w])([-x])([ps]) ([0-9a-f]+) [0-9a-f]+:[0-9a-f]+ (\d+) *(.*)")
_RANGE = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\w+)\s*$")
_FIELD = re.compile(r"(\w+): +(\d+) kB|VmFlags: ")
_PID = re.compile(r"# *pid:? *(\d+)", re.I)


class Line(NamedTuple):
    """One mapping of maps or smaps; `rss` and `anonymous` are bytes, -1 where only smaps would say."""

    start: int
    end: int
    prot: int
    shared: bool
    offset: int
    inode: int
    name: str
    rss: int = -1
    anonymous: int = -1


@dataclass
class Snapshot:
    """What /proc said of a process: its mappings, its pages; 0 is the process that comes first.

    `whole`: the mappings were all there at one time.
    """

    pid: int = 0
    mappings: list[Line] = field(default_factory=list)
    pages: list[tuple[int, int, str]] = field(default_factory=list)
    whole: bool = True


def looks_like(lines: list[str]) -> bool:
    """True if some lines look like a snapshot's."""
    return any(_MAPS.match(line) or ((found := _RANGE.match(line)) and found[3] in KINDS) for line in lines[:20])


def read(lines: Lines, account: Account) -> Iterator[Snapshot]:
    """The snapshot of one file; the number of its process is that of a line `# pid N`, or the name's `maps.N`."""
    named = re.search(r"\.(\d+)(?:\.(?:gz|txt))?$", lines.name)
    found = Snapshot(int(named[1]) if named else 0)
    line_number = 0
    for block in lines:
        account.lines += len(block)
        for line in block:
            line_number += 1
            _take(found, line, f"{lines.name}:{line_number}", account)
    yield found


def _take(found: Snapshot, line: str, where: str, account: Account) -> None:
    """Enter one line."""
    if mapping := _MAPS.match(line):
        start, end, *prot, sharing, offset, inode, name = mapping.groups()
        account.understood += 1
        if int(start, 16) < int(end, 16) <= TOP:
            bits = sum(bit for bit, letter in zip((1, 2, 4), prot, strict=True) if letter != "-")
            found.mappings.append(
                Line(int(start, 16), int(end, 16), bits, sharing == "s", int(offset, 16), int(inode), name.strip())
            )
    elif (pages := _RANGE.match(line)) and pages[3] in KINDS and int(pages[1], 16) < int(pages[2], 16) <= TOP:
        account.understood += 1
        found.pages.append((int(pages[1], 16), int(pages[2], 16), pages[3]))
    elif value := _FIELD.match(line):
        if value[1] in ("Rss", "Anonymous") and found.mappings:
            size = int(value[2]) << 10
            last = found.mappings[-1]
            found.mappings[-1] = last._replace(rss=size) if value[1] == "Rss" else last._replace(anonymous=size)
    elif pid := _PID.match(line):
        found.pid = int(pid[1])
    elif line.strip() and not re.match(r"\s*\w+:\s", line) and not line.startswith("#"):
        account.refuse(where, f"not a line of maps, smaps or pagemap: {line[:40]!a}")
