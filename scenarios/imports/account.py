"""What became of each line of an input: understood, not modelled, malformed. Nothing is left out in silence."""

from __future__ import annotations

from collections import Counter
from typing import Any

_SHOWN = 12  # reasons and malformed lines that a summary names


class Account:
    """The lines of all inputs, by what became of them.

    `understood` counts lines that say something of memory or of processes, and are in the trace or change nothing.
    `others` counts those of calls that have nothing to do with memory, by name; `assumed` what was added to the input.
    """

    def __init__(self) -> None:
        self.lines = 0
        self.understood = 0
        self.others: Counter[str] = Counter()
        self.not_modelled: dict[str, list[Any]] = {}  # what -> [how often, where first]
        self.malformed = 0
        self.first_malformed: list[str] = []
        self.assumed: Counter[str] = Counter()
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
        text += [f"assumed: {what}, {count:,} times" for what, count in self.assumed.most_common()]
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
            "other_calls": dict(self.others.most_common()),
            "assumed": dict(self.assumed),
            "lost": self.lost,
            "notes": self.notes,
        }
