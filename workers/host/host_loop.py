"""The loops of multi-fault and madvise-loop on this host's real memory, compiled by numba; they hold no GIL.

They are the judge, not the machine. Whatever engine emulates, these run compiled, so the primitives come from the
native engine by name and not through `atomic.py`. A segment serves as their shared words: `m.barrier`, `m.run.stop`,
and per thread `m.cpu.faults` (pages touched) and `m.cpu.errors`.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs

from emulator.engines import native  # before numba: it says where compiled code is kept

# isort: split
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from emulator.engines import compile_cache
from emulator.engines.native import (
    atomic_add_return,
    atomic_fetch_add,
    cpu_relax,
    kernel,
    kernel_inline,
    read_once,
    sleep_on,
    smp_load_acquire,
    wake_all,
    write_once,
)
from emulator.engines.whole_program import whole_program
from emulator.mm_types import PAGE_SIZE

SLOT = 8 << 20  # bytes of the mapping per thread
TOUCHED = 2 << 20  # bytes at the start of a slot that its thread writes to: one PTE table
MADV_DONTNEED = 4
NAP_US = 10_000

_madvise = types.ExternalFunction("madvise", types.int32(types.int64, types.int64, types.int32))


@intrinsic
def write_byte(typingctx, address):
    """Store 1 to the byte at a real address: once, where it stands."""

    def codegen(context, builder, sig, args):
        byte = ir.IntType(8)
        builder.store_atomic(ir.Constant(byte, 1), builder.inttoptr(args[0], byte.as_pointer()), "monotonic", 1)
        return context.get_dummy_value()

    return types.void(types.int64), codegen


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
    if _madvise(addr, length, MADV_DONTNEED) != 0:
        write_once(m.cpu.errors, me, 1)
        write_once(m.run.stop, 0, 1)


def host_multi_fault(m, me, own, first, count, meet):
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


def host_ping_pong(m, me, turns):
    """Hand one word over to the other of two threads and wait for it, `turns` times. Returns 0."""
    for _ in range(turns):
        if me == 0:
            write_once(m.barrier.arrived, 0, 1)
        while read_once(m.barrier.arrived, 0) != me:
            pass
        if me == 1:
            write_once(m.barrier.arrived, 0, 0)
    return 0


def host_madvise_loop(m, start, total, piece):
    """Touch and release [start, start + total) piece by piece, or until stopped. Returns 0."""
    for at in range(start, start + total, piece):
        if read_once(m.run.stop, 0) != 0:
            break
        host_touch(m, 0, at, piece)
        host_dontneed(m, 0, at, piece)
    return 0


def _compiled(function, n_numbers):
    """`function` compiled for m and `n_numbers` integers, or loaded from the cache."""
    compiled = njit(error_model="numpy", nogil=True, forceinline=False, cache=_CACHE_DIRECTORY is not None)(function)
    compiled.compile((native.SegmentType(), *[types.int64] * n_numbers))
    return compiled


_CACHE_DIRECTORY = native.CACHE_DIRECTORY and native.CACHE_DIRECTORY.with_name(f"{native.CACHE_DIRECTORY.name}-host")

with (
    compile_cache.kept_in(_CACHE_DIRECTORY),
    whole_program(frozenset({"host_multi_fault", "host_madvise_loop", "host_ping_pong"}), frozenset(native.CALLS)),
):
    multi_fault = _compiled(host_multi_fault, 5)
    madvise_loop = _compiled(host_madvise_loop, 3)
    ping_pong = _compiled(host_ping_pong, 2)
