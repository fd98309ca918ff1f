"""`ptelab explore all`: every claim and its broken twin, every race and the same with its piece in place."""

from __future__ import annotations

from typing import Any

from scenarios.proofs.finding import Plan, enter, explore
from scenarios.proofs.subject import names, subject
from scenarios.session import report, session
from scenarios.session.files import write_file
from scenarios.session.options import Lab
from scenarios.session.progress import Progress, note
from scenarios.session.record import Record
from workers.jobs import in_processes
from workers.processes import processors

CLAIM, PROOF, SEARCH = (
    6.0,
    4.0,
    20.0,
)  # seconds of processor time for one subject: to prove a claim, a race's bound; to find a race
PROGRAMS = 3  # preemptions: whole programs have too many interleavings to try all that differ
# Found by processes (ptelab run race/NAME), and not by the explorer in a minute: too long for two preemptions.
NOT_MET = ("race/move-without-rmap-lock",)

HEADER = ["subject", "memory", "verdict", "executions", "s", "twin found", "executions", "s", "preemptions", "steps"]
ABOUT = """# The claims, and what was tried

`ptelab explore all --write docs/claims.md` writes this page, if all is as expected. Each claim and each race of the zoo
is a scene of at most three CPUs and the coordinator. As it is, the scene must pass: "complete" means that every
interleaving that differs was run, "bound B" every one with at most B preemptions. With one piece of the protocol left
out it must fail: the detector, the executions until then, and the schedule made short.
"""


def _job(task: tuple[str, bool, float, int]) -> dict[str, Any]:
    """One subject, in a process of the pool: the row of the record."""
    name, broken, seconds, seed = task
    of = subject(name)
    bound = of.bound if of.bound is not None or of.scene.bodies is not None else PROGRAMS
    plan = Plan(broken, of.memory, bound, seconds=seconds, seed=seed, jobs=1)
    found = explore(of, plan)
    if broken and found.example is not None:
        for memory in of.spared:
            found.others[memory] = explore(of, Plan(broken, memory, of.bound, seconds=PROOF, jobs=1)).verdict.word
    scratch = Record("", 0)
    enter(scratch, found)
    return scratch.rows[0]


def conduct_all(record: Record, lab: Lab, seconds: float | None, write: str | None) -> int:
    """Run everything on all processors; the exit status: 0 if every piece was proved needed, and enough."""
    tasks = [
        (name, broken, SEARCH if broken else seconds or (CLAIM if name.startswith("claim/") else PROOF), lab.seed)
        for broken in (True, False)
        for name in names()
    ]

    def body() -> None:
        with Progress("explore") as progress:
            rows = in_processes(_job, tasks, processors(), lambda task: task[0])
            for done, row in enumerate(rows):
                progress.update((done + 1) / len(tasks), row["subject"])
                record.rows.append(row)
                _judge(record, row)
        record.rows.sort(key=lambda row: (names().index(row["subject"]), row["knob"] is not None))
        if write is not None:
            _write(record, write)

    return session.conduct(record, lab, body, lambda: _show(record))


def _judge(record: Record, row: dict[str, Any]) -> None:
    """Enter what one subject means for the whole: as it should be, not as expected, or not known for lack of time."""
    not_met = row["knob"] is not None and row["subject"] in NOT_MET and row["found"] is None
    if row["as_expected"] or not_met:
        return
    words = [row["verdict"], *row["other_memory"].values()] if row["found"] is None or row["other_memory"] else []
    ended_early = any(word.startswith("inconclusive") for word in words)
    if row["knob"] is not None and row["found"] is None and row["verdict"] != "pass (complete)":
        ended_early = True  # a bound was proved, and there was no time for the next one
    if ended_early and not (row["knob"] is None and row["found"]):
        record.inconclusive = True
    else:
        record.found.append(f"{row['subject']}: {_unexpected(row)}")


def _write(record: Record, file: str) -> None:
    """Write the page, unless something is not as expected."""
    if record.found or record.inconclusive:
        note("the page is not written: not all is as expected")
    else:
        write_file(file, "\n".join([ABOUT, *_markdown(record.rows)]) + "\n")


def _unexpected(row: dict[str, Any]) -> str:
    if row["knob"] is None:
        return f"{row['verdict']} {row['found'] or ''}".strip()
    return f"{row['knob']} left out: {row['found'] or row['verdict']} {row['other_memory'] or ''}".strip()


def _cells(rows: list[dict[str, Any]]) -> list[list[str]]:
    """One line per subject: as it is, and broken."""
    lines = []
    for name in dict.fromkeys(row["subject"] for row in rows):
        whole = next((row for row in rows if row["subject"] == name and row["knob"] is None), None)
        twin = next((row for row in rows if row["subject"] == name and row["knob"] is not None), None)
        line = [name, (whole or twin or {})["memory"]]
        line += [whole["verdict"], f"{whole['executions']:,}", f"{whole['seconds']:.1f}"] if whole else ["-"] * 3
        if twin is None or twin["found"] is None:
            line += [twin["verdict"] if twin else "-", *["-"] * 4]
        else:
            line += [twin["found"], f"{twin['executions']:,}", f"{twin['seconds']:.1f}"]
            line += [str(twin["preemptions"]), str(twin["schedule_steps"])]
        lines.append(line)
    return lines


def _show(record: Record) -> None:
    report.table(HEADER, _cells(record.rows))
    for row in record.rows:
        if row["knob"] is not None and row["other_memory"]:
            told = ", ".join(f"{memory}: {word}" for memory, word in row["other_memory"].items())
            report.write(f"{row['subject']}: its twin is found under {row['memory']}; {told}")
        if row["knob"] is not None and row["found"] is None:
            report.write(f"{row['subject']}: {row['verdict']} with its piece left out: not met by the explorer so far")
    for text in record.found:
        report.write(f"UNEXPECTED  {text}")
    for row in record.rows:
        if not row["as_expected"] and not any(text.startswith(f"{row['subject']}:") for text in record.found):
            report.write(
                f"NOT SHOWN   {row['subject']}: {row['verdict']}{' without ' + row['knob'] if row['knob'] else ''}"
            )


def _markdown(rows: list[dict[str, Any]]) -> list[str]:
    """The table, and the sentence and the schedule of each subject."""
    shown = [i for i, name in enumerate(HEADER) if name != "s"]  # a page has nothing that is another one each time
    lines = [f"| {' | '.join(HEADER[i] for i in shown)} |", "|---" * len(shown) + "|"]
    for cells in _cells(rows):
        if "complete)" in cells[2] and cells[2] != "pass (complete)":
            cells[3] = "-"  # how far the next bound came is the machine's speed
        lines.append(f"| {' | '.join(cells[i] for i in shown)} |")
    lines += ["", "## What is claimed", ""]
    for row in rows:
        if row["subject"].startswith("claim/") and row["knob"] is None:
            of = subject(row["subject"])
            lines.append(f"- `{of.name}`: {of.text} ({of.source}). Twin: `{of.knob or of.barriers[0]}`.")
    lines += ["", "## Schedules", ""]
    for row in rows:
        if row["schedule"] is not None:
            flag = " --twin" if row["subject"].startswith("claim/") else ""
            lines.append(f"    ptelab explore {row['subject']}{flag} --schedule '{row['schedule'] or '-'}'")
    return lines
