"""advise: which page tables of a live process hold nothing, what each design would give back, and what to do now.

Nothing is written to a process and none is stopped, unless --sample looks at its calls. One's own processes need no
right; of those of others, what everybody may read gives bounds.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterable
from typing import Any

import click

from scenarios.advice import show
from scenarios.advice.advice import Advice
from scenarios.advice.job import Job, deliver
from scenarios.advice.reading import NoAddressSpace, Reading, read
from scenarios.advice.remedies import shared_files
from scenarios.advice.sampled import Sampled, judge
from scenarios.advice.watched import Watched
from scenarios.session import errors
from scenarios.session.files import output_file
from scenarios.session.options import REST, digits, number, output_options, takes_rest
from scenarios.session.progress import Progress, note
from scenarios.session.style import style
from workers.host import page_scan, process_files
from workers.host.call_sample import Calls, SampleUnavailable, sample
from workers.host.process_files import NotReadable, ProcessGone

PAGE = 4096
_TOP = 20  # processes that a watch of all shows
_NO_ONE = "no process to advise; known: PID ..., --name NAME, --all, --command CMD ..."


def _pid(word: str) -> int:
    """A PID of the user's."""
    if not 0 < (pid := digits(word) or 0) < 1 << 31:
        raise errors.UserError(f"'{word}' is not a PID; known: a number above 0; --name NAME takes a command's name")
    return pid


def _check(job: Job, rest: list[str] | None) -> None:
    """Refuse what does not go together, or cannot be done here. Raises UserError."""
    if sys.platform != "linux" or os.sysconf("SC_PAGE_SIZE") != PAGE:
        raise errors.UserError(f"advise needs Linux with pages of {PAGE} bytes")
    ways = [bool(job.pids), job.name is not None, job.everyone, rest is not None]
    if sum(ways) > 1:
        raise errors.UserError("PID, --name, --all and --command exclude each other")
    if not any(ways):
        raise errors.UserError(_NO_ONE)
    if rest == []:
        raise errors.UserError("--command takes a command and its arguments, to the end of the line")
    if job.everyone and job.seconds is not None:
        raise errors.UserError("--sample looks at the calls of few processes; known: with PID, --name or --command")
    if job.watch is not None and job.seconds is not None:
        raise errors.UserError("--watch and --sample exclude each other")
    if style().format == "csv" and job.watch is not None:
        raise errors.UserError("--format csv is one look; known: without --watch")


def _wanted(job: Job) -> list[int]:
    """The PIDs that were asked for, as they are now."""
    if job.pids:
        return job.pids
    return [pid for pid in process_files.all_pids() if job.everyone or _named(pid, job.name or "")]


def _named(pid: int, name: str) -> bool:
    """True if a process has a name: the whole of it, or the first 15 letters, which are what the kernel keeps."""
    with contextlib.suppress(ProcessGone):
        return pid != os.getpid() and process_files.read_status(pid).name == name[:15]
    return False


def _readings(job: Job, pids: Iterable[int]) -> list[Reading]:
    """What can be read; of a PID that was named and cannot be, a note says why."""
    found = []
    for pid in pids:
        try:
            found.append(read(pid))
        except (ProcessGone, NoAddressSpace) as error:
            if job.pids:
                note(str(error))
                job.failed = True
    return found


def _ordered(found: Iterable[Advice]) -> list[Advice]:
    """The most waste first."""
    return sorted(found, key=lambda one: (-one.reading.waste, -one.reading.held, one.reading.status.pid))


def _sample_of(job: Job, pid: int) -> Sampled | None:
    """What the calls of a process say, if some tool may look at them."""
    if job.seconds is None:
        return None
    try:
        with Progress(f"sampling process {pid}") as progress:
            return _judged(pid, sample([pid], job.seconds, progress.update))
    except SampleUnavailable as error:
        note(str(error))
        return None


def _judged(pid: int, calls: Calls) -> Sampled:
    """The calls, judged by the entries that there are after them."""
    try:
        ranges = page_scan.pagemap_scan(pid, process_files.read_maps(pid))
    except (ProcessGone, NotReadable, page_scan.NoPagemapScan):
        ranges = page_scan.read_pagemap(os.getpid(), [])[0]
    return judge(calls, {0, *process_files.threads_of(pid)}, ranges)


def _show(job: Job, found: list[Advice]) -> None:
    """One process as a page, several as a table."""
    if job.quiet:
        return
    if len(found) == 1 and not job.everyone:
        show.page(found[0], job.facts)
        return
    unread = sum(advice.reading.needed is None for advice in found)
    show.table(found[: _TOP if job.watch else None], unread)
    show.shared(shared_files(advice.reading for advice in found))
    if job.everyone:
        show.machine(job.machine)


