"""System calls of this host's kernel from compiled code, in a process that faults in nothing itself.

Everything is one libc function, `syscall`, and memory that was there before. A user access is a system call as well,
one that stores or loads one byte. It faults as the access would, and where that would be a signal it is -EFAULT.
Numbers of system calls are those of x86-64.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs

# isort: split
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from emulator import uapi
from emulator.mm_types import PAGE_SIZE
from emulator.uapi import (
    MAP_ACCOUNT,
    MAP_ANONYMOUS,
    MAP_DROPPABLE,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_NORESERVE,
    MAP_PRIVATE,
    MAP_SHARED,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    VM_ACCESS_FLAGS,
    VM_HUGEPAGE,
    VM_SHARED,
    Op,
)

READ, OPEN, CLOSE, POLL, MMAP, MPROTECT, MUNMAP, IOCTL, PREAD64, PWRITE64 = 0, 2, 3, 7, 9, 10, 11, 16, 17, 18
WRITE, MREMAP, MSYNC, MINCORE, MADVISE, GETPID, FORK, WAIT4, FTRUNCATE = 1, 25, 26, 27, 28, 39, 57, 61, 77
MLOCKALL, MUNLOCKALL, FALLOCATE, PROCESS_VM_READV, PROCESS_VM_WRITEV = 151, 152, 285, 310, 311
USERFAULTFD, MLOCK2, MSEAL = 323, 325, 462
GETRUSAGE, MLOCK, MUNLOCK, EXIT_GROUP, MEMFD_CREATE, PIDFD_OPEN, PROCESS_MADVISE = 98, 149, 150, 231, 319, 434, 440
MREMAP_MAYMOVE_FIXED = MREMAP_MAYMOVE | MREMAP_FIXED
PUNCH_HOLE, MS_SYNC, MLOCK_ONFAULT = 3, 4, 1  # with FALLOC_FL_KEEP_SIZE
POLLIN = 1
PROCMAP_QUERY, PROCMAP_COVERING_OR_NEXT = 0xC0686611, 0x10
UFFD_USER_MODE_ONLY, UFFD_API, UFFD_FEATURE_SIGBUS, UFFD_FEATURE_MOVE = 1, 0xAA, 1 << 7, 1 << 16
UFFD_FEATURE_PAGEFAULT_FLAG_WP, UFFD_FEATURE_WP_UNPOPULATED = 1 << 0, 1 << 13
UFFD_FEATURES = UFFD_FEATURE_SIGBUS | UFFD_FEATURE_MOVE | UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_UNPOPULATED
UFFDIO_API, UFFDIO_REGISTER, UFFDIO_UNREGISTER = 0xC018AA3F, 0xC020AA00, 0x8010AA01
UFFDIO_COPY, UFFDIO_ZEROPAGE, UFFDIO_MOVE, UFFDIO_WRITEPROTECT = 0xC028AA03, 0xC020AA04, 0xC028AA05, 0xC018AA06
UFFD_MISSING, UFFD_WP = 1, 2
MADV_HUGEPAGE = int(uapi.MADV_HUGEPAGE)
IOV_MAX = 1024
STACK_PAGES = 8

# the columns of an instruction
OP, ADDR, LENGTH, STEP, ARG, ROW, MORE = range(7)
OP_FREE_PTES = int(Op.FREE_PTES)
OP_TOUCH, OP_READ, OP_MMAP, OP_MUNMAP, OP_MADVISE, OP_MARK = (
    int(op) for op in (Op.TOUCH, Op.READ, Op.MMAP, Op.MUNMAP, Op.MADVISE, Op.MARK)
)
OP_MPROTECT, OP_MLOCK, OP_PROCESS_MADVISE = int(Op.MPROTECT), int(Op.MLOCK), int(Op.PROCESS_MADVISE)
OP_MREMAP, OP_MREMAP_FIXED = int(Op.MREMAP), int(Op.MREMAP_FIXED)
OP_FORK, OP_FORK_HOLD, OP_REAP = int(Op.FORK), int(Op.FORK_HOLD), int(Op.REAP)
OP_IN_CHILD, OP_EXIT_CHILD = int(Op.IN_CHILD), int(Op.EXIT_CHILD)
OP_MREMAP_CALL, OP_MLOCKALL, OP_MSEAL, OP_MSYNC = int(Op.MREMAP_CALL), int(Op.MLOCKALL), int(Op.MSEAL), int(Op.MSYNC)
OP_MINCORE, OP_PAGEMAP_COUNT, OP_COUNT_VMAS = int(Op.MINCORE), int(Op.PAGEMAP_COUNT), int(Op.COUNT_VMAS)
OP_ACCESS_VM, OP_TRUNCATE, OP_PUNCH_HOLE = int(Op.ACCESS_VM), int(Op.TRUNCATE), int(Op.PUNCH_HOLE)
OP_UFFD_REGISTER, OP_UFFD_UNREGISTER = int(Op.UFFD_REGISTER), int(Op.UFFD_UNREGISTER)
OP_UFFD_COPY, OP_UFFD_MOVE, OP_UFFD_WP = int(Op.UFFD_COPY), int(Op.UFFD_MOVE), int(Op.UFFD_WRITEPROTECT)

# the columns of a row: figures of the process, the error, whether there was a child, its figures
VMPTE, RSS, MINFLT, ERROR, CHILD, CHILD_VMPTE, CHILD_RSS, CHILD_MINFLT, VALUE, COLUMNS = range(10)

# the words that a recording works with: file descriptors, struct rusage, four sets of figures, an array of struct iovec
SOURCE_FD, SINK_FD, ANSWER_FD, ANSWER_END, HOLD_FD, HOLD_END, HELD, FOUND = range(8)
ACTOR, TODO, LOCKS_ALL = 8, 9, 10  # which process acts, what a child is to do, whether all memory is to be locked
USAGE, NOW, ORIGIN, SENT, BARE = 16, 40, 44, 48, 52
FILES, NR_FILES = 64, 256  # file descriptors of the trace's files, by their number, 0: none
CHILDREN, NR_CHILDREN = FILES + NR_FILES, 65  # by name, 0 the main process, the last any without a name, these words:
PID, TOLD_FD, TELL_FD, DONE_FD, DO_FD, UFFD, CHILD_WORDS = range(7)
NAMELESS = NR_CHILDREN - 1
IOVECS = CHILDREN + NR_CHILDREN * CHILD_WORDS
WORDS = IOVECS + 2 * IOV_MAX
SCRATCH = 1 << 16  # bytes that mincore, pagemap and process_vm_readv write to
STATUS = np.frombuffer(b"/proc/self/status\0", np.uint8)
TEXT, NAME = 8192 + SCRATCH, 192  # bytes: what is read, the names, and behind them SCRATCH
NAMES = TEXT - SCRATCH - NAME  # where the names are, 64 bytes each
MAPS = np.frombuffer(b"/proc/self/maps\0", np.uint8)
PAGEMAP = np.frombuffer(b"/proc/self/pagemap\0", np.uint8)

VMPTE_FIELD, RSS_FIELD = np.frombuffer(b"\nVmPTE:", np.uint8), np.frombuffer(b"\nRssAnon:", np.uint8)
RU_MINFLT = 8  # word of struct rusage
DIGIT, NEWLINE = 48, 10

_syscall = types.ExternalFunction("syscall", types.int64(*[types.int64] * 7))
pthread_self = types.ExternalFunction("pthread_self", types.int64())
errno_location = types.ExternalFunction("__errno_location", types.int64())


@intrinsic
def load_int32(typingctx, address):
    """The 32-bit integer at a real address."""

    def codegen(context, builder, sig, args):
        pointer = builder.inttoptr(args[0], ir.IntType(32).as_pointer())
        return builder.sext(builder.load(pointer), ir.IntType(64))

    return types.int64(types.int64), codegen


@intrinsic
def stack_address(typingctx):
    """An address in the frame of the function that runs."""

    def codegen(context, builder, sig, args):
        slot = cgutils.alloca_once(builder, ir.IntType(64))
        builder.store(ir.Constant(ir.IntType(64), 0), slot)
        return builder.ptrtoint(slot, ir.IntType(64))

    return types.int64(), codegen


@njit
def call(number, a=0, b=0, c=0, d=0, e=0, f=0):
    """A system call: what it returns, or -errno."""
    result = _syscall(number, a, b, c, d, e, f)
    return -load_int32(errno_location()) if result == -1 else result


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
    fd = call(OPEN, text.ctypes.data + NAMES)
    length = call(READ, fd, text.ctypes.data, NAMES)
    call(CLOSE, fd)
    words[into + VMPTE] = number_behind(text, length, VMPTE_FIELD)
    words[into + RSS] = number_behind(text, length, RSS_FIELD)
    call(GETRUSAGE, 0, words.ctypes.data + 8 * USAGE)
    words[into + MINFLT] = words[USAGE + RU_MINFLT]


@njit
def access(words, text, addr, length, step, byte):
    """Store a byte, or load one if that is 0, per `step` bytes: 0 or -errno of the first that failed. The byte that was
    loaded last is found.
    """
    words[FOUND] = 0
    for at in range(addr, addr + length, step):
        done = call(PREAD64, words[SOURCE_FD], at, 1, byte) if byte else call(PWRITE64, words[SINK_FD], at, 1)
        if done != 1:
            return done
    if byte == 0 and length > 0:
        call(PREAD64, words[SINK_FD], text.ctypes.data, 1)
        words[FOUND] = text[0]
    return 0


@njit
def map_at(words, text, addr, length, flags, backing, more):
    """mmap at an address, of a file of that length if it is private and maps one that has no number: 0 or -errno."""
    fd = -1
    own = False
    place = 0 if more & MAP_FIXED_NOREPLACE else MAP_FIXED
    kind = (MAP_SHARED if flags & VM_SHARED else 0) | (more & MAP_DROPPABLE)
    kind = kind if kind else MAP_PRIVATE
    how = place | kind | (0 if more & MAP_ACCOUNT else MAP_NORESERVE) | more & ~(MAP_DROPPABLE | MAP_ACCOUNT)
    if backing and words[FILES + (backing & 255) - 1]:
        fd = words[FILES + (backing & 255) - 1]
    elif backing and not flags & VM_SHARED:
        own = True
        fd = call(MEMFD_CREATE, text.ctypes.data + NAMES)
        call(FTRUNCATE, fd, length)
    else:
        how |= MAP_ANONYMOUS
    result = call(MMAP, addr, length, flags & VM_ACCESS_FLAGS, how, fd, (backing >> 8) * PAGE_SIZE)
    if own:
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
def child_word(name, which):
    """Index of a word of a process by its name."""
    return CHILDREN + name * CHILD_WORDS + which
