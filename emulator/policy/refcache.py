"""RadixVM's Refcache: each CPU counts for itself, and adds up once an epoch; what stays at zero for an epoch goes.

    CPU 0, zap                     CPU 1, fault                    the coordinator
    ==========                     ============                    ===============
    ways[T] -= entries             pmd: T; dying? revives it
                                   ways[T] += 1, for its entry
    sees epoch 7: adds up          sees epoch 7: adds up
      count of T: 0                  (T had been revived before:
      T under review till 9,          the count is 1 now)
      dying
    epoch is 7 for this CPU        epoch is 7 for this CPU         all have seen 7: epoch 8; all 8: epoch 9
                                                                   reviews T:
                                                                     count not 0: lets it be
                                                                     revived, or zero again meanwhile: till 11, dying
                                                                     else dying -> gone, if nobody was faster
                                                                     clears the pmd, flushes, grace period, free

References are entries and visitors, as in pte_ref v1; the pmd is a weak one. No fault writes a shared word: a way is a
table and a delta of this CPU. A zero that was seen may be none, for another CPU may hold back what it has added. So the
table is looked at again when each CPU has added up since. An epoch is over when each CPU has done so between two
instructions, where it is no visitor. A CPU that comes to a dying table revives it, and the review finds that. Teardown,
retract or a zap of a huge page may take a table out. Its review frees it all the same, for its deltas must come in.

A way that is needed for another table is added up at once. Its epoch may end before the table is seen to be dying. So
the table is reviewed an epoch later than one of an adding-up (7 + 3, not 7 + 2). An adding-up holds its epoch open
itself.

Adapted. sv6 has a dying mark in the pointer, a lock in the object and a list of reviews on each core. Here the mark is
in `policy_word` of the table, which RCU keeps for a CPU that looks at it. The count is atomic. The one list is the
coordinator's, linked by `nr_entries`. An epoch takes a turn of the coordinator (config.tick_us), there 10 ms, and none
begins while nobody has counted. A CPU at a barrier, or done, has added up and is not waited for; one that sleeps in the
kernel is. Flushing a delta of zero is left out: in sv6 it tells of a reference that went from core to core and was
never seen. Here none does so without a visitor, which revives (R-zero-delta).

Source: RadixVM, EuroSys 2013; include/refcache.hh and kernel/refcache.cc of sv6.
"""

from emulator.atomic import (
    atomic_add_return,
    cmpxchg,
    cpu_relax,
    kernel,
    kernel_inline,
    knob,
    read_once,
    sched_yield,
    smp_load_acquire,
    smp_mb,
    smp_store_release,
    write_once,
)
from emulator.bug import BUG, detecting, waits_for
from emulator.cpu.flush import flush_by_coordinator
from emulator.cpu.interrupts import coordinator_wake, take_interrupts
from emulator.pgtable import address_of, pmd_pgtable
from emulator.pgtable_types import PMD_SIZE, TABLE_ALLOCATED, TABLE_INSTALLED, TABLE_UNHOOKED
from emulator.policy.policies import WAYS
from emulator.tables.rcu import call_rcu_on, rcu_read_lock, rcu_read_unlock
from emulator.tables.unhook import check_empty, note_unhooked
from emulator.watch.bugs import Bug
from emulator.watch.pass_point import point_noirq
from emulator.watch.paths import path_number, took
from emulator.watch.points import point_number
from emulator.watch.waits import Wait

BUG_PMD_CHANGED = int(Bug.PMD_CHANGED_UNDER_PIN)
DYING_TABLE, NOTHING = int(Wait.DYING_TABLE), int(Wait.NOTHING)
REVIEWED = path_number("a review frees a table")
GONE_POINT = point_number("coordinator.refcache-gone")
# of a CPU's words; the coordinator's EPOCH is everybody's, and its REVIEWS the first table under review
EPOCH, USED, REVIEWS, FIRST_WAY = 0, 1, 8, 16
AWAY = -1  # as EPOCH: nothing is held back, and the CPU is not waited for
# policy_word: 0, or the epoch of the review, shifted, with these
DYING, DIRTY, ORPHAN, UNDER_REVIEW = 1, 2, 4, 8
REVIEW_SHIFT = 4
GONE = -1  # the review has won: the pmd is about to be cleared
KEEP, DROP, FREE = 0, 1, 2


@kernel_inline
def own_word(m, cpu, i):
    """Where a word of a CPU is."""
    return cpu * m.config.cpu_words[0] + i


@kernel_inline
def epoch_word(m):
    """Where the number of the epoch is."""
    return own_word(m, m.config.n_cpu[0], EPOCH)


@kernel_inline
def reviews_word(m):
    """Where the first table under review is, 0 if there is none."""
    return own_word(m, m.config.n_cpu[0], REVIEWS)


@kernel_inline
def review_at(epoch, flags):
    """The word of a table that is to be reviewed in an epoch."""
    return epoch << REVIEW_SHIFT | UNDER_REVIEW | flags


