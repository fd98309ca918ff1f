"""Claims about barriers: scenes of two or three CPUs in which nothing but an order can go wrong.

Most are one pattern. A CPU comes to where something is, and is *in* if it is there still. Another one takes it away and
waits for the first, each in a way of the kernel's. Nobody must be in then.

    CPU that visits                      CPU that takes away
    ===============                      ===================
    enters                               there = 0
    there?  then in = 1, in = 0          waits
    leaves                               in == 0

`there`, `in` and what else a scene needs are words of frames that nobody uses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from emulator.atomic import atomic_add_return, cpu_relax, read_once, smp_load_acquire, write_once
from emulator.cpu.flush import has_remote_cpu, serve_flush, tlb_remove_table_sync_one, wait_for_ack
from emulator.cpu.idle import enter_idle, exit_idle, leave_lazy_tlb, switch_mm
from emulator.cpu.interrupts import local_irq_disable, local_irq_enable, take_interrupts
from emulator.cpu.tlb import tlb_lookup
from emulator.cpu.wait import wait_on, wake_up
from emulator.engines.explore import world
from emulator.locking.mmap_lock import (
    mmap_read_lock,
    mmap_read_trylock,
    mmap_read_unlock,
    mmap_write_downgrade,
    mmap_write_lock_only,
    mmap_write_trylock_only,
    mmap_write_unlock,
    mmap_write_unlock_nested,
)
from emulator.locking.mutex import mutex_lock, mutex_unlock, mutex_wait
from emulator.locking.rwlock import write_lock, write_unlock
from emulator.locking.spinlock import spin_lock, spin_lock_pair, spin_unlock, spin_unlock_pair
from emulator.locking.vma_lock import mmap_write_lock, mmap_write_trylock, vma_end_read
from emulator.mm_types import TLB_ENTRIES
from emulator.pages.pagemap import wait_on_page_writeback
from emulator.policy.xnu_ptd import enter_walk, leave_walk, wait_for_walks
from emulator.rmap_walks.page_writeback import end_page_writeback
from emulator.tables.rcu import grace_period_agent, rcu_qs, rcu_read_lock, rcu_read_unlock
from emulator.watch.waits import Wait
from scenarios.zoo.bodies import ONE_ENTRY, Body, always, at_once
from scenarios.zoo.race import BASE, PAGE, Subject
from workers.programs.program import STOP
from workers.programs.scene import Scene

WRONG, THERE, IN, FIRST, SECOND, COUNT = range(6)  # words, from the last one of the frames down
Piece = Callable[..., Any]
Begin = Callable[[Any], None]


def word(m: Any, which: int) -> int:
    """The index of a word of frames that nobody uses."""
    return int(m.frame.size) - 1 - which


def scene(*bodies: Body, begin: Begin | None = None, setup: Any = (STOP,), counts: int = 0) -> Scene:
    """Bodies that run at once; in the end nothing was wrong, and each of so many counts is 2."""

    def end(m: Any) -> None:
        if m.frame[word(m, WRONG)] != 0:
            raise AssertionError("a CPU was in where another had waited for it, or one saw half of what another did")
        for i in range(counts):
            if m.frame[word(m, COUNT + i)] != 2:
                raise AssertionError(f"two CPUs have counted under lock {i}: {m.frame[word(m, COUNT + i)]}")

    return at_once(setup, *bodies, begin=begin, end=end)


def be_in(m: Any) -> None:
    """Be in for a moment."""
    write_once(m.frame, word(m, IN), 1)
    write_once(m.frame, word(m, IN), 0)


def nobody_in(m: Any) -> None:
    """It is wrong if somebody is in."""
    if read_once(m.frame, word(m, IN)) != 0:
        write_once(m.frame, word(m, WRONG), 1)


def be_in_if_there(m: Any) -> None:
    """Be in if it is there."""
    if read_once(m.frame, word(m, THERE)) != 0:
        be_in(m)


def be_in_by_tlb(m: Any, cpu: int) -> None:
    """Be in if the TLB has the first page."""
    if tlb_lookup(m, cpu, BASE) != 0:
        be_in(m)


def visit(enter: Piece, leave: Piece) -> Body:
    """The CPU that visits, unless it cannot enter."""

    def body(m: Any, cpu: int) -> None:
        if enter(m, cpu) is not False:
            be_in_if_there(m)
            leave(m, cpu)

    return body


def take_away(wait: Piece) -> Body:
    """The CPU that takes away, and has waited unless it did not want to."""

    def body(m: Any, cpu: int) -> None:
        write_once(m.frame, word(m, THERE), 0)
        if wait(m, cpu) is not False:
            nobody_in(m)

    return body


def there(m: Any) -> None:
    """What is visited is there."""
    always(m.frame, word(m, THERE), 1)


# --- sleeping ---------------------------------------------------------------------------------------------------------


def sleep_until_there(m: Any, cpu: int) -> None:
    """Sleep until it is there."""
    while True:
        seen = smp_load_acquire(m.cpu.wake, 0)
        if read_once(m.frame, word(m, THERE)) != 0:
            return
        wait_on(m, cpu, m.cpu.wake, m.cpu.wake_sleepers, 0, seen)


def bring_and_wake(m: Any, cpu: int) -> None:
    """Bring what the other waits for, and wake it."""
    write_once(m.frame, word(m, THERE), 1)
    wake_up(m, m.cpu.wake, m.cpu.wake_sleepers, 0)


def hold_page(m: Any) -> None:
    """CPU 0 has a page lock, and the page is being written back."""
    always(m.mutex.owner, 0, 1)
    always(m.cache.writeback, 0, 1)


def write_back_then_unlock(m: Any, cpu: int) -> None:
    """The write-back of a page ends, and its lock is released."""
    be_in(m)
    end_page_writeback(m, 0)
    mutex_unlock(m, cpu, 0, int(Wait.PAGE_LOCK))


def wait_for_page(m: Any, cpu: int) -> None:
    """Wait for the end of a write-back, then for that of the page lock."""
    wait_on_page_writeback(m, cpu, 0, int(Wait.WRITEBACK))
    nobody_in(m)
    mutex_wait(m, cpu, 0, int(Wait.PAGE_LOCK))


# --- locks ------------------------------------------------------------------------------------------------------------


def count_under(*locks: tuple[Piece, Piece]) -> Body:
    """A CPU that counts under each of some locks, by plain accesses."""

    def body(m: Any, cpu: int) -> None:
        for i, (lock, unlock) in enumerate(locks):
            lock(m, cpu)
            m.frame[word(m, COUNT + i)] = m.frame[word(m, COUNT + i)] + 1
            unlock(m, cpu)

    return body


def ptl(function: Piece, *rows: int) -> Piece:
    """A function of spinlocks, of the ptl of some tables."""
    return lambda m, cpu: function(m, cpu, m.ptdesc.ptl, *rows, int(Wait.PMD_LOCK))


def pmap_lock(function: Piece) -> Piece:
    """A function of reader-writer spinlocks, of an mm's."""
    return lambda m, cpu: function(m, cpu, m.mm.pmap_lock, 0, int(Wait.PMAP_LOCK))


