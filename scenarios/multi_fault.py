"""multi-fault: what does the reference count cost per page fault?

The benchmark behind the cover letter's table: N CPUs share one mm and one private anonymous mapping of 8 MiB x N. CPU i
writes one word to each page of the first 2 MiB of its slot (512 faults), then waits at a barrier. CPU 0 alone issues
MADV_DONTNEED for every slot, then comes another barrier. Variant `arrive`: a CPU that does not madvise goes from the
first barrier straight to the second. Variant `self`: each CPU madvises its own slot at the same time as the others.
Variant `processes`: each CPU has an mm of its own. Rounds of the policies and of this host's real kernel are
interleaved.

Source: Qi Zheng, "[PATCH 0/7] Free user PTE page table pages", 2021-07-18; multi-fault.c by Hiroyuki Kamezawa.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable, Iterator
from typing import Any

import click

from emulator.mm_types import GP_BUCKETS, PCP_HIGH, PCP_ROOM, Geometry
from scenarios.reports.cover_letter import COVER_LETTER
from scenarios.session import options, report, session
from scenarios.session.progress import Progress, note
from scenarios.session.record import Record, in_use
from scenarios.settled import settled
from workers.host.fault_loop import HostUnavailable, measure_multi_fault
from workers.host.kernel_facts import kernel_facts
from workers.host.line_latency import disagree, probe, words
from workers.programs.program import arrive, barrier, dontneed, jump, mmap, touch
from workers.telling.whereabouts import many

SLOT, TOUCHED = 8 << 20, 2 << 20
REPEAT, MOST_ROUNDS = 5, 100  # rounds of each; with --until at most
BASE = 0x7F00_0000_0000
VARIANTS = ("barrier", "arrive", "self", "processes")
ATTEMPTS = 4  # at a round that shares lines, until their latency was the same before and behind it
WARM_UP = 0.1  # seconds before the measured ones: first touch of memory, caches
END_BARRIER, ROUND_BARRIER = 1, 0  # of a round; two, for CPUs that only arrive at one are at the other already


def programs(cpus: int, variant: str, seed: int) -> list[list[Any]]:
    """The program of each CPU."""
    result = []
    for cpu in range(cpus):
        slot = BASE + cpu * SLOT
        program = [mmap(BASE, cpus * SLOT)] if cpu == 0 or variant == "processes" else []
        program.append(barrier(END_BARRIER))
        loop = len(program)
        program.append(touch(slot, TOUCHED, value=seed + cpu + 1))
        if variant in ("barrier", "arrive"):
            program.append(arrive(ROUND_BARRIER) if variant == "arrive" and cpu != 0 else barrier(ROUND_BARRIER))
            if cpu == 0:
                program += [dontneed(BASE + other * SLOT, SLOT) for other in range(cpus)]
            program.append(barrier(END_BARRIER))
        else:
            program.append(dontneed(slot, SLOT))
        program.append(jump(loop))
        result.append(program)
    return result


def geometry(cpus: int, variant: str) -> Any:
    """The machine of one round, whatever the policy."""
    return Geometry(
        cpus=cpus,
        mms=cpus if variant == "processes" else 1,
        insns=7 * cpus + cpus,
        frames=1 + cpus * (TOUCHED // 4096 + PCP_ROOM),
        tables=4096 + cpus * (8 + 2 * PCP_HIGH[1]),  # room for tables that wait for a grace period
    )


def measure(
    policy: str, cpus: int, variant: str, seconds: float, seed: int, lab: options.Lab, record: Record
) -> dict[str, Any] | None:
    """One round: a fresh machine, warm-up, the measured seconds, the audit. Faults per minute, cost, counters.

    None if a violation stopped it.
    """
    from workers.machine import Machine

    code = programs(cpus, variant, seed)
    mm_of_cpu = range(cpus) if variant == "processes" else None
    with Machine(geometry(cpus, variant), policy, lab.instruments(cpus), mm_of_cpu) as machine:
        machine.load_all(code)
        machine.start()
        machine.run_for(max(WARM_UP, seconds / 10))
        samples, held = [], {}
        if not machine.frozen:
            samples.append(machine.sample())
            held = session.run_sampled(machine, seconds)
        if not machine.frozen:
            samples.append(machine.sample())
            machine.stop()
        session.finish(machine, record, lab)
        if len(samples) < 2 or machine.frozen:
            return None
        return {**difference(samples[0], samples[1], cpus), "samples": held}


def difference(before: Any, after: Any, cpus: int) -> dict[str, Any]:
    """What happened between two samples of a machine."""
    faults = int((after.cpu["faults"] - before.cpu["faults"]).sum())
    seconds = after.cpu_time - before.cpu_time
    rcu = {name: int(after.rcu[name][0] - before.rcu[name][0]) for name in ("gp_completed", "gp_sum_ns")}
    return {
        "pf_per_min": faults / (after.wall - before.wall) * 60,
        "ns_per_fault": float(seconds[:cpus].sum()) / max(faults, 1) * 1e9,
        "coordinator_ns_per_fault": float(seconds[cpus]) / max(faults, 1) * 1e9,
        "faults": faults,
        "counters": {name: int((after.cpu[name] - before.cpu[name]).sum()) for name in COUNTERS},
        "grace_periods": rcu["gp_completed"],
        "gp_sum_ns": rcu["gp_sum_ns"],
        "gp_max_ns": int(after.rcu["gp_max_ns"][0]),
        "gp_histogram": (after.gp_histogram["count"] - before.gp_histogram["count"]).tolist(),
    }


COUNTERS = (
    "tables_installed",
    "tables_freed",
    "tables_reused",
    "try_get_failed",
    "flushes_local",
    "flushes_remote",
    "flushes_late",
    "ipis",
    "alloc_stalls",
)


def add_round(row: dict[str, Any], one: dict[str, Any]) -> None:
    """Enter one round into the row of its policy and CPU count."""
    row["pf_per_min"].append(one["pf_per_min"])
    row["ns_per_fault"].append(one["ns_per_fault"])
    row["pf_per_min_own_processor"].append(60e9 / one["ns_per_fault"] if one["ns_per_fault"] else 0.0)
    row["faults"] += one["faults"]
    if "counters" not in one:
        return
    row.setdefault("samples", one["samples"])  # of the first round: a timeline, and not a sum
    row["coordinator_ns_per_fault"].append(one["coordinator_ns_per_fault"])
    for name in COUNTERS:
        row[name] = row.get(name, 0) + one["counters"][name]
    row["grace_periods"] = row.get("grace_periods", 0) + one["grace_periods"]
    row["gp_histogram"] = [a + b for a, b in zip(row["gp_histogram"], one["gp_histogram"], strict=True)]
    row["gp_sum_ms"] = row.get("gp_sum_ms", 0.0) + one["gp_sum_ns"] / 1e6
    row["gp_max_ms"] = max(row.get("gp_max_ms", 0.0), one["gp_max_ns"] / 1e6)
    if row["grace_periods"]:
        row["gp_mean_ms"] = row["gp_sum_ms"] / row["grace_periods"]


def run(record: Record, setup: dict[str, Any]) -> None:
    """Measure every combination, policies and the host interleaved: A B host A B host ..."""
    rows: dict[tuple[int, str], dict[str, Any]] = {}
    for cpus in setup["cpus"]:
        for policy in [*setup["lab"].policies, *(["host"] if setup["host"] else [])]:
            rows[cpus, policy] = {
                "policy": policy,
                "cpus": cpus,
                "engine": None if policy == "host" else setup["lab"].engine,
                "variant": setup["variant"],
                "pf_per_min": [],
                "ns_per_fault": [],
                "pf_per_min_own_processor": [],
                "faults": 0,
            }
            if policy != "host":
                rows[cpus, policy] |= {"coordinator_ns_per_fault": [], "gp_histogram": [0] * GP_BUCKETS}
    record.rows.extend(rows.values())
    try:
        rounds(rows, record, setup)
        if not record.violations:
            record.inconclusive = bool(unsettled(record.rows, setup["until"]))
    finally:
        record.rows[:] = [row for row in record.rows if row["pf_per_min"]]


def unsettled(rows: Iterable[dict[str, Any]], until: float | None) -> list[str]:
    """The rows whose median is not known as well as --until asks; none if it does not ask."""
    measured = [row for row in rows if row["ns_per_fault"]] if until is not None else []
    return [f"{row['cpus']} {row['policy']}" for row in measured if not settled(row["ns_per_fault"], until or 0.0)]


def steps(
    rows: dict[tuple[int, str], dict[str, Any]], setup: dict[str, Any]
) -> Iterator[tuple[float, int, tuple[int, str]]]:
    """Each round: which share of the most there may be is done, its number, and its row."""
    for repeat in range(setup["repeat"]):
        if setup["until"] is not None and repeat and not unsettled(rows.values(), setup["until"]):
            return
        for turn, key in enumerate(rows):
            yield (repeat + turn / len(rows)) / setup["repeat"], repeat, key


def rounds(rows: dict[tuple[int, str], dict[str, Any]], record: Record, setup: dict[str, Any]) -> None:
    """Measure the rounds one after another and enter them into the rows."""
    with Progress("multi-fault") as progress:
        for done, repeat, (cpus, policy) in steps(rows, setup):
            progress.update(done, f"repeat {repeat + 1}, {many(cpus, 'CPU')}, {policy}")
            one = steady_round(policy, cpus, repeat, setup, record)
            if one is not None:
                add_round(rows[cpus, policy], one)
            if record.violations:
                break  # what it measures from here on is not the protocol


def steady_round(policy: str, cpus: int, repeat: int, setup: dict[str, Any], record: Record) -> dict[str, Any] | None:
    """One round, begun again while the latency of the lines that its CPUs share changes meanwhile. As `measure`."""
    shares = cpus > 1 and setup["variant"] != "processes" and setup["lab"].engine == "native"
    for _ in range(ATTEMPTS):
        probes = record.line_ns[-1:] or record.add_lines(probe()) if shares else []
        if policy == "host":
            one = host_round(cpus, setup, record)
        else:
            lab = setup["lab"]
            one = measure(policy, cpus, setup["variant"], setup["seconds"], lab.seed + repeat, lab, record)
        probes = probes + record.add_lines(probe()) if probes else []
        if one is None or record.violations or not disagree(probes):
            break
        record.rounds_again += 1
    return one


def host_round(cpus: int, setup: dict[str, Any], record: Record) -> dict[str, Any] | None:
    """One round of the same loop on this host's real kernel; None if it cannot be measured, said once."""
    if setup.get("host_missing"):
        return None
    try:
        result = measure_multi_fault(cpus, setup["variant"], setup["seconds"], WARM_UP)
    except HostUnavailable as reason:
        setup["host_missing"] = str(reason)
        note(f"this host's kernel is not measured: {reason}")
        return None
    return {"pf_per_min": result.pf_per_min, "ns_per_fault": result.ns_per_fault, "faults": result.faults}


