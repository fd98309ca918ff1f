"""The memory models of the explorer, by name."""

from __future__ import annotations

from collections.abc import Callable

from emulator.engines.dependencies import Dependencies
from emulator.engines.explore import Field, World, world
from emulator.engines.load_queue import Reordering
from emulator.engines.store_buffer import BufferedField, Buffers

# name -> what keeps stores from memory and loads out of order; sequential consistency has nothing
MODELS: dict[str, Callable[[World], Buffers] | None] = {
    "sc": None,
    "tso": lambda world: Buffers(world, False),
    "pso": lambda world: Buffers(world, True),
    "arm": Reordering,
}
TRACED = "sc, traced"  # sequential consistency, and the log says what depends on what


def impose(memory: str) -> None:
    """Put the machine that the world holds under a memory model."""
    make = Dependencies if memory == TRACED else MODELS[memory]
    if make is None:
        return
    world.buffers = make(world)
    for one in world.fields:
        if type(one) is Field:
            one.__class__ = BufferedField
