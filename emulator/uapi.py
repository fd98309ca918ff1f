"""Numbers that programs, reports and kernels share, as the kernel has them in include/uapi; no kernel lives here."""

from enum import IntEnum

ENOENT, EINTR, ENXIO, ECHILD, EAGAIN, ENOMEM, EACCES = 2, 4, 6, 10, 11, 12, 13
EFAULT, EBUSY, EEXIST, EINVAL = 14, 16, 17, 22
EBUS = ENXIO  # what an instruction ends with where Linux sends SIGBUS; EFAULT is SIGSEGV

# vma.flags
VM_READ, VM_WRITE = 1, 2
VM_ACCESS_FLAGS = VM_READ | VM_WRITE
VM_PFNMAP = 4  # maps the device's frame, see device.py
VM_SHARED = 8  # stores go to the file
VM_FILE = 0x10  # maps a file: vma.file says which
VM_UFFD_MISSING = 0x200  # what is missing there is for userfaultfd
VM_LOCKED = 0x2000  # mlock
VM_DONTCOPY = 0x20000  # MADV_DONTFORK
VM_HUGETLB = 0x400000  # maps the hugetlbfs file: vma.file says so as well
VM_WIPEONFORK = 0x2000000
VM_HUGEPAGE, VM_NOHUGEPAGE = 0x20000000, 0x40000000  # MADV_HUGEPAGE, MADV_NOHUGEPAGE
VM_SPECIAL_FAULT = VM_FILE | VM_UFFD_MISSING | VM_HUGETLB  # a fault needs more than an anonymous page

# advice
MADV_WILLNEED, MADV_DONTNEED, MADV_FREE, MADV_REMOVE = 3, 4, 8, 9
MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_COLLAPSE = 14, 15, 25
MADV_DONTFORK, MADV_DOFORK, MADV_WIPEONFORK, MADV_KEEPONFORK = 10, 11, 18, 19
MADV_COLD, MADV_PAGEOUT, MADV_POPULATE_READ, MADV_POPULATE_WRITE = 20, 21, 22, 23
MADV_DONTNEED_LOCKED, MADV_GUARD_INSTALL, MADV_GUARD_REMOVE = 24, 102, 103
UIO_MAXIOV = 1024  # pieces of a vector


class Op(IntEnum):
    """Instructions; mm_types.INSN says what the operands are."""

    EXIT = 0  # unmap everything and stop
    STOP = 1  # stop and keep the memory, for whoever looks at it afterwards
    STORE = 2  # one word: length and step 8
    LOAD = 3
    TOUCH = 4  # store to one word per step
    READ = 5  # load one word per step
    MMAP = 6
    MUNMAP = 7
    MADVISE = 8
    BARRIER = 9
    JUMP = 10
    MARK = 11  # nothing: a row to record
    MINCORE = 12  # look at a range; cpu.loaded is the number of present pages
    INSERT_PAGES = 13  # a driver maps what the page cache has of a range, without a fault
    COMPUTE = 14  # touch no memory for `arg` microseconds
    DEVICE_REMOVE = 15  # the driver takes its frame away
    MPROTECT = 20  # `arg` is VM_READ | VM_WRITE, or less
    MLOCK = 21  # lock if `arg` is 1, unlock if it is 0
    PROCESS_MADVISE = 22  # one call, a vector of pieces of `step` bytes
    MREMAP = 23  # in place, to `arg` bytes
    MREMAP_FIXED = 24  # to the address `arg`
    FORK = 25  # the `arg` instructions that follow are the child's; then it exits
    FORK_HOLD = 26  # as FORK, but the child stays
    REAP = 27  # the children that stayed exit
    WRITEBACK = 32  # write the dirty pages of file `addr`
    TRUNCATE = 33  # make file `addr` `arg` pages long
    PUNCH_HOLE = 34  # take `length` pages out of file `addr`, from page `arg` on
    GUP = 50  # a device stores `arg` to the first word of each page, which it pins for that; 0: it loads
    RETRACT = 51  # take the empty PTE tables of the ranges that map file `addr` out
    MSYNC = 60  # write the dirty pages that a range maps, shared
    UFFD_REGISTER = 61  # missing pages of a range are for userfaultfd; a fault waits `arg` microseconds, 0: for ever
    UFFD_UNREGISTER = 62
    UFFD_COPY = 63  # fill missing pages with the word `arg`, or map the zero page if that is 0
    UFFD_MOVE = 64  # move pages to the missing ones at `arg`
    SMAPS = 65  # look at a range: m.smaps has what is there
    PAGEMAP = 66  # cpu.loaded is what pagemap says of the last page of a range
    CLEAR_REFS = 67  # clear the accessed bits of a range, or with `arg` 4 the soft-dirty bits, and write-protect it
    MOVE_CHARGE = 68  # charge the pages of a range to control group `arg`
    SWAPOUT = 70  # reclaim `arg` anonymous pages
    SWAPOFF = 71  # bring every page back from swap
    MIGRATE = 72  # move the page at `addr` to another frame, or `arg` pages of anybody if that is 0
    KSM = 73  # let `addr` and `arg` map one frame if they hold the same
    UPROBE = 74  # replace the page at `addr` by a copy, or by nothing


SIGBUS, SIGKILL, SIGSEGV = 7, 9, 11
SEGV_MAPERR, SEGV_ACCERR, BUS_ADRERR, SI_KERNEL = 1, 2, 2, 0x80
PM_SOFT_DIRTY, PM_MMAP_EXCLUSIVE, PM_FILE, PM_SWAP, PM_PRESENT = 1 << 55, 1 << 56, 1 << 61, 1 << 62, -(1 << 63)
