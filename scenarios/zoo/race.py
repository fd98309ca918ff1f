"""A race of the zoo: one piece of the protocol, the programs that need it, and what must be seen when it is gone."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from workers.programs.scene import Scene

if TYPE_CHECKING:
    from workers.programs.program import Insn

Programs = list[list["Insn"]]

PAGE, SLOT = 4096, 2 << 20
BASE = 0x10_0000_0000 - SLOT  # the last table of one GiB, then the next GiB
RACES = (
    "publish-before-init",
    "count-late",
    "advanced-address",
    "pmd-recheck-only",
    "missing-pte-put",
    "uncounted-walker",
    "plain-count",
    "check-then-increment",
    "unhook-unlocked",
    "no-flush",
    "leaf-only-flush",
    "no-grace-period",
    "gp-ignores-reader",
    "ipi-for-grace-period",
    "one-table-unflushed",
    "nested-reset",
    "no-nested-flush",
    "unlink-before-flush",
    "mremap-late-flush",
    "fork-unflushed",
    "reuse-by-mapcount",
    "migrate-late-flush",
    "wait-after-put",
    "swap-uncounted",
    "put-to-last-table",
    "early-ptlock-free",
    "lost-wakeup",
    "pte-alloc-under-page-lock",
    "prealloc-leak",
    "ref-across-retry",
    "put-without-get",
    "null-prealloc",
    "uffd-seq-late",
    "uffd-move-unchecked",
    "walk-outside-vma",
    "one-put-for-all",
    "mkclean-unflushed",
    "dirty-zap-unflushed",
    "gup-no-pmd-recheck",
    "collapse-stale-scan",
    "collapse-without-ipi",
    "unshare-without-ipi",
    "pmd-read-twice",
    "retract-unlocked",
    "move-without-rmap-lock",
    "stale-pmd-move",
)


@dataclass(frozen=True)
class Race:
    """One race. Its name is its knob's.

    `programs(seed)` gives a program for each CPU, without an end: each runs until the machine is stopped. `scene` is
    what the explorer runs. `detectors` are the bugs that may be seen first, or deadlock. `steer` lays its windows over
    each other, (at, until[, us[, cpu]]) as in workers.instruments.Steer. `schedule` is for the explorer, written by
    hand, where no search of a minute comes to the race. The machine has one file.
    """

    detectors: tuple[str, ...]
    programs: Callable[[int], Programs]
    scene: Scene
    source: str
    steer: tuple[tuple[Any, ...], ...] = ()
    policy: str = "refcount"
    settings: Mapping[str, int] = field(default_factory=dict)
    tick_us: int = 1000
    patience: float = 3.0
    schedule: str = ""


def load_race(name: str) -> tuple[Race, str]:
    """A race by name, with its history as written at the head of its file."""
    module = importlib.import_module(f"scenarios.races.{name.replace('-', '_')}")
    return module.RACE, inspect.cleandoc(module.__doc__ or "")
