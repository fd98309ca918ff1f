"""Sequential consistency with dependencies in the log: whose load the address, the value or the making of an access
depends on. For the race detector, to which a marked load alone orders nothing.

A value that was loaded is a number that knows where in the log; what is computed from it does, too. A branch on it
makes everything behind depend on it, as far as its task goes. A value that went through memory has forgotten.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from emulator.engines.access_log import (
    ADD,
    ADDRESS,
    COUNT_BIT,
    COUNT_MASK,
    DEPENDS,
    PLAIN_LOAD,
    PLAIN_STORE,
    RMB,
    WORD_MASK,
    more,
)
from emulator.engines.explore import Field, Task, World, world
from emulator.engines.store_buffer import Buffers

MOST = 16  # loads that a value remembers: the latest of them


class Traced(int):
    """A number, and the places in the log of the loads that it comes from."""

    by: frozenset[int]

    def derived(self, function: Callable[..., int], operands: tuple[Any, ...]) -> Traced:
        """The function's value."""
        value = function(*(int(one) for one in operands))
        return traced(int(value), frozenset().union(*(sources(one) for one in operands)))

    def __bool__(self) -> bool:
        world.buffers.branch(self.by)
        return int(self) != 0

    __hash__ = int.__hash__


def traced(value: int, by: frozenset[int]) -> Traced:
    """A number that comes from these loads."""
    number = Traced(value)
    number.by = by if len(by) <= MOST else frozenset(sorted(by)[-MOST:])
    return number


def sources(value: Any) -> frozenset[int]:
    """The loads that a value comes from."""
    return value.by if type(value) is Traced else frozenset()


def _binary(function: Callable[[int, int], int]) -> Callable[[Traced, Any], Any]:
    return lambda self, other: self.derived(function, (self, other))


def _reflected(function: Callable[[int, int], int]) -> Callable[[Traced, Any], Any]:
    return lambda self, other: self.derived(lambda a, b: function(b, a), (self, other))


def _unary(function: Callable[[int], int]) -> Callable[[Traced], Any]:
    return lambda self: self.derived(function, (self,))


for _name in ("add", "sub", "mul", "floordiv", "mod", "and_", "or_", "xor", "lshift", "rshift"):
    _function = getattr(operator, _name)
    setattr(Traced, f"__{_name.strip('_')}__", _binary(_function))
    setattr(Traced, f"__r{_name.strip('_')}__", _reflected(_function))
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(Traced, f"__{_name}__", _binary(getattr(operator, _name)))
for _name in ("neg", "invert"):
    setattr(Traced, f"__{_name}__", _unary(getattr(operator, _name)))


class Dependencies(Buffers):
    """Nothing is buffered: every store reaches memory where it stands."""

    def __init__(self, world: World) -> None:
        super().__init__(world, False)
        self._branches: list[set[int]] = []  # per CPU: loads that it has branched on

    def begin(self, tasks: list[Task]) -> None:
        """A new execution."""
        super().begin(tasks)
        self._branches = [set() for _ in tasks]

    def branch(self, by: frozenset[int]) -> None:
        """The current CPU decides on a value."""
        branches = self._branches[self.world.current.number]
        branches |= by
        if len(branches) > MOST:
            branches.intersection_update(sorted(branches)[-MOST:])

    def _enter(self, kind: int, places: frozenset[int] | set[int]) -> None:
        w = self.world
        for place in places:
            if place <= WORD_MASK:
                w.append(w.tag | kind | place)

    def read(self, op: int, field: Field, i: int) -> int:
        """One marked load."""
        w, word = self.world, field.base + int(i)
        if w.count >= w.until:
            w.step(op | word)
        self._enter(ADDRESS, sources(i))
        w.count += 1
        w.append(w.tag | op | word)
        return traced(w.mem[word], frozenset((len(w.log) - 1,)))

    def plain(self, op: int, field: Field, i: int) -> int:
        """One plain load: what depends on it is ordered by nothing."""
        w, word = self.world, field.base + int(i)
        self._enter(ADDRESS, sources(i))
        w.append(w.tag | op | word)
        return w.mem[word]

    def or_words(self, field: Field, i: int, n: int) -> int:
        """Plain loads of `n` words, or-ed together."""
        w, first = self.world, field.base + int(i)
        self._enter(ADDRESS, sources(i))
        w.append(w.tag | PLAIN_LOAD | more(n) | first)
        result = 0
        for value in w.mem[first : first + n]:
            result |= value
        return result

    def store(self, op: int, field: Field, i: int, value: int) -> None:
        """One store, plain or marked."""
        w, word, size = self.world, field.base + int(i), (op >> COUNT_BIT & COUNT_MASK) + 1
        if op & ~(COUNT_MASK << COUNT_BIT) != PLAIN_STORE and w.count >= w.until:
            w.step(op | word)
        self._enter(ADDRESS, sources(i))
        self._enter(DEPENDS, sources(value) | self._branches[w.current.number])
        self._store_unseen(op, word, size, int(value))

    def add(self, field: Field, i: int, n: int) -> None:
        """An addition, which is no barrier."""
        self._change(ADD, field, i, operator.add, (n,))

    def update(
        self, op: int, order: int, field: Field, i: int, change: Callable[..., int | None], *operands: int
    ) -> int:
        """A read-modify-write; the value before."""
        return self._change(op, field, i, change, operands)

    def _change(
        self, op: int, field: Field, i: int, change: Callable[..., int | None], operands: tuple[int, ...]
    ) -> int:
        w, word = self.world, field.base + int(i)
        if w.count >= w.until:
            w.step(op | word)
        self._enter(ADDRESS, sources(i))
        self._enter(DEPENDS, frozenset().union(*map(sources, operands), self._branches[w.current.number]))
        w.count += 1
        w.append(w.tag | op | word)
        place, old = len(w.log) - 1, w.mem[word]
        new = change(old, *map(int, operands))
        if new is not None:
            w.set(word, new)
        return traced(old, frozenset((place,)))

    def hold_for_lock(self, word: int) -> int:
        """The current CPU must not take a lock before it is free; the lock's word."""
        return super().hold_for_lock(int(word))

    def read_barrier(self) -> None:
        """smp_rmb."""
        self.world.append(self.world.tag | RMB)
