"""What can go wrong for a user, and the exit status it leads to."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

SHOWN = 12  # names of a long list

OK, VIOLATION, USAGE, INTERNAL, INCONCLUSIVE = 0, 1, 2, 3, 4
INTERRUPTED = 130  # 128 + SIGINT; SIGTERM gives 143, SIGHUP 129
PIPE = 141  # 128 + SIGPIPE: the reader of stdout has gone


class UserError(Exception):
    """A mistake of the user: printed as one line on stderr, exit status 2."""


def unknown(kind: str, word: str, known: Iterable[str], also: Iterable[str] = (), listed: str = "") -> UserError:
    """The error of a name that is none: names like it, then what is known.

    A long list is cut, and `listed` is the command that shows it. `also` are names that may be meant and are not told.
    """
    names = list(known)
    pool = {part: name for name in [*also, *names] for part in (name.rpartition("/")[2], name)}
    near = dict.fromkeys(pool[match] for match in difflib.get_close_matches(word, pool, 3, 0.75))
    meant = f"did you mean {' or '.join(near)}? " if near else ""
    told = names if len(names) <= 2 * SHOWN or not listed else [*names[:SHOWN], f"... ({listed})"]
    return UserError(f"unknown {kind} '{word}'; {meant}known: {', '.join(told)}")
