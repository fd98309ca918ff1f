"""The text of an arena: tables for each workload, the summary, and the cover letter's own."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from emulator.policy.policies import POLICIES
from scenarios.arena.figures import (
    BASELINE,
    Row,
    added_ns,
    beaten_by,
    given_back,
    key,
    median,
    rows_by_policy,
    spread,
    values,
)
from scenarios.arena.workloads import PAGES, SHARES, WORKLOADS
from scenarios.reports.throughput import error_of_mean
from scenarios.session import report

COVER_LETTER = {1: 32_085_255, 8: 101_674_967, 16: 113_207_000}


def number(value: float | None, digits: int = 0) -> str:
    """A figure, or - where it does not apply."""
    return "-" if value is None else f"{value:,.{digits}f}"


def measured(row: Row, figure: str, digits: int = 1, unit: float = 1) -> str:
    """The median of the repeats, and the standard deviation of their mean."""
    found = values(row, figure)
    if not found:
        return "-"
    return f"{statistics.median(found) / unit:,.{digits}f} +- {spread(found):.1f}%"


def duration(microseconds: float | None) -> str:
    """A time in the unit that reads best, - where it does not apply."""
    if microseconds is None:
        return "-"
    return f"{microseconds / 1000:,.1f} ms" if microseconds >= 1000 else f"{microseconds:,.1f} us"


def added(row: Row, base: Row | None, spread_ns: bool = False) -> str:
    """Nanoseconds per fault over the baseline; if asked for, with the standard deviation of their mean."""
    if base is None or base is row or not values(row, "ns_per_fault"):
        return "-"
    found = added_ns(row, base)
    return f"{statistics.median(found):+,.1f}" + (f" +- {error_of_mean(found):,.1f}" if spread_ns else "")


def show_workload(rows: Sequence[Row]) -> None:
    """Two tables: memory and traffic; and time, where it is asked for."""
    name, cpus = key(rows[0])
    chunks = f", {rows[0]['chunks']:,} pieces of 2 MiB" if rows[0]["chunks"] else ""
    crowd = f", {cpus} CPU{'s' * (cpus > 1)}" if WORKLOADS[name].many else ""
    report.write(f"{name}{crowd}{chunks}: {WORKLOADS[name].asks}")
    base = next((row for row in rows if row["policy"] == BASELINE), None)
    memory = ["left_kb", "later_kb", "peak_kb", "needed_kb", "limbo_tables", "tables_freed"]
    traffic = ["flushes", "ipis", "grace_periods"]
    report.table(
        ["policy", "left kB", "later", "peak", "needed", "limbo", "freed", "flushes", "IPIs", "GPs"],
        [[row["policy"], *(number(median(row, figure)) for figure in (*memory, *traffic))] for row in rows],
    )
    if not WORKLOADS[name].timed:
        return
    report.table(
        ["policy", "M pf/min", "ns per fault", "added", "ns per zap", "to reuse", "p99"],
        [
            [
                row["policy"],
                measured(row, "pf_per_min", 1, 1e6),
                measured(row, "ns_per_fault"),
                added(row, base),
                measured(row, "ns_per_zap", 0),
                duration(median(row, "reuse_median_us")),
                duration(median(row, "reuse_p99_us")),
            ]
            for row in rows
        ],
    )


def show_given_back(rows: Sequence[Row]) -> None:
    """Per policy and workload: how much of what the baseline wastes is given back."""
    policies = rows_by_policy(rows)
    base = policies.get(BASELINE, {})
    sized = [of for of in base if WORKLOADS[of[0]].sized]
    if not sized:
        return
    lines = []
    for name, mine in policies.items():
        shares = [given_back(mine[of], base[of]) if of in mine else None for of in sized]
        lines.append([name, *(number(share) for share in shares)])
    report.table(
        ["policy", *(of[0] for of in sized)],
        lines,
        f"given back: per cent of the tables under {BASELINE} that the policy does not need",
    )


def show_costs(rows: Sequence[Row]) -> None:
    """Per policy: what it costs a fault and a zap, and how late memory comes back."""
    policies = rows_by_policy(rows)
    base = policies.get(BASELINE, {})
    faults = sorted(of for of in {key(row) for row in rows} if of[0] == "multi-fault")
    ends = list(dict.fromkeys([*faults[:1], *faults[-1:]]))
    zaps = [of for of in (("pieces-4k", 1), ("one-slot", 1)) if any(of in mine for mine in policies.values())]
    header = ["policy", *(f"+ ns/fault, {cpus} CPU{'s' * (cpus > 1)}" for _, cpus in ends)]
    header += [*(f"ns/zap, {name}" for name, _ in zaps), "to reuse", "p99", "B/table", "B/CPU"]
    lines = []
    for name, mine in policies.items():
        cells = [added(mine[of], base.get(of), True) if of in mine else "-" for of in ends]
        cells += [number(median(mine[of], "ns_per_zap")) if of in mine else "-" for of in zaps]
        late = mine.get(("sweep", 1))
        cells += [duration(median(late, figure)) if late else "-" for figure in ("reuse_median_us", "reuse_p99_us")]
        lines.append([name, *cells, f"{POLICIES[name].table_bytes:,}", f"{POLICIES[name].cpu_bytes:,}"])
    report.table(header, lines, f"what it costs, over {BASELINE}; how late a table can be used again (sweep)")


def show_rules(rows: Sequence[Row]) -> None:
    """Per policy: the readers' rule, the hole, and which policies beat it in everything that was measured."""
    lines = []
    for name, beating in beaten_by(rows).items():
        policy = POLICIES[name]
        lines.append([name, policy.readers or "-", policy.hole or "-"])
        if beating:
            lines[-1][0] = f"{name} *"
    report.table(
        ["policy", "readers", "hole"], lines, "a look at a table is protected by; what is left open", (0, 1, 2)
    )
    for name, beating in beaten_by(rows).items():
        if beating:
            report.write(f"* {name} is beaten in everything by {', '.join(beating)}")
    report.write()


