"""What a process's releases of memory, seen for some seconds, mean for its page tables."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from emulator import lazy_numpy as np
from emulator.pgtable_types import PMD_SHIFT, PMD_SIZE
from scenarios.advice.needed import units
from workers.host.call_sample import Calls

_OTHERS = {"free": "free_calls", "munmap": "munmap_calls", "undecoded": "undecoded"}


@dataclass(frozen=True)
class Sampled:
    """Of some seconds: MADV_DONTNEED calls (a vector counts by its pieces), those that cover a whole 2 MiB slot.

    `covered` counts the slots that one call covered whole, each as often as that was; `emptied` the slots that calls
    emptied piece by piece. No call covered them whole, and they have no entry now. `median` is a length in bytes.
    """

    tool: str
    seconds: float
    calls: int
    covering: int
    covered: int
    emptied: int
    median: float
    free_calls: int
    munmap_calls: int
    undecoded: int
    lost: int

    @property
    def covering_share(self) -> float:
        """The share of the calls that cover a whole slot: 0 to 1."""
        return self.covering / self.calls if self.calls else 0.0


def judge(calls: Calls, threads: Collection[int], ranges: np.ndarray) -> Sampled:
    """Judge the calls of some threads, 0 for those of nobody; `ranges` are the entries there are after them."""
    released = [(at, length) for tid, at, length in calls.released if tid in threads]
    whole = [(-(-at // PMD_SIZE), (at + length) // PMD_SIZE) for at, length in released]
    covers = [(low, high) for low, high in whole if high > low]
    covered_slots = {slot for low, high in covers for slot in range(low, high)}
    hit = {slot for at, length in released if length for slot in _slots(at, length)}
    return Sampled(
        tool=calls.tool,
        seconds=calls.seconds,
        calls=len(released),
        covering=len(covers),
        covered=sum(high - low for low, high in covers),
        emptied=_without_entry(hit - covered_slots, ranges),
        median=statistics.median(length for _, length in released) if released else 0.0,
        **{key: sum(calls.others[tid, kind] for tid in threads) for kind, key in _OTHERS.items()},
        lost=calls.lost,
    )


def _slots(at: int, length: int) -> range:
    return range(at >> PMD_SHIFT, (at + length - 1 >> PMD_SHIFT) + 1)


def _without_entry(slots: Iterable[int], ranges: np.ndarray) -> int:
    """How many of some slots no range reaches into."""
    wanted = np.array(sorted(slots), np.int64)
    if len(wanted) == 0 or units(ranges, PMD_SHIFT) == 0:
        return len(wanted)
    at = np.searchsorted(ranges["start"], wanted + 1 << PMD_SHIFT, "left") - 1
    used = (at >= 0) & (ranges["end"][np.maximum(at, 0)] > wanted << PMD_SHIFT)
    return int((~used).sum())