# --- the report -----------------------------------------------------------------------------------------------------


def added_ns(base: dict[str, Any], other: dict[str, Any]) -> list[float]:
    """Nanoseconds of processor time that `other` adds per fault, repeat by repeat."""
    return [b - a for a, b in zip(base["ns_per_fault"], other["ns_per_fault"], strict=False)]


def show(record: Record, setup: dict[str, Any]) -> None:
    """The cover letter's table and everything next to it."""
    processors = len(os.sched_getaffinity(0))
    report.write("multi-fault: page faults per minute, in millions; mean +- standard deviation of the mean")
    report.write(
        f"engine {setup['lab'].engine}, variant {setup['variant']}, {rounds_of(record)} x {setup['seconds']:g} s, "
        f"rounds interleaved, {processors} processors"
    )
    if setup["until"] is not None:
        left = unsettled(record.rows, setup["until"])
        told = f"; not yet: {', '.join(left)}" if left else ""
        report.write(f"until the 95 % interval of each median of ns/fault is within {setup['until']:g} % of it{told}")
    report.write(f"n.s.: not significant, within twice the standard error; {in_use(record)}")
    if record.line_ns:
        again = f"; rounds begun again, for it changed meanwhile: {record.rounds_again}" if record.rounds_again else ""
        report.write(f"{words(record.line_ns)}{again}")
    if setup["lab"].needs_debug:
        report.write("debug build: its faults cost several times as much; compare them with nothing but each other")
    crowded = [str(n) for n in setup["cpus"] if n > processors]
    if crowded:
        report.write(
            f"{' and '.join(crowded)} CPUs outnumber the {processors} processors: they take turns, "
            "so compare them by the processor time of a fault"
        )
    report.write()
    base = setup["lab"].policies[0]
    pairs = [(base, other) for other in setup["lab"].policies[1:]] or [(base, base)]
    for before, after in pairs:
        show_pair(record, before, after)
    show_own_processor(record, setup)
    show_host(record, setup)
    show_counters(record)


