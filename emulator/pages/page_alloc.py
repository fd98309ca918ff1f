"""Frames and page-table pages: free ones kept per CPU over one zone each, as in mm/page_alloc.c.

Frame 0 is the zero page and table 0 means "none", so 0 says "no memory". A zone hands out what was freed last, and an
index never used only when nothing is free: memory that was never touched costs nothing. Tables are poisoned when they
are freed and zeroed when they are allocated again.
"""

from emulator.atomic import (
    BODIES_APART,
    COUNTS_DELTAS,
    COUNTS_ENTRIES,
    COUNTS_VISITORS,
    DEBUG,
    atomic_add,
    atomic_add_return,
    kernel,
    kernel_inline,
    memset,
    now_ns,
    or_words,
    read_once,
    sleep_on,
    smp_load_acquire,
    smp_store_release,
    write_once,
)
from emulator.bug import BUG, detecting, stopped, waits_for
from emulator.cpu.idle import enter_idle, exit_idle
from emulator.cpu.interrupts import coordinator_wake
from emulator.locking.spinlock import ZONE_LOCK, spin_lock, spin_unlock
from emulator.mm_types import FRAME_WORDS, FRAMES, PCP_ROOM, PTRS_PER_TABLE, REUSE_BUCKETS, TABLES
from emulator.pages.bodies import drop_body
from emulator.pages.table_cache import pop_any_cached, pop_cached
from emulator.pgtable_types import POISON, POISON_COUNT, TABLE_ALLOCATED, TABLE_FREE
from emulator.watch.bugs import Bug
from emulator.watch.lockdep import might_sleep
from emulator.watch.pass_point import mark_life, point_noirq
from emulator.watch.points import point_number
from emulator.watch.waits import Wait

BUG_FRAME_COUNT = int(Bug.FRAME_COUNT_UNDERFLOW)
BUG_FRAME_DOUBLE_FREE = int(Bug.FRAME_DOUBLE_FREE)
BUG_DOUBLE_FREE = int(Bug.TABLE_DOUBLE_FREE)
BUG_NOT_EMPTY = int(Bug.FREED_TABLE_NOT_EMPTY)
WAIT_MEMORY = int(Wait.MEMORY)
WAIT_NOTHING = int(Wait.NOTHING)
ZONE_LOCKED = point_number("alloc.zone-locked")
TABLE_FREED = point_number("table.freed")
_PATIENCE, _NAP_US = 2000, 200  # naps of an allocation before it gives up, and how long one is at most


@kernel
def break_block(m, zone):
    """Nothing else is free: let the frames of a free block go one by one. Locking: caller must hold the zone lock."""
    if m.zone.blocks[zone] == 0:
        return
    m.zone.blocks[zone] -= 1
    head = m.block_slot[m.zone.blocks[zone]]
    for i in range(PTRS_PER_TABLE):
        m.zone_slot[m.zone.slots[zone] + i] = head + i
    m.zone.count[zone] = PTRS_PER_TABLE


@kernel
def rmqueue_bulk(m, cpu, zone):
    """Move up to a batch of free ones from the zone to this CPU, recycled ones first; how many.

    Locking: takes and releases the zone lock.
    """
    list_ = 2 * cpu + zone
    to = list_ * PCP_ROOM + m.pcp.count[list_]
    spin_lock(m, cpu, m.zone.lock, zone, ZONE_LOCK)
    if m.zone.count[zone] == 0 and m.zone.fresh[zone] == m.zone.limit[zone]:
        break_block(m, zone)
    batch = m.zone.batch[zone]
    recycled = min(m.zone.count[zone], batch)
    point_noirq(m, cpu, ZONE_LOCKED, zone, recycled)
    fresh = min(m.zone.limit[zone] - m.zone.fresh[zone], batch - recycled)
    for i in range(fresh):
        m.pcp_slot[to + i] = m.zone.fresh[zone] + i
    m.zone.fresh[zone] += fresh
    first = m.zone.slots[zone] + m.zone.count[zone] - recycled
    for i in range(recycled):
        m.pcp_slot[to + fresh + i] = m.zone_slot[first + i]  # on top: they are taken first
    m.zone.count[zone] -= recycled
    spin_unlock(m, cpu, m.zone.lock, zone, ZONE_LOCK)
    m.pcp.count[list_] += recycled + fresh
    return recycled + fresh


@kernel
def free_pcppages_bulk(m, cpu, zone, n):
    """Move n free ones from this CPU to the zone. Locking: takes and releases the zone lock."""
    list_ = 2 * cpu + zone
    m.pcp.count[list_] -= n
    first = list_ * PCP_ROOM + m.pcp.count[list_]
    spin_lock(m, cpu, m.zone.lock, zone, ZONE_LOCK)
    to = m.zone.slots[zone] + m.zone.count[zone]
    for i in range(n):
        m.zone_slot[to + i] = m.pcp_slot[first + i]
    m.zone.count[zone] += n
    spin_unlock(m, cpu, m.zone.lock, zone, ZONE_LOCK)


