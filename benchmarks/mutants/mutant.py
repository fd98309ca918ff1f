"""One small change of the emulated kernel: a function, pieces of its text, and what stands there instead."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """A change of one function. Each old piece must be in its text once; all pieces change together.

    `equivalent` says why nobody can tell it from the original; empty for one that must be noticed.
    """

    name: str
    function: str
    edits: tuple[tuple[str, str], ...]
    equivalent: str = ""


def change(name: str, function: str, *pieces: str, equivalent: str = "") -> Mutant:
    """A mutant; `pieces` are old and new in turn."""
    return Mutant(name, function, tuple(zip(pieces[::2], pieces[1::2], strict=True)), equivalent)
