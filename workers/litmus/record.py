"""A litmus test as data: threads of operations, a condition on how they end, and whose verdict on it.

One JSON object a line; docs/litmus.md has the keys. What a test may contain is in OPERATIONS and checked here, so that
nothing that runs one need ask again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from workers.litmus.expression import BadTest, Expression, parse

MOST_THREADS, MOST_OPERATIONS, MOST_LOCATIONS, DEEPEST = 8, 200, 64, 20
_LOCATION = re.compile(r"([A-Za-z_]\w*)(?:\[(\d{1,2})\])?")
_REGISTER = re.compile(r"(\d):(\w+)")
QUANTIFIERS = ("exists", "~exists", "forall")
RMW = ("mb", "locked", "relaxed", "acquire", "release", "noreturn")
FENCES = ("mfence", "mb", "wmb", "rmb", "before_atomic", "after_atomic", "after_spinlock", "after_unlock_lock")
# operation -> its operands: r a register, l a location or an address in a register, e an expression; and its kinds
OPERATIONS: dict[str, tuple[dict[str, str], Sequence[str]]] = {
    "load": ({"reg": "r", "loc": "l"}, ("once", "acquire", "plain", "mov")),
    "store": ({"loc": "l", "val": "e"}, ("once", "release", "plain", "mov")),
    "fence": ({}, FENCES),
    "xchg": ({"reg": "r", "loc": "l", "val": "e"}, RMW),
    "cmpxchg": ({"reg": "r", "loc": "l", "old": "e", "new": "e"}, RMW),
    "rmw": ({"loc": "l", "val": "e"}, RMW),
    "add_unless": ({"reg": "r", "loc": "l", "val": "e", "unless": "e"}, RMW),
    "set": ({"reg": "r", "val": "e"}, ()),
    "if": ({"cond": "e"}, ()),
    "lock": ({"loc": "l"}, ()),
    "unlock": ({"loc": "l"}, ()),
    "is_locked": ({"reg": "r", "loc": "l"}, ()),
    "rcu_read_lock": ({}, ()),
    "rcu_read_unlock": ({}, ()),
    "synchronize_rcu": ({}, ()),
    "srcu_read_lock": ({"reg": "r", "loc": "l"}, ()),
    "srcu_read_unlock": ({"loc": "l"}, ()),
    "synchronize_srcu": ({"loc": "l"}, ()),
}
FUNCTIONS = ("add", "and", "or", "xor")


@dataclass(frozen=True)
class Operation:
    """One operation: its operands as they stand, its expressions parsed; `loc` is the expression of an address."""

    op: str
    kind: str = ""
    reg: str = ""
    function: str = ""
    returns: str = ""
    address: Expression | None = None
    values: Mapping[str, Expression] = field(default_factory=dict)
    then: tuple[Operation, ...] = ()
    otherwise: tuple[Operation, ...] = ()

    def all(self) -> Iterator[Operation]:
        """The operation and those within it."""
        yield self
        for one in (*self.then, *self.otherwise):
            yield from one.all()


@dataclass(frozen=True)
class Test:
    """One litmus test. `places` are its locations in order of address; `states` all ends, exactly or at most those.

    `source` is where its record stands, FILE:LINE; `expected` the owners' verdict, None if there is none.
    """

    name: str
    source: str
    model: str
    kind: str
    uses: frozenset[str]
    init: Mapping[str, Expression]
    threads: tuple[tuple[Operation, ...], ...]
    quantifier: str
    condition: Expression
    filter: Expression | None
    expected: bool | None
    states: tuple[Mapping[str, Expression], ...] | None
    exact: bool
    data_race: bool | None
    places: tuple[str, ...]
    reference: Mapping[str, Any]

    def registers(self, thread: int) -> list[str]:
        """The registers of a thread, sorted."""
        named = {one.reg for operation in self.threads[thread] for one in operation.all() if one.reg}
        return sorted(named | {match[2] for name in self.init if (match := _register(name, thread))})


def _register(name: str, thread: int) -> re.Match[str] | None:
    match = _REGISTER.fullmatch(name)
    return match if match is not None and int(match[1]) == thread else None


def _need(of: Mapping[str, Any], key: str, kind: type) -> Any:
    value = of.get(key)
    if not isinstance(value, kind) or isinstance(value, bool) is not (kind is bool):
        raise BadTest(f"'{key}' is {value!r:.40}; known: a value of type {kind.__name__}")
    return value


def _operation(of: Any, depth: int) -> Operation:
    """An operation of its record. Raises BadTest."""
    if not isinstance(of, dict) or of.get("op") not in OPERATIONS:
        raise BadTest(f"unknown operation {of!r:.60}; known: {', '.join(OPERATIONS)}")
    if depth > DEEPEST:
        raise BadTest(f"more than {DEEPEST} branches within each other")
    op: str = of["op"]
    operands, kinds = OPERATIONS[op]
    kind = of.get("kind", "")
    if kind not in (kinds or ("",)):
        raise BadTest(f"{op} of kind {kind!r:.40}; known: {', '.join(kinds)}")
    values = {name: parse(of.get(name, "")) for name, what in operands.items() if what == "e"}
    address = _address(of.get("loc", "")) if "loc" in operands else None
    reg = str(of.get("reg", ""))
    if "reg" in operands and not re.fullmatch(r"[A-Za-z_]\w*", reg):
        raise BadTest(f"{op} to {reg!r:.40}, which is no register")
    if op == "rmw" and (of.get("f") not in FUNCTIONS or (reg and of.get("returns") not in ("old", "new"))):
        raise BadTest(f"rmw {of.get('f')!r:.20} that returns {of.get('returns')!r:.20}; known: {', '.join(FUNCTIONS)}")
    then, otherwise = (
        tuple(_operation(one, depth + 1) for one in _list(of.get(branch) or [])) for branch in ("then", "else")
    )
    return Operation(op, kind, reg, of.get("f", ""), of.get("returns", ""), address, values, then, otherwise)


def _list(of: Any) -> list[Any]:
    if not isinstance(of, list) or len(of) > MOST_OPERATIONS:
        raise BadTest(f"{of!r:.40} is no list of at most {MOST_OPERATIONS} operations")
    return of


def _address(text: Any) -> Expression:
    """The address that an operand names: a location, or what stands behind *."""
    text = str(text).strip()
    if text.startswith("*"):
        return parse(text[1:])
    if not _LOCATION.fullmatch(text):
        raise BadTest(f"{text!r:.40} is no location")
    return parse(f"&{text}")


def _named(of: Expression | None) -> Iterator[str]:
    """The locations that an expression names."""
    for name in of.names if of is not None else ():
        bare = name.removeprefix("&")
        if name.startswith("&") or not _REGISTER.fullmatch(bare):
            yield bare


def _places(init: Mapping[str, Expression], threads: Any, conditions: Sequence[Expression | None]) -> tuple[str, ...]:
    """All locations in order of address: as `init` names them, then as they are met."""
    found = [name for name in init if not _REGISTER.fullmatch(name)]
    for of in (*init.values(), *conditions):
        found += _named(of)
    for operation in (one for thread in threads for outer in thread for one in outer.all()):
        for of in (operation.address, *operation.values.values()):
            found += [name.removeprefix("&") for name in (of.names if of is not None else ()) if name.startswith("&")]
    places = tuple(dict.fromkeys(found))
    if bad := [name for name in places if not _LOCATION.fullmatch(name)]:
        raise BadTest(f"{bad[0]!r:.40} is no location")
    if len(places) > MOST_LOCATIONS:
        raise BadTest(f"{len(places)} locations; known: at most {MOST_LOCATIONS}")
    return places


def _check_names(test: Test) -> None:
    """Every register that is read is one that the thread has; bare names in conditions are locations."""
    for number, thread in enumerate(test.threads):
        known = set(test.registers(number))
        for operation in (one for outer in thread for one in outer.all()):
            for of in (operation.address, *operation.values.values()):
                for name in of.names if of is not None else ():
                    if not name.startswith("&") and name not in known:
                        raise BadTest(f"thread {number} reads {name}, which is none of its registers")
    for of in (test.condition, test.filter):
        for name in of.names if of is not None else ():
            match = _REGISTER.fullmatch(name)
            if match is not None and int(match[1]) >= len(test.threads):
                raise BadTest(f"the condition names thread {match[1]}; there are {len(test.threads)}")


def _test(of: Any, source: str) -> Test:
    if not isinstance(of, dict):
        raise BadTest("a line that is no JSON object")
    threads = _need(of, "threads", list)
    if not 0 < len(threads) <= MOST_THREADS:
        raise BadTest(f"{len(threads)} threads; known: 1 to {MOST_THREADS}")
    program = tuple(tuple(_operation(one, 0) for one in _list(thread)) for thread in threads)
    init = {str(name): parse(value) for name, value in (of.get("init") or {}).items()}
    condition = parse(_need(of, "condition", str))
    filter_ = parse(of["filter"]) if of.get("filter") else None
    verdict, states = of.get("verdict"), of.get("states")
    if of.get("quantifier") not in QUANTIFIERS:
        raise BadTest(f"quantifier {of.get('quantifier')!r:.20}; known: {', '.join(QUANTIFIERS)}")
    if verdict not in (True, False, None) or not isinstance(states, (list, type(None))):
        raise BadTest("a verdict that is neither true nor false, or states that are no list")
    test = Test(
        _need(of, "name", str),
        source,
        str(of.get("model", "")),
        str(of.get("kind", "")),
        frozenset(map(str, of.get("uses") or ())),
        init,
        program,
        of["quantifier"],
        condition,
        filter_,
        verdict,
        None if states is None else tuple({str(k): parse(v) for k, v in state.items()} for state in states),
        of.get("states_are") == "exact",
        of.get("data_race"),
        _places(init, program, (condition, filter_)),
        of.get("reference") or {},
    )
    _check_names(test)
    return test


def read(line: str, source: str) -> Test:
    """The test of a line. Raises BadTest."""
    try:
        return _test(json.loads(line), source)
    except BadTest as error:
        raise BadTest(f"{source}: {error}") from None
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise BadTest(f"{source}: no litmus test ({str(error)[:80]})") from None
