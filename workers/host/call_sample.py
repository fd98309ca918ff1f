"""Which memory a process releases while one looks: its madvise calls for some seconds, by perf trace or strace.

perf trace does not stop the process, and needs root; strace stops it at each call, and needs the right to ptrace it.
Either is let go by an interrupt, and dies with this process.
"""

from __future__ import annotations

import contextlib
import ctypes
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_PATIENCE = 10.0  # seconds that a tool may take to let go
_POLL = 0.05
_STARTING = 0.5  # seconds that a tool takes to begin
_PR_SET_PDEATHSIG = 1

_DONTNEED = ("MADV_DONTNEED", "MADV_DONTNEED_LOCKED", "0x18", "24")
_FREE = ("MADV_FREE", "0x8", "8")
_STRACE = re.compile(r"\bmadvise\((0x[0-9a-f]+|NULL), (\d+), (\w+)")
_PERF = re.compile(r"\bmadvise\(start: (0x[0-9a-f]+|NULL), len_in: (\d+), behavior: (\w+)")
_VECTOR = re.compile(r"\bprocess_madvise\(\S+ (\[.*?\]), \d+, (\w+)")
_PIECE = re.compile(r"iov_base=(0x[0-9a-f]+|NULL), iov_len=(\d+)")
_THREAD = re.compile(r"(?:\[pid +)?(\d+)\]? +\w|.*?\): .*?/(\d+) \w+\(")
_LOST = re.compile(r"LOST (\d+) events")


class SampleUnavailable(Exception):
    """No tool may look at the process; the text says what to install or which right is missing."""


@dataclass
class Calls:
    """What was seen: each release of memory as (thread, address, length) in bytes; other calls are counted
    by thread and kind: free, munmap, undecoded.

    The thread is 0 where the tool names none, because there is one only.
    """

    tool: str
    seconds: float = 0.0
    released: list[tuple[int, int, int]] = field(default_factory=list)
    others: Counter[tuple[int, str]] = field(default_factory=Counter)
    lost: int = 0

    def take(self, line: str) -> None:
        """Enter one line of a tool's output; a call that failed, or is only resumed there, does not count."""
        if lost := _LOST.search(line):
            self.lost += int(lost[1])
        elif "= -1 " in line or ") = -" in line:
            return
        elif found := _STRACE.search(line) or _PERF.search(line):
            self._enter(line, found[3], [(found[1], found[2])])
        elif "process_madvise(" in line:
            if vector := _VECTOR.search(line):
                self._enter(line, vector[2], _PIECE.findall(vector[1]))
            elif "resumed" not in line:
                self.others[_thread(line), "undecoded"] += 1
        elif "munmap(" in line:
            self.others[_thread(line), "munmap"] += 1

    def _enter(self, line: str, advice: str, pieces: Iterable[tuple[str, str]]) -> None:
        tid = _thread(line)
        if advice in _DONTNEED:
            self.released += [(tid, int(addr, 16), int(length)) for addr, length in pieces if addr != "NULL"]
        elif advice in _FREE:
            self.others[tid, "free"] += 1


def _thread(line: str) -> int:
    """The thread that a line names, 0 if it names none."""
    found = _THREAD.match(line)
    return int(found[1] or found[2]) if found else 0


def _die_with_parent() -> None:
    """In the child before exec: SIGINT when the parent dies, so that a traced process is let go."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)


@contextlib.contextmanager
def _running(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A tool that runs; it is interrupted at the end, and killed if it does not end then."""
    with log.open("wb") as stderr:
        tool = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr, preexec_fn=_die_with_parent
        )
    try:
        yield tool
    finally:
        tool.send_signal(signal.SIGINT)
        try:
            tool.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            tool.kill()
            tool.wait()


def _commands(pids: Sequence[int], out: Path, follow: bool) -> dict[str, list[str]]:
    """How to look at processes, the gentler tool first; only strace follows to processes that they fork."""
    calls, who = "madvise,process_madvise,munmap", ",".join(map(str, pids))
    perf = ["perf", "trace", "-e", calls, "-p", who, "-o", str(out)]
    strace = ["strace", "-f", "-qq", "-e", f"trace={calls}", "-p", who, "-o", str(out)]
    return {"strace": strace, "perf": perf} if follow else {"perf": perf, "strace": strace}


def sample(
    pids: Sequence[int], seconds: float, progress: Callable[[float], None] = lambda share: None, follow: bool = False
) -> Calls:
    """Look at the calls of processes for some seconds, or until they end; `progress` is told the share of the time.

    With `follow` those that they fork meanwhile are looked at, too. Raises SampleUnavailable.
    """
    problems = []
    with tempfile.TemporaryDirectory(prefix="ptelab-") as directory:
        out, log = Path(directory) / "calls", Path(directory) / "log"
        for name, command in _commands(pids, out, follow).items():
            if shutil.which(name) is None:
                problems.append(f"{name} is not installed")
                continue
            calls = Calls(name)
            if _look(command, log, seconds, progress, calls):
                with out.open(encoding="utf-8", errors="replace") as lines:
                    for line in lines:
                        calls.take(line)
                return calls
            said = log.read_text(errors="replace").strip().splitlines()
            problems.append(f"{name}: {said[-1].strip() if said else 'ended at once'}")
    raise SampleUnavailable(f"cannot sample process {pids[0]}: {'; '.join(problems)}")


def _look(command: list[str], log: Path, seconds: float, progress: Callable[[float], None], calls: Calls) -> bool:
    """Let a tool run for some seconds; False if it could not begin."""
    began = time.monotonic()
    seconds += _STARTING
    with _running(command, log) as tool:
        while (passed := time.monotonic() - began) < seconds and tool.poll() is None:
            progress(passed / seconds)
            time.sleep(min(_POLL, seconds - passed))
        failed = tool.poll() not in (None, 0) and time.monotonic() - began < seconds
    calls.seconds = time.monotonic() - began
    return not failed
