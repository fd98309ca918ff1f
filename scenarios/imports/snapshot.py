"""Copies of /proc/PID/maps, smaps and of what pagemap says, as files that people keep, or as other tools show them.

These are pmap, gdb's `info proc mappings`, of a core as well, and a tombstone of Android. pagemap is binary, so its
text is ours, one range a line: `START-END KIND`, in hexadecimal, of KINDS.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from scenarios.imports.account import Account
from scenarios.imports.lines import Lines
from scenarios.imports.space import TOP

KINDS = ("anon", "file", "zero", "swap", "guard")
_MAPS = re.compile(r"([0-9a-f]+)-([0-9a-f]+) ([-r])([-w])([-x])([ps]) ([0-9a-f]+) [0-9a-f]+:[0-9a-f]+ (\d+) *(.*)")
_START, _PERMS = r"\s*(?P<start>[0-9a-f']{8,17})", r"(?P<perms>[-r][-w][-x])"
_NAME = r"(?: +(?P<name>\S.*))?$"
_SHAPES = tuple(
    re.compile(text)
    for text in (
        r"\s*0x(?P<start>[0-9a-f]+)\s+0x(?P<end>[0-9a-f]+)\s+0x[0-9a-f]+\s+0x(?P<offset>[0-9a-f]+)"  # gdb
        rf"(?:\s+{_PERMS}(?P<sharing>[ps]))?\s*{_NAME}",
        rf"{_START} +(?P<size>\d+)K {_PERMS}(?P<sharing>[-s])\S*{_NAME}",  # pmap
        rf"{_START} +(?P<size>\d+) +(?P<rss>\d+) +\d+ {_PERMS}(?P<sharing>[-s])\S*{_NAME}",  # pmap -x
        rf"{_START} {_PERMS}(?P<sharing>[ps]) +(?P<offset>[0-9a-f]+) +[0-9a-f]+:[0-9a-f]+ +\d+"  # pmap -X, -XX
        r" +(?P<size>\d+)(?: +\d+)*(?: +[a-z][a-z0-9](?: [a-z][a-z0-9]){2,}(?= |$))?(?: +(?P<name>\S.*))?$",
        rf"{_START}-(?P<last>[0-9a-f']{{8,17}}) {_PERMS} +(?P<offset>[0-9a-f]+) +[0-9a-f]+{_NAME}",  # a tombstone
    )
)
_BESIDE = re.compile(
    r"\s*(?:\w+:\s|#|-{4,}|={4,}|Address |Start [Aa]ddr|Mapped |total |[\d ]+(?:KB?)?\s*$|\d+: +\S"
    r"|\[(?:New|Thread|Inferior) |Using |Core was)|process \d+$"
)
_RANGE = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\w+)\s*$")
_FIELD = re.compile(r"(\w+): +(\d+) kB|VmFlags: ")
_PID = re.compile(r"(?:# *pid:?|process) *(\d+)|(\d+):  ", re.I)


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


def protection(letters: Sequence[str]) -> int:
    """The bits of PROT_READ, PROT_WRITE and PROT_EXEC, of letters as in maps."""
    return sum(bit for bit, letter in zip((1, 2, 4), letters, strict=True) if letter != "-")


def looks_like(lines: list[str]) -> bool:
    """True if some lines look like a snapshot's."""
    return any(
        _MAPS.match(line) or ((found := _RANGE.match(line)) and found[3] in KINDS) or _shown(line)
        for line in lines[:20]
    )


def _shown(line: str) -> Line | None:
    """A mapping as some tool shows it; one without a protection is taken to be writable."""
    shape = next((found for one in _SHAPES if (found := one.match(line))), None)
    if shape is None:
        return None
    said = {key: value for key, value in shape.groupdict().items() if value}
    start = int(said["start"].replace("'", ""), 16)
    if "last" in said:
        end = int(said["last"].replace("'", ""), 16) + 1
    else:
        end = int(said["end"], 16) if "end" in said else start + (int(said["size"]) << 10)
    name = said.get("name", "").strip().replace("[ ", "[").replace(" ]", "]")
    file = bool(name) and not name.startswith("[")
    prot = protection(said.get("perms", "rw-"))
    rss = int(said["rss"]) << 10 if "rss" in said else -1
    anonymous = -1 if file else rss
    return Line(
        start, end, prot, said.get("sharing") == "s", int(said.get("offset", "0"), 16), int(file), name, rss, anonymous
    )


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
            bits = protection(prot)
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
        found.pid = int(pid[1] or pid[2])
    elif shown := _shown(line):
        account.understood += 1
        if shown.start < shown.end <= TOP:
            found.mappings.append(shown)
    elif line.strip() and not _BESIDE.match(line):
        account.refuse(where, f"not a line of maps, smaps or pagemap: {line[:40]!a}")
