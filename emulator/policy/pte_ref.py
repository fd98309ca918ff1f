"""The seam of all policies: what walkers, faults and zaps say about a PTE table, and what the policy answers.

Every path says the same, whatever the policy; a policy's answers are in its own file. What happens:

    visitor    pte_try_get, pte_put         comes to the table at a pmd, and leaves
               pte_put_many, .._tlb         leaves, with references of entries that became none
               pte_lock, pte_unlock         takes its ptl; pte_lock may say no: the table has gone
               pte_peek                     looks at an entry without the ptl; an entry of a table that has gone is none
    rmap       rmap_walk_begins, .._ends    comes to tables by a page, under the lock of its rmap, and is done with them
    entries    entry_changed                n entries went from old to new, under ptl
               entry_filled                 a fault has set one: may its reference be the entry's?
               pte_put_entries_tlb          references of n entries that became none, after the ptl
    zap        pte_zap_begins               covered?
               pte_zapped, zap_ended        under the ptl, and after it: covered? skipped? let go of the ptl?
    life       pte_table_init               a table is about to be installed
               pte_table_emptied            its pages have become a huge page's
               pte_table_goes               teardown, retract or a zap of a huge page takes it out
    time       policy_tick                  a CPU is about to execute the next instruction: it returns to user mode
               policy_pressure              memory is short
               policy_demand                somebody asks: free_ptes
               policy_exit                  an mm has exited
    CPU        policy_boundary              a CPU is in no table
               policy_away, policy_back     and will be in none for long
    agent      policy_agent, .._wanted      a turn in the coordinator

    pin            pte_try_get              pte_lock                      an empty table goes
    ===            ===========              ========                      ===================
    none           reads the pmd            always                        at munmap and exit
    counted        inc-not-zero             always: it is pinned          at the last put
    hashed         counts, under a lock     always: it is pinned          at the last put, if it has no entry
    percpu         counts on its CPU        always: it is pinned          at the end of a zap, or a visitor meets zero
    RCU            reads the pmd            if the pmd names it still     when its policy finds it
    wired          counts the visitor       always: it is pinned          at the end of a zap
    deltas         revives, counts          always: it is pinned          at a review, by the agent

`pin` and `reclaim` are words of `config` (policies.py); nothing outside of policy/ asks for them.
"""

from emulator.atomic import (
    COUNTS_DELTAS,
    COUNTS_ENTRIES,
    COUNTS_PERCPU,
    COUNTS_VISITORS,
    DEBUG,
    FREES_UPPER,
    LOCKS_MM,
    MARKS_STRAY,
    TRANSFERS,
    WIRES,
    data_race,
    kernel_inline,
    read_once,
    write_once,
)
from emulator.cpu.interrupts import point
from emulator.pgtable import pmd_pgtable
from emulator.policy.async_scan import scan_now, scan_tick
from emulator.policy.corten import (
    free_covered,
    unhook_covered,
    unlock_eager,
    unlock_pair_eager,
)
from emulator.policy.counted import (
    free_counted_tlb,
    pte_get_many,
    pte_put_last,
    pte_ref_init,
    pte_try_get_locked,
    pte_try_get_rcu,
)
from emulator.policy.htable import htable_lookup, htable_reap, htable_reap_all, htable_release
from emulator.policy.mm_locked import pte_lock_mm, pte_lock_pair_mm, pte_peek_mm, pte_unlock_mm, pte_unlock_pair_mm
from emulator.policy.percpu_ref import (
    percpu_entries,
    percpu_init,
    percpu_put,
    percpu_put_tlb,
    percpu_zapped,
    pte_try_get_percpu,
)
from emulator.policy.pins import note_pin
from emulator.policy.plain_count import count_entries, init_entries
from emulator.policy.policies import (
    COUNTED,
    DELTAS,
    EAGER,
    ENTRIES,
    GOES_ALREADY,
    GOES_LATER,
    GOES_NOW,
    LOOKS_AGAIN,
    MM_LOCKED,
    PERCPU,
    PIN_COUNT_RCU,
    RECLAIM_NONE,
    STRAY,
    TRANSFER,
    VISITORS,
    WIRED,
)
from emulator.policy.pt_reclaim import reclaim_locked, reclaim_unlocked
from emulator.policy.ptlock import lock_table, lock_tables, unlock_table, unlock_tables
from emulator.policy.rcu_readers import pte_lock_pair_rcu, pte_lock_rcu, pte_peek_rcu
from emulator.policy.refcache import (
    add_delta,
    begin_counting,
    between_instructions,
    come_back,
    go_away,
    make_orphan,
    pte_try_get_weak,
    review_agent,
    reviews_wanted,
)
from emulator.policy.two_counter import free_ptes
from emulator.policy.upper import upper_tick
from emulator.policy.xnu_ptd import enter_walk, in_walk, leave_and_free, leave_walk, pte_try_get_wired, unwire
from emulator.tables.unhook import free_pte_table
from emulator.watch.lockdep import assert_gather_open, assert_ptl_held, might_sleep, mmap_assert_write_locked
from emulator.watch.pass_point import mark_life
from emulator.watch.points import point_number