def _once(job: Job) -> int:
    """One look at each."""
    pids = _wanted(job)
    if not pids:
        raise errors.UserError(f"no process is named '{job.name}'")
    samples = {pid: _sample_of(job, pid) for pid in pids}
    found = _ordered(job.advise(reading, sampled=samples[reading.status.pid]) for reading in _readings(job, pids))
    if found:
        _show(job, found)
        deliver(job, found)
    return errors.USAGE if job.failed else errors.OK


def _watch(job: Job, every: float) -> int:
    """A look now and then, until all that was named has gone, or an interrupt."""
    before: dict[int, Reading] = {}
    lines = 0
    while True:
        began = time.monotonic()
        job.machine = process_files.system_tables()
        readings = _readings(job, _wanted(job)) if not before or job.everyone else _alive(before)
        if not readings:
            if not before:
                raise errors.UserError(f"no process is named '{job.name}'" if job.name else "none of these can be read")
            return errors.USAGE if job.failed else errors.OK
        found = _ordered(map(job.advise, readings))
        if job.everyone:
            _show(job, found)
        elif not job.quiet:
            for advice in found:
                show.line(advice, before.get(advice.reading.status.pid), header=lines == 0)
                lines += 1
        deliver(job, found, streaming=True)
        sys.stdout.flush()
        before = {reading.status.pid: reading for reading in readings}
        time.sleep(max(0.0, began + every - time.monotonic()))


def _alive(before: dict[int, Reading]) -> list[Reading]:
    """Another look at the processes of the last one that are still there."""
    found = []
    for pid, reading in before.items():
        with contextlib.suppress(ProcessGone, NoAddressSpace):
            again = read(pid)
            if again.status.started == reading.status.started:
                found.append(again)
    return found


def _run(job: Job) -> int:
    """Run a command, and advise each of its processes as it was when it wasted most."""
    samples: dict[int, Sampled | None] = {}
    with Watched(job.command, to_stderr=job.quiet) as watched:
        if job.seconds is not None:
            samples = _sample_command(watched, job.seconds)
        _follow(job, watched)
        status = watched.status()
    if status:
        note(f"the command ended with {status}" if status > 0 else f"the command was ended by signal {-status}")
    found = _ordered(
        job.advise(most, last=watched.last[pid], moment=moment, sampled=samples.get(pid))
        for pid, (most, moment) in watched.most.items()
    )
    if not found:
        note("the command ended before anything could be read of it")
        return errors.INCONCLUSIVE
    if not job.quiet and len(found) > 1:
        show.table(found, sum(advice.reading.needed is None for advice in found))
    if not job.quiet:
        show.page(found[0], job.facts)
    deliver(job, found)
    return errors.OK


def _sample_command(watched: Watched, seconds: float) -> dict[int, Sampled | None]:
    """What the calls of the processes of a command say, by PID; they are looked at meanwhile."""
    watched.look()
    try:
        calls = sample(process_files.family(watched.pid), seconds, lambda share: watched.note(), follow=True)
    except SampleUnavailable as error:
        note(str(error))
        return {}
    watched.look()
    return {pid: _judged(pid, calls) for pid in watched.most}


def _follow(job: Job, watched: Watched) -> None:
    """Look until the command ends, with a line per process now and then if that was asked for."""
    due = 0.0
    before: dict[int, Reading] = {}
    for readings in watched.until_end():
        if job.watch is None or job.quiet or time.monotonic() < due:
            continue
        due = time.monotonic() + job.watch
        for reading in readings:
            show.line(job.advise(reading), before.get(reading.status.pid), header=not before)
            before[reading.status.pid] = reading
        sys.stdout.flush()


def _optional(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """A number of seconds, or nothing."""
    return None if value is None else number(0.01, 1e6)(context, parameter, value)


_HELP = (__doc__ or "").split(": ", 1)[1]


@click.command("advise", cls=takes_rest("--command"), help=_HELP[0].upper() + _HELP[1:])
@click.argument("pids", nargs=-1, metavar="[PID ...]")
@click.option("--all", "everyone", is_flag=True, help="Every process, the most waste first.")
@click.option("--name", metavar="NAME", help="The processes with that command name.")
@click.option("--command", "command_", metavar="CMD ...", help="Run the rest of the line, and look until it ends.")
@click.option("--watch", metavar="SECONDS", callback=_optional, help="Look again and again.")
@click.option("--sample", "seconds", metavar="SECONDS", callback=_optional, help="See its calls (perf, strace).")
@output_options
@click.option(
    "--prometheus",
    "prometheus_file",
    metavar="FILE",
    callback=output_file,
    help="Write metrics for the textfile collector.",
)
@click.pass_context
def command(ctx: click.Context, pids: tuple[str, ...], command_: str | None, **asked: Any) -> int:
    """Advise; the exit status."""
    rest: list[str] | None = ctx.meta[REST]
    job = Job(pids=list(dict.fromkeys(map(_pid, pids))), command=rest or [], **asked)
    _check(job, rest)
    if rest is not None:
        return _run(job)
    return _once(job) if job.watch is None else _watch(job, job.watch)
