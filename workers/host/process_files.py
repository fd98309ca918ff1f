"""What /proc says of a process: its status, its mappings, its children; and that it has gone meanwhile.

A process may exit, and its number be given to another, between two reads: what is read is tied to the start time.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

VSYSCALL = 1 << 56  # mappings above are the kernel's: no table of the process maps them
_FLAGS, _START_TIME = 6, 19  # of the words behind the command in /proc/PID/stat
_PF_KTHREAD = 0x200000


class ProcessGone(Exception):
    """The process does not exist, or does not any more; the text says which."""


class NotReadable(Exception):
    """A file of the process cannot be read: the right is missing (`errno` EACCES, EPERM), or the file is."""

    def __init__(self, name: str, error: OSError) -> None:
        self.name, self.errno = name, error.errno
        super().__init__(f"/proc/PID/{name}: {error.strerror}")


@dataclass(frozen=True)
class Status:
    """Of /proc/PID/status, sizes in kB. `vmpte` is None for what has no address space: kernel threads, zombies.

    `started` is the time of the start, in ticks since boot: with the PID, a name that nobody has again.
    """

    pid: int
    name: str
    state: str
    uid: int
    started: int
    kernel: bool
    vmpte: int | None
    size: int = 0
    rss_anon: int = 0
    rss_file: int = 0
    rss_shmem: int = 0
    swap: int = 0

    @property
    def rss(self) -> int:
        """Resident memory, in kB."""
        return self.rss_anon + self.rss_file + self.rss_shmem


class Vma(NamedTuple):
    """One mapping, of /proc/PID/maps. What only smaps says is empty or 0 if that was not read; sizes in kB."""

    start: int
    end: int
    perms: str
    inode: int
    name: str
    flags: frozenset[str] = frozenset()
    rss: int = 0
    swap: int = 0
    page_size: int = 4
    file_pmd_mapped: int = 0

    @property
    def file(self) -> bool:
        """True if it maps a file that has a name, of tmpfs and memfd, too; shared anonymous memory has none."""
        return self.inode != 0 and self.name != "/dev/zero (deleted)"


@contextlib.contextmanager
def reading(pid: int, name: str) -> Iterator[None]:
    """Turns errors of a file of /proc into ProcessGone and NotReadable."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ESRCH or not Path(f"/proc/{pid}").exists():
            raise ProcessGone(f"process {pid} has gone") from None
        raise NotReadable(name, error) from None


def _text(pid: int, name: str) -> str:
    with reading(pid, name):
        return Path(f"/proc/{pid}/{name}").read_bytes().decode("utf-8", "backslashreplace")


def _stat(pid: int) -> list[str]:
    """The words of /proc/PID/stat behind the command. Raises ProcessGone."""
    try:
        return _text(pid, "stat").rsplit(")", 1)[1].split()
    except NotReadable:
        raise ProcessGone(f"there is no process {pid}") from None


def read_status(pid: int) -> Status:
    """The status of a process; any user's may be read. Raises ProcessGone."""
    if not Path(f"/proc/{pid}").exists():
        raise ProcessGone(f"there is no process {pid}")
    stat = _stat(pid)
    try:
        lines = _text(pid, "status").splitlines()
    except NotReadable as error:  # hidepid
        raise ProcessGone(f"process {pid} cannot be read ({error})") from None
    fields = dict(line.split(":", 1) for line in lines if ":" in line)

    def kb(name: str) -> int:
        return int(fields.get(name, "0").split()[0])

    return Status(
        pid,
        fields["Name"].strip(),
        fields["State"].split()[0],
        int(fields["Uid"].split()[0]),
        int(stat[_START_TIME]),
        bool(int(stat[_FLAGS]) & _PF_KTHREAD),
        kb("VmPTE") if "VmPTE" in fields else None,
        kb("VmSize"),
        kb("RssAnon"),
        kb("RssFile"),
        kb("RssShmem"),
        kb("VmSwap"),
    )


def read_maps(pid: int) -> list[Vma]:
    """The mappings, by address. Raises ProcessGone, NotReadable."""
    return [vma for line in _text(pid, "maps").splitlines() if (vma := _vma(line)).start < VSYSCALL]


def _vma(line: str) -> Vma:
    """One line of maps: START-END PERMS OFFSET DEVICE INODE NAME."""
    span, perms, _, _, inode, *name = line.split(maxsplit=5)
    start, _, end = span.partition("-")
    return Vma(int(start, 16), int(end, 16), perms, int(inode), name[0] if name else "")


_SMAPS = {"Rss": "rss", "Swap": "swap", "KernelPageSize": "page_size"}
_SUMS = ("FilePmdMapped", "ShmemPmdMapped")


def read_smaps(pid: int) -> list[Vma]:
    """The mappings with their flags and sizes; this walks all page tables. Raises ProcessGone, NotReadable."""
    found: list[Vma] = []
    values: dict[str, Any] = {}
    for line in _text(pid, "smaps").splitlines():
        name, _, rest = line.partition(":")
        if name in _SMAPS:
            values[_SMAPS[name]] = int(rest.split()[0])
        elif name in _SUMS:
            values["file_pmd_mapped"] = values.get("file_pmd_mapped", 0) + int(rest.split()[0])
        elif name == "VmFlags":
            found[-1] = found[-1]._replace(flags=frozenset(rest.split()), **values)
        elif line[:1] in "0123456789abcdef" and "-" in name:
            found.append(_vma(line))
            values = {}
    return [vma for vma in found if vma.start < VSYSCALL]


def environment_of(pid: int, names: tuple[str, ...]) -> dict[str, str]:
    """Those of a process's environment, as it was at exec; nothing if it cannot be read."""
    try:
        words = _text(pid, "environ").split("\0")
    except (ProcessGone, NotReadable):
        return {}
    return {name: value for name, _, value in (word.partition("=") for word in words) if name in names}


def threads_of(pid: int) -> list[int]:
    """The threads of a process that are there, the process's own number first."""
    try:
        others = [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        others = []
    return [pid, *(tid for tid in sorted(others) if tid != pid)]


def all_pids() -> list[int]:
    """The processes there are."""
    return sorted(int(name) for name in os.listdir("/proc") if name.isdecimal())


def family(pid: int) -> list[int]:
    """A process and its descendants, as far as they are there; the oldest first."""
    parents: dict[int, list[int]] = {}
    for other in all_pids():
        with contextlib.suppress(OSError, ValueError, IndexError):
            words = Path(f"/proc/{other}/stat").read_bytes().rsplit(b")", 1)[1].split()
            parents.setdefault(int(words[1]), []).append(other)
    found = [pid]
    for known in found:
        found += parents.get(known, [])
    return found


def system_tables() -> dict[str, int]:
    """MemTotal, PageTables and SecPageTables of this machine, in kB, as far as its kernel says them."""
    wanted = ("MemTotal", "PageTables", "SecPageTables")
    lines = (line.partition(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return {name: int(rest.split()[0]) for name, _, rest in lines if name in wanted}
