"""How well rounds know the median: the interval in which it lies, by their order alone."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

LEVEL = 0.95


def _surely_below(rounds: int) -> int:
    """How many of the lowest and of the highest rounds may be left out, so that the median still lies between.

    -1 if there are too few rounds to say anything.
    """
    left, chance = 0, 0.0
    while (chance := chance + math.comb(rounds, left) / 2**rounds) <= (1 - LEVEL) / 2:
        left += 1
    return left - 1


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the median, whatever the distribution; without bounds for less than six rounds."""
    left = _surely_below(len(values))
    if left < 0:
        return -math.inf, math.inf
    ordered = sorted(values)
    return ordered[left], ordered[-1 - left]


def settled(values: Sequence[float], percent: float) -> bool:
    """True if the interval of the median is within so many per cent of it, on either side."""
    low, high = interval(values)
    middle = statistics.median(values) if values else 0.0
    return max(high - middle, middle - low) <= percent / 100 * middle
