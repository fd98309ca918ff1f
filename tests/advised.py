"""A process that a test advises: it follows operations from its stdin, a list in JSON per line, and says `done`.

It says `cannot` if the kernel does not know one of them.

Everything is one system call of libc at a fixed address; what it needs for that it has touched before it says `ready`.
"""

import ctypes
import errno
import json
import sys
import time

MAP_FIXED, MAP_ANONYMOUS, MAP_NORESERVE = 0x10, 0x20, 0x4000
SYS_USERFAULTFD = 323
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
for function in (libc.munmap, libc.madvise, libc.mprotect):
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int][: 2 if function is libc.munmap else 3]


def check(result):
    if result == -1:
        raise OSError(ctypes.get_errno(), "a call failed")


def mmap(addr, length, prot=3, flags=2, fd=-1):
    anonymous = MAP_ANONYMOUS if fd < 0 else 0
    where = libc.mmap(addr, length, prot, flags | anonymous | MAP_FIXED | MAP_NORESERVE, fd, 0)
    assert where == addr, ctypes.get_errno()


def mmap_file(addr, length, path):
    with open(path, "rb") as file:
        mmap(addr, length, 1, 1, file.fileno())


def touch(addr, length, step=4096):
    for at in range(addr, addr + length, step):
        ctypes.c_char.from_address(at).value = b"x"


def read(addr, length, step=4096):
    for at in range(addr, addr + length, step):
        ctypes.c_char.from_address(at).value  # noqa: B018 the load is what is wanted


def madvise(addr, length, advice, step=0):
    for at in range(addr, addr + length, step or length):
        check(libc.madvise(at, min(step or length, addr + length - at), advice))


def munmap(addr, length, step=0):
    for at in range(addr, addr + length, step or length):
        check(libc.munmap(at, min(step or length, addr + length - at)))


def release_for(seconds, calls):
    """Follow some madvise calls again and again, for so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for addr, length in calls:
            touch(addr, length, length)
            madvise(addr, length, 4)


def mprotect(addr, length, prot):
    check(libc.mprotect(addr, length, prot))


def uffd_wp(addr, length):
    """Write-protect a range of nothing by userfaultfd: each page gets a marker (Linux 6.4 and later)."""
    fd = libc.syscall(SYS_USERFAULTFD, 1)  # user mode only
    check(fd)
    api = (ctypes.c_uint64 * 3)(0xAA, 1 << 13, 0)  # UFFD_FEATURE_WP_UNPOPULATED
    check(libc.ioctl(fd, ctypes.c_ulong(0xC018AA3F), api))
    register = (ctypes.c_uint64 * 4)(addr, length, 2, 0)  # MODE_WP
    check(libc.ioctl(fd, ctypes.c_ulong(0xC020AA00), register))
    protect = (ctypes.c_uint64 * 3)(addr, length, 1)
    check(libc.ioctl(fd, ctypes.c_ulong(0xC018AA06), protect))


def main():
    buffer = ctypes.create_string_buffer(4096)
    touch(ctypes.addressof(buffer), 1)
    read(ctypes.addressof(buffer), 1)
    print("ready", flush=True)
    for line in sys.stdin:
        try:
            for name, *operands in json.loads(line):
                globals()[name](*operands)
        except OSError as error:
            said = "cannot" if error.errno in (errno.EINVAL, errno.ENOSYS, errno.EPERM) else f"failed: {error}"
            print(said, flush=True)
        else:
            print("done", flush=True)


if __name__ == "__main__":
    main()
