"""The vocabulary in which every kernel touches shared memory: the Linux kernel memory model's, one line each.

A field is `m.view.field`; `i` its row. A plain `field[i]` is a plain access: only for words that no other CPU writes,
or under the lock that guards them.

    read_once(field, i) -> value                a load that happens once, where it stands
    write_once(field, i, value)                 a store that happens once, where it stands
    smp_load_acquire(field, i) -> value         ... and nothing after it moves before it
    smp_store_release(field, i, value)          ... and nothing before it moves after it
    atomic_add(field, i, n)                     an indivisible addition; no barrier
    atomic_fetch_add(field, i, n) -> before     read-modify-writes: indivisible, and full barriers
    atomic_add_return(field, i, n) -> after
    xchg(field, i, new) -> before
    cmpxchg(field, i, old, new) -> before       stored if the value before equals `old`
    smp_mb()  smp_rmb()  smp_wmb()              barriers
    smp_mb__before_atomic()                     full barriers beside an atomic that has none: atomic_add
    smp_mb__after_atomic()
    data_race(field, i) -> value                a plain load that may race; the caller can do with any value
    memset(field, i, n, value)                  plain stores to field[i] .. field[i + n - 1]
    or_words(field, i, n) -> value              plain loads of the same, or-ed together
    cpu_relax()                                 in every turn of a spin loop
    sched_yield()                               offer the processor to somebody else
    sleep_on(m, cpu, field, i, value, us)       sleep while field[i] == value, at most `us` microseconds (0: no limit)
    wake_all(m, field, i)                       wake all that sleep on field[i]; write the field first
    now_ns(m, cpu) -> nanoseconds               the clock
    get_cycles(m, cpu) -> cycles                a clock that costs nothing, the same on all CPUs, in a unit of its own
    raise_signal(number)                        send this process a signal

The bodies are the engine's: LLVM instructions, semaphores, or scheduling points.
"""

from emulator import engine

_primitives = engine.load()
EXPLORES = _primitives.EXPLORES  # the explorer watches every access itself: no points, no trace, no lives
DEBUG = engine.debug()  # the debug build: a constant, so the plain build holds nothing of what stands behind it
COUNTS_ENTRIES = engine.compiles("entries")  # families of policies (policies.py): constants, as DEBUG is
LOCKS_MM = engine.compiles("mm-lock")
MARKS_STRAY = engine.compiles("stray")
COUNTS_VISITORS = engine.compiles("visitors")
COUNTS_PERCPU = engine.compiles("percpu")
FREES_UPPER = LOCKS_MM or COUNTS_VISITORS
WIRES = engine.compiles("wired")
COUNTS_DELTAS = engine.compiles("deltas")
TRANSFERS = engine.compiles("transfer")
BODIES_APART = engine.compiles(engine.BODIES)
POINTS_PASS = DEBUG and not EXPLORES  # real processes tell where they are by the points they pass

read_once = _primitives.read_once
write_once = _primitives.write_once
smp_load_acquire = _primitives.smp_load_acquire
smp_store_release = _primitives.smp_store_release
atomic_add = _primitives.atomic_add
atomic_fetch_add = _primitives.atomic_fetch_add
atomic_add_return = _primitives.atomic_add_return
xchg = _primitives.xchg
cmpxchg = _primitives.cmpxchg
smp_mb = _primitives.smp_mb
smp_rmb = _primitives.smp_rmb
smp_wmb = _primitives.smp_wmb
smp_mb__before_atomic = _primitives.smp_mb__before_atomic
smp_mb__after_atomic = _primitives.smp_mb__after_atomic
data_race = _primitives.data_race
memset = _primitives.memset
or_words = _primitives.or_words
cpu_relax = _primitives.cpu_relax
sched_yield = _primitives.sched_yield
sleep_on = _primitives.sleep_on
wake_all = _primitives.wake_all
now_ns = _primitives.now_ns
get_cycles = _primitives.get_cycles
raise_signal = _primitives.raise_signal

kernel = _primitives.kernel
kernel_inline = _primitives.kernel_inline
entry_point = _primitives.entry_point


@kernel_inline
def knob(field):
    """True if the knob (a field of m.config) is on: its piece of the protocol is left out. Debug build only."""
    return DEBUG and field[0] != 0


@kernel_inline
def atomic_inc_not_zero(field, i):
    """Add 1 unless the value is 0; True if added. Zero is absorbing: it can never be counted up again."""
    value = read_once(field, i)
    while value != 0:
        seen = cmpxchg(field, i, value, value + 1)
        if seen == value:
            return True
        value = seen
    return False
