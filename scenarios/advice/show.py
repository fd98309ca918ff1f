"""Advice as text: a page for one process, a table for many, a line now and then."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Mapping as Names
from collections.abc import Sequence

from scenarios.advice.advice import Advice
from scenarios.advice.designs import Gain
from scenarios.advice.needed import KB_OF_TABLE
from scenarios.advice.reading import Reading
from scenarios.advice.sampled import Sampled
from scenarios.session import report
from scenarios.session.style import style

SHOWN_MAPPINGS = 5
EXPLAINED = 5  # processes of a table whose cause is told


def _range(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,} .. {high:,}"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "-"


def _told(word: str, text: str) -> None:
    """A word and what there is to say of it, no line longer than the page."""
    for line in textwrap.wrap(text, style().width - 10, break_long_words=False):
        report.write(f"{word:<9} {line}")
        word = ""


def _name(text: str, length: int) -> str:
    """A name of somebody else's, printable and no longer than that; of a path the end is what tells."""
    plain = "".join(letter if letter.isprintable() else "?" for letter in text)
    return plain if len(plain) <= length else "..." + plain[3 - length :]


def page(advice: Advice, facts: Names[str, str]) -> None:
    """Everything of one process."""
    reading, status = advice.reading, advice.reading.status
    when = "" if advice.moment is None else f", {advice.moment:.1f} s after the start, when it wasted most"
    report.write(
        f"process {status.pid} ({_name(status.name, 16)}) on Linux {facts['release']}{when}; "
        f"read by {reading.method} in {1000 * reading.seconds:.1f} ms"
    )
    report.write()
    _figures(reading)
    if advice.last is not None:
        last = advice.last
        report.write(f"last look  held {last.held:,} kB, needed {last.needed_low:,} kB, waste {last.waste:,} kB")
    for text in reading.missing:
        report.write(f"not read   {text}; so these are bounds")
    report.write()
    _designs(advice.gains)
    _mappings(reading)
    if advice.sampled is not None:
        _sample(advice.sampled)
    for found in advice.remedies:
        _told("cause", found.cause)
        _told("remedy", found.remedy)
    if reading.needed is None:
        _told("cause", "unknown: look as the user of the process, as root, or with CAP_SYS_PTRACE")
    elif not advice.remedies:
        _told("cause", "nothing to tell: its tables are needed, or too few to matter")


def _figures(reading: Reading) -> None:
    """Held, needed, waste."""
    status, needed = reading.status, reading.needed
    both = f"VmPTE; {reading.held_before:,} kB before the look, {reading.held_after:,} kB after it"
    report.write(f"held     {reading.held:>14,} kB   {both}")
    levels = "by the sizes in /proc/PID/status: a table maps 1 to 512 pages"
    if needed is not None:
        kb = [KB_OF_TABLE * count for count in (needed.pte + needed.deposited, needed.pmd, needed.pud)]
        levels = "PTE {:,}  PMD {:,}  PUD {:,}".format(*kb)
    report.write(f"needed   {_range(reading.needed_low, reading.needed_high):>14} kB   {levels}")
    if needed is not None:
        kept = {
            "deposited under huge pages": needed.deposited,
            "only the zero page": needed.only_zero,
            "only swap entries": needed.only_swap,
            "only guards": needed.only_guard,
            "only uffd-wp markers": needed.only_uffd_wp,
            "several of these": needed.only_mixed,
        }
        for what, tables in kept.items():
            if tables:
                report.write(f"  of it  {KB_OF_TABLE * tables:>14,} kB   {what}")
    text = _range(reading.waste_low, reading.waste_high) if reading.missing else f"{reading.waste:,}"
    error = f", error {reading.error:,} kB: it runs" if reading.error else ""
    unsure = reading.waste - reading.waste_low
    hidden = f", {unsure:,} kB may be a device's, which the kernel does not show" if unsure else ""
    report.write(f"waste    {text:>14} kB   {_percent(reading.waste, reading.held)} of what is held{error}{hidden}")
    report.write(f"for      {status.rss:>14,} kB   resident, {status.swap:,} kB in swap, {status.size:,} kB mapped")


def _designs(gains: Sequence[Gain]) -> None:
    """What each design gives back."""
    rows = [[gain.design, _range(gain.low, gain.high), gain.why] for gain in gains]
    report.table(["design", "gives back, kB", "why"], rows, left=(0, 2))


