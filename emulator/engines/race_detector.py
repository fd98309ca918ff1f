"""Which plain accesses of an execution race: two accesses to one word by two tasks, at least one of them plain and at
least one a store, with nothing that orders them.

Source: Flanagan and Freund, PLDI 2009 (clocks); KCSAN (what is a race, and data_race()).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from emulator.engines.access_log import COUNT_BIT, COUNT_MASK, DATA_RACE, KIND_BIT, KIND_MASK, TASK_BIT, WORD_MASK
from emulator.engines.partial_order import (
    _ACQUIRE,
    _ADD,
    _MB,
    _PLAIN_LOAD,
    _PLAIN_STORE,
    _RELEASE,
    _UPDATE,
    _WMB,
    _WRITE,
    called,
    inner,
    join,
)

_DATA_RACE = DATA_RACE >> KIND_BIT
P_LOAD, P_STORE, M_LOAD, M_STORE = range(4)  # plain and marked


@inner
def clashes(latest: Any, clock: Any, word: int, task: int, kinds: Any, base: int) -> int:
    """The place in the log of an access of one of `kinds` to `word` by another task that nothing orders; or -1."""
    for kind in kinds:
        for other in range(len(clock)):
            at = latest[word, kind, other] - base
            if other != task and at >= 0 and clock[other] < at:
                return at
    return -1


@called
def find_race(log: Any, tasks: int, latest: Any, released: Any, stamp: Any, base: int, found: Any) -> bool:
    """The first two accesses that race, as places in the log, into `found`.

    `latest` has per word, kind and task the place of the latest access, `released` per word the clock that a load of it
    acquires, valid where `stamp` is `base`. Any marked load acquires: what stands behind it may depend on its address.
    A marked store releases if it is a release or stands behind a barrier.
    """
    clocks = np.full((tasks, tasks), -1)
    fence = np.full((tasks, tasks), -1)
    for at in range(len(log)):
        entry = log[at]
        kind, task = entry >> KIND_BIT & KIND_MASK, entry >> TASK_BIT
        if kind >= _DATA_RACE:
            continue
        clock = clocks[task]
        clock[task] = at
        if kind == _MB or kind == _WMB:
            fence[task] = clock
            continue
        first = entry & WORD_MASK
        mine = (
            P_STORE
            if kind == _PLAIN_STORE
            else P_LOAD
            if kind == _PLAIN_LOAD
            else M_STORE
            if kind >= _WRITE
            else M_LOAD
        )
        for word in range(first, first + (entry >> COUNT_BIT & COUNT_MASK) + 1):
            if mine >= M_LOAD and stamp[word] != base:
                released[word, :] = -1
                stamp[word] = base
            if kind <= _ACQUIRE or kind == _UPDATE:
                join(clock, released[word])
            if mine == P_LOAD:
                other = clashes(latest, clock, word, task, (P_STORE, M_STORE), base)
            elif mine == P_STORE:
                other = clashes(latest, clock, word, task, (P_STORE, P_LOAD, M_STORE, M_LOAD), base)
            elif mine == M_LOAD:
                other = clashes(latest, clock, word, task, (P_STORE, P_STORE), base)
            else:
                other = clashes(latest, clock, word, task, (P_STORE, P_LOAD), base)
            if other >= 0:
                found[0], found[1] = other, at
                return True
            latest[word, mine, task] = base + at
            if kind == _RELEASE:
                released[word] = clock
            elif kind == _WRITE:
                released[word] = fence[task]
            elif kind == _UPDATE:
                join(released[word], clock)
                fence[task] = clock
            elif kind == _ADD:
                join(released[word], fence[task])
    return False


def compile_all() -> None:
    """Compile what Python calls, by calling it with an empty log."""
    log, one, pairs = np.zeros(0, np.int64), np.zeros(1, np.int64), np.zeros((1, 2), np.int64)
    find_race(log, 1, np.zeros((1, 4, 1), np.int64), pairs, one, 0, one)


class RaceDetector:
    """Finds data races in executions of one machine of `words` words and so many tasks."""

    def __init__(self, words: int, tasks: int) -> None:
        self._tasks, self._base = tasks, 0
        self._latest = np.full((words, 4, tasks), -1)
        self._released, self._stamp = np.zeros((words, tasks), np.int64), np.full(words, -1)
        self._found = np.zeros(2, np.int64)

    def find(self, log: np.ndarray) -> tuple[int, int] | None:
        """Places in the log of the first two accesses that race."""
        base, self._base = self._base, self._base + len(log)  # stamps of earlier logs are below
        arrays = (self._latest, self._released, self._stamp)
        if find_race(log, self._tasks, *arrays, base, self._found):
            return int(self._found[0]), int(self._found[1])
        return None
