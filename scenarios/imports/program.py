"""A program that is run here and leaves a memory trace: its calls and faults by perf, or its calls by strace.

Meanwhile its page tables are sampled, and the trace expects what was found. perf sees every fault, and needs root;
strace needs no right for one's own programs, and slows them. With strace, which pages are touched comes from samples
of pagemap.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from scenarios.imports.account import Account
from scenarios.imports.calls import CREATES, NOT_MODELLED, PARAMETERS, SAMPLE, SNAPSHOT, Event
from scenarios.imports.command import Imported, build
from scenarios.imports.lines import Lines
from scenarios.imports.perf_script import PerfScript
from scenarios.imports.snapshot import Line, Snapshot
from scenarios.imports.strace import Strace
from scenarios.session.errors import UserError
from scenarios.session.files import stdout_is_taken
from scenarios.session.progress import note
from workers.host import page_scan
from workers.host.process_files import NotReadable, ProcessGone, Vma, family, read_maps, read_status

TOOLS = ("perf", "strace")
EVERY = 0.1  # seconds between two samples
_LOOKS = 4  # at mappings that change while they are read
_SHARE = 4  # samples may take a fourth of a processor
_PATIENCE = 20.0  # seconds that a tool has to write what it saw
_TRACEPOINTS = Path("/sys/kernel/tracing/events")
_WITHOUT = ("ioctl", "exit", "exit_group", "open", "openat", "close", *CREATES)  # tasks have their own points
_TASKS = "task:task_newtask,sched:sched_process_exec,sched:sched_process_exit"
_FAULTS = "exceptions:page_fault_user,exceptions:page_fault_kernel"
_DELAY = 120_000  # microseconds between exec and the first instruction, and before exit, for a sample of each
_KINDS = (
    (page_scan.GUARD, "guard"),
    (page_scan.PFNZERO, "zero"),
    (page_scan.SWAPPED, "swap"),
    (page_scan.FILE, "file"),
)
INSTALL = "apt-get install strace, or linux-perf and root"


class Sampler:
    """The page tables and mappings of all processes of a tool's program, now and then; `pages`: and their pages."""

    def __init__(self, tool: int, clock: Callable[[], float], pages: bool, every: float) -> None:
        self._tool, self._clock, self._pages, self._every = tool, clock, pages, every
        self._next = 0.0
        self.found: list[Event] = []
        self.last: dict[int, Event] = {}  # process -> its mappings when it was looked at last

    def look(self) -> None:
        """Look, if the last look is long enough ago."""
        began, spent = time.monotonic(), time.thread_time()
        if began < self._next:
            return
        for pid in family(self._tool)[1:]:
            with contextlib.suppress(ProcessGone, NotReadable, page_scan.NoPagemapScan, OSError):
                if not os.path.samefile(f"/proc/{pid}/exe", f"/proc/{self._tool}/exe"):  # it has yet to exec
                    self._sample(pid)
        self._next = began + max(self._every, _SHARE * (time.thread_time() - spent))

    def _sample(self, pid: int) -> None:
        vmas, still = read_maps(pid), False
        for _ in range(_LOOKS):
            at, before, vmas = self._clock(), vmas, read_maps(pid)
            if still := vmas == before:  # the mappings were these at that time
                break
        snapshot = Snapshot(pid, [_line(vma) for vma in vmas], whole=still)
        event = Event(SNAPSHOT, "a sample", 0, at, pid, snapshot=snapshot)
        if self._pages:
            for low, high, what in page_scan.pagemap_scan(pid, vmas).tolist():
                snapshot.pages.append((low, high, _kind(what)))
            self.found.append(event)
        if still or pid not in self.last:
            self.last[pid] = event
        status = read_status(pid)
        if status.vmpte:
            args = {"vmpte": status.vmpte, "rss": status.rss_anon}
            self.found.append(Event(SAMPLE, "a sample", 0, self._clock(), pid, args=args))

    def events(self) -> Iterator[Event]:
        """All that was found, in its order; without pages, mappings are those of the last look alone."""
        return iter(self.found if self._pages else sorted([*self.found, *self.last.values()], key=_time))


def _time(event: Event) -> float:
    return event.time or 0.0


def _kind(categories: int) -> str:
    return next((kind for bit, kind in _KINDS if categories & bit), "anon")


def _line(vma: Vma) -> Line:
    prot = sum(bit for bit, letter in zip((1, 2, 4), vma.perms, strict=False) if letter != "-")
    return Line(vma.start, vma.end, prot, "s" in vma.perms, 0, vma.inode, vma.name)


