"""One exploration in shards: tasks are made of what earlier ones have handed back, until nothing is left.

The line of a shard says what it searched and what it handed back. So the lines that are there say what is still to be
done: a campaign that goes on reads them in their order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from scenarios.campaign.plan import Task
from scenarios.campaign.verdicts import FAIL, HUNG, INCONCLUSIVE, LOST, PASS, named
from workers.explorer.prefix import WHOLE, Frontier, Open, parse

SHARE, MOST = 8, 32  # a task takes this part of the prefixes that wait, and no more than so many
SECONDS = 86_400  # of processor time: a shard ends with its executions, or with the limit of its task


class Exploration:
    """The shards of one task of a plan."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.waiting = [WHOLE]
        self.executions = self.running = 0
        self.seconds = 0.0
        self.bound: int | None = None  # of preemptions, if it has kept something out
        self.end = ""  # why it is over before all was searched
        self._frontier = Frontier()

    @property
    def is_over(self) -> bool:
        """True if nothing is left to be searched, or somebody has found something."""
        return not self.waiting and not self.running

    def take(self) -> Task:
        """The next task: some of the prefixes that wait."""
        count = max(1, min(MOST, len(self.waiting) // SHARE))
        prefixes, self.waiting = tuple(self.waiting[-count:]), self.waiting[:-count]
        self.running += 1
        return self._of(prefixes)

    def _of(self, prefixes: tuple[str, ...]) -> Task:
        words = [*self.task.words, "--executions", str(self.task.shards), "--seconds", str(SECONDS)]
        words += [word for prefix in prefixes for word in ("--shard", prefix)]
        return replace(self.task, words=tuple(words), exploration=self.task.command, prefixes=prefixes)

    def put_back(self, task: Task) -> None:
        """A task that was taken was not begun."""
        self.waiting += task.prefixes
        self.running -= 1

    def replay(self, line: Mapping[str, Any]) -> None:
        """Enter a line of an earlier campaign."""
        self.waiting = [prefix for prefix in self.waiting if prefix not in set(line["prefixes"])]
        self.running += 1
        self.enter(line)

    def enter(self, line: Mapping[str, Any]) -> None:
        """Take what a shard has handed back."""
        self.running -= 1
        self.seconds += line["seconds"] or 0.0
        if line["verdict"] not in (PASS, INCONCLUSIVE):
            self.end = self.end or line["verdict"]
            if line["verdict"] == FAIL:
                self.waiting.clear()
            return
        for told in line["record"]["rows"][0]["shards"]:
            if told["executions"] == 0:  # there was no time for it
                self.waiting.append(told["prefix"])
                continue
            self.executions += told["executions"]
            self.bound = told["bound"] if told["bounded"] else self.bound
            if self.end != FAIL:
                self.waiting += self._frontier.enter(parse(told["path"]), [Open(*one) for one in told["open"]])

    def line(self) -> dict[str, Any] | None:
        """What the whole came to, as the line of a task; None if a shard has said so."""
        if self.end == FAIL:
            return None
        word = "complete" if self.bound is None else f"bound {self.bound} complete"
        if self.end:
            word = {HUNG: "a shard had no end", LOST: "a shard was lost"}.get(self.end, "a shard died")
        verdict = INCONCLUSIVE if self.end else PASS
        what = f"{verdict} ({word}: {self.executions:,} executions)"
        command = self.task.command
        return {
            "command": command, "seed": self.task.seed, "verdict": verdict, "titles": [named(self.task, what)],
            "again": command, "size": None, "seconds": self.seconds,
        }  # fmt: skip
