"""Numbers that programs, reports and kernels share, as the kernel has them in include/uapi; no kernel lives here."""

from enum import IntEnum

EPERM, ENOENT, EINTR, ENXIO, ECHILD, EAGAIN, ENOMEM, EACCES = 1, 2, 4, 6, 10, 11, 12, 13
EFAULT, EBUSY, EEXIST, EINVAL = 14, 16, 17, 22
EBUS = ENXIO  # what an instruction ends with where Linux sends SIGBUS; EFAULT is SIGSEGV

# vma.flags
VM_READ, VM_WRITE, VM_EXEC = 1, 2, 4
VM_ACCESS_FLAGS = VM_READ | VM_WRITE | VM_EXEC
VM_SHARED = 8  # stores go to the file
VM_FILE = 0x10  # maps a file: vma.file says which
VM_GROWSDOWN = 0x100  # a fault right below it makes it longer
VM_UFFD_MISSING = 0x200  # what is missing there is for userfaultfd
VM_PFNMAP = 0x400  # maps the device's frame, see device.py
VM_UFFD_WP = 0x1000  # what is write-protected there is for userfaultfd
VM_UFFD = VM_UFFD_MISSING | VM_UFFD_WP
VM_LOCKED = 0x2000  # mlock
VM_SEQ_READ, VM_RAND_READ = 0x8000, 0x10000  # MADV_SEQUENTIAL, MADV_RANDOM
VM_DONTCOPY = 0x20000  # MADV_DONTFORK
VM_LOCKONFAULT = 0x80000  # MLOCK_ONFAULT: pages that come are locked, none is brought
VM_ACCOUNT, VM_NORESERVE = 0x100000, 0x200000  # its memory is reserved; MAP_NORESERVE: it never is
VM_HUGETLB = 0x400000  # maps the hugetlbfs file: vma.file says so as well
VM_WIPEONFORK = 0x2000000
VM_DONTDUMP = 0x4000000  # MADV_DONTDUMP
VM_HUGEPAGE, VM_NOHUGEPAGE = 0x20000000, 0x40000000  # MADV_HUGEPAGE, MADV_NOHUGEPAGE
VM_SPECIAL_FAULT = VM_FILE | VM_UFFD_MISSING | VM_HUGETLB  # a fault needs more than an anonymous page

VM_MERGEABLE = 0x80000000  # MADV_MERGEABLE
VM_PKEY_BIT0 = 1 << 32  # executed, and never read or written: PROT_EXEC alone, where the processor has protection keys
VM_DROPPABLE = 1 << 40  # MAP_DROPPABLE: reclaim may forget its pages
VM_SEALED = 1 << 42  # mseal
VM_LOCKED_MASK = VM_LOCKED | VM_LOCKONFAULT

# flags of system calls
MAP_SHARED, MAP_PRIVATE, MAP_DROPPABLE, MAP_FIXED, MAP_ANONYMOUS = 1, 2, 8, 0x10, 0x20
MAP_GROWSDOWN, MAP_LOCKED, MAP_NORESERVE, MAP_POPULATE = 0x100, 0x2000, 0x4000, 0x8000
MAP_HUGETLB, MAP_FIXED_NOREPLACE = 0x40000, 0x100000
MAP_ACCOUNT = 1 << 40  # no flag of Linux's: without MAP_NORESERVE
MREMAP_MAYMOVE, MREMAP_FIXED, MREMAP_DONTUNMAP = 1, 2, 4
MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT = 1, 2, 4
MS_ASYNC, MS_INVALIDATE, MS_SYNC = 1, 2, 4

# advice
MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_MERGEABLE, MADV_UNMERGEABLE = 0, 1, 2, 12, 13
MADV_DONTDUMP, MADV_DODUMP = 16, 17
MADV_WILLNEED, MADV_DONTNEED, MADV_FREE, MADV_REMOVE = 3, 4, 8, 9
MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_COLLAPSE = 14, 15, 25
MADV_DONTFORK, MADV_DOFORK, MADV_WIPEONFORK, MADV_KEEPONFORK = 10, 11, 18, 19
MADV_COLD, MADV_PAGEOUT, MADV_POPULATE_READ, MADV_POPULATE_WRITE = 20, 21, 22, 23
MADV_DONTNEED_LOCKED, MADV_GUARD_INSTALL, MADV_GUARD_REMOVE = 24, 102, 103
UIO_MAXIOV = 1024  # pieces of a vector


