"""The expressions of litmus tests: C's operators and precedence over registers, addresses and what locations hold.

No operand has a side effect, so && and || evaluate both sides. Values are signed and have 64 bits.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Value = Any  # an int, or a value that depends on a load which has still to be made
Environment = Mapping[str, Value]
DEEPEST = 40  # parentheses and unary operators within each other
_TOKEN = re.compile(
    r"\s*(?:(?P<name>&?(?:\d+:)?[A-Za-z_]\w*(?:\[\d+\])?)|(?P<number>0x[0-9a-fA-F]+|\d+)"
    r"|(?P<operator>\|\||&&|==|!=|<=|>=|<<|>>|[-|&^<>+*/%!~()]))"
)
_BITS = 64


class BadTest(Exception):
    """A test that is none, or that does what has no meaning; the text says what."""


def _divide(a: int, b: int) -> int:
    if b == 0:
        raise BadTest("a division by zero")
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def _shift(function: Callable[[int, int], int]) -> Callable[[int, int], int]:
    def shift(a: int, b: int) -> int:
        if not 0 <= b < _BITS:
            raise BadTest(f"a shift by {b}; known: 0 to {_BITS - 1}")
        return function(a, b)

    return shift


_LEVELS: tuple[dict[str, Callable[[int, int], int]], ...] = (
    {"||": lambda a, b: a != 0 or b != 0},
    {"&&": lambda a, b: a != 0 and b != 0},
    {"|": operator.or_},
    {"^": operator.xor},
    {"&": operator.and_},
    {"==": operator.eq, "!=": operator.ne},
    {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge},
    {"<<": _shift(operator.lshift), ">>": _shift(operator.rshift)},
    {"+": operator.add, "-": operator.sub},
    {"*": operator.mul, "/": _divide, "%": lambda a, b: a - b * _divide(a, b)},
)
_UNARY: dict[str, Callable[[int], int]] = {"!": operator.not_, "~": operator.invert, "-": operator.neg}


def wrapped(value: int) -> int:
    """The value as a signed number of 64 bits."""
    value = int(value) & (1 << _BITS) - 1
    return value - (value >> _BITS - 1 << _BITS)


def apply(function: Callable[..., int], *operands: Value) -> Value:
    """The function's value; one that depends on a load still to be made, if an operand does."""
    for operand in operands:
        if type(operand) not in (int, bool):
            return operand.derived(lambda *values: wrapped(function(*values)), operands)
    return wrapped(function(*operands))


@dataclass(frozen=True)
class Expression:
    """An expression: its text, the names in it, and what it comes to where they have values."""

    text: str
    names: tuple[str, ...]
    of: Callable[[Environment], Value]


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    at, text = 0, text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise BadTest(f"'{text[at : at + 20]}' in '{text[:60]}' is no part of an expression")
        yield match.lastgroup, match[match.lastgroup]
        at = match.end()


class _Parser:
    def __init__(self, text: str) -> None:
        self.text, self.tokens, self.at, self.depth = text, list(_tokens(text)), 0, 0
        self.names: list[str] = []

    def peek(self) -> tuple[str, str]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("end", "")

    def take(self) -> tuple[str, str]:
        token = self.peek()
        self.at += 1
        return token

    def binary(self, level: int) -> Callable[[Environment], Value]:
        """Operators of this level and those that bind more tightly, from left to right."""
        if level == len(_LEVELS):
            return self.unary()
        left = self.binary(level + 1)
        while self.peek()[0] == "operator" and self.peek()[1] in _LEVELS[level]:
            function = _LEVELS[level][self.take()[1]]
            left = _both(function, left, self.binary(level + 1))
        return left

    def unary(self) -> Callable[[Environment], Value]:
        kind, word = self.take()
        self.depth += 1
        if self.depth > DEEPEST:
            raise BadTest(f"an expression with more than {DEEPEST} parts within each other")
        try:
            if kind == "number":
                return _constant(wrapped(int(word, 16 if word.startswith("0x") else 10)))
            if kind == "name":
                self.names.append(word)
                return lambda env: env[word]
            if word in _UNARY:
                return _one(_UNARY[word], self.unary())
            if word == "&":  # of C's unary ones: with a space behind it
                kind, word = self.take()
                self.names.append(f"&{word}")
                return lambda env: env[f"&{word}"]
            if word != "(":
                raise BadTest(f"'{word or 'the end'}' in '{self.text[:60]}' where a value should be")
            inner = self.binary(0)
            if self.take()[1] != ")":
                raise BadTest(f"a parenthesis in '{self.text[:60]}' is not closed")
            return inner
        finally:
            self.depth -= 1


def _constant(value: int) -> Callable[[Environment], Value]:
    return lambda env: value


def _one(function: Callable[[int], int], of: Callable[[Environment], Value]) -> Callable[[Environment], Value]:
    return lambda env: apply(function, of(env))


def _both(
    function: Callable[[int, int], int], left: Callable[[Environment], Value], right: Callable[[Environment], Value]
) -> Callable[[Environment], Value]:
    return lambda env: apply(function, left(env), right(env))


def parse(text: str | int) -> Expression:
    """An expression of its text, or of a number. Raises BadTest."""
    if isinstance(text, bool) or not isinstance(text, (str, int)):
        raise BadTest(f"{text!r:.60} is no expression")
    parser = _Parser(str(text))
    of = parser.binary(0)
    if parser.peek()[0] != "end":
        raise BadTest(f"'{parser.peek()[1]}' in '{str(text)[:60]}' where the expression should end")
    return Expression(str(text), tuple(parser.names), of)