@kernel_inline
def pcp_pop(m, cpu, zone):
    """Take one from this CPU's free ones, or 0. Locking: as alloc_slowpath."""
    list_ = 2 * cpu + zone
    if m.pcp.count[list_] == 0 and not alloc_slowpath(m, cpu, zone):
        return 0
    m.pcp.count[list_] -= 1
    return m.pcp_slot[list_ * PCP_ROOM + m.pcp.count[list_]]


@kernel_inline
def pcp_push(m, cpu, zone, index):
    """Add one to this CPU's free ones."""
    list_ = 2 * cpu + zone
    if m.pcp.count[list_] >= m.zone.pcp_high[zone]:
        free_pcppages_bulk(m, cpu, zone, m.zone.batch[zone])
    m.pcp_slot[list_ * PCP_ROOM + m.pcp.count[list_]] = index
    m.pcp.count[list_] += 1


@kernel
def memory_may_come(m):
    """True while some table waits for a grace period: on a CPU's list, on the way from there, or in one."""
    if read_once(m.rcu.gp_seq, 0) != read_once(m.rcu.gp_completed, 0):
        return True
    for cpu in range(m.config.n_cpu[0]):
        if read_once(m.cpu.cb_head, cpu) != 0:
            return True
    if smp_load_acquire(m.rcu.taking, 0) != 0:
        return True
    return read_once(m.rcu.gp_seq, 0) != read_once(m.rcu.gp_completed, 0)  # they may have arrived there meanwhile


@kernel
def alloc_slowpath(m, cpu, zone):
    """Refill this CPU's list; if the zone is empty, sleep while grace periods can still give tables back.

    Returns False if there is no memory. Locking: for a table, the caller must hold no spinlock and be outside of
    rcu_read_lock. For a frame no CPU sleeps, and fork takes one for a pinned page under the ptl.
    """
    if zone == TABLES:
        might_sleep(m, cpu)
    if rmqueue_bulk(m, cpu, zone) != 0:
        return True
    naps = 0
    while zone == TABLES and naps < _PATIENCE and memory_may_come(m) and not stopped(m):
        m.cpu.alloc_stalls[cpu] += 1
        waits_for(m, cpu, WAIT_MEMORY, zone)
        completed = read_once(m.rcu.gp_completed, 0)
        enter_idle(m, cpu)
        write_once(m.rcu.hurry, 0, 1)
        coordinator_wake(m)
        sleep_on(m, cpu, m.rcu.gp_completed, 0, completed, _NAP_US)
        exit_idle(m, cpu)
        waits_for(m, cpu, WAIT_NOTHING, 0)
        if rmqueue_bulk(m, cpu, zone) != 0:
            return True
        naps += 1
    if rmqueue_bulk(m, cpu, zone) != 0:
        return True
    m.cpu.oom[cpu] += 1
    m.cpu.oom_zone[cpu] = zone
    return False


@kernel_inline
def alloc_page(m, cpu):
    """A frame with one user and undefined contents, or 0. Locking: as alloc_slowpath."""
    frame = pcp_pop(m, cpu, FRAMES)
    if frame != 0:
        write_once(m.page.refcount, frame, 1)  # fast GUP may be looking, through an entry it read before
    return frame


@kernel_inline
def clear_page(m, frame):
    """Zero a frame's contents."""
    words = m.config.frame_words[0]
    if words == FRAME_WORDS:
        memset(m.frame, frame * FRAME_WORDS, FRAME_WORDS, 0)  # a constant: a few stores, not a call
    else:
        memset(m.frame, frame * words, words, 0)
    if DEBUG:
        write_once(m.page_stored_by, frame, 0)
        write_once(m.page_values, frame, 0)


@kernel
def copy_page(m, to, source):
    """Copy a frame's contents. Nobody may be able to store to the source."""
    words = m.config.frame_words[0]
    for word in range(words):
        m.frame[to * words + word] = read_once(m.frame, source * words + word)
    if DEBUG:
        write_once(m.page_values, to, read_once(m.page_values, source))


@kernel
def uncharge_page(m, frame):
    """A frame that a control group is charged for is free. Source: uncharge_folio, mm/memcontrol.c."""
    atomic_add(m.memcg.charged, m.page_memcg[frame], -1)
    m.page_memcg[frame] = 0