def _mappings(reading: Reading) -> None:
    """The mappings that may hold the empty tables."""
    found = sorted(reading.mappings, key=lambda one: -one.may_waste_high)[:SHOWN_MAPPINGS]
    rows = []
    for one in found:
        if one.may_waste_high:
            waste = _range(KB_OF_TABLE * one.may_waste_low, KB_OF_TABLE * one.may_waste_high)
            name = _name(one.vma.name or "anonymous", 28)
            used = f"{KB_OF_TABLE * one.used:,}"
            rows.append([f"{one.vma.start:#x}", report.size((one.vma.end - one.vma.start) >> 10), used, waste, name])
    report.table(["mapping", "size", "needed, kB", "empty, kB", "of"], rows, left=(0, 4))


def _sample(seen: Sampled) -> None:
    """What the sampled calls say of PT_RECLAIM and of the designs beside it."""
    _told(
        "sampled",
        f"{seen.seconds:.1f} s by {seen.tool}: {seen.calls:,} MADV_DONTNEED, {seen.free_calls:,} MADV_FREE, "
        f"{seen.munmap_calls:,} munmap" + (f"; {seen.lost:,} events lost" if seen.lost else ""),
    )
    if seen.undecoded:
        _told("", f"{seen.undecoded:,} process_madvise calls whose pieces the tool does not show")
    if seen.calls:
        _told(
            "",
            f"{seen.covering:,} of these ({100 * seen.covering_share:.1f} %) cover a whole 2 MiB; "
            f"the median is {int(seen.median) >> 10:,} kB",
        )
        _told("", f"pt-reclaim frees at most {KB_OF_TABLE * seen.covered:,} kB of tables for them")
        _told("", f"pt-reclaim-any and refcount up to {KB_OF_TABLE * seen.emptied:,} kB more: 2 MiB emptied in pieces")
    report.write()


def table(found: Sequence[Advice], failed: int) -> None:
    """Many processes, the most waste first, and what is to be said of the worst."""
    rows = [_row(advice) for advice in found]
    if len(found) > 1:
        total = [sum(part) for part in zip(*((a.reading.held, a.reading.waste) for a in found), strict=True)]
        rows.append(["all", f"{len(found)} processes", f"{total[0]:,}", "", f"{total[1]:,}", "", "", ""])
    header = ["pid", "command", "held, kB", "needed, kB", "waste, kB", "waste", "RSS, kB", "cause"]
    report.table(header, rows, left=(0, 1, 7))
    told = [advice for advice in found if advice.level != "ok" and advice.remedies]
    for advice in told[:EXPLAINED]:
        first = advice.remedies[0]
        _told(str(advice.reading.status.pid), first.cause)
        _told("", f"remedy: {first.remedy}")
    if failed:
        report.write(f"{failed} of them not fully read: no right to look at their pages; these are bounds")


def _row(advice: Advice) -> list[str]:
    reading, status = advice.reading, advice.reading.status
    kind = advice.remedies[0].kind if advice.remedies else "" if reading.needed else "no right"
    return [
        str(status.pid),
        _name(status.name, 16),
        f"{reading.held:,}",
        _range(reading.needed_low, reading.needed_high),
        f"{reading.waste:,}",
        _percent(reading.waste, reading.held),
        f"{status.rss:,}",
        kind,
    ]


def shared(rows: Sequence[tuple[str, int, int]]) -> None:
    """Files whose tables weigh on the machine."""
    for name, processes, kb in rows:
        _told("shared", f"{_name(name, 60)}: {report.size(kb)} of tables in {processes} processes")
        _told("", "remedy: huge pages for it, pread(2), or fewer processes; each has tables of its own")


def machine(tables: Names[str, int]) -> None:
    """What the kernel says of all page tables."""
    names = {"PageTables": "page tables", "SecPageTables": "of virtual machines", "MemTotal": "memory"}
    said = [f"{text} {report.size(tables[name])}" for name, text in names.items() if name in tables]
    report.write(f"machine   {', '.join(said)}")


def line(advice: Advice, before: Reading | None, header: bool) -> None:
    """One look of a watch."""
    reading = advice.reading
    if header:
        report.write("time       pid      command           held, kB     needed, kB   waste, kB  waste   since last")
    status = reading.status
    change = "" if before is None else f"{reading.held - before.held:+,}"
    report.write(
        f"{time.strftime('%H:%M:%S')}   {status.pid:<8} {_name(status.name, 15):<15} {reading.held:>10,} "
        f"{_range(reading.needed_low, reading.needed_high):>14} {reading.waste:>11,} "
        f"{_percent(reading.waste, reading.held):>6} {change:>12}"
    )