def mutex(function: Piece) -> Piece:
    """A function of sleeping locks, of the first page lock."""
    return lambda m, cpu: function(m, cpu, 0, int(Wait.PAGE_LOCK))


LOCKS = (mutex_lock, mutex_unlock, write_lock, write_unlock)


def read_halves(m: Any, cpu: int) -> None:
    """Read both halves under mmap_lock: they must be the same."""
    mmap_read_lock(m, cpu, 0)
    first = int(read_once(m.frame, word(m, FIRST)))
    if first != int(read_once(m.frame, word(m, SECOND))):
        write_once(m.frame, word(m, WRONG), 1)
    mmap_read_unlock(m, cpu, 0)


def write_halves(unlock: Piece) -> Body:
    """A CPU that writes two halves under mmap_lock, which it holds, and lets it go in some way."""

    def body(m: Any, cpu: int) -> None:
        write_once(m.frame, word(m, FIRST), 1)
        write_once(m.frame, word(m, SECOND), 1)
        unlock(m, cpu, 0)

    return body


def downgrade(m: Any, cpu: int, mm: int) -> None:
    """Let readers in, then go."""
    mmap_write_downgrade(m, cpu, mm)
    mmap_read_unlock(m, cpu, mm)


def held_for_writing(m: Any) -> None:
    """CPU 1 holds mmap_lock."""
    always(m.mm.mmap_writer, 0, 2)
    always(m.cpu.mmap_lock_held, 1, 2)


