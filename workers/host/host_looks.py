"""The calls of a trace that look for something, and those of userfaultfd. What they find is words[FOUND]."""

# mypy: allow-untyped-defs, allow-incomplete-defs

from numba import njit

from emulator.mm_types import PAGE_SIZE
from emulator.uapi import (
    EAGAIN,
    ENOENT,
    VM_UFFD_MISSING,
    VM_UFFD_WP,
)
from workers.host.host_calls import (
    ACTOR,
    CLOSE,
    FOUND,
    GETPID,
    IOCTL,
    IOV_MAX,
    IOVECS,
    MINCORE,
    NAMES,
    OP_UFFD_COPY,
    OP_UFFD_MOVE,
    OP_UFFD_REGISTER,
    OP_UFFD_UNREGISTER,
    OP_UFFD_WP,
    OPEN,
    PREAD64,
    PROCESS_VM_READV,
    PROCESS_VM_WRITEV,
    PROCMAP_COVERING_OR_NEXT,
    PROCMAP_QUERY,
    SCRATCH,
    TEXT,
    UFFD,
    UFFD_API,
    UFFD_FEATURES,
    UFFD_MISSING,
    UFFD_USER_MODE_ONLY,
    UFFD_WP,
    UFFDIO_API,
    UFFDIO_COPY,
    UFFDIO_MOVE,
    UFFDIO_REGISTER,
    UFFDIO_UNREGISTER,
    UFFDIO_WRITEPROTECT,
    UFFDIO_ZEROPAGE,
    USERFAULTFD,
    call,
    child_word,
)


@njit
def mincore(words, text, addr, length):
    """mincore: 0, with the pages that are in memory found, or -errno."""
    words[FOUND] = 0
    found = done = 0
    scratch = text.ctypes.data + TEXT - SCRATCH
    while True:
        size = min(length - done, SCRATCH * PAGE_SIZE) if length >= 0 else length
        error = call(MINCORE, addr + done, size, scratch)
        if error < 0:
            return error
        for i in range((size + PAGE_SIZE - 1) // PAGE_SIZE):
            found += text[TEXT - SCRATCH + i] & 1
        done += size
        if done >= length:
            break
    words[FOUND] = found
    return 0


@njit
def count_pagemap(words, text, addr, length, bits):
    """The pages of a range that have one of these bits in their word of pagemap: 0."""
    words[FOUND] = 0
    found = 0
    fd = call(OPEN, text.ctypes.data + NAMES + 128)
    page, end = addr // PAGE_SIZE, (addr + length + PAGE_SIZE - 1) // PAGE_SIZE
    while page < end:
        some = call(PREAD64, fd, words.ctypes.data + 8 * IOVECS, 8 * min(end - page, IOV_MAX), 8 * page) // 8
        if some <= 0:
            break
        for i in range(some):
            if words[IOVECS + i] & bits:
                found += 1
        page += some
    call(CLOSE, fd)
    words[FOUND] = found
    return 0


@njit
def count_vmas(words, text, addr, length):
    """The VMAs of a range: 0, or -errno of a kernel that cannot be asked. Source: PROCMAP_QUERY, since 6.11."""
    words[FOUND] = 0
    fd = call(OPEN, text.ctypes.data + NAMES + 64)
    found = error = 0
    at = addr
    while at < addr + length:
        for i in range(16):
            words[IOVECS + i] = 0
        words[IOVECS], words[IOVECS + 1], words[IOVECS + 2] = 104, PROCMAP_COVERING_OR_NEXT, at
        error = call(IOCTL, fd, PROCMAP_QUERY, words.ctypes.data + 8 * IOVECS)
        if error == -ENOENT or (error == 0 and words[IOVECS + 3] >= addr + length):
            error = 0
            break
        if error < 0:
            break
        found += 1
        at = words[IOVECS + 4]
    call(CLOSE, fd)
    words[FOUND] = found
    return error


@njit
def access_vm(words, text, addr, length, store):
    """process_vm_readv, or writev, of this process: 0, with the bytes found that were done, or -errno."""
    found = 0
    scratch = text.ctypes.data + TEXT - SCRATCH
    number = PROCESS_VM_WRITEV if store else PROCESS_VM_READV
    for i in range(SCRATCH if store else 0):
        text[TEXT - SCRATCH + i] = 1
    while found < length or length < 0:
        size = min(length - found, SCRATCH) if length >= 0 else length
        words[IOVECS], words[IOVECS + 1] = scratch, size
        words[IOVECS + 2], words[IOVECS + 3] = addr + found, size
        done = call(number, call(GETPID), words.ctypes.data + 8 * IOVECS, 1, words.ctypes.data + 8 * IOVECS + 16, 1)
        if done <= 0:
            words[FOUND] = found if found else done
            return 0 if found else done
        found += done
        if done < size:
            break
    words[FOUND] = found
    return 0


@njit
def uffd_of(words):
    """The userfaultfd of this process, which has signals for faults."""
    which = child_word(words[ACTOR], UFFD)
    if words[which] == 0:
        words[which] = call(USERFAULTFD, UFFD_USER_MODE_ONLY)
        words[IOVECS], words[IOVECS + 1], words[IOVECS + 2] = UFFD_API, UFFD_FEATURES, 0
        call(IOCTL, words[which], UFFDIO_API, words.ctypes.data + 8 * IOVECS)
    return words[which]


@njit
def userfault(words, text, op, addr, length, step, arg):
    """One call of userfaultfd: 0 or -errno."""
    fd = uffd_of(words)
    at = words.ctypes.data + 8 * IOVECS
    words[IOVECS], words[IOVECS + 1], words[IOVECS + 2], words[IOVECS + 3] = addr, length, arg, 0
    if op == OP_UFFD_WP:
        return call(IOCTL, fd, UFFDIO_WRITEPROTECT, at)
    if op == OP_UFFD_REGISTER:
        modes = UFFD_WP if step & VM_UFFD_WP else 0
        words[IOVECS + 2] = modes | (UFFD_MISSING if step == 0 or step & VM_UFFD_MISSING else 0)
        return call(IOCTL, fd, UFFDIO_REGISTER, at)
    if op == OP_UFFD_UNREGISTER:
        return call(IOCTL, fd, UFFDIO_UNREGISTER, at)
    if op == OP_UFFD_COPY and arg == 0:
        words[IOVECS + 2] = 0
        return call(IOCTL, fd, UFFDIO_ZEROPAGE, at)
    if op == OP_UFFD_MOVE:
        words[IOVECS], words[IOVECS + 1], words[IOVECS + 2] = arg, addr, length
        words[IOVECS + 3] = words[IOVECS + 4] = 0
        return call(IOCTL, fd, UFFDIO_MOVE, at)
    for i in range(SCRATCH):
        text[TEXT - SCRATCH + i] = arg
    done = 0
    while True:
        size = length if length % PAGE_SIZE else min(length - done, SCRATCH)  # an odd length is refused at once
        words[IOVECS], words[IOVECS + 1], words[IOVECS + 2] = addr + done, text.ctypes.data + TEXT - SCRATCH, size
        words[IOVECS + 3] = words[IOVECS + 4] = 0
        error = call(IOCTL, fd, UFFDIO_COPY, at)
        if error < 0 and done > 0:
            return -EAGAIN  # as one call for all
        done += size
        if error < 0 or done >= length:
            return error
