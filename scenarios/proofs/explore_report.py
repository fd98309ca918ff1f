"""What `ptelab explore` says of one subject, as text and as a page."""

from __future__ import annotations

from collections.abc import Sequence

from scenarios.proofs.finding import Finding
from scenarios.session import report
from scenarios.session.style import style
from workers.telling.story import story_of, story_text
from workers.telling.whereabouts import many


def verdict_line(found: Finding) -> str:
    """The verdict in words: what was tried, and how much of it."""
    verdict = found.verdict
    tried = f"{verdict.executions:,} executions, {verdict.steps:,} steps, {verdict.seconds:.1f} s, {found.plan.memory}"
    if verdict.word == "fail":
        return f"fail: {found.what} after {tried}"
    if found.example is not None:
        return f"{verdict.word}: {tried}"
    if found.shards:
        places = sum(len(one["open"]) for one in found.shards)
        return f"{verdict.word}: {many(len(found.shards), 'shard')}, {places:,} places left; {tried}"
    if verdict.word == "pass (complete)":
        return f"pass (complete): all {verdict.differ:,} executions that differ; {tried}"
    if verdict.passed:
        done = verdict.bounds[verdict.completed]
        text = f"{verdict.word}: all {done:,} executions with at most {many(verdict.completed, 'preemption')}; {tried}"
        if len(verdict.bounds) > verdict.completed + 1 and verdict.bounds[-1]:
            text += f"; bound {verdict.completed + 1} begun, about {100 * verdict.covered:.0f} % covered"
        return text
    done = f"; bound {verdict.completed} complete" if verdict.completed >= 0 else ""
    return (
        f"inconclusive (budget; covered {100 * verdict.covered:.0f} % of bound {verdict.completed + 1}{done}): {tried}"
    )


def show(found: Finding) -> None:
    """The report of one subject."""
    report.history(found.of.text)
    report.write(f"\nsource: {found.of.source}")
    if left_out := (*found.plan.left_out(found.of), *found.plan.barriers_left_out(found.of)):
        report.write(f"left out: {', '.join(left_out)}")
    elif found.of.knob and not found.of.is_claim:
        report.write(f"in place: {found.of.knob}")
    if found.plan.policy_of(found.of) != found.of.policy:
        report.write(f"policy: {found.plan.policy}, not {found.of.policy}")
    if found.crash:
        report.write(f"the coordinator dies behind its step {found.crash}, and another one takes its place")
    report.write(f"\n{verdict_line(found)}")
    if found.example is None:
        return
    example = found.example
    made = "shrunk to" if found.verdict.executions > 1 else "its schedule has"
    if found.by_hand:
        made = "its schedule, written by hand for no search of a minute comes to it, has"
    report.write(f"{made} {many(len(example.choices), 'step')}, {many(example.preemptions, 'preemption')}\n")
    for line in found.lines:
        report.write(line)
    report.write()
    for line in story_text(story_of(found.trace, found.plan.events), style().width):
        report.write(line)
    for memory, word in found.others.items():
        report.write(f"\nunder {memory}: {word}")
    report.write(f"\nagain: {found.trace.command}\n")


def show_all(findings: Sequence[Finding]) -> None:
    """The report of each; none if the search was interrupted."""
    for found in findings:
        show(found)
