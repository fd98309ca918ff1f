"""userfaultfd: another thread decides what a missing page holds; a CPU that needs the page waits for that.

    fault (handle_userfault)                          another CPU (mfill_atomic.py)
    ========================                          =============================
    pins the table; the entry is none
    reads uffd_seq
    the entry is none still                           pins the table, sets the entry: UFFD_COPY
    pte_put_vmf(), mmap_read_unlock()                 uffd_seq += 1, wakes
      sleeps while uffd_seq is what it was
    begins again: VM_FAULT_RETRY

So either the fault sees the entry, or its sleep ends. Its table may be gone when it comes back, and so may the VMA.
What it held on to is dropped before mmap_lock is (patch 5; patch 4 does it for pages).

Anonymous VMAs are watched for missing pages, for stores to what UFFD_WRITEPROTECT has protected, or for both. Taking
the protection away wakes the CPUs that wait. The registration says how long a fault may wait. Then it is a SIGBUS, as
with UFFD_FEATURE_SIGBUS at once; 0 is for ever, as in Linux.

Source: fs/userfaultfd.c.
"""

from emulator.atomic import (
    data_race,
    kernel,
    knob,
    read_once,
    smp_load_acquire,
)
from emulator.bug import stopped, waits_for
from emulator.cpu.idle import enter_idle, exit_idle
from emulator.cpu.interrupts import point
from emulator.cpu.wait import NAP_US, wait_on_timeout, wake_up
from emulator.fault.vmf import FAULT_FLAG_TRIED, VM_FAULT_RETRY, pte_put_vmf
from emulator.locking.mmap_lock import mmap_read_unlock
from emulator.pages.vma import anon_vma_prepare, vma_lookup
from emulator.pgtable import pte_offset
from emulator.pgtable_types import PTE_MARKER_UFFD_WP, RW, UFFD_WP
from emulator.policy.pte_ref import pte_peek
from emulator.uapi import EBUS, VM_SHARED
from emulator.watch.lockdep import might_sleep
from emulator.watch.paths import path_number, took
from emulator.watch.points import point_number
from emulator.watch.waits import Wait

USERFAULT = int(Wait.USERFAULT)
WAIT_NOTHING = int(Wait.NOTHING)
UFFD_WAITING = point_number("uffd.waiting")
UFFD_LOOKED = point_number("uffd.looked")
UFFD_WOKEN = point_number("uffd.woken")
USERFAULT_PATH = path_number("fault on a watched page")


@kernel
def wake_userfault(m, cpu, mm):
    """Let the faults of an mm that wait look again. Locking: what they wait for must be in place."""
    wake_up(m, m.mm.uffd_seq, m.mm.uffd_sleepers, mm)
    point(m, cpu, UFFD_WOKEN, mm, data_race(m.mm.uffd_seq, mm))


@kernel
def wait_for_userfault(m, cpu, mm, seq):
    """Sleep until somebody wakes the faults of an mm after uffd_seq was `seq`; idle meanwhile. True if it was too long.

    Locking: caller must hold no lock.
    """
    might_sleep(m, cpu)
    patience = read_once(m.mm.uffd_patience, mm)
    waited = 0
    waits_for(m, cpu, USERFAULT, mm)
    enter_idle(m, cpu)
    while read_once(m.mm.uffd_seq, mm) == seq and not stopped(m) and (patience == 0 or waited < patience):
        nap = NAP_US if patience == 0 else min(NAP_US, patience)
        wait_on_timeout(m, cpu, m.mm.uffd_seq, m.mm.uffd_sleepers, mm, seq, nap)
        waited += nap
    exit_idle(m, cpu)
    waits_for(m, cpu, WAIT_NOTHING, 0)
    return patience != 0 and waited >= patience and read_once(m.mm.uffd_seq, mm) == seq


@kernel
def handle_userfault(m, cpu):
    """Wait until another CPU fills the page of the fault, or lets it be stored to. VM_FAULT_RETRY with mmap_lock
    dropped, or -EBUS if that took too long the last time.

    Locking: caller must hold mmap_lock for reading, and the fault's reference.
    """
    took(m, cpu, USERFAULT_PATH)
    mm = m.vmf.mm[cpu]
    if m.vmf.flags[cpu] & FAULT_FLAG_TRIED and m.cpu.uffd_tired[cpu] != 0:
        m.cpu.uffd_tired[cpu] = 0
        return -EBUS
    seq = smp_load_acquire(m.mm.uffd_seq, mm)
    pmd, table = m.vmf.pmd[cpu], m.vmf.table[cpu]
    if table != 0:
        entry = pte_peek(m, cpu, pmd, table, pte_offset(table, m.vmf.addr[cpu]))
    else:
        entry = read_once(m.entry, pmd)
    missing = entry == 0 or entry == PTE_MARKER_UFFD_WP
    must_wait = missing or (m.vmf.orig_pte[cpu] & UFFD_WP and entry & (UFFD_WP | RW) == UFFD_WP)
    if knob(m.config.uffd_seq_late):
        point(m, cpu, UFFD_LOOKED, m.vmf.addr[cpu], seq)
        seq = read_once(m.mm.uffd_seq, mm)
    if not knob(m.config.ref_across_retry):
        pte_put_vmf(m, cpu)
    mmap_read_unlock(m, cpu, mm)
    m.cpu.retries[cpu] += 1
    point(m, cpu, UFFD_WAITING, m.vmf.addr[cpu], seq)
    tired = must_wait and wait_for_userfault(m, cpu, mm, seq)
    m.cpu.uffd_tired[cpu] = 1 if tired else 0
    return VM_FAULT_RETRY


@kernel
def uffd_prepare_anon(m, mm, addr):
    """Give the private VMA that a page is to be filled in its anon_vma, before anything about it is checked.

    Locking: caller must hold mmap_lock. Source: find_vma_and_prepare_anon.
    """
    row = vma_lookup(m, mm, addr)
    if row != 0 and m.vma.flags[row] & VM_SHARED == 0:
        anon_vma_prepare(m, mm, row)


@kernel
def uffd_vma(m, mm, start, end, armed):
    """The row of the anonymous VMA that has all of [start, end), watched for any of `armed` unless that is 0; or 0.

    Locking: caller must hold mmap_lock.
    """
    row = vma_lookup(m, mm, start)
    if row == 0 or m.vma.end[row] < end or m.vma.file[row] != 0:
        return 0
    return row if armed == 0 or m.vma.flags[row] & armed else 0
