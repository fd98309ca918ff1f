"""Programs of plain and marked accesses, and the zoo's scenes, under the data-race detector. A module for in_engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
from litmus import fresh, run_all

from emulator.engines.access_log import COUNT_BIT, COUNT_MASK, TASK_BIT, WORD_MASK
from emulator.engines.explore import (
    Field,
    atomic_add,
    cmpxchg,
    cpu_relax,
    data_race,
    memset,
    read_once,
    smp_load_acquire,
    smp_mb,
    smp_mb__before_atomic,
    smp_store_release,
    smp_wmb,
    world,
    write_once,
    xchg,
)
from emulator.engines.race_detector import RaceDetector
from workers.explorer.search import Search
from workers.programs.scene import Scene

DATA, FLAG, OTHER, LOCK, WORDS = 0, 1, 2, 3, 8
Body = Callable[[Field], Any]


def publish(*behind: Callable[[Field], Any]) -> Body:
    """Write the data plainly, then do what is to publish it."""

    def body(words: Field) -> None:
        words[DATA] = 1
        for operation in behind:
            operation(words)

    return body


def consume(load: Callable[[Field, int], int]) -> Body:
    """Read the data plainly once the flag is seen."""

    def body(words: Field) -> None:
        if load(words, FLAG):
            words[DATA]

    return body


def store(write: Callable[[Field, int, int], Any], word: int = FLAG) -> Callable[[Field], Any]:
    """Set a word to 1 by this primitive."""
    return lambda words: write(words, word, 1)


def wmb(words: Field) -> None:
    """A write barrier."""
    smp_wmb()


def mb(words: Field) -> None:
    """A full barrier."""
    smp_mb()


def before_atomic(words: Field) -> None:
    """The barrier of an atomic that has none."""
    smp_mb__before_atomic()


def under_lock(words: Field) -> None:
    """Count the data under a spinlock."""
    while cmpxchg(words, LOCK, 0, 1) != 0:
        cpu_relax()
    words[DATA] += 1
    smp_store_release(words, LOCK, 0)


def pass_on(words: Field) -> None:
    """Hand on what the flag publishes."""
    if smp_load_acquire(words, FLAG):
        smp_store_release(words, OTHER, 1)


def consume_other(words: Field) -> None:
    """Read the data once it was handed on."""
    if smp_load_acquire(words, OTHER):
        words[DATA]


def count(words: Field) -> None:
    """Count the data without a lock."""
    words[DATA] += 1


# what it is -> its tasks, and whether two of their accesses race
PROGRAMS: dict[str, tuple[Sequence[Body], bool]] = {
    "published plainly": ((publish(store(Field.__setitem__)), consume(read_once)), True),
    "published by write_once": ((publish(store(write_once)), consume(read_once)), True),
    "published by write_once, acquired": ((publish(store(write_once)), consume(smp_load_acquire)), True),
    "published by release": ((publish(store(smp_store_release)), consume(smp_load_acquire)), False),
    "published by release, read_once by whoever looks": (
        (publish(store(smp_store_release)), consume(read_once)), False,
    ),
    "released, the flag is looked at plainly": ((publish(store(smp_store_release)), consume(Field.__getitem__)), True),
    "another word is released": (
        (publish(store(smp_store_release, OTHER), store(write_once)), consume(read_once)), True,
    ),
    "behind smp_wmb": ((publish(wmb, store(write_once)), consume(read_once)), False),
    "smp_wmb behind the store": ((publish(store(write_once), wmb), consume(read_once)), True),
    "behind smp_mb": ((publish(mb, store(write_once)), consume(read_once)), False),
    "published by xchg": ((publish(store(xchg)), consume(read_once)), False),
    "published by atomic_add": ((publish(store(atomic_add)), consume(read_once)), True),
    "atomic_add behind smp_mb__before_atomic": ((publish(before_atomic, store(atomic_add)), consume(read_once)), False),
    "handed on by a third task": ((publish(store(smp_store_release)), pass_on, consume_other), False),
    "handed on, but not published": ((publish(store(write_once)), pass_on, consume_other), True),
    "under a lock": ((under_lock, under_lock, under_lock), False),
    "one without the lock": ((under_lock, count), True),
    "data_race()": ((publish(), lambda words: data_race(words, DATA)), False),
    "data_race() of one does not cover another": ((publish(), lambda words: data_race(words, DATA), count), True),
    "a plain store and an atomic": ((publish(), lambda words: atomic_add(words, DATA, 1)), True),
    "a plain load and an atomic": ((lambda words: words[DATA], lambda words: xchg(words, DATA, 1)), True),
    "a plain load and a marked store": ((lambda words: words[DATA], lambda words: write_once(words, DATA, 1)), True),
    "a plain load and a marked load": ((lambda words: words[DATA], lambda words: read_once(words, DATA)), False),
    "two plain loads": ((lambda words: words[DATA], lambda words: words[DATA]), False),
    "two marked stores": ((lambda words: write_once(words, DATA, 1), lambda words: write_once(words, DATA, 2)), False),
    "two words": ((publish(), lambda words: words[OTHER]), False),
    "a word within a memset": ((lambda words: memset(words, DATA, WORDS, 0), lambda words: words[OTHER]), True),
}  # fmt: skip


def races_in(bodies: Sequence[Body]) -> tuple[int, int]:
    """Executions of a complete search, and how many of them have a data race."""
    words, detector = fresh(WORDS), RaceDetector(WORDS + 1, len(bodies))
    found: list[bool] = []

    def look() -> None:
        found.append(detector.find(np.array(world.log, np.int64)) is not None)

    run_all(Search(), lambda: [lambda body=body: body(words) for body in bodies], look)
    return len(found), sum(found)


def wrong() -> list[str]:
    """The programs that race in no execution though they should, or in some though they should not."""
    return [name for name, (bodies, races) in PROGRAMS.items() if (races_in(bodies)[1] > 0) != races]


def explored(name: str | Callable[[], Scene], bound: int, policy: str = "") -> str:
    """What a search of a race's scene, or another, comes to, every piece in place: what it finds, or its verdict."""
    from scenarios.zoo.race import load_race
    from workers.explorer.explored_machine import ExploredMachine
    from workers.explorer.hunt import Budget, search
    from workers.instruments import Instruments

    if isinstance(name, str):
        race = load_race(name)
        scene, settings, policy = race.scene, race.settings, policy or race.policy
    else:
        scene, settings, policy = name(), {}, "refcount"
    machine = ExploredMachine(scene, policy, Instruments(online=True, settings=settings), races=True)
    verdict = search(machine, lambda: Search(bound), Budget(60))
    return verdict.failure.what if verdict.failure else verdict.word


