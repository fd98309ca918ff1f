"""The instructions of a trace as system calls of this host's kernel, in a loop that faults in nothing itself.

Everything is one libc function, `syscall`, and memory that was there before: a process that has done each instruction
once does not fault again but for the trace. Whoever has forked, or was forked, does them once more, for its memory is
write-protected then. A user access is a system call as well, one that stores or loads one byte: it faults as the access
would, and where that would be a signal it is -EFAULT.

Compiled by numba whatever engine emulates. Numbers of system calls are those of x86-64.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs

from emulator.engines import native  # before numba: it says where compiled code is kept

# isort: split
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from emulator import uapi
from emulator.engines import compile_cache
from emulator.uapi import ECHILD, EINVAL, VM_ACCESS_FLAGS, VM_HUGEPAGE, VM_SHARED, Op

READ, OPEN, CLOSE, MMAP, MPROTECT, MUNMAP, PREAD64, PWRITE64 = 0, 2, 3, 9, 10, 11, 17, 18
WRITE, MREMAP, MADVISE, GETPID, FORK, WAIT4, FTRUNCATE = 1, 25, 28, 39, 57, 61, 77
GETRUSAGE, MLOCK, MUNLOCK, EXIT_GROUP, MEMFD_CREATE, PIDFD_OPEN, PROCESS_MADVISE = 98, 149, 150, 231, 319, 434, 440
MAP_SHARED, MAP_PRIVATE, MAP_FIXED, MAP_ANONYMOUS, MAP_NORESERVE = 1, 2, 0x10, 0x20, 0x4000
MREMAP_MAYMOVE_FIXED = 3
MADV_HUGEPAGE = int(uapi.MADV_HUGEPAGE)
IOV_MAX = 1024

# the columns of an instruction
OP, ADDR, LENGTH, STEP, ARG, ROW = range(6)
OP_TOUCH, OP_READ, OP_MMAP, OP_MUNMAP, OP_MADVISE, OP_MARK = (
    int(op) for op in (Op.TOUCH, Op.READ, Op.MMAP, Op.MUNMAP, Op.MADVISE, Op.MARK)
)
OP_MPROTECT, OP_MLOCK, OP_PROCESS_MADVISE = int(Op.MPROTECT), int(Op.MLOCK), int(Op.PROCESS_MADVISE)
OP_MREMAP, OP_MREMAP_FIXED = int(Op.MREMAP), int(Op.MREMAP_FIXED)
OP_FORK, OP_FORK_HOLD, OP_REAP = int(Op.FORK), int(Op.FORK_HOLD), int(Op.REAP)

# the columns of a row: figures of the process, the error, whether there was a child, its figures
VMPTE, RSS, MINFLT, ERROR, CHILD, CHILD_VMPTE, CHILD_RSS, CHILD_MINFLT, COLUMNS = range(9)

# the words that a recording works with: file descriptors, struct rusage, four sets of figures, an array of struct iovec
SOURCE_FD, SINK_FD, ANSWER_FD, ANSWER_END, HOLD_FD, HOLD_END, HELD = range(7)
USAGE, NOW, ORIGIN, SENT, BARE, IOVECS = 8, 32, 36, 40, 44, 48
WORDS = IOVECS + 2 * IOV_MAX
STATUS = np.frombuffer(b"/proc/self/status\0", np.uint8)
TEXT, NAME = 8192, 64  # bytes, of which the last hold that name

VMPTE_FIELD, RSS_FIELD = np.frombuffer(b"\nVmPTE:", np.uint8), np.frombuffer(b"\nRssAnon:", np.uint8)
RU_MINFLT = 8  # word of struct rusage
DIGIT, NEWLINE = 48, 10

_syscall = types.ExternalFunction("syscall", types.int64(*[types.int64] * 7))
_errno_location = types.ExternalFunction("__errno_location", types.int64())


@intrinsic
def load_int32(typingctx, address):
    """The 32-bit integer at a real address."""

    def codegen(context, builder, sig, args):
        pointer = builder.inttoptr(args[0], ir.IntType(32).as_pointer())
        return builder.sext(builder.load(pointer), ir.IntType(64))

    return types.int64(types.int64), codegen


@njit
def call(number, a=0, b=0, c=0, d=0, e=0):
    """A system call: what it returns, or -errno."""
    result = _syscall(number, a, b, c, d, e, 0)
    return -load_int32(_errno_location()) if result == -1 else result


@njit
def number_behind(text, length, field):
    """The number behind a field's name in /proc/self/status."""
    at = 0
    while at < length - field.size:
        same = 0
        while same < field.size and text[at + same] == field[same]:
            same += 1
        if same == field.size:
            break
        at += 1
    at += field.size
    number = 0
    while at < length and text[at] != NEWLINE:
        if text[at] >= DIGIT and text[at] < DIGIT + 10:
            number = number * 10 + text[at] - DIGIT
        at += 1
    return number