def rounds_of(record: Record) -> int:
    """How many rounds there were, of each row that has the most."""
    return max((len(row["pf_per_min"]) for row in record.rows), default=0)


def show_pair(record: Record, before: str, after: str) -> None:
    """Two policies beside each other, and the cover letter's figures beside those of the series."""
    posted = (before, after) == ("none", "refcount")
    lines = []
    for a in report.rows_of(record, policy=before):
        for b in report.rows_of(record, policy=after, cpus=a["cpus"]):
            cells = [str(a["cpus"]), report.millions(a["pf_per_min"])]
            if before != after:
                cells += [report.millions(b["pf_per_min"]), report.change(a["pf_per_min"], b["pf_per_min"])]
            if posted:
                letter = COVER_LETTER.get(a["cpus"])
                cells.append(f"{letter[0] / 1e6:.2f} -> {letter[1] / 1e6:.2f} M" if letter else "-")
                cells.append(f"{letter[2]:+.2f} %" if letter else "-")
            lines.append(cells)
    header = ["threads", before, *([after, "change"] if before != after else [])]
    report.table([*header, *(["cover letter", "change"] if posted else [])], lines)


def show_own_processor(record: Record, setup: dict[str, Any]) -> None:
    """The same by processor time: what each CPU would do with a processor of its own."""
    base = setup["lab"].policies[0]
    lines = []
    for row in record.rows:
        if row["policy"] == "host":
            continue
        first = report.rows_of(record, policy=base, cpus=row["cpus"])[0]
        added = added_ns(first, row)
        lines.append(
            [
                f"{row['cpus']} {row['policy']}",
                report.millions(row["pf_per_min_own_processor"]),
                f"{statistics.median(row['ns_per_fault']):.1f}",
                f"{statistics.median(added):+.1f}" if row is not first and added else "",
                f"{min(added):+.1f} .. {max(added):+.1f}" if row is not first and added else "",
                f"{statistics.median(row['coordinator_ns_per_fault']):.1f}",
            ]
        )
    report.table(
        [
            "threads, policy",
            "pf/min, own processor",
            "ns/fault",
            "ns added",
            "lowest .. highest",
            "coordinator",
        ],
        lines,
        "by processor time of the CPUs, zap and waiting included; the coordinator's beside it; ns are medians",
    )


