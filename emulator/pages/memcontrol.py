"""Memory control groups, as far as a page walk goes: it moves the charge of the pages that a range maps (debug build).

A frame is charged to one group from the walk that charges it until it is free; to the root's, which counts nothing,
before. Two walks may meet at a frame that two mms map: the walk that exchanges the group takes the charge of what was
there.

Source: mem_cgroup_move_charge_pte_range, mm/memcontrol-v1.c, until 6.13; v1 of the series pins it as any other walker.
"""

from emulator.atomic import atomic_add, kernel, read_once, xchg
from emulator.pgtable import pte_present
from emulator.pgtable_types import PAGE_SHIFT, SPECIAL


@kernel
def move_charge_pte(m, pte, group):
    """Charge the page that an entry maps to a group. Locking: caller must hold ptl: the page stays."""
    entry = read_once(m.entry, pte)
    frame = entry >> PAGE_SHIFT
    if not pte_present(entry) or frame == 0 or entry & SPECIAL:
        return
    before = xchg(m.page_memcg, frame, group)
    if before != 0:
        atomic_add(m.memcg.charged, before, -1)
    if group != 0:
        atomic_add(m.memcg.charged, group, 1)