def held_for_reading(m: Any) -> None:
    """CPU 0 holds mmap_lock for reading, and what it came for is there."""
    there(m)
    always(m.mm.mmap_readers, 0, 1)
    always(m.cpu.mmap_lock_held, 0, 1)


def vma_held(m: Any) -> None:
    """CPU 0 holds the lock of the first VMA, and what it came for is there."""
    there(m)
    row = world.mem[m.mm.first_vma.base]
    always(m.vma.lock_readers, row, 1)
    always(m.cpu.vma_lock_held, 0, row)


def leave(unlock: Piece) -> Body:
    """A CPU that is in, and goes."""

    def body(m: Any, cpu: int) -> None:
        be_in(m)
        unlock(m, cpu, 0)

    return body


def unlock_child(m: Any, cpu: int, mm: int) -> None:
    """Let an mm go as fork does a child's."""
    mmap_write_unlock_nested(m, mm)


def unlock_vma(m: Any, cpu: int, mm: int) -> None:
    """Let the VMA go."""
    vma_end_read(m, cpu, mm)


def mm0(function: Piece) -> Piece:
    """A function of mmap_lock, of the first mm's."""
    return lambda m, cpu: function(m, cpu, 0)


def alone_by(trylock: Piece, lock: Piece) -> Piece:
    """Be alone: at once, or by waiting."""

    def wait(m: Any, cpu: int) -> None:
        if not trylock(m, cpu, 0):
            lock(m, cpu, 0)

    return wait


# --- flushes ----------------------------------------------------------------------------------------------------------


FLUSH = (("mm", 0), ("start", BASE), ("end", BASE + PAGE), ("freed", 0), ("gen", 1))


def flush_noted(m: Any) -> None:
    """CPU 0 has written down a flush of the first page. CPU 1 has that in its TLB, as CPU 0 does, and is not lazy."""
    there(m)
    for name, value in FLUSH:
        always(getattr(m.cpu, f"flush_{name}"), 0, value)
    for field in (m.tlb.tag, m.tlb.entry):
        for i in range(TLB_ENTRIES):
            always(field, TLB_ENTRIES + i, world.mem[field.base + i])
    always(m.cpu.tlb_epoch, 1, world.mem[m.cpu.tlb_epoch.base])
    always(m.cpu.lazy, 1, 0)


def ipi_sent(m: Any) -> None:
    """The same, and the IPI is on its way to CPU 1."""
    flush_noted(m)
    for name, value in (*FLUSH, ("request", 1)):
        always(getattr(m.cpu, f"ipi_{name}"), 1, value)


def await_ack(m: Any, cpu: int) -> None:
    """Wait for the ack as the coordinator does."""
    wait_for_ack(m, m.config.n_cpu[0], 1)


def be_interrupted(m: Any, cpu: int) -> None:
    """Be in by the TLB, take an interrupt if one is there, and be lazy."""
    be_in_by_tlb(m, cpu)
    take_interrupts(m, cpu)
    enter_idle(m, cpu)


def be_in_behind_interrupt(m: Any, cpu: int) -> None:
    """Be in by the TLB behind an interrupt."""
    while read_once(m.cpu.ipi_request, cpu) == 0:
        cpu_relax()
    take_interrupts(m, cpu)
    be_in_by_tlb(m, cpu)


def interrupt(m: Any, cpu: int) -> None:
    """Have the CPUs flush that must, as the coordinator does for this one."""
    serve_flush(m, m.config.n_cpu[0], cpu)