def show_host(record: Record, setup: dict[str, Any]) -> None:
    """This host's real kernel in the same loop, and what the added nanoseconds would be of one of its faults."""
    hosts = report.rows_of(record, policy="host")
    if not hosts:
        if setup.get("host_missing"):
            report.write(f"this host's kernel is not measured: {setup['host_missing']}\n")
        return

    facts = ", ".join(f"{name} {value}" for name, value in kernel_facts().items())
    lines = []
    for host in hosts:
        ns = statistics.median(host["ns_per_fault"])
        first = report.rows_of(record, policy=setup["lab"].policies[0], cpus=host["cpus"])
        letter = COVER_LETTER.get(host["cpus"])
        best = max((statistics.fmean(row["pf_per_min"]) for row in first), default=0.0)
        cells = [str(host["cpus"]), report.millions(host["pf_per_min"]), f"{ns:,.0f}"]
        cells.append(f"{best / statistics.fmean(host['pf_per_min']):.1f} x")
        for policy in setup["lab"].policies[1:] or ("",):
            other = report.rows_of(record, policy=policy, cpus=host["cpus"])
            compiled = setup["lab"].engine == "native"  # plain Python adds microseconds: no share of a fault
            added = added_ns(first[0], other[0]) if first and other and compiled else []
            share = f"{-100 * statistics.median(added) / ns:+.2f} %" if added else "-"
            lines.append([*cells, policy, share, f"{letter[2]:+.2f} %" if letter and policy == "refcount" else "-"])
            cells = [""] * len(cells)
    header = ["threads", "host pf/min", "ns/fault", "emulator / host", "policy", "would be", "cover letter"]
    report.write(f"this host: {facts}")
    report.table(header, lines, "the same loop there, and what share of its fault a policy would add", (0, 4))


