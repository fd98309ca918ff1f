"""Strategies of the explorer: which interleavings are run, and when all that differ have been.

An execution is a list of choices, one per step. The systematic search runs the program again and again from the start,
each time with a prefix of choices it has not tried. It tries another task at a step only if that can matter: dynamic
partial-order reduction finds, in each execution, pairs of steps on one word that were not ordered by anything else, and
asks for the other order; sleep sets keep it from coming to the same order twice.

Source: Flanagan and Godefroid, POPL 2005 (reduction); Godefroid (sleep sets); Abdulla et al., POPL 2014 (whom to ask
when sleep sets are in use: source sets); Coons, Musuvathi, McKinley, OOPSLA 2013 (with a bound on preemptions);
Burckhardt et al., ASPLOS 2010 (PCT).
"""

from __future__ import annotations

import random

from emulator.engines.explore import ADD, READ, Options, Step


def dependent(a: tuple[int, int], b: tuple[int, int]) -> bool:
    """True if two steps (kind, location) do not commute: one word, and not both reads nor both additions."""
    return a[1] == b[1] and not (a[0] == b[0] and a[0] in (READ, ADD))


class Node:
    """One step of the current path: what was possible, what was tried, what is still to try."""

    __slots__ = ("before", "chosen", "done", "options", "preemptions", "sleep", "todo")

    def __init__(self, options: Options, chosen: int, before: int, preemptions: int, sleep: Options) -> None:
        self.options, self.chosen, self.before = options, chosen, before
        self.preemptions = preemptions  # spent before this step
        self.sleep = sleep
        self.done: set[int] = set()
        self.todo: set[int] = {chosen}

    def cost(self, task: int) -> int:
        """1 if running `task` here preempts the one that ran before."""
        return int(task != self.before and self.before in self.options)


class Search:
    """Depth-first over all interleavings that differ, or all with at most `bound` preemptions.

    `reduce` False tries every task at every step: the plain search that the reduction is measured against.
    """

    def __init__(self, bound: int | None = None, reduce: bool = True) -> None:
        self.bound, self.reduce = bound, reduce
        self.path: list[Node] = []
        self.executions = 0
        self.bounded = False  # True once the bound kept something out
        self._depth = 0
        self._preemptions = 0
        self._sleep: Options = {}

    def begin(self) -> None:
        """Start an execution."""
        self._depth = self._preemptions = 0
        self._sleep = {}

    def choose(self, options: Options, current: int) -> int:
        """The strategy of the next step: along the path, then on with the current task."""
        if self._depth < len(self.path):
            node = self.path[self._depth]
            chosen = node.chosen
        else:
            awake = [task for task in options if task not in self._sleep]
            if not awake:
                return -1  # all it could do has been done
            chosen = current if current in awake else awake[0]
            node = Node(options, chosen, current, self._preemptions, dict(self._sleep))
            if not self.reduce:
                node.todo = set(awake)
            self.path.append(node)
        self._depth += 1
        self._preemptions += node.cost(chosen)
        if self.bound is None and self.reduce:
            op = options[chosen]
            asleep = {**node.sleep, **{task: options[task] for task in node.done if task in options}}
            self._sleep = {t: other for t, other in asleep.items() if t != chosen and not dependent(other, op)}
        return chosen

    def _ask(self, at: int, wanted: list[int]) -> None:
        """Have one of `wanted` tried at step `at`, or all if none can move; with a bound also where its block began."""
        node = self.path[at]
        if self.bound is None:
            if not node.todo & set(wanted):
                movable = [task for task in wanted if task in node.options]
                node.todo |= set(movable[:1] or node.options)
            return
        start = at  # a bound may keep any one of them out: ask for all
        while start > 0 and self.path[start - 1].chosen == node.chosen:
            start -= 1
        for place in (node, self.path[start]):
            movable = [task for task in wanted if task in place.options]
            place.todo |= set(movable or place.options)

    def end(self, steps: list[Step], pending: Options) -> bool:
        """Learn from an execution, and from what was about to happen at its end; False once nothing is left to run."""
        self.executions += 1
        if self.reduce:
            self._find_races([*steps, *((task, *op) for task, op in pending.items())], len(steps))
        while self.path:
            node = self.path[-1]
            node.done.add(node.chosen)
            node.todo -= node.done
            for task in sorted(node.todo):
                if task in node.sleep:
                    node.todo.discard(task)
                elif self.bound is not None and node.preemptions + node.cost(task) > self.bound:
                    self.bounded = True
                    node.todo.discard(task)
                else:
                    node.chosen = task
                    return True
            self.path.pop()
        return False

    def _find_races(self, steps: list[Step], taken: int) -> None:
        """Pairs of dependent steps of two tasks with no order between them: ask for the other order.

        From `taken` on they were not taken: the execution was cut, and they race with what was all the same.
        """
        count = 1 + max((step[0] for step in steps), default=0)
        clocks = [[-1] * count for _ in range(count)]  # per task: latest step of each task that came before
        after: list[list[int]] = []  # the same, behind each step
        writes: dict[int, int] = {}  # location -> its latest write
        reads: dict[int, dict[int, int]] = {}  # and the reads, or the additions, since; by task
        for k, (task, kind, loc) in enumerate(steps):
            clock = list(clocks[task])
            since = reads.get(loc, {})
            earlier = [writes[loc]] if loc in writes else []
            earlier += [at for at in since.values() if dependent((kind, loc), steps[at][1:])]
            races = [at for at in earlier if steps[at][0] != task and clock[steps[at][0]] < at]
            for at in earlier:
                clock = [max(a, b) for a, b in zip(clock, after[at], strict=True)]
            clock[task] = k
            after.append(clock)
            for at in races:
                self._ask(at, self._initials(steps, after, at, k))
            if k >= taken:
                continue
            clocks[task] = clock
            if kind in (READ, ADD) and all(steps[at][1] == kind for at in since.values()):
                reads.setdefault(loc, {})[task] = k
            elif kind in (READ, ADD):
                reads[loc] = {task: k}  # it came after all of the other kind
            else:
                writes[loc] = k
                reads.pop(loc, None)

    def _initials(self, steps: list[Step], after: list[list[int]], i: int, j: int) -> list[int]:
        """Tasks that can begin an execution with step j before step i: of the steps between that do not need i, and j,
        those that need none of the others. j's own task comes first if it is one."""
        first = steps[i][0]
        between = [k for k in range(i + 1, j) if after[k][first] < i]
        seen: set[int] = set()
        initials = []
        for place, k in enumerate([*between, j]):
            task = steps[k][0]
            if task in seen:
                continue
            seen.add(task)
            if not any(after[k][steps[m][0]] >= m for m in between[:place]):
                initials.append(task)
        return sorted(initials, key=lambda task: task != steps[j][0])


