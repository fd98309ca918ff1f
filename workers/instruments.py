"""What a run asks of the debug build: detectors, knobs, settings, perturbation, steering, signals at points."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from emulator import engine
from emulator.knobs import KNOBS, SETTINGS
from emulator.watch.points import POINTS, point_number


class Steer(NamedTuple):
    """A CPU that passes the point `at` (or CPU `cpu`, if that is not -1) waits until another CPU passes `until`.

    At most `us` microseconds.
    """

    at: str
    until: str
    us: int = 200
    cpu: int = -1


class Stop(NamedTuple):
    """A CPU (or the coordinator, the number behind the last CPU) that is stopped at its nth pass of a point.

    `seconds` is None for SIGKILL; with SIGSTOP the process goes on after so many seconds.
    """

    cpu: int
    point: str
    nth: int = 1
    seconds: float | None = None


@dataclass(frozen=True)
class Instruments:
    """All of it. `perturb` delays one point in so many at random, 0 none; `seed` decides which. With `exact` each
    translation is compared with the page tables (check_translation.py)."""

    online: bool = False
    exact: bool = False
    knobs: tuple[str, ...] = ()
    settings: Mapping[str, int] = field(default_factory=dict)
    perturb: int = 0
    seed: int = 0
    steer: tuple[Steer, ...] = ()
    stops: tuple[Stop, ...] = ()

    @property
    def needs_debug(self) -> bool:
        """True if the plain build cannot do it."""
        return bool(
            self.online or self.exact or self.knobs or self.settings or self.perturb or self.steer or self.stops
        )

    def apply(self, views: Mapping[str, Any]) -> None:
        """Enter it into a machine that has its policy and has not run.

        Raises ValueError in the plain build, for an unknown setting, and for one that the policy cannot have.
        """
        if self.needs_debug and not engine.debug():
            raise ValueError("detectors, knobs, perturbation, steering and signals need the debug build")
        config, point = views["config"], views["point"]
        config["online"], config["exact"], config["perturb"] = self.online, self.exact, self.perturb
        for knob in self.knobs:
            config[KNOBS[knob].field] = 1
        for name, value in self.settings.items():
            if name not in SETTINGS:
                raise ValueError(f"unknown setting '{name}'; known: {', '.join(SETTINGS)}")
            config[name] = value
        if self.settings.get("any_zero_frees") and not config["table_free_rcu"][0]:
            raise ValueError("any_zero_frees needs a policy with a grace period: the last look may find a freed table")
        for cpu in range(len(views["cpu"])):
            views["cpu"]["random"][cpu] = 1 + (self.seed * 7919 + cpu * 104729) % 0x7FFFFFFE
        for steer in self.steer:
            at, until = point_number(steer.at), point_number(steer.until)
            point["steer_to"][at], point["steer_us"][at], point["steer_cpu"][at] = until, steer.us, steer.cpu
            point["watched"][until] = point["armed"][at] = point["armed"][until] = 1
        for stop in self.stops:
            at = point_number(stop.point)
            point["signal"][at] = signal.SIGKILL if stop.seconds is None else signal.SIGSTOP
            point["signal_cpu"][at], point["countdown"][at], point["armed"][at] = stop.cpu, stop.nth, 1


PLAIN = Instruments()
__all__ = ["PLAIN", "POINTS", "Instruments", "Steer", "Stop"]
