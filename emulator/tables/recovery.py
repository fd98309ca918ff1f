"""What a new coordinator finds when the last one died, at whatever step: it makes everything whole and goes on.

A coordinator keeps nothing that matters to itself. What it has taken, what it has freed and which CPUs it has
interrupted can be read from memory:

    died                                 is found                            and then
    ====                                 ========                            ========
    serving a flush, IPIs sent or not    flush_state REQUESTED;              waits for the answers to what was sent;
                                         ipi_request != ipi_ack              serves the request from the start
    after flush_state = DONE             nothing: the caller's sleep ends    -
    taking callbacks: cb_taken[cpu]      cb_taken[cpu] on the list of        drops the note; takes again
      is noted, then the list taken        cb_head[cpu], or not              keeps it: it is taken
      (taking is 1 all the while)        gp_seq == gp_completed              begins the grace period
    in the grace period                  gp_seq != gp_completed, taking      clears taking; a barrier; waits on
    poisoning a table                    it is on the list, LIMBO or FREE    poisons all of the list once more
    handing one to the zone              the zone lock its own; the table    takes it off the list if it is the
                                         the zone's last, or not             zone's last; unlocks; hands over the rest
    before gp_completed = gp_seq         no list, gp_seq ahead               ends the grace period
    asleep, or looking for work          asleep                              clears it; looks for work

Serving a flush twice is harmless: a CPU that gets a range of a generation it has seen flushes everything. But a range
must not be written over one that is being read: the mixture would be taken for the next generation. Poisoning twice
counts a generation too many, and a grace period may be in the statistics twice. Neither is looked at for more than a
difference. The coordinator takes no lock but the zone's.
"""

from emulator.atomic import kernel, read_once, smp_mb, smp_store_release, write_once
from emulator.bug import waits_for
from emulator.cpu.flush import wait_for_ack
from emulator.locking.spinlock import ZONE_LOCK, spin_unlock
from emulator.mm_types import TABLES
from emulator.pgtable_types import TABLE_LIMBO
from emulator.watch.waits import Wait

NOTHING = int(Wait.NOTHING)


@kernel
def finish_handing_over(m, me):
    """The last coordinator died with the zone lock: a table that is in the zone already leaves its list.

    Locking: releases the zone lock.
    """
    count = m.zone.count[TABLES]
    last = m.zone_slot[m.zone.slots[TABLES] + count - 1] if count != 0 else 0
    for cpu in range(m.config.n_cpu[0]):
        if last != 0 and m.cpu.cb_taken[cpu] == last:
            smp_store_release(m.cpu.cb_taken, cpu, m.ptdesc.next[last])
    spin_unlock(m, me, m.zone.lock, TABLES, ZONE_LOCK)


@kernel
def drop_notes(m):
    """Forget callbacks that were noted and not taken: they are on their CPU's list still, perhaps behind newer ones."""
    for cpu in range(m.config.n_cpu[0]):
        if m.cpu.cb_taken[cpu] == 0:
            continue
        table = read_once(m.cpu.cb_head, cpu)
        while table != 0 and table != m.cpu.cb_taken[cpu]:
            table = m.ptdesc.next[table]
        if table != 0:
            write_once(m.cpu.cb_taken, cpu, 0)


@kernel
def poison_again(m):
    """Have all tables of the grace period under way poisoned, those included that were."""
    for cpu in range(m.config.n_cpu[0]):
        table = m.cpu.cb_taken[cpu]
        while table != 0:
            smp_store_release(m.ptdesc.state, table, TABLE_LIMBO)  # as in call_rcu
            table = m.ptdesc.next[table]


@kernel
def rcu_recover(m, me):
    """Clear up behind a coordinator that died; nothing to do if the last one did not, or there was none.

    Locking: releases what the last coordinator held.
    """
    waits_for(m, me, NOTHING, 0)
    if read_once(m.zone.lock, TABLES) == me + 1:
        finish_handing_over(m, me)
    m.cpu.held_classes[me] = 0
    for target in range(m.config.n_cpu[0]):
        if m.cpu.ipi_request[target] != 0:
            wait_for_ack(m, me, target)
    if m.rcu.asleep[0] != 0:
        write_once(m.rcu.asleep, 0, 0)
    if m.rcu.gp_seq[0] == m.rcu.gp_completed[0]:
        drop_notes(m)
    else:
        poison_again(m)
        smp_mb()  # gp_seq before the look at the CPUs, as in grace_period_agent
        write_once(m.rcu.taking, 0, 0)
