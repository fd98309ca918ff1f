"""Idle and lazy-TLB mode, and loading another mm: when no flush and no grace period needs to wait for a CPU."""

from emulator.atomic import kernel, read_once, smp_mb, smp_store_release, write_once
from emulator.cpu.interrupts import take_interrupts
from emulator.cpu.tlb import tlb_flush_all
from emulator.cpu.wait import wait_on
from emulator.watch.lockdep import might_sleep, rcu_assert_not_held


@kernel
def leave_lazy_tlb(m, cpu):
    """Use user memory again: catch up with the flushes that were not sent here."""
    write_once(m.cpu.lazy, cpu, 0)
    smp_mb()  # pairs with atomic_add_return in flush_tlb_mm_range
    take_interrupts(m, cpu)
    mm = m.cpu.mm[cpu]
    if mm >= 0:
        gen = read_once(m.mm.tlb_gen, mm)
        if gen != m.cpu.tlb_gen[cpu]:
            tlb_flush_all(m, cpu)
            m.cpu.tlb_gen[cpu] = gen
            m.cpu.flushes_late[cpu] += 1


@kernel
def switch_mm(m, cpu, mm):
    """Load another mm. Tags of one mm at a time: everything cached goes.

        CPU that flushes mm A                CPU that loads A                     CPU that leaves A
        =====================                ================                     =================
        clear entries                        cpu.mm = A                           cpu.mm = B
        tlb_gen of A += 1 (full barrier)     full barrier                         full barrier
        cpu.mm == A?  then IPI               read tlb_gen of A                    flush everything
                      else nothing           flush everything                     IPI for A on its way: only an ack

    A CPU that is not seen with A loaded walks A after the entries were cleared. Or it has nothing of A cached when it
    next accesses memory. Locking: caller must hold nothing and not be lazy. Source: switch_mm_irqs_off,
    arch/x86/mm/tlb.c.
    """
    smp_store_release(m.cpu.mm, cpu, mm)  # what it accessed of the other mm comes first; pairs with has_remote_cpu
    smp_mb()  # pairs with atomic_add_return in flush_tlb_mm_range
    gen = read_once(m.mm.tlb_gen, mm)
    tlb_flush_all(m, cpu)
    m.cpu.tlb_gen[cpu] = gen


@kernel
def enter_idle(m, cpu):
    """Stop using user memory and RCU-protected objects: no flush and no grace period waits for this CPU.

    Locking: caller must be outside of rcu_read_lock.
    """
    rcu_assert_not_held(m, cpu)
    smp_store_release(m.cpu.lazy, cpu, 1)  # user accesses come first; pairs with the acquires of lazy
    smp_store_release(m.cpu.idle, cpu, 1)
    smp_mb()
    take_interrupts(m, cpu)  # one that was sent before the agent could see lazy: answer, or it waits for a nap


@kernel
def exit_idle(m, cpu):
    """Come back from enter_idle."""
    write_once(m.cpu.idle, cpu, 0)
    leave_lazy_tlb(m, cpu)  # its barrier orders idle before any later read, too


@kernel
def wait_idle(m, cpu, seq, sleepers, i, seen):
    """As wait_on, and idle meanwhile. Locking: caller must hold no spinlock and be outside of rcu_read_lock."""
    might_sleep(m, cpu)
    enter_idle(m, cpu)
    wait_on(m, cpu, seq, sleepers, i, seen)
    exit_idle(m, cpu)