PINNED = point_number("pte_try_get.pinned")


@kernel_inline
def pte_try_get(m, cpu, pmd):
    """Come to the table at `pmd`: its number, or 0 if there is none, it is dying, or the pmd is a leaf.

    Locking: returns with one reference where tables are counted. Source: patch 6; patch 5 did it under pmd_lock.
    """
    pin = m.config.pin[0]
    if COUNTS_VISITORS and pin & VISITORS:
        table = htable_lookup(m, cpu, pmd)
    elif COUNTS_PERCPU and pin & PERCPU:
        table = pte_try_get_percpu(m, cpu, pmd)
    elif WIRES and pin & WIRED:
        table = pte_try_get_wired(m, cpu, pmd)
    elif COUNTS_DELTAS and pin & DELTAS:
        table = pte_try_get_weak(m, cpu, pmd)
    elif pin & COUNTED == 0:
        table = pmd_pgtable(read_once(m.entry, pmd))
    elif pin & PIN_COUNT_RCU == PIN_COUNT_RCU:
        table = pte_try_get_rcu(m, cpu, pmd)
    else:
        table = pte_try_get_locked(m, cpu, pmd)
    if DEBUG and table != 0:
        mark_life(m, cpu, m.life.get, table)
        point(m, cpu, PINNED, table, data_race(m.ptdesc.pte_refcount, table))
        if not (pin & WIRED and in_walk(m, cpu)):
            note_pin(m, cpu, pmd, table)
    return table


@kernel_inline
def pte_lock(m, cpu, pmd, table):
    """Take the ptl of the table that was found at `pmd`; False, with nothing held, if the table has gone.

    Locking: caller must have come by pte_try_get and not left.
    """
    if m.config.pin[0] & LOOKS_AGAIN:
        if LOCKS_MM and m.config.pin[0] & MM_LOCKED:
            return pte_lock_mm(m, cpu, pmd, table)
        return pte_lock_rcu(m, cpu, pmd, table)
    if WIRES and m.config.pin[0] & WIRED and in_walk(m, cpu):
        return pte_lock_rcu(m, cpu, pmd, table)
    lock_table(m, cpu, table)
    return True


@kernel_inline
def pte_unlock(m, cpu, table):
    """Release the ptl of a PTE table. Locking: caller must hold it."""
    if LOCKS_MM and m.config.pin[0] & MM_LOCKED:
        pte_unlock_mm(m, cpu, table)
    elif MARKS_STRAY and m.config.pin[0] & EAGER:
        unlock_eager(m, cpu, table)
    else:
        unlock_table(m, cpu, table)


@kernel_inline
def pte_lock_pair(m, cpu, pmd, table, other_pmd, other):
    """pte_lock of two tables, which may be one: both, or False with nothing held."""
    if m.config.pin[0] & LOOKS_AGAIN:
        if LOCKS_MM and m.config.pin[0] & MM_LOCKED:
            return pte_lock_pair_mm(m, cpu, pmd, table, other_pmd, other)
        return pte_lock_pair_rcu(m, cpu, pmd, table, other_pmd, other)
    lock_tables(m, cpu, table, other)
    return True