@kernel_inline
def put_page_testzero(m, cpu, frame):
    """Drop a user of a frame; True if it was the last, and the frame is the caller's to free."""
    users = atomic_add_return(m.page.refcount, frame, -1)
    if users > 0:
        return False
    if users < 0:
        BUG(m, cpu, BUG_FRAME_COUNT, frame, users + 1, users)
        return False
    if detecting(m) and m.page.mapcount[frame] != 0:
        BUG(m, cpu, BUG_FRAME_DOUBLE_FREE, frame, 0, m.page.mapcount[frame])
    write_once(m.page.generation, frame, m.page.generation[frame] + 1)  # a stale translation may be looking
    write_once(m.page.mapping, frame, 0)
    if DEBUG and m.page_memcg[frame] != 0:
        uncharge_page(m, frame)
    return True


@kernel_inline
def put_page(m, cpu, frame):
    """Drop a user of a frame; the last one frees it."""
    if put_page_testzero(m, cpu, frame):
        pcp_push(m, cpu, FRAMES, frame)


@kernel
def alloc_cached_table(m, cpu):
    """A table that the mm this CPU runs has kept, else one of the zone, else one that another has kept, or 0.

    Locking: as alloc_slowpath.
    """
    table = pop_cached(m, cpu, m.cpu.mm[cpu]) if m.cpu.mm[cpu] >= 0 else 0
    if table == 0:
        table = alloc_zone_table(m, cpu)
    if table == 0:
        table = pop_any_cached(m, cpu)
    if detecting(m) and or_words(m.entry, table * PTRS_PER_TABLE, PTRS_PER_TABLE) != 0:
        BUG(m, cpu, BUG_NOT_EMPTY, table, 0, or_words(m.entry, table * PTRS_PER_TABLE, PTRS_PER_TABLE))
    return table


@kernel_inline
def alloc_zone_table(m, cpu):
    """A zeroed table of the zone, or 0. Locking: as alloc_slowpath."""
    table = pcp_pop(m, cpu, TABLES)
    if not BODIES_APART and table != 0 and m.ptdesc.generation[table] != 0:  # never used memory is zero already
        memset(m.entry, table * PTRS_PER_TABLE, PTRS_PER_TABLE, 0)
    return table


@kernel
def alloc_table(m, cpu, level):
    """A zeroed page-table page, private to the caller, or 0. Locking: as alloc_slowpath."""
    if COUNTS_VISITORS and m.config.table_cache[0] != 0:
        table = alloc_cached_table(m, cpu)
    else:
        table = alloc_zone_table(m, cpu)
    if table == 0:
        return 0
    if level == 1 and m.ptdesc.generation[table] != 0:
        m.cpu.tables_reused[cpu] += 1
    m.ptdesc.level[table] = level
    if COUNTS_ENTRIES or COUNTS_DELTAS:
        m.ptnote.nr_entries[table] = m.ptnote.policy_word[table] = 0
    if DEBUG:
        m.ptnote.ptl_dead[table] = 0
    mark_life(m, cpu, m.life.allocated, table)
    smp_store_release(m.ptdesc.state, table, TABLE_ALLOCATED)
    return table


@kernel_inline
def reuse_bucket(nanoseconds):
    """The bucket of a time: itself below 16, else eight for each power of two."""
    bucket = 0
    while nanoseconds >= 16:
        nanoseconds >>= 1
        bucket += 8
    return min(bucket + nanoseconds, REUSE_BUCKETS - 1)


@kernel
def account_reuse(m, cpu, table):
    """Enter the time since a table was unhooked into the histogram."""
    bucket = reuse_bucket(now_ns(m, cpu) - m.ptnote.unhooked_ns[table])
    m.reuse_histogram.count[cpu * REUSE_BUCKETS + bucket] += 1
    m.ptnote.unhooked_ns[table] = 0


@kernel
def poison_table(m, cpu, table):
    """Mark a table free and overwrite it: a walk through a stale pointer finds no translation. It is on no list yet."""
    if m.ptdesc.state[table] == TABLE_FREE:
        BUG(m, cpu, BUG_DOUBLE_FREE, table, m.ptdesc.generation[table], TABLE_FREE)
    if BODIES_APART:
        drop_body(m, table)
    else:
        memset(m.entry, table * PTRS_PER_TABLE, PTRS_PER_TABLE, POISON)
    write_once(m.ptdesc.pte_refcount, table, POISON_COUNT)
    m.ptdesc.generation[table] += 1
    write_once(m.ptdesc.state, table, TABLE_FREE)  # a stale walk may be looking
    if m.ptnote.unhooked_ns[table] != 0:
        account_reuse(m, cpu, table)
    if DEBUG:
        write_once(m.ptnote.ptl_dead, table, 1)

    mark_life(m, cpu, m.life.freed, table)
    point_noirq(m, cpu, TABLE_FREED, table, m.ptdesc.generation[table])


@kernel
def free_table(m, cpu, table):
    """Give a page-table page back to this CPU's list. Nobody may be able to reach it any more."""
    poison_table(m, cpu, table)
    pcp_push(m, cpu, TABLES, table)