@kernel
def push_review(m, table):
    """Put a table on the list. Locking: it must not be there, and under review by the caller's hand."""
    while True:
        head = read_once(m.cpu_word, reviews_word(m))
        write_once(m.ptnote.nr_entries, table, head)
        if cmpxchg(m.cpu_word, reviews_word(m), head, table) == head:
            return


@kernel
def see_zero(m, table, epoch):
    """The count of a table was zero: have it reviewed in an epoch, dying; or once more, if it is under review."""
    while True:
        word = read_once(m.ptnote.policy_word, table)
        if word == GONE:
            return
        new = review_at(epoch, DYING) if word == 0 else word | DIRTY
        if cmpxchg(m.ptnote.policy_word, table, word, new) == word:
            break
    if word == 0:
        push_review(m, table)


@kernel
def settle(m, table, delta, epoch):
    """Add a delta to the count of a table, which is reviewed in `epoch` if that makes it zero."""
    if delta != 0 and atomic_add_return(m.ptdesc.pte_refcount, table, delta) == 0:
        see_zero(m, table, epoch - (1 if knob(m.config.review_early) else 0))


@kernel
def begin_using(m, cpu):
    """The first delta since the last adding-up: an epoch has to end some time."""
    write_once(m.cpu_word, own_word(m, cpu, USED), 1)
    smp_mb()  # pairs with the barrier in coordinator_loop
    if read_once(m.rcu.asleep, 0) == 2:
        coordinator_wake(m)


@kernel
def add_delta(m, cpu, table, n):
    """n more references of a table, or fewer, in this CPU's way for it."""
    if m.cpu_word[own_word(m, cpu, USED)] == 0:
        begin_using(m, cpu)
    way = own_word(m, cpu, FIRST_WAY + 2 * (table % WAYS))
    if m.cpu_word[way] != table:
        if m.cpu_word[way] != 0:
            settle(m, m.cpu_word[way], m.cpu_word[way + 1], read_once(m.cpu_word, epoch_word(m)) + 3)
        m.cpu_word[way] = table
        m.cpu_word[way + 1] = 0
    m.cpu_word[way + 1] += n


@kernel
def add_up(m, cpu, epoch):
    """Add all deltas of this CPU to the counts. Locking: caller must be no visitor; its epoch has not come yet."""
    for way in range(own_word(m, cpu, FIRST_WAY), own_word(m, cpu, FIRST_WAY + 2 * WAYS), 2):
        if m.cpu_word[way] != 0:
            settle(m, m.cpu_word[way], m.cpu_word[way + 1], epoch + 2)
            m.cpu_word[way] = m.cpu_word[way + 1] = 0
    write_once(m.cpu_word, own_word(m, cpu, USED), 0)


@kernel_inline
def between_instructions(m, cpu):
    """This CPU is no visitor: if an epoch has begun it adds up, and has seen it."""
    epoch = smp_load_acquire(m.cpu_word, epoch_word(m))
    if m.cpu_word[own_word(m, cpu, EPOCH)] != epoch:
        add_up(m, cpu, epoch)
        smp_store_release(m.cpu_word, own_word(m, cpu, EPOCH), epoch)


@kernel
def go_away(m, cpu):
    """This CPU adds up, and counts nothing until it returns. Locking: as add_up."""
    add_up(m, cpu, read_once(m.cpu_word, epoch_word(m)) + 1)  # it may end meanwhile, if this CPU has seen it
    smp_store_release(m.cpu_word, own_word(m, cpu, EPOCH), AWAY)


@kernel
def come_back(m, cpu):
    """This CPU counts again; it holds nothing back yet."""
    write_once(m.cpu_word, own_word(m, cpu, EPOCH), read_once(m.cpu_word, epoch_word(m)))
    smp_mb()  # before its first delta; pairs with the acquire in all_have_seen


@kernel
def begin_counting(m, table, references):
    """A table is about to be installed, or deposited, with so many references."""
    if m.ptdesc.state[table] == TABLE_ALLOCATED:
        write_once(m.ptdesc.pte_refcount, table, references)
    else:  # it was in use, and CPUs may hold some of its deltas back
        atomic_add_return(m.ptdesc.pte_refcount, table, references)


@kernel
def revive(m, table):
    """A visitor comes: a dying table is not any more. False if it has gone."""
    while True:
        word = read_once(m.ptnote.policy_word, table)
        if word == GONE:
            return False
        if word & DYING == 0 or cmpxchg(m.ptnote.policy_word, table, word, word & ~DYING) == word:
            return True


@kernel
def pte_try_get_weak(m, cpu, pmd):
    """pte_try_get by a weak reference."""
    rcu_read_lock(m, cpu)
    table = pmd_pgtable(read_once(m.entry, pmd))
    if table != 0 and not revive(m, table):
        table = 0
    if table != 0:
        add_delta(m, cpu, table, 1)
    rcu_read_unlock(m, cpu)
    return table