def _perf_command(data: Path, command: Sequence[str]) -> list[str]:
    """perf with every call and fault."""
    wanted = (name for name in (*PARAMETERS, *sorted(NOT_MODELLED)) if name not in _WITHOUT)
    calls = [name for name in wanted if (_TRACEPOINTS / "syscalls" / f"sys_enter_{name}").exists()]
    points = ",".join(f"syscalls:sys_enter_{name},syscalls:sys_exit_{name}" for name in calls)
    events = ["-e", _FAULTS, "-e", _TASKS, *(["-e", points] if points else [])]
    return ["perf", "record", "-q", "-d", "-k", "mono", "-m", "4M", *events, "-o", str(data), "--", *command]


def _strace_command(log: Path, command: Sequence[str]) -> list[str]:
    """strace with every call that has to do with memory."""
    calls = "%memory,%process,process_madvise,fallocate,ftruncate,memfd_create,shmget,ioctl"
    # strace does not delay the first exec of all, but the loader's first call
    delay = [f"-einject=execve:delay_exit={_DELAY}", f"-einject=brk:delay_enter={_DELAY}:when=1"]
    delay += [f"-einject=exit_group:delay_enter={_DELAY}"]
    return ["strace", "-f", "-qq", "-ttt", "-y", *delay, "-e", f"trace={calls}", "-o", str(log), *command]


def _perf_works() -> str:
    """Why perf cannot be used; nothing if it can."""
    if shutil.which("perf") is None:
        return "perf is not installed"
    tried = subprocess.run(
        ["perf", "record", "-q", "-e", _FAULTS, "-o", "/dev/null", "--", "true"],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    said = tried.stderr.strip().splitlines()
    return "" if tried.returncode == 0 else f"perf: {said[0] if said else 'failed'}"


def choose_tool(wanted: str | None) -> str:
    """The tool that is asked for, or the first that can be used. Raises UserError with what to install."""
    problems = []
    for tool in [wanted] if wanted else TOOLS:
        problem = _perf_works() if tool == "perf" else "" if shutil.which("strace") else "strace is not installed"
        if not problem:
            return str(tool)
        problems.append(problem)
    raise UserError(f"no tool can look at a program: {'; '.join(problems)}; {INSTALL}")


def _run(tool: list[str], sampler_of: Callable[[int], Sampler]) -> Sampler:
    """Run a tool with its program to the end, and sample meanwhile. Raises UserError.

    What the program prints goes to stderr if stdout is for the trace.
    """
    with contextlib.suppress(NotReadable, page_scan.NoPagemapScan):
        page_scan.pagemap_scan(os.getpid(), read_maps(os.getpid()))  # the first takes longer than a program may live
    try:
        process = subprocess.Popen(tool, stdout=sys.stderr if stdout_is_taken() else None)
    except OSError as error:
        raise UserError(f"{tool[0]} cannot be run: {error.strerror}") from None
    sampler = sampler_of(process.pid)
    try:
        while process.poll() is None:
            sampler.look()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.01)
    except BaseException:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE)
        process.kill()
        process.wait()
        raise
    if process.returncode:
        note(f"the program ended with status {process.returncode}")
    return sampler


def record_command(command: Sequence[str], out: str, tool: str | None = None, every: float = EVERY) -> Imported:
    """Run a command and write the trace of it. Raises UserError."""
    if shutil.which(command[0]) is None:
        raise UserError(f"--program '{command[0]}' cannot be run: there is no such program")
    chosen = choose_tool(tool)
    account = Account()
    title = f"record --program {' '.join(command)}"
    with tempfile.TemporaryDirectory(prefix="ptelab-") as name:
        directory = Path(name)
        if chosen == "perf":
            sampler = _run(
                _perf_command(directory / "data", command), lambda pid: Sampler(pid, time.monotonic, False, every)
            )
            events: Iterator[Event] = iter(PerfScript(Lines(_script(directory)), account))
        else:
            log = directory / "calls"
            sampler = _run(_strace_command(log, command), lambda pid: Sampler(pid, time.time, True, every))
            events = iter(Strace(Lines(str(log)), account, several=True))
        together = heapq.merge(_keyed(events, 0), _keyed(sampler.events(), 1))
        return build((event for *_, event in together), account, out, "none" if chosen == "perf" else "pagemap", title)


def _script(directory: Path) -> str:
    """perf's recording as text, in a file."""
    options = ["--show-task-events", "--show-mmap-events", "--show-lost-events"]
    with (directory / "script").open("wb") as text:
        subprocess.run(
            ["perf", "script", "-i", str(directory / "data"), *options],
            stdout=text,
            stderr=subprocess.DEVNULL,
            check=False,
        )
    (directory / "data").unlink()
    return str(directory / "script")


def _keyed(events: Iterator[Event], source: int) -> Iterator[tuple[float, int, int, Event]]:
    """Events with what orders them: time, and where that is the same where they are from."""
    now = 0.0
    for i, event in enumerate(events):
        now = max(now, event.time or now)
        yield now, source, i, event