@kernel_inline
def pte_unlock_pair(m, cpu, table, other):
    """Release the ptls of two PTE tables. Locking: caller must hold them."""
    if LOCKS_MM and m.config.pin[0] & MM_LOCKED:
        pte_unlock_pair_mm(m, cpu, table, other)
    elif MARKS_STRAY and m.config.pin[0] & EAGER:
        unlock_pair_eager(m, cpu, table, other)
    else:
        unlock_tables(m, cpu, table, other)


@kernel_inline
def pte_peek(m, cpu, pmd, table, pte):
    """The entry at `pte`, in the table that was found at `pmd`, without its ptl: none if the table has gone.

    Locking: as pte_lock. What it says may be over at once.
    """
    if m.config.pin[0] & LOOKS_AGAIN:
        if LOCKS_MM and m.config.pin[0] & MM_LOCKED:
            return pte_peek_mm(m, cpu, pmd, table, pte)
        return pte_peek_rcu(m, cpu, pmd, table, pte)
    return read_once(m.entry, pte)


@kernel_inline
def walkers_look_again(m):
    """True if an empty table may be unhooked under its pmd_lock and ptl alone: every walker looks at the pmd again."""
    return m.config.pin[0] & LOOKS_AGAIN != 0


@kernel_inline
def zap_only_clears(m):
    """True if the policy asks of no zap what it has found: where there is no entry it has nothing to do."""
    return m.config.pin[0] | m.config.reclaim[0] == 0


@kernel_inline
def entry_changed(m, cpu, pmd, table, old, new, n):
    """n entries of the table at `pmd` went from `old` to `new`. References of those that became none are put after the
    ptl. What is said of many at once is one that stands for them (SOME_PTE).

    Locking: caller must hold the ptl, and a reference where tables are counted.
    """
    pin = m.config.pin[0]
    if COUNTS_ENTRIES and pin & ENTRIES:
        count_entries(m, cpu, table, old, new, n)
    elif COUNTS_PERCPU and pin & PERCPU:
        percpu_entries(m, cpu, table, n * ((new != 0) - (old != 0)))
    elif COUNTS_DELTAS and pin & DELTAS:
        if old == 0 and new != 0 and n != 0:
            add_delta(m, cpu, table, n)
    elif old == 0 and new != 0 and pin & COUNTED:
        pte_get_many(m, cpu, pmd, n)


@kernel_inline
def entry_filled(m, cpu, pmd, table, new):
    """A fault has made `new` of an entry that was none. True if the fault's reference is the entry's from here on, and
    the fault has none to put.

    The table may go as soon as ptl is dropped, so the fault must not look at it again. Locking: as entry_changed.
    """
    if TRANSFERS and m.config.pin[0] & TRANSFER:
        return True
    entry_changed(m, cpu, pmd, table, 0, new, 1)
    return False


@kernel_inline
def pte_table_init(m, table, visitors, n, entry):
    """A table is about to be installed, or deposited, with so many visitors, and n entries of the kind of `entry`.

    Locking: the table must be private still.
    """
    if COUNTS_DELTAS and m.config.pin[0] & DELTAS:
        begin_counting(m, table, visitors + n)
        return
    pte_ref_init(m, table, visitors if COUNTS_VISITORS and m.config.pin[0] & VISITORS else visitors + n)
    if COUNTS_PERCPU and m.config.pin[0] & PERCPU:
        percpu_init(m, table, visitors + n)
    if WIRES and m.config.pin[0] & WIRED:
        write_once(m.ptnote.policy_word, table, visitors)
    if COUNTS_ENTRIES and m.config.pin[0] & ENTRIES:
        init_entries(m, table, n, entry)