def show_cover_letter(rows: Sequence[Row]) -> None:
    """The cover letter's table with every policy as a column: page faults per minute, in millions."""
    faults = sorted({row["cpus"] for row in rows if row["workload"] == "multi-fault"})
    if not faults:
        return
    policies = rows_by_policy(rows)
    lines = []
    for cpus in faults:
        letter = f"{COVER_LETTER[cpus] / 1e6:.1f}" if cpus in COVER_LETTER else "-"
        of = ("multi-fault", cpus)
        cells = [measured(mine[of], "pf_per_min", 1, 1e6) if of in mine else "-" for mine in policies.values()]
        lines.append([str(cpus), letter, *cells])
    report.table(["threads", "2021, before", *policies], lines, "the cover letter's table: M page faults per minute")


def kept_share(row: Row) -> float:
    """Per cent of the PTE tables that were not freed: each piece has had one."""
    return 100 * (1 - float(median(row, "tables_freed") or 0) / row["chunks"])


def show_kept(rows: Sequence[Row]) -> None:
    """Pages that stay by chance: per cent of the tables that stay with them, and the share that must."""
    policies = rows_by_policy(rows)
    cases = [
        (name, share) for name, share in SHARES.items() if any((f"kept-{name}", 1) in of for of in policies.values())
    ]
    if not cases:
        return
    lines = [["some page stays: 1 - (1 - q)^512", *(f"{100 * (1 - (1 - share) ** PAGES):.1f}" for _, share in cases)]]
    for name, mine in policies.items():
        found = (mine.get((f"kept-{share}", 1)) for share, _ in cases)
        lines.append([name, *(number(None if of is None else kept_share(of), 1) for of in found)])
    report.table(["policy", *(f"q = {name}" for name, _ in cases)], lines, "per cent of the PTE tables that are left")


def show(rows: Iterable[Row]) -> None:
    """Everything, workload by workload, then the summary."""
    rows = list(rows)
    for of in dict.fromkeys(key(row) for row in rows):
        show_workload([row for row in rows if key(row) == of])
    show_cover_letter(rows)
    show_kept(rows)
    show_given_back(rows)
    show_costs(rows)
    show_rules(rows)
