"""Which plain accesses of an execution race: two accesses to one word by two tasks, which nothing orders. At least one
is plain, and at least one a store.

What orders is what the Linux-kernel memory model promises, as vector clocks. A clock has two numbers per task: up to
where its loads are ordered before, and its stores, which is less. A load is before whatever a chain of dependencies,
barriers and reads of what was written leads to. A store must also have reached those it is before. It is passed on by a
release or a full barrier of each task between, or a full barrier behind it sends it to all.

A log of `dependencies.py` says on which loads an access depends. Without that, any marked load orders what stands
behind it: its address may depend on it.

Source: Flanagan and Freund, PLDI 2009 (clocks); tools/memory-model/linux-kernel.cat, explanation.txt (plain accesses);
KCSAN (what is a race, and data_race()).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from emulator.engines.access_log import COUNT_BIT, COUNT_MASK, KIND_BIT, KIND_MASK, TASK_BIT, WORD_MASK
from emulator.engines.partial_order import (
    _ACQUIRE,
    _ADDRESS,
    _DATA_RACE,
    _DEPENDS,
    _LOCK,
    _LOOK,
    _MB,
    _PLAIN_LOAD,
    _PLAIN_STORE,
    _READ,
    _RELAXED,
    _RELEASE,
    _RMB,
    _UPDATE,
    _WMB,
    _WRITE,
    called,
    inner,
    join,
)

P_LOAD, P_STORE, M_LOAD, M_STORE = range(4)  # plain and marked
# Clocks of a task: what stands before all it does from here on; before its loads; what it has seen; what its marked
# stores pass on of stores, and of loads; what its stores so far have passed on; all that its loads passed on of loads.
ALL, READS, SEEN, FENCED, CHAINED, PASSED, CHAINS, NR_CLOCKS = range(8)


@inner
def join2(clock: Any, first: Any, second: Any) -> None:
    """What two others have behind them, `clock` has, too."""
    join(clock, first)
    join(clock, second)


@inner
def has_been_read(latest: Any, clock: Any, exact: Any, word: int, task: int, other: int, at: int, base: int) -> bool:
    """True if a marked store has been read, and its reader stands before: itself is ordered, whatever is not."""
    tasks = len(clock) // 2
    if exact[word, task, other] - base >= at:
        return True
    for reader in range(tasks):
        place = latest[word, M_LOAD, reader] - base
        if reader != task and place > at and clock[tasks + reader] >= place:
            return True
    return False


@inner
def clashes(latest: Any, clock: Any, exact: Any, word: int, task: int, mine: int, base: int) -> int:
    """The place in the log of an access to `word` by another task that races with one of kind `mine`; or -1."""
    tasks = len(clock) // 2
    for kind in range(4):
        stores = kind == P_STORE or kind == M_STORE
        if (kind >= M_LOAD and mine >= M_LOAD) or not (stores or mine == P_STORE or mine == M_STORE):
            continue  # both marked, or both loads
        for other in range(tasks):
            at = latest[word, kind, other] - base
            if other == task or at < 0 or (clock[tasks + other] if stores else clock[other]) >= at:
                continue
            if kind != M_STORE or not has_been_read(latest, clock, exact, word, task, other, at, base):
                return at
    return -1


@inner
def barrier(kind: int, at: int, task: int, of: Any) -> None:
    """A barrier: what it orders before what."""
    tasks = of.shape[1] // 2
    if kind == _RMB:
        join2(of[READS], of[ALL], of[SEEN])
    elif kind == _WMB:
        join(of[FENCED], of[PASSED])
        of[FENCED, tasks + task] = at
    elif kind == _MB:
        join(of[ALL], of[SEEN])
        join(of[FENCED], of[ALL])
        join(of[CHAINED], of[ALL])
        of[FENCED, task] = of[FENCED, tasks + task] = of[CHAINED, task] = of[CHAINED, tasks + task] = at


@inner
def load_from(kind: int, at: int, of: Any, weak: Any, chain: Any, got: Any, strict: bool) -> bool:
    """A marked load, or that of a read-modify-write, gets what its word's store has released; whether it acquires."""
    if strict:
        got[at, 0], got[at, 1] = weak, chain
    join2(of[SEEN], weak, chain)
    join(of[CHAINS], chain)
    if kind == _LOCK:
        join(of[FENCED], weak)
    if kind == _READ and strict:
        return False
    join2(of[ALL], weak, chain)
    join(of[CHAINED], chain)
    return True


@inner
def store_to(kind: int, at: int, task: int, of: Any, weak: Any, chain: Any, depends: Any) -> None:
    """A marked store releases. One of a read-modify-write keeps what the store before it has released."""
    tasks = len(weak) // 2
    if kind == _WRITE or kind == _RELEASE:
        weak[:] = -1
        chain[:] = -1
    join(weak, of[FENCED])
    join2(chain, of[CHAINED], depends)
    if kind == _RELEASE or kind == _UPDATE or kind == _LOCK:
        join2(weak, of[ALL], of[SEEN])
        join(chain, of[CHAINS])
        weak[task] = weak[tasks + task] = chain[task] = at
    join(of[PASSED], weak)


