"""The instructions of a trace as system calls of this host's kernel, in a loop that faults in nothing itself.

Everything is one libc function, `syscall`, and memory that was there before. A process that has done each instruction
once does not fault again but for the trace. A process that has forked, or was forked, does them once more, for its
memory is write-protected then. Compiled by numba whatever engine emulates.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs

from numba import njit, types

from emulator.engines import cache_place, compile_cache
from workers.host.host_calls import (
    ADDR,
    ARG,
    BARE,
    CHILD,
    CHILD_VMPTE,
    ERROR,
    FOUND,
    LENGTH,
    LOCKS_ALL,
    MINFLT,
    MLOCKALL,
    MORE,
    MUNLOCKALL,
    NAMELESS,
    NOW,
    OP,
    OP_FORK,
    OP_FORK_HOLD,
    OP_IN_CHILD,
    OP_MARK,
    ORIGIN,
    PID,
    ROW,
    RSS,
    SENT,
    STEP,
    VALUE,
    VMPTE,
    call,
    child_word,
    measure,
)
from workers.host.host_children import (
    ask,
    fork,
    fork_named,
    serve,
)
from workers.host.host_execute import (
    execute,
    reap,
)


@njit
def fill_row(words, rows, row, error, forked):
    """Enter the figures of this process as a row, and those that a child has sent, less what a child has anyhow."""
    for column in (VMPTE, RSS, MINFLT):
        rows[row, column] = words[NOW + column] - words[ORIGIN + column]
    rows[row, ERROR] = error
    if forked:
        rows[row, CHILD] = 1
        for column in (VMPTE, RSS, MINFLT):
            rows[row, CHILD_VMPTE + column] = words[SENT + column] - words[BARE + column]


@njit
def rows_of_instruction(insns, at):
    """How many rows the instruction at `at` has: a fork has those of its child as well."""
    rows = 1
    if insns[at, OP] == OP_IN_CHILD:
        rows += 1
        at += 1
    if insns[at, OP] == OP_FORK or insns[at, OP] == OP_FORK_HOLD:
        rows += insns[at, ARG]
    return rows


@njit
def begin(words, text):
    """From here on the instructions are the trace's: what is there already does not count."""
    if words[LOCKS_ALL]:
        call(MLOCKALL, 1)  # what this process has of its own comes now
        call(MUNLOCKALL)
        measure(words, text, NOW)
    for column in (VMPTE, RSS, MINFLT):
        words[BARE + column] = words[SENT + column]
        words[ORIGIN + column] = words[NOW + column]


def host_trace(words, text, insns, rows, warm):
    """Follow the instructions; each, but for those of children, has a row. Those before `warm` warm up; a fork is last.

    After a fork this process goes round twice with nothing to do. What it faults in then, here and in all it calls, is
    its own affair. Returns 0.
    """
    at = settling = 0
    if words[LOCKS_ALL]:
        call(MLOCKALL, 1)  # a child has it as well then, which does not count either
        call(MUNLOCKALL)
    while at < len(insns):
        op = OP_MARK if settling else insns[at, OP]
        name = insns[at, ADDR]
        forks = op == OP_FORK or op == OP_FORK_HOLD
        counted = words[NOW + MINFLT] - words[ORIGIN + MINFLT]  # a child writes there, too
        shown = forks
        if op == OP_FORK_HOLD and name:
            error = fork_named(words, text, name)
            if error == 0:
                serve(words, text, insns, name)
            shown = error > 0
            error = min(error, 0)
        elif forks:
            error = fork(words, text, insns, at)
        elif op == OP_IN_CHILD:
            shown = words[child_word(name, PID)] != 0
            error = ask(words, text, name, at + 1)
        else:
            error = execute(
                words, text, op, insns[at, ADDR], insns[at, LENGTH], insns[at, STEP], insns[at, ARG], insns[at, MORE]
            )
        found = words[FOUND]
        if settling:
            ask(words, text, NAMELESS, at)  # the pipe of that leads back here
        following = at + rows_of_instruction(insns, at)  # before it is measured: a call counts the users of an array
        measure(words, text, NOW)
        if forks or settling:
            words[ORIGIN + MINFLT] = words[NOW + MINFLT] - counted
        if not settling:
            fill_row(words, rows, insns[at, ROW], error, shown)
            rows[insns[at, ROW], VALUE] = found
        settling = 2 if forks else max(settling - 1, 0)
        if settling:
            continue
        at = following
        if at == warm:
            begin(words, text)
    reap(words, text)
    return 0


_SOURCES = ("workers/host/host_*.py", *compile_cache.KERNELS)  # it takes numbers from the kernels
_place = compile_cache.directory(_SOURCES)
_CACHE_DIRECTORY = _place and _place.with_name(f"{_place.name}-trace")

cache_place.use()
with compile_cache.kept_in(_CACHE_DIRECTORY):
    trace = njit(
        types.int64(types.int64[::1], types.uint8[::1], types.int64[:, ::1], types.int64[:, ::1], types.int64),
        error_model="numpy",
        cache=_CACHE_DIRECTORY is not None,
    )(host_trace)
