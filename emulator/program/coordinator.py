"""The coordinator: one process, in which the agents take turns, and which sleeps when nobody needs it.

agent                    what it does
=====                    ============
flush agent              sends the IPIs of a flush that a CPU has handed over (flush.py)
policy's agent           what the policy leaves to it, if anything (pte_ref.py)
grace-period agent       ends grace periods, and frees what waited for them (rcu.py)
"""

from emulator.atomic import kernel, knob, read_once, sleep_on, smp_load_acquire, smp_mb, write_once
from emulator.cpu.flush import flush_agent
from emulator.policy.pte_ref import policy_agent, policy_agent_wanted
from emulator.tables.rcu import grace_period_agent, wanted
from emulator.tables.recovery import rcu_recover
from emulator.watch.pass_point import point_noirq
from emulator.watch.points import point_number

COORDINATOR_IDLE = point_number("coordinator.idle")
NOTHING_TO_DO_US = 100_000  # the sleep when nobody needs it; a waker cuts it short


@kernel
def all_finished(m):
    """True once every CPU's program has ended."""
    for cpu in range(m.config.n_cpu[0]):
        if smp_load_acquire(m.cpu.finished, cpu) == 0:
            return False
    return True


@kernel
def coordinator_loop(m, me):
    """All agents, until every CPU has finished and every callback has run. Asleep whenever nobody needs it.

    While tables wait for a grace period it looks again every config.tick_us, or at once for a CPU that is out of
    memory. Flush requests wake it. If the last coordinator died, this one begins by clearing up behind it.
    """
    rcu_recover(m, me)
    while True:
        wake = read_once(m.rcu.wake, 0)
        finished = all_finished(m)
        served = flush_agent(m, me)
        state = max(policy_agent(m, me), grace_period_agent(m, me))
        if served != 0 or (state == 2 and (finished or read_once(m.rcu.hurry, 0) != 0)):
            continue
        if state == 0 and finished:
            return
        timeout = m.config.tick_us[0]
        if state == 0:
            timeout = NOTHING_TO_DO_US
        elif finished or read_once(m.rcu.hurry, 0) != 0:
            timeout = 50
        point_noirq(m, me, COORDINATOR_IDLE, state, wake)
        write_once(m.rcu.asleep, 0, 2 if state == 0 else 1)
        smp_mb()
        if knob(m.config.lost_wakeup) and state == 0:
            sleep_on(m, me, m.rcu.wake, 0, read_once(m.rcu.wake, 0), 0)
        elif read_once(m.rcu.wake, 0) == wake and (state != 0 or not (wanted(m) or policy_agent_wanted(m))):
            sleep_on(m, me, m.rcu.wake, 0, wake, timeout)
        write_once(m.rcu.asleep, 0, 0)