@inner
def acquired_before(log: Any, at: int, got: Any, clock: Any, chains: Any, is_plain: bool) -> None:
    """Enter what the loads have got that access `at` depends on: into `clock` if it is its address, and in `chains`."""
    while at > 0 and log[at - 1] >> TASK_BIT == log[at] >> TASK_BIT:
        at -= 1
        kind = log[at] >> KIND_BIT & KIND_MASK
        if kind != _ADDRESS and kind != _DEPENDS:
            return
        place = log[at] & WORD_MASK
        join(chains, got[place, 1])
        if kind == _ADDRESS and is_plain:
            join2(clock, got[place, 0], got[place, 1])


@called
def find_race(
    log: Any, tasks: int, latest: Any, weak: Any, chain: Any, exact: Any, stamp: Any, base: int, found: Any,
    strict: bool,
) -> bool:  # fmt: skip
    """The first two accesses that race, as places in the log, into `found`.

    `latest` has per word, kind and task the place of the latest access. `weak` and `chain` have per word the clocks
    that its store has released, for stores that were passed on and for chains. `exact` has per word and task the marked
    store of each other task that it has acquired. They are valid where `stamp` is `base`.
    """
    clocks = np.full((tasks, NR_CLOCKS, 2 * tasks), -1)
    got = np.full((len(log) if strict else 0, 2, 2 * tasks), -1)
    clock, chains = np.full(2 * tasks, -1), np.full(2 * tasks, -1)
    for at in range(len(log)):
        kind, task, first = log[at] >> KIND_BIT & KIND_MASK, log[at] >> TASK_BIT, log[at] & WORD_MASK
        of = clocks[task]
        if kind == _MB or kind == _WMB or kind == _RMB:
            barrier(kind, at, task, of)
        if kind == _LOOK or (kind >= _DATA_RACE and kind != _RMB) or kind == _MB or kind == _WMB or kind == _RMB:
            continue
        mine = kind_of(kind)
        clock[:] = of[ALL]
        chains[:] = -1
        if mine == P_LOAD or mine == M_LOAD:
            join(clock, of[READS])
        if strict:
            acquired_before(log, at, got, clock, chains, mine <= P_STORE)
        if kind == _UPDATE:
            barrier(_MB, at, task, of)
            join(clock, of[ALL])
        for word in range(first, first + (log[at] >> COUNT_BIT & COUNT_MASK) + 1):
            if mine >= M_LOAD and stamp[word] != base:
                weak[word, :] = -1
                chain[word, :] = -1
                stamp[word] = base
            if kind <= _ACQUIRE or kind == _UPDATE or kind == _RELAXED or kind == _LOCK:
                if load_from(kind, at, of, weak[word], chain[word], got, strict):
                    exact[word, task] = latest[word, M_STORE]
                    join(clock, of[ALL])
                latest[word, M_LOAD, task] = base + at
            other = clashes(latest, clock, exact, word, task, mine, base)
            if other >= 0:
                found[0], found[1] = other, at
                return True
            latest[word, mine, task] = base + at
            if mine == M_STORE:
                store_to(kind, at, task, of, weak[word], chain[word], chains)
        if kind == _UPDATE:
            barrier(_MB, at, task, of)
    return False


@inner
def kind_of(kind: int) -> int:
    """Plain or marked, load or store."""
    if kind == _PLAIN_STORE:
        return P_STORE
    if kind == _PLAIN_LOAD:
        return P_LOAD
    return M_LOAD if kind <= _ACQUIRE else M_STORE


def compile_all() -> None:
    """Compile what Python calls, by calling it with an empty log."""
    log, one, pairs = np.zeros(0, np.int64), np.zeros(1, np.int64), np.zeros((1, 2), np.int64)
    cube = np.zeros((1, 4, 1), np.int64)
    find_race(log, 1, cube, pairs, pairs, cube, one, 0, one, False)


class RaceDetector:
    """Finds data races in executions of one machine of `words` words and so many tasks.

    `strict`: the log says what depends on what.
    """

    def __init__(self, words: int, tasks: int, strict: bool = False) -> None:
        self._tasks, self._base, self._strict = tasks, 0, strict
        self._latest = np.full((words, 4, tasks), -1)
        self._weak, self._chain = (np.zeros((words, 2 * tasks), np.int64) for _ in range(2))
        self._exact, self._stamp = np.full((words, tasks, tasks), -1), np.full(words, -1)
        self._found = np.zeros(2, np.int64)

    def find(self, log: np.ndarray) -> tuple[int, int] | None:
        """Places in the log of the first two accesses that race."""
        base, self._base = self._base, self._base + len(log)  # stamps of earlier logs are below
        arrays = (self._latest, self._weak, self._chain, self._exact, self._stamp)
        if find_race(log, self._tasks, *arrays, base, self._found, self._strict):
            return int(self._found[0]), int(self._found[1])
        return None
