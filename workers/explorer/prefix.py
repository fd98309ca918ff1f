"""Prefixes of choices, which name the shards of a search, as text; and what is known of where each was begun.

A prefix is runs of steps of a task, each with the tasks that were tried before it at its first step:

    0x40,1/0,1x6,2/0+1

"Task 0 makes 40 steps. Task 1 makes the next one, where task 0 was tried before, and 6 more. Then comes task 2, where 0
and 1 were."
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

WHOLE = "-"  # the prefix of everything
MOST_TASKS, MOST_STEPS = 60, 20_000
_RUN = re.compile(r"(\d{1,2})(?:x([1-9]\d{0,4}))?(?:/(\d{1,2}(?:\+\d{1,2})*))?", re.ASCII)


class Step(NamedTuple):
    """A task of a prefix, and the mask of the tasks that were tried before it there."""

    task: int
    earlier: int = 0


class Open(NamedTuple):
    """What is left at a place of a search: the steps that lead there, the tasks begun there, the tasks to try."""

    steps: int
    begun: int
    wanted: int


def tasks_in(mask: int) -> list[int]:
    """The tasks of a mask."""
    return [task for task in range(MOST_TASKS) if mask >> task & 1]


def spell(steps: Sequence[Step]) -> str:
    """A prefix as text."""
    runs: list[str] = []
    at = 0
    while at < len(steps):
        task, earlier = steps[at]
        end = at + 1
        while end < len(steps) and steps[end] == Step(task):
            end += 1
        times = f"x{end - at}" if end - at > 1 else ""
        runs.append(f"{task}{times}" + (f"/{'+'.join(map(str, tasks_in(earlier)))}" if earlier else ""))
        at = end
    return ",".join(runs) or WHOLE


def parse(text: str) -> list[Step]:
    """The steps of a prefix. Raises ValueError."""
    steps: list[Step] = []
    for word in text.split(",") if text != WHOLE else []:
        match = _RUN.fullmatch(word)
        others = [int(one) for one in match[3].split("+")] if match and match[3] else []
        if match is None or max(int(match[1]), *others, 0) > MOST_TASKS - 1 or len(steps) > MOST_STEPS:
            raise ValueError(f"'{word}' is no part of a prefix; known: {WHOLE}, or TASKxTIMES/TRIED+TRIED, by commas")
        task, times = int(match[1]), int(match[2] or 1)
        steps += [Step(task, sum(1 << one for one in set(others))), *[Step(task)] * (times - 1)][:times]
    return steps


class Frontier:
    """Which prefixes are still to be searched, and what was begun where: each task once at each place."""

    def __init__(self) -> None:
        self._begun: dict[bytes, int] = {}

    def enter(self, steps: Sequence[Step], places: Sequence[Open]) -> Iterator[str]:
        """Take what a shard hands back; the new prefixes, each of which is to be searched once."""
        choices = bytes(step.task for step in steps)
        for at, begun, wanted in reversed(places):
            key = choices[:at]
            begun |= self._begun.get(key, 0)
            for task in tasks_in(wanted & ~begun):
                yield spell([*steps[:at], Step(task, begun)])
                begun |= 1 << task
            self._begun[key] = begun
