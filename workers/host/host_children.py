"""Children of a recording: one that does one thing and exits, or a server that does what it is told.

A server sleeps in a read of its pipe until it is told the number of an instruction. It does that, writes down its
figures, and answers. Its own children are servers of the same process that asks.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs

from numba import njit

from emulator.uapi import (
    ECHILD,
    EEXIST,
)
from workers.host.host_calls import (
    ACTOR,
    ADDR,
    ANSWER_END,
    ANSWER_FD,
    ARG,
    BARE,
    CLOSE,
    DO_FD,
    DONE_FD,
    ERROR,
    EXIT_GROUP,
    FORK,
    FOUND,
    HELD,
    HOLD_END,
    HOLD_FD,
    LENGTH,
    MINFLT,
    MORE,
    NAMELESS,
    NOW,
    OP,
    OP_FORK,
    OP_FORK_HOLD,
    OP_MARK,
    PID,
    READ,
    SENT,
    STEP,
    TELL_FD,
    TODO,
    TOLD_FD,
    UFFD,
    WAIT4,
    WRITE,
    call,
    child_word,
    measure,
)
from workers.host.host_execute import (
    execute,
    rehearse,
)


@njit
def be_child(words, text, insns, at):
    """The child of the fork at `at`: do what it has to do, say that its figures are there, stay if need be, exit."""
    call(CLOSE, words[HOLD_END])
    rehearse(words, text)
    before = words[NOW + MINFLT]
    error = 0
    words[ACTOR] = NAMELESS
    words[child_word(NAMELESS, UFFD)] = 0
    if insns[at, ARG]:
        todo = insns[at + 1]
        error = execute(words, text, todo[OP], todo[ADDR], todo[LENGTH], todo[STEP], todo[ARG], todo[MORE])
    measure(words, text, SENT)
    words[SENT + MINFLT] -= before
    words[SENT + ERROR] = error
    if insns[at, OP] == OP_FORK_HOLD:
        call(WRITE, words[ANSWER_END], text.ctypes.data, 1)
        call(READ, words[HOLD_FD], text.ctypes.data, 1)
    call(EXIT_GROUP)


@njit
def fork(words, text, insns, at):
    """Fork, and wait until the child has exited or is to stay: 0 or -errno, the child's if it had one.

    Its figures are in the words then, which it shares.
    """
    actor = words[ACTOR]
    words[SENT + ERROR] = -ECHILD  # it says nothing if it is killed
    pid = call(FORK)
    if pid == 0:
        be_child(words, text, insns, at)
    if pid < 0:
        return pid
    if insns[at, OP] == OP_FORK_HOLD:
        call(READ, words[ANSWER_FD], text.ctypes.data, 1)
        words[HELD] += 1
    else:
        call(WAIT4, pid)
    words[ACTOR] = actor
    found = words[FOUND]  # the child's
    rehearse(words, text)
    words[FOUND] = found
    return words[SENT + ERROR]


@njit
def fork_named(words, text, name):
    """Fork a child of a name, and wait until it serves: its pid, 0 in the child, or -errno."""
    if words[child_word(name, PID)]:
        return -EEXIST
    actor = words[ACTOR]
    pid = call(FORK)
    if pid > 0:
        words[child_word(name, PID)] = pid
        call(READ, words[child_word(name, DONE_FD)], text.ctypes.data, 1)
        words[ACTOR] = actor
    if pid >= 0:
        rehearse(words, text)
    return pid


@njit
def serve(words, text, insns, me):
    """Be the child `me`: do what one is told, one instruction at a time, and answer with one's figures.

    After a fork, and at the start, it goes round twice with nothing to do, as host_trace.
    """
    settling, counted, faults, error = 2, 0, 0, 0
    words[child_word(me, UFFD)] = 0
    while True:
        if not settling:
            call(READ, words[child_word(me, TOLD_FD)], text.ctypes.data, 1)
            if words[TODO] < 0:
                call(EXIT_GROUP)
        at = words[TODO]
        words[ACTOR] = me
        op = OP_MARK if settling else insns[at, OP]
        forks = op == OP_FORK or op == OP_FORK_HOLD
        if op == OP_FORK_HOLD:
            pid = fork_named(words, text, insns[at, ADDR])
            error = min(pid, 0)
            if pid == 0:
                me = insns[at, ADDR]
                words[child_word(me, UFFD)] = 0
                counted = 0
        elif op == OP_FORK:
            error = fork(words, text, insns, at)
        elif not settling:
            error = execute(
                words, text, op, insns[at, ADDR], insns[at, LENGTH], insns[at, STEP], insns[at, ARG], insns[at, MORE]
            )
        else:
            execute(words, text, op, 0, 0, 0, 0, 0)
        measure(words, text, SENT)
        if forks or settling:
            faults = words[SENT + MINFLT] - counted
        counted = words[SENT + MINFLT] - faults
        settling = 2 if forks else max(settling - 1, 0)
        if not settling:
            words[SENT + MINFLT] = counted + words[BARE + MINFLT]
            words[SENT + ERROR] = error
            call(WRITE, words[child_word(me, DO_FD)], text.ctypes.data, 1)


@njit
def ask(words, text, name, at):
    """Let the child of a name do the instruction at `at`: 0 or -errno. Its figures are in the words then."""
    if words[child_word(name, PID)] == 0:
        words[FOUND] = 0
        return -ECHILD
    words[TODO] = at
    call(WRITE, words[child_word(name, TELL_FD)], text.ctypes.data, 1)
    call(READ, words[child_word(name, DONE_FD)], text.ctypes.data, 1)
    words[ACTOR] = 0
    return words[SENT + ERROR]
