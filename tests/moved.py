"""A page that is moved away and back while it is migrated, in every order within a bound. A module for in_engine."""

from __future__ import annotations

from support import BASE, SLOT

from emulator.mm_types import PAGE_SIZE
from workers.explorer.explored_machine import ExploredMachine
from workers.explorer.hunt import Budget, portfolio, search
from workers.instruments import Instruments
from workers.programs.program import STOP, load, migrate, mmap, mremap_fixed, store
from workers.programs.scene import Scene

AWAY = BASE + SLOT
THERE_AND_BACK = Scene(
    setup=(mmap(BASE, PAGE_SIZE), store(BASE, 7), STOP),
    programs=(
        (
            mremap_fixed(BASE, PAGE_SIZE, AWAY),
            mmap(BASE, PAGE_SIZE),  # nobody needs any more what this CPU stored there
            mremap_fixed(AWAY, PAGE_SIZE, BASE),
            load(BASE),
            STOP,
        ),
        (migrate(BASE), STOP),
    ),
)


def found(executions: int) -> str:
    """What the first so many executions with one preemption come to: a verdict, or the detector that has fired."""
    machine = ExploredMachine(THERE_AND_BACK, "refcount", Instruments(online=True))
    verdict = search(machine, portfolio(machine, 1, (), None)[0], Budget(120.0, executions))
    return verdict.failure.what if verdict.failure is not None else verdict.word
