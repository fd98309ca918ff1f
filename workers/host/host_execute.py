"""One instruction of a trace as system calls, and what a process does after a fork to fault in nothing more."""

# mypy: allow-untyped-defs, allow-incomplete-defs

from numba import njit

from emulator.mm_types import PAGE_SIZE
from emulator.uapi import (
    ECHILD,
    EINVAL,
)
from workers.host.host_calls import (
    CLOSE,
    FALLOCATE,
    FILES,
    FTRUNCATE,
    HELD,
    HOLD_END,
    IOVECS,
    MLOCK,
    MLOCK2,
    MLOCK_ONFAULT,
    MLOCKALL,
    MPROTECT,
    MREMAP,
    MREMAP_MAYMOVE_FIXED,
    MS_SYNC,
    MSEAL,
    MSYNC,
    MUNLOCK,
    MUNLOCKALL,
    NAMELESS,
    NOW,
    OP_ACCESS_VM,
    OP_COUNT_VMAS,
    OP_EXIT_CHILD,
    OP_FREE_PTES,
    OP_MADVISE,
    OP_MARK,
    OP_MINCORE,
    OP_MLOCK,
    OP_MLOCKALL,
    OP_MMAP,
    OP_MPROTECT,
    OP_MREMAP,
    OP_MREMAP_CALL,
    OP_MREMAP_FIXED,
    OP_MSEAL,
    OP_MSYNC,
    OP_MUNMAP,
    OP_PAGEMAP_COUNT,
    OP_PROCESS_MADVISE,
    OP_PUNCH_HOLE,
    OP_READ,
    OP_REAP,
    OP_TOUCH,
    OP_TRUNCATE,
    OP_UFFD_COPY,
    OP_UFFD_MOVE,
    OP_UFFD_REGISTER,
    OP_UFFD_UNREGISTER,
    OP_UFFD_WP,
    PID,
    PIDFD_OPEN,
    POLL,
    POLLIN,
    PREAD64,
    PUNCH_HOLE,
    PWRITE64,
    SCRATCH,
    SINK_FD,
    STACK_PAGES,
    TELL_FD,
    TEXT,
    TODO,
    WAIT4,
    WRITE,
    access,
    call,
    child_word,
    map_at,
    measure,
    pthread_self,
    stack_address,
    stepped,
    vectored,
)
from workers.host.host_looks import (
    access_vm,
    count_pagemap,
    count_vmas,
    mincore,
    userfault,
)


@njit
def wait_for_exit(words, pid):
    """Wait until a process, which need not be a child of this one, has given up its memory."""
    pidfd = call(PIDFD_OPEN, pid)
    words[IOVECS] = pidfd | POLLIN << 32
    call(POLL, words.ctypes.data + 8 * IOVECS, 1, -1)
    call(CLOSE, pidfd)
    call(WAIT4, pid)


@njit
def exit_child(words, text, name):
    """Let the child of a name exit: 0 or -ECHILD."""
    pid = words[child_word(name, PID)] if name else 0
    if pid == 0:
        return -ECHILD
    words[TODO] = -1
    call(WRITE, words[child_word(name, TELL_FD)], text.ctypes.data, 1)
    wait_for_exit(words, pid)
    words[child_word(name, PID)] = 0
    return 0


@njit
def reap(words, text):
    """Let the children that stayed exit: 0, or -ECHILD if there is none."""
    held = words[HELD]
    for _ in range(held):
        call(WRITE, words[HOLD_END], text.ctypes.data, 1)
    for _ in range(held):
        call(WAIT4, -1)
    words[HELD] = 0
    for name in range(1, NAMELESS):
        held += exit_child(words, text, name) == 0
    return 0 if held else -ECHILD


@njit
def execute(words, text, op, addr, length, step, arg, more):
    """One instruction, other than a fork: 0 or -errno."""
    if op == OP_TOUCH:
        return access(words, text, addr, length, step, arg)
    if op == OP_READ:
        return access(words, text, addr, length, step, 0)
    if op == OP_MMAP:
        return map_at(words, text, addr, length, arg, step, more)
    if op == OP_MUNMAP or op == OP_MADVISE:
        return stepped(op, addr, length, step, arg)
    if op == OP_MPROTECT:
        return call(MPROTECT, addr, length, arg)
    if op == OP_MLOCK and arg == 2:
        return call(MLOCK2, addr, length, MLOCK_ONFAULT)
    if op == OP_MLOCK:
        return call(MLOCK if arg else MUNLOCK, addr, length)
    if op == OP_PROCESS_MADVISE:
        return vectored(words, addr, length, step, arg)
    if op == OP_MREMAP:
        return min(0, call(MREMAP, addr, length, arg))
    if op == OP_MREMAP_FIXED:
        return min(0, call(MREMAP, addr, length, length, MREMAP_MAYMOVE_FIXED, arg))
    if op == OP_MREMAP_CALL:
        return min(0, call(MREMAP, addr, length, step, arg, more))
    if op == OP_REAP:
        return reap(words, text)
    if op == OP_EXIT_CHILD:
        return exit_child(words, text, addr)
    return execute_more(words, text, op, addr, length, step, arg)


