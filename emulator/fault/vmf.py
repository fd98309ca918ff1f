"""The page fault that a CPU is in, struct vm_fault: its row of `m.vmf`.

A fault on a none entry of plain anonymous memory passes its arguments, which is what makes it fast. Every other fault
is in the row from `__handle_mm_fault` on, and what resolves it takes (m, cpu): do_wp_page, do_swap_page, do_fault,
handle_userfault.
"""

from emulator.atomic import kernel
from emulator.pgtable import pte_offset
from emulator.policy.pte_ref import pte_peek, pte_put

FAULT_FLAG_WRITE, FAULT_FLAG_TRIED = 1, 2
VM_FAULT_RETRY = 1  # mmap_lock was dropped, begin again; other results are 0 or -errno


@kernel
def set_vmf(m, cpu, mm, vma, pmd, addr, flags):
    """Say which fault this CPU is in. It has come to no table yet."""
    m.vmf.mm[cpu] = mm
    m.vmf.vma[cpu] = vma
    m.vmf.pmd[cpu] = pmd
    m.vmf.addr[cpu] = addr
    m.vmf.flags[cpu] = flags
    m.vmf.table[cpu] = 0
    m.vmf.orig_pte[cpu] = 0


@kernel
def set_vmf_table(m, cpu, table):
    """The fault has come to `table`, if that is not 0, and has its reference: the entry that it found there, or 0."""
    m.vmf.table[cpu] = table
    if table != 0:
        m.vmf.orig_pte[cpu] = pte_peek(m, cpu, m.vmf.pmd[cpu], table, pte_offset(table, m.vmf.addr[cpu]))
    return m.vmf.orig_pte[cpu]


@kernel
def pte_put_vmf(m, cpu):
    """Drop the fault's reference on its PTE table, if it has one. Locking: caller must hold mmap_lock."""
    if m.vmf.table[cpu] != 0:
        m.vmf.table[cpu] = 0
        pte_put(m, cpu, m.vmf.mm[cpu], m.vmf.pmd[cpu], m.vmf.addr[cpu])
