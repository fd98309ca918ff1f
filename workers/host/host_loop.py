"""The loops of multi-fault and madvise-loop on this host's real memory, compiled by numba; they hold no GIL.

They are the judge, not the machine. Whatever engine emulates, these run compiled, so the primitives do not come through
`atomic.py`. A segment serves as their shared words: `m.barrier`, `m.run.stop`,
and per thread `m.cpu.faults` (pages touched) and `m.cpu.errors`.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs

from emulator.engines.compiled import Program
from emulator.mm_types import BARRIER_YIELDS, PAGE_SIZE

_program = Program("-host")
_language = _program.language()
entry_point, kernel, kernel_inline = _program.entry_point, _language.kernel, _language.kernel_inline
atomic_add_return, atomic_fetch_add = _language.atomic_add_return, _language.atomic_fetch_add
cpu_relax, sched_yield = _language.cpu_relax, _language.sched_yield
sleep_on, wake_all = _language.sleep_on, _language.wake_all
read_once, smp_load_acquire, write_once = _language.read_once, _language.smp_load_acquire, _language.write_once
write_byte, madvise = _language.write_byte, _language.madvise

SLOT = 8 << 20  # bytes of the mapping per thread
TOUCHED = 2 << 20  # bytes at the start of a slot that its thread writes to: one PTE table
MADV_DONTNEED = 4
NAP_US = 10_000


@kernel
def host_barrier(m, me, barrier, only_arrive):
    """Wait until all threads have arrived or the run is stopped. barrier_wait of insn.py, without RCU and TLB."""
    generation = smp_load_acquire(m.barrier.generation, barrier)
    if atomic_add_return(m.barrier.arrived, barrier, 1) == m.barrier.parties[barrier]:
        write_once(m.barrier.arrived, barrier, 0)
        atomic_fetch_add(m.barrier.generation, barrier, 1)
        if read_once(m.barrier.sleepers, barrier) != 0:
            wake_all(m, m.barrier.generation, barrier)
        return
    if only_arrive:
        return
    turns = 0
    while smp_load_acquire(m.barrier.generation, barrier) == generation and read_once(m.run.stop, 0) == 0:
        turns += 1
        if turns < m.config.spin[0]:
            cpu_relax()
        elif turns < m.config.spin[0] + BARRIER_YIELDS:
            sched_yield()
        else:
            atomic_fetch_add(m.barrier.sleepers, barrier, 1)
            sleep_on(m, me, m.barrier.generation, barrier, generation, NAP_US)
            atomic_fetch_add(m.barrier.sleepers, barrier, -1)


@kernel_inline
def host_touch(m, me, addr, length):
    """Write one byte to each page of [addr, addr + length)."""
    faults = m.cpu.faults[me]
    for at in range(addr, addr + length, PAGE_SIZE):
        write_byte(at)
        faults += 1
        write_once(m.cpu.faults, me, faults)


@kernel_inline
def host_dontneed(m, me, addr, length):
    """madvise(MADV_DONTNEED); a failure is counted and stops the run."""
    if madvise(addr, length, MADV_DONTNEED) != 0:
        write_once(m.cpu.errors, me, 1)
        write_once(m.run.stop, 0, 1)


@entry_point
def multi_fault(m, me, own, first, count, meet):
    """Thread `me`: touch the slot at `own`, release `count` slots from `first` on, until stopped. Returns 0.

    All start together; with `meet` they also wait for each other before and after the release. With a `meet` of 2 those
    that release nothing do not wait before it.
    """
    host_barrier(m, me, 0, False)
    while read_once(m.run.stop, 0) == 0:
        host_touch(m, me, own, TOUCHED)
        if meet != 0:
            host_barrier(m, me, 0, meet == 2 and count == 0)
        for i in range(count):
            host_dontneed(m, me, first + i * SLOT, SLOT)
        if meet != 0:
            host_barrier(m, me, 1, False)
    return 0


@entry_point
def ping_pong(m, me, turns):
    """Hand one word over to the other of two threads and wait for it, `turns` times. Returns 0."""
    for _ in range(turns):
        if me == 0:
            write_once(m.barrier.arrived, 0, 1)
        while read_once(m.barrier.arrived, 0) != me:
            pass
        if me == 1:
            write_once(m.barrier.arrived, 0, 0)
    return 0


@entry_point
def madvise_loop(m, start, total, piece):
    """Touch and release [start, start + total) piece by piece, or until stopped. Returns 0."""
    for at in range(start, start + total, piece):
        if read_once(m.run.stop, 0) != 0:
            break
        host_touch(m, 0, at, piece)
        host_dontneed(m, 0, at, piece)
    return 0


_program.prepare()
