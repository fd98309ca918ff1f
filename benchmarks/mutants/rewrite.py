"""The text of a kernel file with a switch at each place that a mutant changes: all of them are one program.

A mutant is found by comparing the statements of a function with those of its changed text. Where they differ stands

    if m.config.mutant[0] == 17:
        the changed statements
    else:
        the statements as they were

as deep in the function as the change is. So whatever the change is, no more is written twice than the statements it is
about. The kernel is as it was while the word is 0.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.mutants.mutant import Mutant

Body = list[ast.stmt]


class DoesNotApply(Exception):
    """A piece of a mutant is not in its function once; the text says which."""


@dataclass(frozen=True)
class Change:
    """Statements [first, last) of a list become others under the mutant of this number."""

    number: int
    first: int
    last: int
    body: Body


def functions(text: str) -> dict[str, ast.FunctionDef]:
    """The functions of a file, by name."""
    return {node.name: node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)}


def changed(source: str, mutant: Mutant) -> Body:
    """The statements of a function, whose text is `source`, under a mutant. Raises DoesNotApply."""
    text = source
    for old, new in mutant.edits:
        if source.count(old) != 1:
            raise DoesNotApply(f"{mutant.name}: {source.count(old)} times in {mutant.function}: {old!r}")
        text = text.replace(old, new)
    body = functions(text)[mutant.function].body
    if _dump(body) == _dump(functions(source)[mutant.function].body):
        raise DoesNotApply(f"{mutant.name}: {mutant.function} stays as it is")
    return body


def _dump(body: Sequence[ast.stmt]) -> list[str]:
    return [ast.dump(node) for node in body]


def _inside(before: ast.stmt, after: ast.stmt) -> str | None:
    """The name of the one list of statements in which two statements differ, or None if they differ otherwise."""
    if type(before) is not type(after) or not isinstance(before, (ast.If, ast.While, ast.For)):
        return None
    different = [name for name in before._fields if _field(before, name) != _field(after, name)]
    return different[0] if different in (["body"], ["orelse"]) and getattr(after, different[0]) else None


def _field(node: ast.AST, name: str) -> str:
    value = getattr(node, name)
    return "".join(ast.dump(one) if isinstance(one, ast.AST) else repr(one) for one in _listed(value))


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _where(before: Body, after: Body, number: int) -> Change:
    """The statements in which two lists differ: what is alike at both ends is left out."""
    old, new = _dump(before), _dump(after)
    first = 0
    while first < min(len(old), len(new)) and old[first] == new[first]:
        first += 1
    behind = 0
    while behind < min(len(old), len(new)) - first and old[-1 - behind] == new[-1 - behind]:
        behind += 1
    return Change(number, first, len(old) - behind, after[first : len(new) - behind])


def merged(before: Body, variants: Mapping[int, Body]) -> Body:
    """The statements with a switch for each variant, by the number of its mutant."""
    deeper: dict[tuple[int, str], dict[int, Body]] = {}
    here: list[Change] = []
    for number, after in variants.items():
        change = _where(before, after, number)
        name = None
        if change.last - change.first == len(change.body) == 1:
            name = _inside(before[change.first], change.body[0])
        if name is None:
            here.append(change)
        else:
            deeper.setdefault((change.first, name), {})[number] = getattr(change.body[0], name)
    result = list(before)
    for (at, name), inner in deeper.items():
        copy = ast.parse(ast.unparse(result[at])).body[0]
        setattr(copy, name, merged(getattr(copy, name), inner))
        result[at] = copy
    for changes in reversed(_groups(here)):
        first, last = min(one.first for one in changes), max(one.last for one in changes)
        otherwise = result[first:last]
        for one in changes:
            variant = [*before[first : one.first], *one.body, *before[one.last : last]]
            otherwise = [_switch(one.number, variant, otherwise)]
        result[first:last] = otherwise
    return result


def _groups(changes: Iterable[Change]) -> list[list[Change]]:
    """Changes whose statements overlap are switched together; in the order of their places."""
    groups: list[list[Change]] = []
    for one in sorted(changes, key=lambda one: (one.first, one.last)):
        if groups and one.first < max(max(other.last, other.first + 1) for other in groups[-1]):
            groups[-1].append(one)
        else:
            groups.append([one])
    return groups


def _switch(number: int, then: Body, otherwise: Body) -> ast.stmt:
    """`then` under the mutant, else `otherwise`."""
    node = ast.parse(f"if m.config.mutant[0] == {number}:\n    pass").body[0]
    assert isinstance(node, ast.If)
    node.body = then or [ast.Pass()]
    node.orelse = otherwise
    return node


def rewritten(text: str, mutants: Iterable[tuple[int, Mutant]]) -> str:
    """A kernel file with switches for its mutants. Raises DoesNotApply."""
    of_function: dict[str, list[tuple[int, Mutant]]] = {}
    for number, mutant in mutants:
        of_function.setdefault(mutant.function, []).append((number, mutant))
    lines = text.splitlines(keepends=True)
    for node in sorted(functions(text).values(), key=lambda node: -node.lineno):
        if node.name not in of_function:
            continue
        source = "".join(lines[node.lineno - 1 : node.end_lineno])
        variants = {number: changed(source, mutant) for number, mutant in of_function[node.name]}
        copy = functions(source)[node.name]
        copy.body = merged(copy.body, variants)
        lines[node.lineno - 1 : node.end_lineno] = [ast.unparse(copy), "\n"]
    return "".join(lines)


def given_the_machine(text: str, names: Iterable[str]) -> str:
    """The same text, with `m` as the first argument of these functions, which have none, wherever they stand."""
    for name in names:
        text = re.sub(rf"\b{name}\((?!m,)", f"{name}(m, ", text)
    return text