@njit
def execute_more(words, text, op, addr, length, step, arg):
    """The rarer instructions: 0 or -errno."""
    if op == OP_MLOCKALL:
        return call(MLOCKALL, arg) if arg else call(MUNLOCKALL)
    if op == OP_MSYNC:
        return call(MSYNC, addr, length, arg if arg else MS_SYNC)
    if op == OP_MSEAL:
        return call(MSEAL, addr, length)
    if op == OP_MINCORE:
        return mincore(words, text, addr, length)
    if op == OP_PAGEMAP_COUNT:
        return count_pagemap(words, text, addr, length, arg)
    if op == OP_COUNT_VMAS:
        return count_vmas(words, text, addr, length)
    if op == OP_ACCESS_VM:
        return access_vm(words, text, addr, length, arg)
    if op == OP_TRUNCATE:
        return call(FTRUNCATE, words[FILES + addr], arg * PAGE_SIZE)
    if op == OP_PUNCH_HOLE:
        return call(FALLOCATE, words[FILES + addr], PUNCH_HOLE, arg * PAGE_SIZE, length * PAGE_SIZE)
    if op in (OP_UFFD_REGISTER, OP_UFFD_UNREGISTER, OP_UFFD_COPY, OP_UFFD_MOVE, OP_UFFD_WP):
        return userfault(words, text, op, addr, length, step, arg)
    return 0 if op in (OP_MARK, OP_FREE_PTES) else -EINVAL  # no kernel of ours has free_ptes


@njit
def touch_around(words, here, pages):
    """Store to the pages around an address what they hold, unless there is none."""
    for page in range(-pages, pages + 1):
        at = here + page * PAGE_SIZE
        if call(PWRITE64, words[SINK_FD], at, 1) == 1:
            call(PREAD64, words[SINK_FD], at, 1)


@njit
def touch_own(words):
    """Store to own pages what they hold, since fork has write-protected them. They are those of the stack: the next
    instruction stores to others of these, depending on where the stack happens to be. And they are those of the
    thread's structure, where the kernel writes its processor (rseq) behind a sleep.

    No call changes these bytes meanwhile: they are a page and more from here, or a word of this frame, or constant.
    """
    touch_around(words, stack_address(), STACK_PAGES)
    touch_around(words, pthread_self(), 1)


@njit
def rehearse(words, text):
    """Touch all memory that a recording works with and take its ways once, so that what follows faults in nothing.

    The instructions are wrong ones, at address 1, and change nothing.
    """
    touch_own(words)
    for i in range(IOVECS, words.size):
        words[i] = 0
    for i in range(TEXT - SCRATCH, TEXT):
        text[i] = 0
    for op in (OP_MMAP, OP_MUNMAP, OP_MADVISE, OP_MPROTECT, OP_MLOCK, OP_PROCESS_MADVISE, OP_MREMAP, OP_MREMAP_FIXED):
        execute(words, text, op, 1, 0, 1, 0, 0)
    for op in (OP_MSYNC, OP_MSEAL, OP_MREMAP_CALL, OP_MINCORE):
        execute(words, text, op, 1, 0, 0, 0, 0)
    execute(words, text, OP_EXIT_CHILD, 0, 0, 0, 0, 0)
    execute(words, text, OP_MLOCK, 1, 0, 0, 2, 0)
    execute(words, text, OP_MLOCKALL, 0, 0, 0, 1 << 20, 0)
    execute(words, text, OP_TOUCH, text.ctypes.data, 1, 1, 1, 0)
    execute(words, text, OP_READ, text.ctypes.data, 1, 1, 0, 0)
    execute(words, text, OP_PAGEMAP_COUNT, text.ctypes.data, 1, 1, 1, 0)
    execute(words, text, OP_COUNT_VMAS, text.ctypes.data, 1, 1, 0, 0)
    execute(words, text, OP_ACCESS_VM, text.ctypes.data, 1, 1, 0, 0)
    measure(words, text, NOW)
    measure(words, text, NOW)