def use_tlb(m: Any, cpu: int) -> None:
    """Come back from lazy-TLB mode, use what the TLB has, and be lazy again."""
    leave_lazy_tlb(m, cpu)
    be_in_by_tlb(m, cpu)
    enter_idle(m, cpu)


def load_mm(m: Any, cpu: int) -> None:
    """Load the mm, use what is there, and load another one."""
    switch_mm(m, cpu, 0)
    be_in_if_there(m)
    switch_mm(m, cpu, 1)


def other_mm(m: Any) -> None:
    """CPU 0 is not lazy, and has another mm loaded."""
    there(m)
    always(m.cpu.lazy, 0, 0)
    always(m.cpu.mm, 0, 1)


def flush_unless_remote(m: Any, cpu: int) -> None:
    """A flush of entries that were cleared; nobody must be in if no other CPU needs it."""
    write_once(m.frame, word(m, THERE), 0)
    atomic_add_return(m.mm.tlb_gen, 0, 1)
    if not has_remote_cpu(m, cpu, 0):
        nobody_in(m)


# --- grace periods ----------------------------------------------------------------------------------------------------


def read_section(m: Any, cpu: int) -> None:
    """Be in inside of a read section."""
    rcu_read_lock(m, cpu)
    be_in_if_there(m)
    rcu_read_unlock(m, cpu)


def read_twice(m: Any, cpu: int) -> None:
    """Two read sections with a quiescent state between them, then idle."""
    read_section(m, cpu)
    rcu_qs(m, cpu)
    read_section(m, cpu)
    enter_idle(m, cpu)


def read_awake(m: Any, cpu: int) -> None:
    """A read section of a CPU that comes back from idle, and goes there again."""
    exit_idle(m, cpu)
    read_section(m, cpu)
    enter_idle(m, cpu)


def grace_period(m: Any, cpu: int) -> None:
    """A grace period from its begin to its end, by the CPU that waits for it."""
    while grace_period_agent(m, m.config.n_cpu[0]) != 2:
        cpu_relax()


def wanted(m: Any) -> None:
    """Somebody waits for a grace period, CPU 1 runs it."""
    there(m)
    always(m.rcu.synchronizing, 0, 1)
    always(m.cpu.idle, 1, 1)


def wanted_of_idle(m: Any) -> None:
    """The same, and CPU 0 is idle."""
    wanted(m)
    always(m.cpu.idle, 0, 1)


def claim(name: str, text: str, scene: Scene, source: str, *barriers: str, **more: Any) -> Subject:
    """A claim about barriers, the first of which its twin leaves out."""
    detectors = ("claim-broken", "deadlock")
    rest = {"memory": "pso", "bound": 1, "spared": ("sc", "tso"), **more}
    return Subject(
        name=f"claim/{name}", text=text, scene=scene, barriers=barriers, detectors=detectors, source=source, **rest
    )