@njit
def measure(words, text, into):
    """VmPTE and RssAnon in kB and minor faults of this process, into three of the words."""
    fd = call(OPEN, text.ctypes.data + TEXT - NAME)
    length = call(READ, fd, text.ctypes.data, TEXT - NAME)
    call(CLOSE, fd)
    words[into + VMPTE] = number_behind(text, length, VMPTE_FIELD)
    words[into + RSS] = number_behind(text, length, RSS_FIELD)
    call(GETRUSAGE, 0, words.ctypes.data + 8 * USAGE)
    words[into + MINFLT] = words[USAGE + RU_MINFLT]


@njit
def access(addr, length, step, fd, store):
    """Store or load one byte per `step` bytes: 0 or -errno of the first that failed."""
    for at in range(addr, addr + length, step):
        done = call(PREAD64 if store else PWRITE64, fd, at, 1)
        if done != 1:
            return done
    return 0


@njit
def map_at(text, addr, length, flags, file):
    """mmap with MAP_FIXED, of a file of that length if it is private and maps one: 0 or -errno."""
    fd = -1
    how = MAP_FIXED | MAP_NORESERVE | (MAP_SHARED if flags & VM_SHARED else MAP_PRIVATE)
    if file and not flags & VM_SHARED:
        fd = call(MEMFD_CREATE, text.ctypes.data + TEXT - NAME)
        call(FTRUNCATE, fd, length)
    else:
        how |= MAP_ANONYMOUS
    result = call(MMAP, addr, length, flags & VM_ACCESS_FLAGS, how, fd)
    if fd >= 0:
        call(CLOSE, fd)
    if result > 0 and flags & VM_HUGEPAGE:
        result = call(MADVISE, addr, length, MADV_HUGEPAGE)
    return min(result, 0)


@njit
def stepped(op, addr, length, step, arg):
    """munmap or madvise, in calls of `step` bytes if that is not 0: 0 or the -errno of the first call that failed."""
    if step <= 0:
        step = length
    first = done = 0
    while True:
        size = min(step, length - done)
        error = call(MUNMAP, addr + done, size) if op == OP_MUNMAP else call(MADVISE, addr + done, size, arg)
        if first == 0:
            first = error
        done += size
        if done >= length or size <= 0:
            return first


@njit
def vectored(words, addr, length, step, advice):
    """One process_madvise with pieces of `step` bytes: 0 or -errno."""
    pieces = (length + step - 1) // step
    for i in range(min(pieces, IOV_MAX)):
        words[IOVECS + 2 * i] = addr + i * step
        words[IOVECS + 2 * i + 1] = min(step, length - i * step)
    pidfd = call(PIDFD_OPEN, call(GETPID))
    result = call(PROCESS_MADVISE, pidfd, words.ctypes.data + 8 * IOVECS, pieces, advice)
    call(CLOSE, pidfd)
    return min(result, 0)


@njit
def execute(words, text, op, addr, length, step, arg):
    """One instruction, other than a fork: 0 or -errno."""
    if op == OP_TOUCH:
        return access(addr, length, step, words[SOURCE_FD], True)
    if op == OP_READ:
        return access(addr, length, step, words[SINK_FD], False)
    if op == OP_MMAP:
        return map_at(text, addr, length, arg, step)
    if op == OP_MUNMAP or op == OP_MADVISE:
        return stepped(op, addr, length, step, arg)
    if op == OP_MPROTECT:
        return call(MPROTECT, addr, length, arg)
    if op == OP_MLOCK:
        return call(MLOCK if arg else MUNLOCK, addr, length)
    if op == OP_PROCESS_MADVISE:
        return vectored(words, addr, length, step, arg)
    if op == OP_MREMAP:
        return min(0, call(MREMAP, addr, length, arg))
    if op == OP_MREMAP_FIXED:
        return min(0, call(MREMAP, addr, length, length, MREMAP_MAYMOVE_FIXED, arg))
    if op == OP_REAP:
        return reap(words, text)
    return 0 if op == OP_MARK else -EINVAL