# small enough for all that one preemption can do
SMALL = ("publish-before-init", "count-late", "advanced-address", "missing-pte-put", "leaf-only-flush")


def scenes() -> dict[str, str]:
    """What the searches of all scenes come to: all with no preemption, small ones with one and under each policy."""
    from emulator.policy.policies import POLICIES
    from scenarios.zoo.race import RACES

    found = {name: explored(name, int(name in SMALL)) for name in RACES}
    found |= {f"{name}, {policy}": explored(name, 0, policy) for name in SMALL for policy in POLICIES}
    return found


def map_two_pages(m: Any, cpu: int) -> None:
    """Count pages under mmap_lock as mmap does, and nothing behind it that is a barrier."""
    from emulator.locking.mmap_lock import mmap_write_lock_only, mmap_write_unlock

    mmap_write_lock_only(m, cpu, 0)
    m.mm.total_vm[0] += 2
    mmap_write_unlock(m, cpu, 0)


def two_that_map() -> Scene:
    """Two CPUs that change what mmap_lock guards."""
    return Scene(bodies=lambda m: [partial(map_two_pages, m, cpu) for cpu in range(2)], cpus=2, coordinator=False)


# module whose releases become write_once -> a scene that needs them
TWINS = {
    "locking.mmap_lock": two_that_map,  # what is stored under mmap_lock, before it is released
    "pgtable": "publish-before-init",  # what a table holds, before the pmd that names it
    "cpu.idle": "missing-pte-put",  # user accesses, before a CPU is lazy
}


def twins() -> dict[str, str]:
    """What is found without the releases of one module at a time."""
    found = {}
    for name, scene in TWINS.items():
        module: Any = import_module(f"emulator.{name}")
        module.smp_store_release = write_once
        found[name] = explored(scene, 1)
        module.smp_store_release = smp_store_release
    return found


def stretches(*sizes: int) -> list[list[int]]:
    """What the log says of a memset of each size: task (0: its own), first word and number of words; [] if refused."""
    logged = []
    for size in sizes:
        words = fresh(max(sizes))
        world.log.clear()
        try:
            memset(words, 0, size, 1)
        except ValueError:
            logged.append([])
            continue
        (entry,) = world.log
        logged.append([(entry ^ world.tag) >> TASK_BIT, entry & WORD_MASK, (entry >> COUNT_BIT & COUNT_MASK) + 1])
    return logged


def everything() -> dict[str, Any]:
    """All of it in one process."""
    return {
        "programs": len(PROGRAMS),
        "wrong": wrong(),
        "scenes": scenes(),
        "twins": twins(),
        "stretches": stretches(1, 1024, 1025, 0),
    }
