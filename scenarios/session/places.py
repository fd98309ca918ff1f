"""A document whose tables a command writes: each stands between `<!-- NAME -->` and `<!-- end of NAME -->`."""

from __future__ import annotations

from collections.abc import Mapping

from scenarios.session import errors


def filled(text: str, tables: Mapping[str, str]) -> str:
    """The document with each table, whole lines, in its place. Raises UserError if the place of one is missing."""
    for name, table in tables.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
        if text.count(begin) != 1 or text.count(end) != 1:
            raise errors.UserError(f"no place for the table of {name}, between {begin.strip()} and {end.strip()}")
        before, _, rest = text.partition(begin)
        text = before + begin + table + end + rest.partition(end)[2]
    return text