@kernel
def make_orphan(m, cpu, pmd, table):
    """A table is about to be taken out by the caller, and freed by its review. False if the review has taken it out.

    Locking: as pte_table_goes.
    """
    epoch = read_once(m.cpu_word, epoch_word(m)) + 3
    while True:
        word = read_once(m.ptnote.policy_word, table)
        if word == GONE:
            waits_for(m, cpu, DYING_TABLE, table)
            while read_once(m.ptnote.policy_word, table) == GONE and pmd_pgtable(read_once(m.entry, pmd)) == table:
                take_interrupts(m, cpu)
                cpu_relax()
                sched_yield()
            waits_for(m, cpu, NOTHING, 0)
            return False
        if cmpxchg(m.ptnote.policy_word, table, word, review_at(epoch, ORPHAN | DIRTY)) == word:
            break
    if word == 0:
        push_review(m, table)
    begin_using(m, cpu)
    return True


@kernel
def take_out(m, cpu, table):
    """Clear the pmd of a table that has gone, and flush. Locking: nobody else changes that pmd before it is cleared."""
    pmd, mm = m.ptdesc.pmd[table], m.ptdesc.mm[table] - 1
    addr = address_of(m, pmd)
    if detecting(m):
        check_empty(m, cpu, table)
    note_unhooked(m, cpu, mm, pmd, table)  # before the pmd: teardown looks there, and goes on
    took(m, cpu, REVIEWED)
    entry = read_once(m.entry, pmd)
    if pmd_pgtable(entry) != table or cmpxchg(m.entry, pmd, entry, 0) != entry:
        BUG(m, cpu, BUG_PMD_CHANGED, pmd, table, entry)
    flush_by_coordinator(m, cpu, mm, addr, addr + PMD_SIZE)


@kernel
def judge(m, me, table, epoch):
    """Review a table: KEEP it under review, DROP it, or FREE it, which is out and flushed then; and the word it had."""
    word = smp_load_acquire(m.ptnote.policy_word, table)
    if word == GONE:  # the last coordinator died over it
        if read_once(m.ptdesc.state, table) != TABLE_UNHOOKED:
            take_out(m, me, table)
        return FREE, word
    if word >> REVIEW_SHIFT > epoch:
        return KEEP, word
    state = smp_load_acquire(m.ptdesc.state, table)  # before the count, which a split raises first
    count = read_once(m.ptdesc.pte_refcount, table)
    if word & ORPHAN and count == 0 and word & DIRTY == 0:
        return FREE, word
    if word & ORPHAN == 0 and (count != 0 or state != TABLE_INSTALLED):
        return DROP, word
    dying = word & DYING or knob(m.config.revive_ignored)
    if word & (ORPHAN | DIRTY) or not dying:
        again = review_at(epoch + 2, ORPHAN if word & ORPHAN else DYING)
        cmpxchg(m.ptnote.policy_word, table, word, again)  # if it has changed, the next turn looks
        return KEEP, word
    if cmpxchg(m.ptnote.policy_word, table, word, GONE) != word:
        return KEEP, word
    point_noirq(m, me, GONE_POINT, table, word)
    take_out(m, me, table)
    return FREE, word


@kernel
def unlink_review(m, before, table):
    """Take a table off the list, with `before` in front of it, 0 if it was the first. Only the coordinator does."""
    following = m.ptnote.nr_entries[table]
    if before == 0:
        if cmpxchg(m.cpu_word, reviews_word(m), table, following) == table:
            return
        before = read_once(m.cpu_word, reviews_word(m))  # others were put in front meanwhile
        while m.ptnote.nr_entries[before] != table:
            before = m.ptnote.nr_entries[before]
    write_once(m.ptnote.nr_entries, before, following)


@kernel
def review(m, me, epoch):
    """Review all tables whose epoch has come."""
    before = 0
    table = read_once(m.cpu_word, reviews_word(m))
    while table != 0:
        following = m.ptnote.nr_entries[table]
        verdict, word = judge(m, me, table, epoch)
        if verdict == KEEP:
            before = table
        else:
            unlink_review(m, before, table)
            if verdict == FREE:
                call_rcu_on(m, me, 0, table)
            elif cmpxchg(m.ptnote.policy_word, table, word, 0) != word:
                push_review(m, table)  # it was seen at zero once more
        table = following


@kernel
def reviews_wanted(m):
    """True if a table is under review, or a CPU holds something back."""
    if read_once(m.cpu_word, reviews_word(m)) != 0:
        return True
    for cpu in range(m.config.n_cpu[0]):
        if read_once(m.cpu_word, own_word(m, cpu, USED)) != 0:
            return True
    return False


@kernel
def all_have_seen(m, epoch):
    """True once every CPU has added up in this epoch, or is away."""
    for cpu in range(m.config.n_cpu[0]):
        seen = smp_load_acquire(m.cpu_word, own_word(m, cpu, EPOCH))
        if seen != epoch and seen != AWAY:
            return False
    return True


@kernel
def review_agent(m, me):
    """Move the epoch along without waiting. Returns 0 if there is nothing to do, 1 waiting for CPUs, 2 moved."""
    if not reviews_wanted(m):
        return 0
    epoch = m.cpu_word[epoch_word(m)]
    if not all_have_seen(m, epoch):
        return 1
    smp_store_release(m.cpu_word, epoch_word(m), epoch + 1)
    review(m, me, epoch + 1)
    return 2