class Op(IntEnum):
    """Instructions; mm_types.INSN says what the operands are."""

    EXIT = 0  # unmap everything and stop
    STOP = 1  # stop and keep the memory, for a look at it afterwards
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
    POST = 17  # those that wait for this CPU may look how far it has come
    FOLLOW = 18  # wait until CPU `addr` has posted `arg` times
    MINCORE = 12  # look at a range; cpu.loaded is the number of present pages
    INSERT_PAGES = 13  # a driver maps what the page cache has of a range, without a fault
    COMPUTE = 14  # touch no memory for `arg` microseconds
    DEVICE_REMOVE = 15  # the driver takes its frame away
    MPROTECT = 20  # `arg` is of VM_ACCESS_FLAGS, or VM_PKEY_BIT0
    MLOCK = 21  # lock if `arg` is 1, unlock if it is 0, lock what comes if it is 2 (MLOCK_ONFAULT)
    PROCESS_MADVISE = 22  # one call, a vector of pieces of `step` bytes
    MREMAP = 23  # in place, to `arg` bytes
    MREMAP_FIXED = 24  # to the address `arg`
    FORK = 25  # the `arg` instructions that follow are the child's; then it exits
    FORK_HOLD = 26  # as FORK, but the child stays, by the name `addr` unless that is 0
    FREE_PTES = 16  # /proc/sys/vm/free_ptes: this mm's empty tables may go now
    REAP = 27  # the children that stayed exit
    IN_CHILD = 28  # the instruction that follows is done by the child of the name `addr`
    EXIT_CHILD = 29  # the child of the name `addr` exits
    MREMAP_CALL = 30  # mremap(2): `length` bytes to `step`, flags `arg`, place `more`
    MLOCKALL = 35  # flags `arg`; 0 is munlockall
    MSEAL = 36
    WRITEBACK = 32  # write the dirty pages of file `addr`
    TRUNCATE = 33  # make file `addr` `arg` pages long
    PUNCH_HOLE = 34  # take `length` pages out of file `addr`, from page `arg` on
    GUP = 50  # a device stores `arg` to the first word of each page, which it pins for that; 0: it loads
    RETRACT = 51  # take the empty PTE tables of the ranges that map file `addr` out
    MSYNC = 60  # write the dirty pages that a range maps, shared; `arg` is MS_SYNC, 0 means it, or others
    UFFD_REGISTER = 61  # a range is for userfaultfd: VM_UFFD flags `step`, missing if 0; `arg`: patience
    UFFD_UNREGISTER = 62
    UFFD_COPY = 63  # fill missing pages with the word `arg`, or map the zero page if that is 0
    UFFD_MOVE = 64  # move pages to the missing ones at `arg`
    SMAPS = 65  # look at a range: m.smaps has what is there
    PAGEMAP = 66  # cpu.loaded is what pagemap says of the last page of a range
    PAGEMAP_COUNT = 69  # cpu.loaded is the number of pages in a range that have a bit of `arg` in their pagemap word
    COUNT_VMAS = 75  # cpu.loaded is the number of VMAs in a range
    ACCESS_VM = 76  # process_vm_writev, process_vm_readv if `arg` is 0, of a range on itself; cpu.loaded: its bytes
    UFFD_WRITEPROTECT = 77  # write-protect a range, or no longer, as `arg` says
    CLEAR_REFS = 67  # clear the accessed bits of a range, or with `arg` 4 the soft-dirty bits, and write-protect it
    MOVE_CHARGE = 68  # charge the pages of a range to control group `arg`
    SWAPOUT = 70  # reclaim `arg` anonymous pages
    SWAPOFF = 71  # bring every page back from swap
    MIGRATE = 72  # move the page at `addr` to another frame, or `arg` pages of anybody if that is 0
    KSM = 73  # let `addr` and `arg` map one frame if they hold the same
    UPROBE = 74  # replace the page at `addr` by a copy, or by nothing


SIGBUS, SIGKILL, SIGSEGV = 7, 9, 11
SEGV_MAPERR, SEGV_ACCERR, BUS_ADRERR, SI_KERNEL = 1, 2, 2, 0x80
PM_UFFD_WP, PM_GUARD_REGION = 1 << 57, 1 << 58
PM_SOFT_DIRTY, PM_MMAP_EXCLUSIVE, PM_FILE, PM_SWAP, PM_PRESENT = 1 << 55, 1 << 56, 1 << 61, 1 << 62, -(1 << 63)
