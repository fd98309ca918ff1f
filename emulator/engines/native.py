"""Engine `native`: kernels compiled by numba (compiler.py) and kept as one program (compiled.py)."""

from __future__ import annotations

from typing import Any

from emulator import engine
from emulator.engines import compile_cache
from emulator.engines.compiled import Program

NAME = "native"
EXPLORES = False
_program = Program()
entry_point = _program.entry_point
prepare = _program.prepare  # in the parent, before the first fork


def __getattr__(name: str) -> Any:
    """The decorators and the primitives."""
    return getattr(_program.language(), name)


class Machine:
    """What Python holds of a segment: its address. compiler.SegmentType is what a kernel sees."""

    def __init__(self, segment: Any) -> None:
        self.segment = segment  # keeps the mapping alive
        self.address = segment.address


def is_prepared() -> bool:
    """True if prepare() will only load what an earlier process compiled."""
    return _program.is_prepared


def remark() -> str:
    """What a user should know of where compiled code is kept."""
    return compile_cache.remark


def attach(segment: Any) -> Machine:
    """The `m` of a segment. Raises ValueError if its tables have their entries where this build does not look."""
    bodies_apart = engine.compiles(engine.BODIES)
    if bool(segment.geometry.bodies) != bodies_apart:
        raise ValueError("a machine has bodies apart from its tables where the build does (engine.BODIES)")
    if segment.geometry.bodies and segment.geometry.cpus > 1:
        raise ValueError("a machine with bodies apart from its tables has one CPU (bodies.py)")
    return Machine(segment)
