"""What an execution teaches: which of its steps could have come in another order.

Compiled, over the log of the explore engine. A step is a marked access and the plain ones behind it. It is dependent on
another if they touch one word. Two loads are not, nor two additions (atomic_add, whose result no task looks at). Vector
clocks over dependent steps give the order that the execution imposes. Two dependent steps of two tasks with no order
between them are a race of the search: the other order is worth a run.

An acquisition of a lock is one step that cannot be made while the lock is held. It races with the acquisition before
it, not with the release between, which it cannot come before.

Source: Flanagan and Godefroid, POPL 2005 (reduction); Godefroid (sleep sets); Abdulla et al., POPL 2014 (which tasks to
ask: source sets); Coons, Musuvathi, McKinley, OOPSLA 2013 (with a bound on preemptions); Zhang, Kusano, Wang, PLDI 2015
(store buffers as tasks); Flanagan and Freund, PLDI 2009 (data races by clocks).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from emulator.engines import cache_place
from emulator.engines.access_log import (
    ACQUIRE,
    ADD,
    ADDRESS,
    BLOCKED,
    COUNT_BIT,
    COUNT_MASK,
    DATA_RACE,
    DEPENDS,
    KIND_BIT,
    KIND_MASK,
    LOCK,
    LOOK,
    MB,
    PLAIN_LOAD,
    PLAIN_STORE,
    READ,
    RELAXED,
    RELEASE,
    RMB,
    TASK_BIT,
    UPDATE,
    WMB,
    WOKEN,
    WORD_MASK,
    WRITE,
)

cache_place.use()
inner = njit(no_cpython_wrapper=True, no_cfunc_wrapper=True)
called = njit(cache=True)  # from Python
ENTRIES = frozenset(("parse", "order", "learn", "covered", "written", "note_users", "find_race"))

# kinds as small numbers, for compiled code
_READ, _ACQUIRE, _WRITE, _RELEASE, _UPDATE, _RELAXED, _LOCK, _ADD, _LOOK, _MB, _WMB = (
    kind >> KIND_BIT for kind in (READ, ACQUIRE, WRITE, RELEASE, UPDATE, RELAXED, LOCK, ADD, LOOK, MB, WMB)
)
_PLAIN_LOAD, _PLAIN_STORE, _DATA_RACE, _BLOCKED, _WOKEN, _RMB, _ADDRESS, _DEPENDS = (
    kind >> KIND_BIT for kind in (PLAIN_LOAD, PLAIN_STORE, DATA_RACE, BLOCKED, WOKEN, RMB, ADDRESS, DEPENDS)
)
# columns of a path: one row per step
CHOSEN, TODO, DONE, SLEEP, ENABLED, BEFORE, SPENT, ALLOWED = range(8)
# columns of the steps of one execution
S_TASK, S_KIND, S_FROM, S_TO, S_ENABLED, S_MADE, S_EPOCH = range(7)  # from and to: its accesses in the log


@called
def parse(log: Any, pending: Any, commits: Any, cpus: int, buffered: bool, steps: Any) -> int:
    """Fill `steps` from the log; behind the last one stands what each task was about to do. The number taken.

    `pending` is per task the log entry of its next step or -1; `commits` (step, made, epoch) of store buffers.
    """
    enabled = (1 << cpus) - 1
    n = 0
    last = np.full(len(pending), -1)
    for at in range(len(log)):
        kind, task = log[at] >> KIND_BIT & KIND_MASK, log[at] >> TASK_BIT
        if kind == _BLOCKED:
            enabled &= ~(1 << task)
        elif kind == _WOKEN:
            enabled |= 1 << task
        elif kind <= _LOOK or (kind == _MB and buffered):
            steps[n, S_TASK], steps[n, S_KIND], steps[n, S_FROM] = task, kind, at
            steps[n, S_ENABLED], steps[n, S_MADE] = enabled, -1
            if n > 0:
                steps[n - 1, S_TO] = at
            last[task] = n
            n += 1
    if n > 0:
        steps[n - 1, S_TO] = len(log)
    for k in range(len(commits)):
        steps[commits[k, 0], S_MADE], steps[commits[k, 0], S_EPOCH] = commits[k, 1], commits[k, 2]
    for task in range(cpus):
        if pending[task] < 0:  # it has come to its end
            for k in range(last[task] + 1, n):
                steps[k, S_ENABLED] &= ~(1 << task)
    behind = n
    for task in range(len(pending)):
        if pending[task] >= 0:
            steps[behind, S_TASK], steps[behind, S_KIND] = task, pending[task] >> KIND_BIT & KIND_MASK
            steps[behind, S_FROM] = steps[behind, S_TO] = -1
            steps[behind, S_MADE] = -1
            behind += 1
    steps[behind, S_TASK] = -1
    return n


@inner
def cost(path: Any, k: int, task: int, cpus: int) -> int:
    """1 if running `task` at step k preempts the one that ran before. Stores that reach memory preempt nobody."""
    before = path[k, BEFORE]
    return int(task < cpus and before >= 0 and task != before and path[k, ENABLED] >> before & 1 != 0)


@inner
def extend(path: Any, kept: int, steps: Any, n: int, sleeps: Any, allowed: Any, cpus: int) -> None:
    """Enter the steps from `kept` on into the path.

    `sleeps` are the sleep sets of the first of them, `allowed` whether a preemption is wanted there.
    """
    for k in range(kept, n):
        task = steps[k, S_TASK]
        path[k, CHOSEN], path[k, TODO], path[k, DONE] = task, 1 << task, 0
        path[k, SLEEP] = sleeps[k - kept] if k - kept < len(sleeps) else 0
        path[k, ENABLED] = steps[k, S_ENABLED]
        path[k, ALLOWED] = allowed[k - kept] if k - kept < len(allowed) else 1
        path[k, BEFORE], path[k, SPENT] = -1, 0
        if k > 0:
            previous = path[k - 1, CHOSEN]
            path[k, BEFORE] = previous if previous < cpus else path[k - 1, BEFORE]
            path[k, SPENT] = path[k - 1, SPENT] + cost(path, k - 1, previous, cpus)


@inner
def ask(path: Any, at: int, wanted: int, first: int, bounded: bool, cpus: int) -> None:
    """Have a task of the mask `wanted` tried at step `at`, `first` if it can move; or all if none of them can.

    With a bound any one of them may be kept out: all are asked, and also where the block of that step began.
    """
    if not bounded:
        if path[at, TODO] & wanted == 0:
            movable = wanted & path[at, ENABLED]
            if movable == 0:
                path[at, TODO] |= path[at, ENABLED]
            elif movable >> first & 1:
                path[at, TODO] |= 1 << first
            else:
                path[at, TODO] |= movable & -movable
        return
    start = at
    while start > 0 and (path[start - 1, CHOSEN] == path[at, CHOSEN] or path[start - 1, CHOSEN] >= cpus):
        start -= 1
    for place in (at, start):
        movable = wanted & path[place, ENABLED]
        path[place, TODO] |= movable if movable != 0 else path[place, ENABLED]


@inner
def initials(steps: Any, after: Any, reach: Any, i: int, j: int, tasks: int) -> int:
    """The tasks that can begin an execution with step j before step i, as a mask.

    Of the steps between that do not need i, and j: the tasks whose first one needs none of the others. `reach` is the
    clock that j would have without i.
    """
    found = 0
    task_i = steps[i, S_TASK]
    earliest = np.full(tasks, -1)
    for k in range(i + 1, j + 1):
        if k < j and after[k, task_i] >= i:
            continue
        task = steps[k, S_TASK]
        if earliest[task] >= 0:
            continue
        needs = False
        for other in range(tasks):
            behind = reach[other] if k == j else after[k, other]
            if other != task and earliest[other] >= 0 and behind >= earliest[other]:
                needs = True
                break
        if not needs:
            found |= 1 << task
        earliest[task] = k
    return found


@inner
def enter(found: Any, count: int, step: int) -> int:
    """Add a step to those found, once; how many there are."""
    if step < 0:
        return count
    for c in range(count - 1, -1, -1):
        if found[c] == step:
            return count
    found[count] = step
    return count + 1


LOADS, ADDS, STORES, NOTHING = range(4)


@inner
def effect(kind: int) -> int:
    """What an access does to its words."""
    if kind <= _ACQUIRE or kind == _PLAIN_LOAD:
        return LOADS
    if kind == _ADD:
        return ADDS
    return STORES if kind < _ADD or kind == _PLAIN_STORE else NOTHING


@inner
def dependent_before(entry: int, steps: Any, owner: Any, words: Any, base: int, found: Any, count: int) -> int:
    """Add the latest steps that an access depends on to the `count` in `found`; how many there are.

    `words` has per word the latest store, per task the latest load, addition and read-modify-write, as base
    + step. A load looks into
    its own task's store buffer: what comes from there and the load do not depend on each other.
    """
    tasks, mine = len(owner), effect(entry >> KIND_BIT & KIND_MASK)
    cpu, first = owner[entry >> TASK_BIT], entry & WORD_MASK
    if mine == NOTHING:
        return count
    for word in range(first, first + (entry >> COUNT_BIT & COUNT_MASK) + 1):
        store = max(words[word, 0] - base, -1)
        stored_by = owner[steps[store, S_TASK]] if store >= 0 else -1
        if mine != LOADS or stored_by != cpu:
            count = enter(found, count, store)
        for task in range(tasks):
            load, addition = words[word, 1 + task] - base, words[word, 1 + tasks + task] - base
            # a load is in front of its own buffer's store by chance only: nothing follows from that
            if mine != LOADS and owner[task] != cpu and (load > store or task == stored_by):
                count = enter(found, count, load)
            if mine != ADDS and addition > store:
                count = enter(found, count, addition)
    return count


@inner
def note(entry: int, k: int, steps: Any, words: Any, base: int, tasks: int) -> None:
    """Enter an access of step k as the latest of its kind."""
    mine, task, first = effect(entry >> KIND_BIT & KIND_MASK), entry >> TASK_BIT, entry & WORD_MASK
    if mine == NOTHING:
        return
    for word in range(first, first + (entry >> COUNT_BIT & COUNT_MASK) + 1):
        if mine == LOADS:
            words[word, 1 + task] = base + k
        elif mine == ADDS:
            words[word, 1 + tasks + task] = base + k
        elif steps[k, S_KIND] == _WRITE or steps[k, S_KIND] == _RELEASE:
            words[word, 0] = base + k
        else:
            words[word, 0] = base + k
            words[word, 1 + 2 * tasks + task] = base + k


@inner
def taker_of(entry: int, steps: Any, owner: Any, words: Any, base: int) -> int:
    """The step of which the other order is worth a run, for an acquisition of a lock: the one that took it before.

    The release between cannot come behind. -1 if nobody has.
    """
    word, tasks = entry & WORD_MASK, len(owner)
    store = words[word, 0] - base
    if store < 0:
        return -1
    taker = words[word, 1 + 2 * tasks + owner[steps[store, S_TASK]]] - base
    return store if taker < 0 else taker


@inner
def join(clock: Any, other: Any) -> None:
    """What `other` has behind it, `clock` has, too."""
    for task in range(len(clock)):
        if other[task] > clock[task]:
            clock[task] = other[task]


@inner
def begin_clock(
    k: int, steps: Any, cpu: int, cpus: int, after: Any, committed: Any, done: Any, epoch: Any, edges: Any, edge: int
) -> int:
    """Enter into the clock of step k what it stands behind whatever words it touches; the next of the edges."""
    clock, kind = after[k], steps[k, S_KIND]
    if steps[k, S_TASK] >= cpus and kind != _READ:  # a store reaches memory: behind the step it was made at, and
        if steps[k, S_MADE] >= 0:
            join(clock, after[steps[k, S_MADE]])
        if steps[k, S_EPOCH] > epoch[cpu]:  # behind earlier barriers
            epoch[cpu] = steps[k, S_EPOCH]
            done[cpu, :] = committed[cpu]
        join(clock, done[cpu])
    elif kind == _UPDATE or kind == _LOCK or kind == _ADD or kind == _MB:
        join(clock, committed[cpu])
    while edge < len(edges) and edges[edge, 0] <= k:
        if edges[edge, 0] == k:
            join(clock, after[edges[edge, 1]])
        edge += 1
    return edge


@inner
def is_immediate(found: Any, size: int, c: int, at: int, other: int, after: Any) -> bool:
    """True if no other step of those found stands between step `at` and the one that depends on them."""
    for d in range(size):
        if d != c and after[found[d], other] >= at:
            return False
    return True


@called
def order(
    log: Any, pending: Any, steps: Any, n: int, owner: Any, cpus: int, words: Any, base: int, after: Any, races: Any,
    since: int, edges: Any, reach: Any,
) -> int:  # fmt: skip
    """Vector clocks behind every step into `after`, and pairs (i, j) of steps that race, j >= since; how many pairs.

    `edges` are pairs (step, step that it stands behind), in order of the first. `reach` gets the clocks that steps j
    have without what makes a lock free, one row per acquisition. The third column of `races` says which.
    """
    tasks = len(owner)
    clocks = np.full((tasks, tasks), -1)
    committed, done = np.full((cpus, tasks), -1), np.full((cpus, tasks), -1)  # by store buffers: so far; epochs before
    epoch = np.zeros(cpus, np.int64)
    found = np.empty(len(steps), np.int64)
    count = rows = edge = 0
    k = 0
    while steps[k, S_TASK] >= 0 or k < n:
        task = steps[k, S_TASK]
        clock = after[k]
        clock[:] = clocks[task]
        edge = begin_clock(k, steps, owner[task], cpus, after, committed, done, epoch, edges, edge)
        size, row, taker = 0, -1, -1
        if k >= n:
            size = dependent_before(pending[task], steps, owner, words, base, found, 0)
        for at in range(steps[k, S_FROM], steps[k, S_TO]):
            if log[at] >> TASK_BIT == task:
                size = dependent_before(log[at], steps, owner, words, base, found, size)
        if steps[k, S_KIND] == _LOCK and rows < len(reach):
            taker = taker_of(pending[task] if k >= n else log[steps[k, S_FROM]], steps, owner, words, base)
            row, rows = rows, rows + 1
            reach[row] = clock
            if taker >= 0 and k >= since and steps[taker, S_TASK] != task and clock[steps[taker, S_TASK]] < taker:
                if count < len(races):
                    races[count, 0], races[count, 1], races[count, 2] = taker, k, row
                    count += 1
        for c in range(size):
            at = found[c]
            other = steps[at, S_TASK]
            frees = row >= 0 and taker >= 0 and owner[other] == owner[steps[taker, S_TASK]]
            if k >= since and other != task and clock[other] < at and not frees and count < len(races):
                if is_immediate(found, size, c, at, other, after):
                    races[count, 0], races[count, 1], races[count, 2] = at, k, -1
                    count += 1
        for c in range(size):
            join(clock, after[found[c]])
        clock[task] = k
        if k < n:
            clocks[task, :] = clock
            for at in range(steps[k, S_FROM], steps[k, S_TO]):
                if log[at] >> TASK_BIT == task:
                    note(log[at], k, steps, words, base, tasks)
            if task >= cpus and steps[k, S_KIND] != _READ:
                join(committed[owner[task]], clock)
        k += 1
    return count


@inner
def backtrack(path: Any, n: int, bound: int, cpus: int) -> int:
    """Choose what the next execution does otherwise: its last step on the path, as a count; 0 if nothing is left.

    The count is negative if the bound has kept something out.
    """
    sign = 1
    while n > 0:
        k = n - 1
        path[k, DONE] |= 1 << path[k, CHOSEN]
        open_ = path[k, TODO] & ~path[k, DONE] & ~path[k, SLEEP]
        task = 0
        while open_ >> task:
            if open_ >> task & 1:
                more = cost(path, k, task, cpus)
                if bound >= 0 and path[k, SPENT] + more > bound:
                    sign = -1
                    path[k, TODO] &= ~(1 << task)
                elif more and not path[k, ALLOWED]:
                    path[k, TODO] &= ~(1 << task)
                else:
                    path[k, CHOSEN] = task
                    return sign * n
            task += 1
        n -= 1
    return 0 if sign > 0 else -(1 << 60)


@called
def learn(
    log: Any, pending: Any, commits: Any, edges: Any, owner: Any, cpus: int, path: Any, kept: int, sleeps: Any,
    allowed: Any, words: Any, base: int, steps: Any, after: Any, races: Any, reach: Any, bound: int, reduce: bool,
    buffered: bool,
) -> int:  # fmt: skip
    """Learn from one execution; what `backtrack` says."""
    n = parse(log, pending, commits, cpus, buffered, steps)
    extend(path, kept, steps, n, sleeps, allowed, cpus)
    if reduce:
        since = max(kept - 1, 0)
        count = order(log, pending, steps, n, owner, cpus, words, base, after, races, since, edges, reach)
        for r in range(count):
            i, j, row = races[r]
            clock = after[j] if row < 0 else reach[row]
            ask(path, i, initials(steps, after, clock, i, j, len(owner)), steps[j, S_TASK], bound >= 0, cpus)
    else:
        for k in range(kept, n):
            path[k, TODO] = path[k, ENABLED]
    return backtrack(path, n, bound, cpus)


@called
def covered(path: Any, n: int) -> float:
    """The share of the search that lies behind, if every choice leads to as much as its neighbours."""
    share, weight = 0.0, 1.0
    for k in range(n):
        todo, done = path[k, TODO] | path[k, DONE], path[k, DONE]
        tried = total = 0
        while todo:
            total += todo & 1
            tried += done & 1
            todo >>= 1
            done >>= 1
        share += weight * tried / max(total, 1)
        weight /= max(total, 1)
    return share


@called
def written(log: Any, mark: Any, base: int, words: Any, ranges: Any) -> tuple[int, int]:
    """What an execution has stored to: single words, each once, and ranges (first, size); how many of either."""
    count, many = 0, 0
    for entry in log:
        kind = entry >> KIND_BIT & KIND_MASK
        if _WRITE <= kind <= _ADD or kind == _PLAIN_STORE:
            word, more = entry & WORD_MASK, entry >> COUNT_BIT & COUNT_MASK
            if more:
                ranges[many, 0], ranges[many, 1] = word, more + 1
                many = min(many + 1, len(ranges) - 1)
            elif mark[word] != base:
                mark[word] = base
                words[count] = word
                count += 1
    return count, many


@called
def note_users(log: Any, owner: Any, users: Any, stored: Any) -> bool:
    """Which CPUs have accessed each word, as a mask, and whether it was stored to; True if that is new of some word."""
    new = False
    for entry in log:
        kind = entry >> KIND_BIT & KIND_MASK
        if kind == _LOOK or kind == _MB or kind == _WMB or kind >= _BLOCKED:
            continue
        first = entry & WORD_MASK
        for word in range(first, first + (entry >> COUNT_BIT & COUNT_MASK) + 1):
            by = users[word] | 1 << owner[entry >> TASK_BIT]
            is_stored = stored[word] or not (kind <= _ACQUIRE or kind == _PLAIN_LOAD or kind == _DATA_RACE)
            new |= by != users[word] or is_stored != stored[word]
            users[word], stored[word] = by, is_stored
    return new


def choices_of(log: np.ndarray, buffered: bool) -> list[int]:
    """The task of each step."""
    kinds = log >> KIND_BIT & KIND_MASK
    steps: list[int] = (log[(kinds <= _LOOK) | (buffered & (kinds == _MB))] >> TASK_BIT).tolist()
    return steps


def compile_all() -> None:
    """Compile what Python calls, by calling it with an empty log."""
    log, one = np.zeros(0, np.int64), np.zeros(1, np.int64)
    none, pairs, races = np.full(1, -1), np.zeros((1, 2), np.int64), np.zeros((1, 3), np.int64)
    path, steps, words, after = (np.zeros((2, width), np.int64) for width in (8, 7, 4, 1))
    commits, edges = np.zeros((0, 3), np.int64), np.zeros((0, 2), np.int64)
    arrays = (words, 0, steps, after, races, after)
    learn(log, none, commits, edges, one, 1, path, 0, log, log, *arrays, -1, True, False)
    n = parse(log, none, commits, 1, False, steps)
    order(log, none, steps, n, one, 1, words, 0, after, races, 0, edges, after)
    covered(path, 0)
    written(log, one, 1, one, pairs)
    note_users(log, one, one, np.zeros(1, np.bool_))
