"""docs/schema-1.json, made of the tables of docs/json.md: `python tests/json_schema.py` writes it.

A table describes the object that the first cell of its header names; `key` is the record, or the rows that the heading
above it names. The second cell of a line has a type for each key of the first, or one for all, and units. A type is a
word of TYPES, the name of another table, `list of` these, and may be `or null`. The line `...` takes in the keys of
others.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[1] / "docs"
SCHEMA = DOCS / "schema-1.json"
TYPES = {
    "int": "integer",
    "float": "number",
    "string": "string",
    "bool": "boolean",
    "object": "object",
    "list": "array",
}
RECORD, ROWS, OTHERS = "record", "Rows of ", "`...`"
TWO_FORMS = {"race": "^race/", "explore": "^explore "}  # scenarios that carry the name of their subject


def _objects(text: str) -> dict[str, list[tuple[str, str]]]:
    """Each object that is described, with the first two cells of its lines."""
    found: dict[str, list[tuple[str, str]]] = {}
    heading = name = ""
    for line in text.splitlines():
        if line.startswith("#"):
            heading, name = line.strip("# "), ""
        cells = [cell.strip() for cell in line.split("|")[1:-1]] if line.startswith("|") else []
        if not cells:
            name = ""
        elif not name and len(cells) > 2 and cells[1].startswith("type"):
            name = cells[0] if cells[0] != "key" else heading if heading.startswith((ROWS, "env")) else RECORD
            found[name] = []
        elif name and cells[0].startswith("`"):
            found[name].append((cells[0], cells[1]))
    return found


def _anchor(name: str) -> str:
    """A name as it can stand in a reference."""
    return re.sub(r"[^\w-]+", "-", name)


def _type(words: str, known: set[str]) -> dict[str, Any]:
    """The schema of a type in words. Raises KeyError for a word that is none."""
    if words.endswith(" or null") and not words.startswith("list of "):
        return _either(_type(words.removesuffix(" or null"), known), {"type": "null"})
    if fixed := re.fullmatch(r"list of (\d+) (.+)", words):
        length = int(fixed[1])
        return {"type": "array", "items": _type(fixed[2], known), "minItems": length, "maxItems": length}
    if words.startswith("list of "):
        return {"type": "array", "items": _type(words.removeprefix("list of "), known)}
    if words.startswith("object: string -> "):
        return {"type": "object", "additionalProperties": _type(words.removeprefix("object: string -> "), known)}
    return {"$ref": f"#/$defs/{_anchor(words)}"} if words in known else {"type": TYPES[words]}


def _either(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    if one.keys() == other.keys() == {"type"}:
        return {"type": [one["type"], other["type"]]}
    return {"anyOf": [one, other]}


def _properties(lines: list[tuple[str, str]], known: set[str]) -> dict[str, Any]:
    """The schema of each key of a table."""
    found: dict[str, Any] = {}
    for keys, types in lines:
        if keys == OTHERS:
            continue
        names = re.findall(r"`(\w+)`", keys)
        parts = [part.strip() for part in types.split(",")]
        parts = [part for part in parts if _is_type(part, known)]
        if len(parts) not in (1, len(names)):
            raise ValueError(f"{keys}: {types} is not a type for each, nor one for all")
        for at, name in enumerate(names):
            kind = _type(parts[at % len(parts)], known)
            found[name] = kind if name not in found else _either(found[name], kind)  # two rows, two meanings
    return found


def _is_type(words: str, known: set[str]) -> bool:
    try:
        return bool(_type(words, known))
    except KeyError:
        return False


def schema_of(text: str) -> dict[str, Any]:
    """The JSON schema that a text describes."""
    objects = _objects(text)
    known = {name for name in objects if not name.startswith(ROWS)}
    of = {name: _properties(lines, known) for name, lines in objects.items()}
    for name, lines in objects.items():
        for other in [other for keys, types in lines if keys == OTHERS for other in types.split(", ")]:
            of[name] = {**of[f"{ROWS}{other}"], **of[name]}
    closed = {
        _anchor(name): {"type": "object", "additionalProperties": False, "properties": keys}
        for name, keys in of.items()
    }
    record = closed.pop(RECORD)
    record["required"] = list(record["properties"])
    rules: list[dict[str, Any]] = []
    for heading in [name for name in objects if name.startswith(ROWS)]:
        rows = closed.pop(_anchor(heading))
        for scenario in heading.removeprefix(ROWS).partition(",")[0].split(" and "):
            name = scenario.removesuffix("/NAME")
            closed[f"rows-of-{name}"] = rows
            when = {"pattern": TWO_FORMS[name]} if name in TWO_FORMS else {"const": name}
            then = {"properties": {"rows": {"items": {"$ref": f"#/$defs/rows-of-{name}"}}}}
            rules.append({"if": {"properties": {"scenario": when}}, "then": then})
    scenarios = [rule["if"]["properties"]["scenario"] for rule in rules]
    record["properties"]["scenario"] = {"type": "string", "anyOf": scenarios}
    verdicts = re.findall(r"^\| `(\w+)` \| (?:`failure`|else)", text, re.MULTILINE)
    record["properties"]["verdict"] = {"enum": verdicts}
    record["properties"]["schema"] = {"const": 1}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "the record of a ptelab command, schema 1; docs/json.md explains it",
        **record,
        "allOf": rules,
        "$defs": closed,
    }


def written() -> str:
    """The schema file as docs/json.md has it."""
    return json.dumps(schema_of((DOCS / "json.md").read_text()), indent=1) + "\n"


if __name__ == "__main__":
    SCHEMA.write_text(written())
