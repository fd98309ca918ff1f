"""Engine `semaphore`: kernels are plain Python, primitives are numpy accesses guarded by POSIX named semaphores.

Nothing is compiled: the same protocol text, real processes, races at the granularity of one access, and a debugger
can single-step it. Every word belongs to one of 64 stripes; a stripe is a spinlock made of a semaphore (try-acquire a
few times, then block). Read-modify-writes and marked stores hold their word's stripe for one access, never for
longer, so stripes cannot deadlock. Plain reads and writes take none: one int64 of a memoryview is one move.

All semaphores are unlinked as soon as they are open; forked children inherit the mappings.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, TypeVar

import posix_ipc

from emulator.mm_types import VIEWS, WORD

NAME = "semaphore"
EXPLORES = False
_F = TypeVar("_F", bound=Callable[..., Any])
_STRIPES = 64
_TRIES = 20  # try-acquires before a stripe is waited for
_NAP = 0.002  # seconds asleep at most, so that a stop is seen soon
_barrier = threading.Lock()


class Field:
    """`m.view.field`: int64 elements of one field, and the semaphores of the stripes they belong to."""

    __slots__ = ("_locks", "_salt", "_words", "bells")

    def __init__(
        self, words: memoryview, salt: int, locks: list[posix_ipc.Semaphore], bells: list[posix_ipc.Semaphore]
    ):
        self._words = words
        self._salt = salt
        self._locks = locks
        self.bells = bells

    def __getitem__(self, i: int) -> int:
        return self._words[i]

    def __setitem__(self, i: int, value: int) -> None:
        self._words[i] = value

    def stripe(self, i: int) -> int:
        """Number of the stripe that guards element `i`."""
        return (self._salt + i) % _STRIPES

    def take(self, i: int) -> posix_ipc.Semaphore:
        """Acquire the stripe of element `i`; the caller releases it after one access."""
        lock = self._locks[(self._salt + i) % _STRIPES]
        for _ in range(_TRIES):
            try:
                lock.acquire(0)
                return lock
            except posix_ipc.BusyError:
                pass
        lock.acquire()
        return lock


def kernel(function: _F) -> _F:
    """Run it as it stands."""
    return function


kernel_inline = kernel
entry_point = kernel


def is_prepared() -> bool:
    """True: there is nothing to compile."""
    return True


def remark() -> str:
    """What a user should know of where compiled code is kept."""
    return ""


def prepare() -> None:
    """Nothing to do before the fork."""


def _semaphores(value: int) -> list[posix_ipc.Semaphore]:
    opened = []
    for number in range(_STRIPES):
        name = f"/ptelab-{os.getpid()}-{number}-{time.monotonic_ns()}"
        try:  # whatever comes in between, no name stays
            opened.append(posix_ipc.Semaphore(name, posix_ipc.O_CREX, mode=0o600, initial_value=value))
        finally:
            with contextlib.suppress(posix_ipc.ExistentialError):
                posix_ipc.unlink_semaphore(name)
    return opened


def attach(segment: Any) -> SimpleNamespace:
    """The `m` of a segment: a namespace of views, each a namespace of fields, with semaphores of its own."""
    locks, bells = _semaphores(1), _semaphores(0)
    m = SimpleNamespace(segment=segment)
    salt = 0
    for view, (layout, _) in VIEWS.items():
        fields = {}
        for field in layout.comments:
            fields[field] = Field(memoryview(segment.views[view][field]), salt, locks, bells)
            salt += 7
        setattr(m, view, fields["word"] if layout is WORD else SimpleNamespace(**fields))
    return m


# --- the primitives; atomic.py says what each means -----------------------------------------------------------------


def read_once(field: Field, i: int) -> int:
    """One load."""
    return field[i]


smp_load_acquire = read_once


def write_once(field: Field, i: int, value: int) -> None:
    """One store, ordered with the read-modify-writes of the same word."""
    lock = field.take(i)
    field[i] = value
    lock.release()


smp_store_release = write_once


def atomic_fetch_add(field: Field, i: int, n: int) -> int:
    """Add; the value before."""
    lock = field.take(i)
    old = field[i]
    field[i] = old + n
    lock.release()
    return old


def atomic_add(field: Field, i: int, n: int) -> None:
    """Add."""
    atomic_fetch_add(field, i, n)


def atomic_add_return(field: Field, i: int, n: int) -> int:
    """Add; the value after."""
    return atomic_fetch_add(field, i, n) + n


def xchg(field: Field, i: int, new: int) -> int:
    """Swap; the value before."""
    lock = field.take(i)
    old = field[i]
    field[i] = new
    lock.release()
    return old


def cmpxchg(field: Field, i: int, old: int, new: int) -> int:
    """Store `new` if it is `old`; the value before."""
    lock = field.take(i)
    seen = field[i]
    if seen == old:
        field[i] = new
    lock.release()
    return seen


def smp_mb() -> None:
    """Order everything: taking a lock is a locked instruction."""
    with _barrier:
        pass


smp_rmb = smp_wmb = smp_mb__before_atomic = smp_mb__after_atomic = smp_mb


def data_race(field: Field, i: int) -> int:
    """One plain load."""
    return field[i]


def memset(field: Field, i: int, n: int, value: int) -> None:
    """Plain stores to n elements."""
    for at in range(i, i + n):
        field[at] = value


def or_words(field: Field, i: int, n: int) -> int:
    """Plain loads of n elements, or-ed together."""
    words = 0
    for at in range(i, i + n):
        words |= field[at]
    return words


def cpu_relax() -> None:
    """One turn of a spin loop: at this engine's speed, a chance for the others."""
    os.sched_yield()


sched_yield = cpu_relax


def raise_signal(number: int) -> None:
    """Send this process a signal."""
    os.kill(os.getpid(), number)


def now_ns(m: Any, cpu: int) -> int:
    """Monotonic time in nanoseconds."""
    return time.monotonic_ns()


get_cycles = now_ns


def sleep_on(m: Any, cpu: int, field: Field, i: int, value: int, microseconds: int) -> None:
    """Sleep while field[i] == value, until wake_all or the timeout (0: none); may return early, and does."""
    stripe = field.stripe(i)
    atomic_fetch_add(m.waitq.sleepers, stripe, 1)
    if field[i] == value:
        with contextlib.suppress(posix_ipc.BusyError):
            field.bells[stripe].acquire(min(microseconds / 1e6, _NAP) or _NAP)
    atomic_fetch_add(m.waitq.sleepers, stripe, -1)


def wake_all(m: Any, field: Field, i: int) -> None:
    """Wake every process asleep on field[i]; others on the same stripe look again and go back to sleep."""
    stripe = field.stripe(i)
    for _ in range(read_once(m.waitq.sleepers, stripe)):
        field.bells[stripe].release()