def show_counters(record: Record) -> None:
    """Tables, flushes and grace periods, summed over the repeats."""
    rows = [row for row in record.rows if row["policy"] != "host"]
    names = ("tables_freed", "tables_reused", "flushes_local", "flushes_remote", "ipis")
    report.table(
        ["threads, policy", "tables freed", "re-allocated", "flushes local", "remote", "IPIs"],
        [[f"{row['cpus']} {row['policy']}", *(f"{row[name]:,}" for name in names)] for row in rows],
        "counters, summed over the repeats",
    )
    report.table(
        ["threads, policy", "grace periods", "ms mean", "p99 <=", "max"],
        [
            [
                f"{row['cpus']} {row['policy']}",
                f"{row['grace_periods']:,}",
                f"{row['gp_mean_ms']:.2f}",
                f"{min(percentile_ms(row['gp_histogram'], 0.99), row['gp_max_ms']):.2f}",
                f"{row['gp_max_ms']:.2f}",
            ]
            for row in rows
            if row["grace_periods"]
        ],
        "grace periods; one is looked for every millisecond",
    )


def percentile_ms(histogram: list[int], share: float) -> float:
    """Upper bound of the latency that `share` of the grace periods stayed below, from powers of two."""
    total, seen = sum(histogram), 0
    for power, count in enumerate(histogram):
        seen += count
        if seen >= share * total:
            return float(2 ** (power + 1)) / 1e6
    return 0.0


@click.command("multi-fault", help=(__doc__ or "").split("\n\n")[1])
@click.option(
    "--cpus",
    default="1,8,16",
    metavar="N,...",
    callback=options.cpu_counts,
    help="CPU counts, separated by commas. [1,8,16]",
)
@click.option(
    "--variant",
    default="barrier",
    **options.one_of("variant", VARIANTS),
    help=f"{', '.join(VARIANTS)}. [barrier]",
)
@click.option(
    "--repeat",
    metavar="N",
    callback=options.number(1, 1000, whole=True),
    help=f"Rounds of each. [{REPEAT}; --until: at most {MOST_ROUNDS}]",
)
@click.option(
    "--until",
    metavar="N%",
    callback=options.percent,
    help="Go on until the median of ns/fault is known to N%: 95 % interval, six rounds at least.",
)
@click.option("--seconds", default="1", metavar="N", callback=options.number(0.01, 3600), help="Length of a round. [1]")
@click.option("--host/--no-host", default=True, help="Measure this host's kernel too. [yes]")
@options.shared
def command(
    cpus: list[int],
    variant: str,
    repeat: int | None,
    until: float | None,
    seconds: float,
    host: bool,
    lab: options.Lab,
) -> int:
    """Run the scenario; the exit status."""
    setup: dict[str, Any] = {
        "cpus": cpus,
        "variant": variant,
        "repeat": repeat or (REPEAT if until is None else MOST_ROUNDS),
        "until": until,
        "seconds": seconds,
        "host": host,
        "lab": lab,
    }
    lab.check_stops(min(cpus))
    session.check_fits("--cpus", max(cpus), 1, lambda n: geometry(n, variant))
    record = Record("multi-fault", lab.seed)
    return session.conduct(record, lab, lambda: run(record, setup), lambda: show(record, setup))
