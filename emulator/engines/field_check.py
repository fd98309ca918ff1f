"""Before anything is compiled: does every `m.view.field` that a kernel names exist?

The compiler would say so as well, after a minute and in two hundred lines.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from emulator.engine import UnknownField
from emulator.mm_types import VIEWS, WORD


def check_fields(files: list[Path]) -> None:
    """Read kernels and look at the names. Raises UnknownField with the first that is not one."""
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef) and node.args.args and node.args.args[0].arg == "m":
                for line, view, field in _names(node):
                    if (why := _unknown(view, field)) is not None:
                        raise UnknownField(f"{file.parent.name}/{file.name}:{line}: m.{view}.{field}: {why}")


def _names(function: ast.FunctionDef) -> Iterator[tuple[int, str, str]]:
    """Line, view and field of each `m.view.field`."""
    for node in ast.walk(function):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute):
            if isinstance(node.value.value, ast.Name) and node.value.value.id == "m":
                yield node.lineno, node.value.attr, node.attr


def _unknown(view: str, field: str) -> str | None:
    if view not in VIEWS:
        return f"there is no '{view}' in VIEWS of mm_types.py"
    layout = VIEWS[view][0]
    if layout is WORD or field in layout.comments:
        return None
    told = "; a knob or a setting gets its field by its row in emulator/knobs.py" if view == "config" else ""
    return f"'{view}' has no field '{field}'{told}"
