"""madvise(MADV_DONTNEED): give the frames back, keep the VMAs."""

from emulator.atomic import kernel
from emulator.kernel import EINVAL, ENOMEM
from emulator.memory import unmap_page_range
from emulator.mmu_gather import tlb_finish_mmu, tlb_gather_mmu
from emulator.pgtable import PAGE, TASK_SIZE
from emulator.spinlock import mmap_read_lock, mmap_read_unlock
from emulator.vma import find_vma, vma_limit

MADV_DONTNEED = 4


@kernel
def zap_page_range(m, cpu, mm, start, end):
    """Clear [start, end), which lies in one VMA, in one gather. Locking: caller must hold mmap_lock."""
    tlb_gather_mmu(m, cpu, mm, 0)
    unmap_page_range(m, cpu, mm, start, end)
    tlb_finish_mmu(m, cpu)


@kernel
def do_madvise(m, cpu, mm, start, length, advice):
    """madvise(2): 0 or -errno. Holes are skipped and reported as -ENOMEM at the end.

    Locking: takes and releases mmap_lock for reading.
    """
    end = start + ((length + PAGE - 1) & -PAGE)
    if start & (PAGE - 1) or length < 0 or end > TASK_SIZE or advice != MADV_DONTNEED:
        return -EINVAL
    result = 0
    mmap_read_lock(m, cpu, mm)
    row = find_vma(m, mm, start)
    while start < end:
        if row == vma_limit(m, mm) or m.vma.start[row] >= end:
            result = -ENOMEM
            break
        if m.vma.start[row] > start:
            result = -ENOMEM
            start = m.vma.start[row]
        until = min(m.vma.end[row], end)
        zap_page_range(m, cpu, mm, start, until)
        start = until
        row += 1
    mmap_read_unlock(m, cpu, mm)
    return result
