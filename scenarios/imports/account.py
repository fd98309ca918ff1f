"""What became of each line of an input: understood, not modelled, malformed. Nothing is left out in silence."""

from __future__ import annotations

import copy
from collections import defaultdict
from typing import Any

_SHOWN = 12  # reasons and malformed lines that a summary names


def _ordered(counts: dict[str, int]) -> list[tuple[str, int]]:
    """What was counted, the most frequent first."""
    return sorted(counts.items(), key=lambda item: -item[1])


class Account:
    """The lines of all inputs, by what became of them.

    `understood` counts lines that say something of memory or of processes, and are in the trace or change nothing.
    `others` counts those of calls that have nothing to do with memory, by name; `assumed` what was added to the input.
    """

    def __init__(self) -> None:
        self.lines = 0
        self.understood = 0
        self.others: defaultdict[str, int] = defaultdict(int)  # a Counter takes four times as long to count
        self.not_modelled: dict[str, list[Any]] = {}  # what -> [how often, where first]
        self.malformed = 0
        self.first_malformed: list[str] = []
        self.assumed: defaultdict[str, int] = defaultdict(int)
        self.lost = 0
        self.notes: list[str] = []

    def leave_out(self, what: str, where: str) -> None:
        """Enter a line that the language of traces has no word for."""
        self.not_modelled.setdefault(what, [0, where])[0] += 1

    def refuse(self, where: str, why: str) -> None:
        """Enter a line that cannot be read."""
        self.malformed += 1
        if len(self.first_malformed) < _SHOWN:
            self.first_malformed.append(f"{where}: {why}")

    def note(self, text: str) -> None:
        """Enter what is to be said once."""
        if text not in self.notes:
            self.notes.append(text)

    @property
    def said(self) -> bool:
        """True if something is to be told of a line, which has its place among what is told of others."""
        return bool(self.malformed or self.not_modelled or self.notes)

    def cut(self) -> Account:
        """What it has so far, which it has no more; those that hold its counters keep them."""
        part = copy.deepcopy(self)
        self.lines = self.understood = self.malformed = self.lost = 0
        kept: tuple[Any, ...] = (self.others, self.assumed, self.not_modelled, self.first_malformed, self.notes)
        for each in kept:
            each.clear()
        return part

    def add(self, other: Account) -> None:
        """Enter what another account has, of lines behind those of this one."""
        self.lines += other.lines
        self.understood += other.understood
        self.lost += other.lost
        for name, count in other.others.items():
            self.others[name] += count
        for what, count in other.assumed.items():
            self.assumed[what] += count
        for what, (count, where) in other.not_modelled.items():
            self.not_modelled.setdefault(what, [0, where])[0] += count
        self.malformed += other.malformed
        self.first_malformed += other.first_malformed[: _SHOWN - len(self.first_malformed)]
        for text in other.notes:
            self.note(text)

    @property
    def left_out(self) -> int:
        """Lines that are not in the trace, though they say something of memory."""
        return sum(count for count, _ in self.not_modelled.values()) + self.malformed

    @property
    def whole(self) -> bool:
        """True if nothing was left out."""
        return not self.left_out and not self.lost

    @property
    def percent(self) -> float:
        """How many of 100 lines that say something of memory were understood, rounded down to a tenth."""
        of = self.understood + self.left_out
        return 1000 * self.understood // of / 10 if of else 0.0

    def summary(self) -> list[str]:
        """The account as lines of text."""
        said = self.understood + self.left_out
        text = [
            f"understood {self.percent:.1f} %: {self.understood:,} of {said:,} lines about memory and processes; "
            f"{self.lines:,} lines in all, {sum(self.others.values()):,} of other calls"
        ]
        ordered = sorted(self.not_modelled.items(), key=lambda item: -item[1][0])
        text += [f"not modelled: {what}, {count:,} times, first {where}" for what, (count, where) in ordered[:_SHOWN]]
        if len(ordered) > _SHOWN:
            more = sum(count for _, (count, _) in ordered[_SHOWN:])
            text.append(f"not modelled: {len(ordered) - _SHOWN} other kinds, {more:,} times (--json has them)")
        text += [f"malformed: {why}" for why in self.first_malformed]
        if self.malformed > len(self.first_malformed):
            text.append(f"malformed: {self.malformed - len(self.first_malformed):,} lines more")
        if self.lost:
            text.append(f"lost: {self.lost:,} events that the recording tool had no room for")
        text += [f"assumed: {what}, {count:,} times" for what, count in _ordered(self.assumed)]
        return [*text, *self.notes]

    def as_json(self) -> dict[str, Any]:
        """The account as --json writes it."""
        return {
            "lines": self.lines,
            "understood": self.understood,
            "percent": self.percent,
            "not_modelled": {what: {"count": count, "first": at} for what, (count, at) in self.not_modelled.items()},
            "malformed": self.malformed,
            "first_malformed": self.first_malformed,
            "other_calls": dict(_ordered(self.others)),
            "assumed": dict(self.assumed),
            "lost": self.lost,
            "notes": self.notes,
        }