@njit
def rehearse(words, text):
    """Touch all memory that a recording works with and take its ways once, so that what follows faults in nothing.

    The instructions are wrong ones, at address 1, and change nothing.
    """
    for i in range(IOVECS, words.size):
        words[i] = 0
    for op in (OP_MMAP, OP_MUNMAP, OP_MADVISE, OP_MPROTECT, OP_MLOCK, OP_PROCESS_MADVISE, OP_MREMAP, OP_MREMAP_FIXED):
        execute(words, text, op, 1, 0, 1, 0)
    execute(words, text, OP_TOUCH, text.ctypes.data, 1, 1, 0)
    execute(words, text, OP_READ, text.ctypes.data, 1, 1, 0)
    measure(words, text, NOW)
    measure(words, text, NOW)


@njit
def reap(words, text):
    """Let the children that stayed exit: 0, or -ECHILD if there is none."""
    held = words[HELD]
    for _ in range(held):
        call(WRITE, words[HOLD_END], text.ctypes.data, 1)
    for _ in range(held):
        call(WAIT4, -1)
    words[HELD] = 0
    return 0 if held else call(WAIT4, -1)


@njit
def be_child(words, text, insns, at):
    """The child of the fork at `at`: do what it has to do, say that its figures are there, stay if need be, exit."""
    call(CLOSE, words[HOLD_END])
    rehearse(words, text)
    before = words[NOW + MINFLT]
    error = 0
    if insns[at, ARG]:
        todo = insns[at + 1]
        error = execute(words, text, todo[OP], todo[ADDR], todo[LENGTH], todo[STEP], todo[ARG])
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
    rehearse(words, text)
    return words[SENT + ERROR]


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


def host_trace(words, text, insns, rows, warm):
    """Follow the instructions; each, but for those of children, has a row. Those before `warm` warm up; a fork is last.

    After a fork this process goes round twice with nothing to do: what it faults in then, here and in all it calls, is
    its own affair. Returns 0.
    """
    at = settling = 0
    while at < len(insns):
        op = OP_MARK if settling else insns[at, OP]
        forks = op == OP_FORK or op == OP_FORK_HOLD
        counted = words[NOW + MINFLT] - words[ORIGIN + MINFLT]  # a child writes there, too
        if forks:
            error = fork(words, text, insns, at)
        else:
            error = execute(words, text, op, insns[at, ADDR], insns[at, LENGTH], insns[at, STEP], insns[at, ARG])
        measure(words, text, NOW)
        if forks or settling:
            words[ORIGIN + MINFLT] = words[NOW + MINFLT] - counted
        if not settling:
            fill_row(words, rows, insns[at, ROW], error, forks)
        settling = 2 if forks else max(settling - 1, 0)
        if settling:
            continue
        at += 1 + insns[at, ARG] if insns[at, OP] == OP_FORK or insns[at, OP] == OP_FORK_HOLD else 1
        if at == warm:
            for column in (VMPTE, RSS, MINFLT):
                words[BARE + column] = words[SENT + column]
                words[ORIGIN + column] = words[NOW + column]
    reap(words, text)
    return 0


_SOURCES = ("workers/host/host_trace.py", *compile_cache.KERNELS)  # it takes numbers from the kernels
_CACHE_DIRECTORY = native.CACHE_DIRECTORY and native.CACHE_DIRECTORY.with_name(f"{compile_cache.key(_SOURCES)}-trace")

with compile_cache.kept_in(_CACHE_DIRECTORY):
    trace = njit(
        types.int64(types.int64[::1], types.uint8[::1], types.int64[:, ::1], types.int64[:, ::1], types.int64),
        error_model="numpy",
        cache=_CACHE_DIRECTORY is not None,
    )(host_trace)