@kernel_inline
def pte_put_many(m, cpu, mm, pmd, addr, n):
    """Leave the table at `pmd`, and put n - 1 references of entries that became none; the last one frees it.

    Locking: caller must hold the references and no ptl.
    """
    if WIRES and m.config.pin[0] & WIRED:
        unwire(m, cpu, pmd)
    elif COUNTS_DELTAS and m.config.pin[0] & DELTAS:
        add_delta(m, cpu, pmd_pgtable(read_once(m.entry, pmd)), -n)
    elif m.config.pin[0] & COUNTED:
        table = pte_put_last(m, cpu, pmd, n)
        if table != 0:
            free_pte_table(m, cpu, mm, pmd, table, addr)
    elif COUNTS_VISITORS and m.config.pin[0] & VISITORS:
        htable_release(m, cpu, mm, pmd, addr)
    elif COUNTS_PERCPU and m.config.pin[0] & PERCPU:
        percpu_put(m, cpu, pmd)


@kernel_inline
def pte_put(m, cpu, mm, pmd, addr):
    """Leave the table at `pmd`; the last one frees it. Locking: as pte_put_many."""
    pte_put_many(m, cpu, mm, pmd, addr, 1)


@kernel_inline
def pte_put_many_tlb(m, cpu, mm, pmd, addr, n):
    """pte_put_many, and the table is freed through this CPU's gather. Locking: as pte_put_many."""
    if WIRES and m.config.pin[0] & WIRED:
        leave_and_free(m, cpu, mm, pmd)
    elif COUNTS_DELTAS and m.config.pin[0] & DELTAS:
        add_delta(m, cpu, pmd_pgtable(read_once(m.entry, pmd)), -n)
    elif m.config.pin[0] & COUNTED:
        table = pte_put_last(m, cpu, pmd, n)
        if table != 0:
            free_counted_tlb(m, cpu, mm, pmd, table, addr)
    elif COUNTS_VISITORS and m.config.pin[0] & VISITORS:
        htable_release(m, cpu, mm, pmd, addr)
    elif COUNTS_PERCPU and m.config.pin[0] & PERCPU:
        percpu_put_tlb(m, cpu, pmd)


@kernel_inline
def pte_put_entries_tlb(m, cpu, mm, pmd, addr, n):
    """Put n references of entries that became none, and stay a visitor. Locking: as pte_put_many."""
    if m.config.pin[0] & (COUNTED | DELTAS):
        pte_put_many_tlb(m, cpu, mm, pmd, addr, n)


@kernel_inline
def rmap_walk_begins(m, cpu):
    """This CPU comes to tables by a page that they map. Locking: caller must hold the rmap lock of that page."""
    if WIRES and m.config.pin[0] & WIRED:
        enter_walk(m, cpu)


@kernel_inline
def rmap_walk_ends(m, cpu):
    """It is done with all of them. Locking: as rmap_walk_begins."""
    if WIRES and m.config.pin[0] & WIRED:
        leave_walk(m, cpu)


@kernel_inline
def pte_zap_begins(m, cpu, pmd, table, details, length):
    """A zap of `length` bytes of the table begins: True if the policy has cleared the pmd already, for zap_ended.

    The ptl of such a table may be taken, for nobody else can come to it. Locking: caller must hold no ptl.
    """
    return MARKS_STRAY and m.config.pin[0] & STRAY != 0 and unhook_covered(m, cpu, pmd, table, details, length)


@kernel_inline
def pte_zapped(m, cpu, pmd, table, details, length, skipped, dropped):
    """A zap of `length` bytes of the table is at its end: True if the policy has cleared the pmd, for zap_ended.

    `skipped`: an entry had to stay; `dropped`: the ptl was let go in between. Locking: caller must hold the ptl.
    """
    assert_ptl_held(m, cpu, table)
    return m.config.reclaim[0] != RECLAIM_NONE and reclaim_locked(m, cpu, pmd, table, details, length, skipped, dropped)


