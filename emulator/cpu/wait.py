"""One way to sleep and wake: a word that counts wake-ups, and beside it one that counts those asleep on it.

No waiter misses that it may look again, by the store-buffer (Dekker) pattern twice:

    CPU that waits                          CPU that wakes (wake_up)
    ==============                          ========================
    seen = seq  (acquire)                   changes what is waited for
    looks: it has to wait                   full barrier
    wait_on:                                seq += 1
      sleepers += 1                         full barrier
      full barrier                          sleepers != 0?  wake all
      seq still seen?  sleep

The waiter looked before the change, and read seq before that: seen is the old number. Then either wake_up sees the
sleeper and wakes it, or the sleeper sees the new seq and does not sleep. sleep_on compares once more as it sleeps.
Each barrier stands beside an addition that is none (atomic_add): without the one in wake_up the addition may reach
memory after the look at sleepers.

Source: include/linux/wait.h; set_current_state and wake_up_process have the same two barriers.
"""

from emulator.atomic import (
    EXPLORES,
    atomic_add,
    kernel,
    read_once,
    sleep_on,
    smp_mb__after_atomic,
    smp_mb__before_atomic,
    wake_all,
)

NAP_US = 2000  # longest sleep before a waiter looks again: its waker may have died


@kernel
def wait_on_timeout(m, cpu, seq, sleepers, i, seen, longest):
    """Sleep until wake_up of seq[i] if that is still `seen`, at most `longest` microseconds (0: no limit).

    The caller looks again: it may return early. The explorer's timeouts never fire, so a lost wake-up is a deadlock
    there. Locking: a spinlock may be held by a CPU that waits for its flush, for Linux would spin there; by no other.
    """
    atomic_add(sleepers, i, 1)
    smp_mb__after_atomic()  # pairs with the second barrier in wake_up
    if read_once(seq, i) == seen:
        m.cpu.sleeps[cpu] += 1
        sleep_on(m, cpu, seq, i, seen, 0 if EXPLORES else longest)
    atomic_add(sleepers, i, -1)


@kernel
def wait_on(m, cpu, seq, sleepers, i, seen):
    """As wait_on_timeout, until NAP_US have passed."""
    wait_on_timeout(m, cpu, seq, sleepers, i, seen, NAP_US)


@kernel
def wake_up(m, seq, sleepers, i):
    """Let the waiters on seq[i] look again. Locking: what they wait for must be in place."""
    smp_mb__before_atomic()  # what they wait for comes first
    atomic_add(seq, i, 1)
    smp_mb__after_atomic()  # pairs with the barrier in wait_on_timeout
    if read_once(sleepers, i) != 0:
        wake_all(m, seq, i)
