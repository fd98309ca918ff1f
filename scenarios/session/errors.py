"""What can go wrong for a user, and the exit status it leads to."""

from __future__ import annotations

OK, VIOLATION, USAGE, INTERNAL, INCONCLUSIVE = 0, 1, 2, 3, 4
INTERRUPTED = 130  # 128 + SIGINT; SIGTERM gives 143, SIGHUP 129
PIPE = 141  # 128 + SIGPIPE: whoever read stdout has gone


class UserError(Exception):
    """A mistake of the user: printed as one line on stderr, exit status 2."""