class RandomWalk:
    """Any task that can move, with equal chances, at each step."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.executions = 0

    def begin(self) -> None:
        """Start an execution."""

    def choose(self, options: Options, current: int) -> int:
        """One of them."""
        return self._random.choice(list(options))

    def end(self, steps: list[Step], pending: Options) -> bool:
        """There is always another walk."""
        self.executions += 1
        return True


class Pct:
    """Random priorities, lowered at d - 1 random steps: finds a bug of depth d with probability 1/(n k^(d-1))."""

    def __init__(self, seed: int, depth: int = 3, length: int = 300) -> None:
        self._random = random.Random(seed)
        self.depth, self.length = depth, length
        self.executions = 0
        self._priority: dict[int, float] = {}
        self._changes: set[int] = set()
        self._step = 0

    def begin(self) -> None:
        """Draw priorities and change points."""
        self._priority = {}
        self._changes = {self._random.randrange(max(1, self.length)) for _ in range(self.depth - 1)}
        self._step = 0

    def choose(self, options: Options, current: int) -> int:
        """The one of the highest priority; a change point lowers the current one below all others."""
        for task in options:
            self._priority.setdefault(task, 1 + self._random.random())
        if self._step in self._changes and current in self._priority:
            self._priority[current] = -float(self._step)
        self._step += 1
        return max(options, key=lambda task: self._priority[task])

    def end(self, steps: list[Step], pending: Options) -> bool:
        """Learn how long executions are."""
        self.executions += 1
        self.length = max(self.length, len(steps))
        return True


class Replay:
    """The choices of one execution, again; then on with the current task."""

    def __init__(self, choices: list[int]) -> None:
        self.choices = choices
        self._depth = 0

    def begin(self) -> None:
        """Start from the first."""
        self._depth = 0

    def choose(self, options: Options, current: int) -> int:
        """The recorded task; -2 stands for one that cannot move, which ends the execution."""
        if self._depth < len(self.choices):
            wanted = self.choices[self._depth]
            self._depth += 1
            return wanted if wanted in options else -2
        return current if current in options else next(iter(options))

    def end(self, steps: list[Step], pending: Options) -> bool:
        """Once is enough."""
        return False