@kernel_inline
def zap_ended(m, cpu, mm, pmd, table, details, start, end, skipped, cleared_pmd):
    """A zap of [start, end) of the table has dropped the ptl, and `cleared_pmd` is what pte_zapped said.

    Locking: caller must hold no ptl, and an open gather.
    """
    assert_gather_open(m, cpu)
    if m.config.reclaim[0] != RECLAIM_NONE:
        reclaim_unlocked(m, cpu, mm, pmd, table, details, start, end, skipped, cleared_pmd)
    elif MARKS_STRAY and cleared_pmd:
        free_covered(m, cpu, mm, pmd, table, start)
    elif COUNTS_PERCPU and m.config.pin[0] & PERCPU:
        percpu_zapped(m, cpu, table, details)


@kernel_inline
def pte_table_emptied(m, cpu, table, n):
    """n entries of a table that nobody can reach were cleared: its pages are a huge page's now, and it is deposited."""
    if COUNTS_DELTAS and m.config.pin[0] & DELTAS:
        add_delta(m, cpu, table, -n)


@kernel_inline
def pte_table_goes(m, cpu, pmd, table):
    """A table without entries is taken out, whatever the policy says. GOES_NOW if the caller frees it then, GOES_LATER
    if the policy does, GOES_ALREADY if the policy has taken it out.

    Locking: caller must hold what keeps visitors away, and no spinlock.
    """
    might_sleep(m, cpu)
    if COUNTS_DELTAS and m.config.pin[0] & DELTAS:
        return GOES_LATER if make_orphan(m, cpu, pmd, table) else GOES_ALREADY
    return GOES_NOW


@kernel_inline
def policy_boundary(m, cpu):
    """This CPU is between two user accesses, in no table. Locking: caller must hold nothing."""
    if COUNTS_DELTAS and m.config.pin[0] & DELTAS:
        between_instructions(m, cpu)


@kernel_inline
def policy_away(m, cpu):
    """This CPU is in no table, and comes to none until policy_back. Locking: caller must hold nothing."""
    if COUNTS_DELTAS and m.config.pin[0] & DELTAS:
        go_away(m, cpu)


@kernel_inline
def policy_back(m, cpu):
    """This CPU comes back from policy_away."""
    if COUNTS_DELTAS and m.config.pin[0] & DELTAS:
        come_back(m, cpu)


@kernel_inline
def policy_agent(m, me):
    """The turn of the policy's agent in the coordinator: 0 nothing to do, 1 it waits for CPUs, 2 it has moved."""
    return review_agent(m, me) if COUNTS_DELTAS and m.config.pin[0] & DELTAS else 0


@kernel_inline
def policy_agent_wanted(m):
    """True if the policy's agent has something to do."""
    return COUNTS_DELTAS and m.config.pin[0] & DELTAS != 0 and reviews_wanted(m)


@kernel_inline
def policy_tick(m, cpu, mm):
    """This CPU returns to user mode. Locking: caller must hold nothing."""
    might_sleep(m, cpu)
    if m.config.scan_period[0] != 0:
        scan_tick(m, cpu, mm)
    if FREES_UPPER and m.config.upper[0] != 0:
        upper_tick(m, cpu, mm)


@kernel_inline
def policy_demand(m, cpu, mm):
    """Somebody has asked for what an mm could give back: free_ptes. Locking: caller must hold nothing."""
    if COUNTS_ENTRIES and m.config.demand[0] != 0:
        free_ptes(m, cpu, mm)


@kernel_inline
def policy_pressure(m, cpu, mm):
    """Memory is short: give back what is empty. Locking: caller must hold nothing."""
    might_sleep(m, cpu)
    policy_demand(m, cpu, mm)
    if m.config.scan_period[0] != 0:
        scan_now(m, cpu, mm)
    if COUNTS_VISITORS and m.config.table_cache[0] != 0:
        htable_reap_all(m, cpu)


@kernel_inline
def policy_exit(m, cpu, mm):
    """An mm has exited: nothing that the policy keeps for it may stay. Locking: mmap_lock is held for writing."""
    mmap_assert_write_locked(m, cpu, mm)
    if COUNTS_VISITORS and m.config.table_cache[0] != 0:
        htable_reap(m, cpu, mm)