_CLAIMS = (
    claim(
        "no-wake-up-is-lost",
        "a CPU that sleeps until something comes is woken when it has come",
        scene(sleep_until_there, bring_and_wake),
        "set_current_state and wake_up_process; cpu/wait.py",
        "wait.py:wake_up smp_mb__after_atomic",
        "wait.py:wake_up smp_mb__before_atomic",
        memory="arm",
        bound=0,
    ),
    claim(
        "end-of-write-back-is-seen",
        "a CPU that waits for write-back or a page lock wakes, and finds what came before the end",
        scene(write_back_then_unlock, wait_for_page, begin=hold_page),
        "folio_end_writeback and folio_wait_writeback, mm/filemap.c",
        "page_writeback.py:end_page_writeback smp_store_release",
        "pagemap.py:wait_on_page_writeback smp_load_acquire #2",
        "pagemap.py:wait_on_page_writeback smp_load_acquire #3",
        "pagemap.py:wait_on_page_writeback smp_load_acquire #4",
        "pagemap.py:wait_on_page_writeback smp_load_acquire #5",
        "mutex.py:mutex_wait smp_load_acquire",
        bound=0,
    ),
    claim(
        "what-was-done-under-a-spinlock-is-seen-under-it",
        "of two CPUs that count under one spinlock none is lost, also where one of them holds another lock as well",
        scene(
            count_under((ptl(spin_lock_pair, 1, 2), ptl(spin_unlock_pair, 1, 2))),
            count_under((ptl(spin_lock, 2), ptl(spin_unlock, 2))),
            counts=1,
        ),
        "spin_unlock",
        "spinlock.py:spin_unlock smp_store_release",
        "spinlock.py:spin_unlock_pair smp_store_release",
        memory="arm",
    ),
    claim(
        "what-was-done-under-a-lock-is-seen-under-it",
        "of two CPUs that count under a sleeping lock, then under a reader-writer lock, none is lost",
        scene(
            *[count_under(*((mutex(a), mutex(b)), (pmap_lock(c), pmap_lock(d)))) for a, b, c, d in [LOCKS, LOCKS]],
            counts=2,
        ),
        "mutex_unlock, queued_write_unlock",
        "mutex.py:mutex_unlock smp_store_release",
        "rwlock.py:write_unlock smp_store_release",
        bound=0,
    ),
    *(
        claim(
            f"readers-see-all-behind-{name}",
            f"a reader of mmap_lock sees all that was done before {what}, or nothing",
            scene(read_halves, write_halves(unlock), begin=held_for_writing),
            source,
            f"mmap_lock.py:{function} smp_store_release",
            "mmap_lock.py:mmap_get_reader smp_load_acquire",
            "mmap_lock.py:mmap_read_lock_slow smp_load_acquire",
            bound=0,
        )
        for name, what, unlock, source, function in (
            ("unlock", "its writer left", mmap_write_unlock, "up_write", "mmap_write_unlock"),
            ("downgrade", "its writer became a reader", downgrade, "downgrade_write", "mmap_write_downgrade"),
            ("fork", "fork was done with a child", unlock_child, "dup_mmap", "mmap_write_unlock_nested"),
        )
    ),
    claim(
        "readers-have-left",
        "a writer of mmap_lock finds nobody in that it has waited for, and no reader leaves without waking it",
        scene(
            leave(mmap_read_unlock),
            take_away(alone_by(mmap_write_trylock_only, mmap_write_lock_only)),
            begin=held_for_reading,
        ),
        "up_read, rwsem_down_write_slowpath",
        "mmap_lock.py:mmap_put_reader smp_mb__after_atomic",
        "mmap_lock.py:mmap_put_reader smp_mb__before_atomic",
        "mmap_lock.py:mmap_write_lock_only smp_load_acquire #2",
        "mmap_lock.py:mmap_write_trylock_only smp_mb",
    ),
    claim(
        "writers-and-readers-exclude",
        "a reader of mmap_lock that comes finds its writer, or the writer finds it",
        scene(
            visit(mm0(mmap_read_trylock), mm0(mmap_read_unlock)), take_away(mm0(mmap_write_trylock_only)), begin=there
        ),
        "the table at the head of mmap_lock.py",
        "mmap_lock.py:mmap_get_reader smp_mb__after_atomic",
    ),
    claim(
        "readers-of-a-vma-have-left",
        "the same of the lock of a VMA",
        scene(
            leave(unlock_vma),
            take_away(alone_by(mmap_write_trylock, mmap_write_lock)),
            begin=vma_held,
            setup=ONE_ENTRY,
        ),
        "vma_end_read, __vma_start_write",
        "vma_lock.py:vma_end_read smp_mb__after_atomic",
        "vma_lock.py:vma_end_read smp_mb__before_atomic",
        "vma_lock.py:vma_start_write smp_load_acquire",
        "vma_lock.py:vma_start_write smp_mb",
        "vma_lock.py:mmap_write_trylock smp_mb",
        settings={"vma_locks": 1},
    ),
    claim(
        "interrupts-off-keep-what-is-read",
        "what a CPU came to with interrupts off is not used again before it has had them on",
        scene(visit(local_irq_disable, local_irq_enable), take_away(tlb_remove_table_sync_one), begin=there),
        "lockless_pages_from_mm, mm/gup.c; tlb_remove_table_sync_one",
        "interrupts.py:local_irq_disable smp_mb",
        "interrupts.py:local_irq_enable smp_store_release",
        "flush.py:tlb_remove_table_sync_one smp_mb",
        "flush.py:tlb_remove_table_sync_one smp_load_acquire",
        spared=("sc",),
        memory="arm",
    ),
    claim(
        "lazy-cpus-catch-up",
        "a CPU that comes back from lazy-TLB mode follows a flush that passed it over",
        scene(use_tlb, flush_unless_remote, begin=there, setup=ONE_ENTRY),
        "the table at the head of flush.py",
        "idle.py:leave_lazy_tlb smp_mb",
        "idle.py:enter_idle smp_store_release",
        "flush.py:has_remote_cpu smp_load_acquire #2",
        spared=("sc",),
        memory="arm",
    ),
    claim(
        "loading-an-mm-catches-up",
        "a CPU that loads an mm has nothing of it cached that was flushed before, or is asked to flush",
        scene(load_mm, flush_unless_remote, begin=other_mm, setup=ONE_ENTRY),
        "switch_mm_irqs_off, arch/x86/mm/tlb.c",
        "idle.py:switch_mm smp_mb",
        "idle.py:switch_mm smp_store_release",
        "flush.py:has_remote_cpu smp_load_acquire",
        spared=("sc",),
    ),
    claim(
        "an-acknowledged-flush-is-done",
        "a CPU that has acknowledged an IPI, or is lazy, is done with what it used by its TLB",
        scene(take_away(await_ack), be_interrupted, begin=ipi_sent, setup=ONE_ENTRY),
        "csd_lock_wait, kernel/smp.c",
        "interrupts.py:handle_ipi smp_store_release",
        "flush.py:wait_for_ack smp_load_acquire",
        "flush.py:wait_for_ack smp_load_acquire #2",
        "flush.py:wait_for_ack smp_load_acquire #3",
    ),
    claim(
        "an-ipi-says-what-to-flush",
        "a CPU that takes an IPI finds in it what was to be flushed",
        scene(take_away(interrupt), be_in_behind_interrupt, begin=flush_noted, setup=ONE_ENTRY),
        "smp_call_function_many, kernel/smp.c",
        "flush.py:serve_flush smp_store_release",
    ),
    claim(
        "quiescent-cpus-are-out",
        "behind a grace period no read section is left that found what was taken away",
        scene(read_twice, take_away(grace_period), begin=wanted),
        "the table at the head of rcu.py",
        "rcu.py:rcu_qs smp_store_release",
        "rcu.py:rcu_qs smp_load_acquire",
        "rcu.py:grace_period_agent smp_store_release",
    ),
    claim(
        "idle-cpus-are-out",
        "a grace period does not miss a CPU that comes back from idle",
        scene(read_awake, take_away(grace_period), begin=wanted_of_idle),
        "rcu_dynticks_eqs_exit, kernel/rcu/tree.c",
        "rcu.py:grace_period_agent smp_mb",
        "idle.py:enter_idle smp_store_release #2",
        spared=("sc",),
    ),
    claim(
        "rmap-walks-are-waited-for",
        "nobody is in an rmap walk that could have come to what was unhooked before",
        scene(visit(enter_walk, leave_walk), take_away(wait_for_walks), begin=there),
        "XNU, arm64 pmap; H31",
        "xnu_ptd.py:enter_walk smp_mb",
        "xnu_ptd.py:leave_walk smp_store_release",
        "xnu_ptd.py:wait_for_walks smp_mb",
        "xnu_ptd.py:wait_for_walks smp_load_acquire",
        "xnu_ptd.py:wait_for_walks smp_load_acquire #2",
        policy="xnu-ptd",
        spared=("sc",),
        memory="arm",
    ),
)
ORDERINGS = {one.name.partition("/")[2]: one for one in _CLAIMS}
