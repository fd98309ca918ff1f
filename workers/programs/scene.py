"""What the explorer runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workers.programs.program import Insn


@dataclass(frozen=True)
class Scene:
    """What the explorer runs: CPU 0 does `setup`, alone, until every callback has run; then each CPU its program, once.

    `bodies(m)` takes the place of the programs: a function per CPU that calls kernels directly; without `coordinator`
    nobody flushes and no grace period ends. `end(m)` is called after an execution that has come to its end: it raises
    AssertionError, with a sentence, if what must hold does not. There is one file; `memcg_limit`, `swap_pages` and
    `frames` are as in Geometry: a huge page needs 1,024 frames.
    """

    setup: Sequence[Insn] = ()
    programs: Sequence[Sequence[Insn]] = ()
    bodies: Callable[[Any], list[Callable[[], Any]]] | None = None
    cpus: int = 0  # of the bodies
    coordinator: bool = True
    memcg_limit: int = 0
    swap_pages: int = 0
    frames: int = 128
    end: Callable[[Any], None] | None = None
