"""Which CPUs got a signal for an access, and what they were doing: read from a machine at rest, or frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from emulator.mm_types import Geometry
from emulator.uapi import BUS_ADRERR, SEGV_ACCERR, SEGV_MAPERR, SI_KERNEL, SIGBUS, SIGKILL, SIGSEGV
from workers.programs.program import disassemble

NAMES = {
    (SIGSEGV, SEGV_MAPERR): ("SIGSEGV", "SEGV_MAPERR"),
    (SIGSEGV, SEGV_ACCERR): ("SIGSEGV", "SEGV_ACCERR"),
    (SIGBUS, BUS_ADRERR): ("SIGBUS", "BUS_ADRERR"),
    (SIGKILL, SI_KERNEL): ("SIGKILL", "out of memory"),
}


@dataclass(frozen=True)
class Signal:
    """One signal: its name and code, the address, the mm, and the instruction by its number in the program."""

    signal: str
    code: str
    addr: int
    mm: int
    insn: int
    instruction: str

    def __str__(self) -> str:
        """The signal as a log would have it."""
        return f"{self.signal} ({self.code}) at {self.addr:#x} in insn {self.insn} {self.instruction}"


@dataclass(frozen=True)
class Signals:
    """What one CPU got: its first signal, its latest, and how many of each kind."""

    cpu: int
    first: Signal
    last: Signal
    sigsegv: int
    sigbus: int
    oom_kills: int

    def as_json(self) -> dict[str, Any]:
        """The object that --json writes; docs/json.md has its fields."""
        return asdict(self)

    def __str__(self) -> str:
        """The CPU's line."""
        total = self.sigsegv + self.sigbus + self.oom_kills
        return f"CPU {self.cpu}: {self.first}" + (f"; {total:,} in all, the last: {self.last}" if total > 1 else "")


def signals_of(views: Mapping[str, Any], geometry: Geometry) -> list[Signals]:
    """The signals of a machine, for each CPU that got one."""

    def read(row: int, cpu: int) -> Signal:
        info = views["siginfo"][row]
        name, code = NAMES[int(info["signo"]), int(info["code"])]
        pc = int(info["pc"])
        insn = pc - int(views["cpu"]["insn_base"][cpu])
        return Signal(name, code, int(info["addr"]), int(info["mm"]), insn, str(disassemble(views["insn"][pc])))

    found = []
    for cpu in range(geometry.cpus):
        counts = {name: int(views["cpu"][name][cpu]) for name in ("sigsegv", "sigbus", "oom_kills")}
        if any(counts.values()):
            found.append(Signals(cpu, read(2 * cpu, cpu), read(2 * cpu + 1, cpu), **counts))
    return found
