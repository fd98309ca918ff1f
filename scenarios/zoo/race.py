"""What can be explored, or raced on real processes: a scene, the piece it needs, and what is seen without it."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator.knobs import KNOBS
from workers.programs.scene import Scene

if TYPE_CHECKING:
    from workers.programs.program import Insn

Programs = list[list["Insn"]]

PAGE, SLOT = 4096, 2 << 20
BASE = 0x10_0000_0000 - SLOT  # the last table of one GiB, then the next GiB

_FILES = {path.stem.replace("_", "-") for path in (Path(__file__).parent.parent / "races").glob("*.py")}
# a race is a file that is named after its knob; those that show another side of a knob come last, and name it
RACES = (*(name for name in KNOBS if name in _FILES), *sorted(_FILES - set(KNOBS) - {"--init--"}))


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A scene, the knob that takes the piece away which it needs, and what is seen then.

    `name` is claim/NAME or race/NAME, `text` a claim's sentence or a race's history. `detectors` are the bugs that may
    be seen first, or deadlock. A claim about barriers has no knob but `barriers`, each of which it needs; its twin is
    without the first (ptelab barriers). `memory` is the memory model it is about; the broken twin shows nothing under
    those of `spared`. `bound` is the most preemptions of one execution, None all interleavings. With `crashes` the
    coordinator dies behind each of its steps in turn. `schedule` shows it where no search of a minute does, or is
    empty.
    """

    name: str
    text: str
    scene: Scene
    knob: str = ""
    barriers: tuple[str, ...] = ()
    detectors: tuple[str, ...]
    source: str
    policy: str = "refcount"
    settings: Mapping[str, int] = field(default_factory=dict)
    memory: str = "sc"
    spared: tuple[str, ...] = ()
    bound: int | None = None
    crashes: bool = False
    schedule: str = ""

    @property
    def is_claim(self) -> bool:
        """True for a claim, which is explored as it is; a race is explored with its piece left out."""
        return self.name.startswith("claim/")


@dataclass(frozen=True, kw_only=True)
class Race(Subject):
    """A subject that real processes run as well. `load_race` gives it name, history and the source of its knob.

    `programs(seed)` gives a program for each CPU, without an end: each runs until the machine is stopped. `steer` lays
    its windows over each other, (at, until[, us[, cpu]]) as in workers.instruments.Steer. `why` it runs under another
    policy than refcount, or with a setting. The machine has one file.
    """

    name: str = ""
    text: str = ""
    knob: str = ""
    source: str = ""
    programs: Callable[[int], Programs]
    steer: tuple[tuple[Any, ...], ...] = ()
    tick_us: int = 1000
    patience: float = 3.0
    why: str = ""


def load_race(name: str) -> Race:
    """A race by name, with its history as written at the head of its file."""
    module = importlib.import_module(f"scenarios.races.{name.replace('-', '_')}")
    race: Race = module.RACE
    history = inspect.cleandoc(module.__doc__ or "")
    knob = race.knob or name
    return replace(race, name=f"race/{name}", text=history, knob=knob, source=race.source or KNOBS[knob].source)
