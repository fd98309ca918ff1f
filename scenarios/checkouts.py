"""One command in two checkouts, in turn: the rounds that `compare OLD NEW --command` compares."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scenarios.reports.reading import Run
from scenarios.session.child import run_ptelab
from scenarios.session.errors import UserError
from scenarios.session.progress import Progress

ROUNDS = 5


def tree_of(path: str) -> Path:
    """A checkout. Raises UserError if it is none."""
    tree = Path(path).resolve()
    if not (tree / "scenarios" / "__main__.py").is_file():
        raise UserError(f"{path} is no checkout of ptelab; known: a directory with scenarios/__main__.py")
    return tree


def in_turn(trees: Sequence[Path], words: Sequence[str], rounds: int, runs: Sequence[list[Run]]) -> None:
    """Run a command in each tree, round by round, and add its records to the `runs` of the tree.

    Every other round begins with the other tree, so that what drifts meets both alike. Raises UserError if a round did
    not end, or its checks failed: its figures would mean nothing.
    """
    with Progress("compare") as progress:
        for done in range(rounds):
            order = list(zip(trees, runs, strict=True))
            for turn, (tree, mine) in enumerate(order if done % 2 == 0 else order[::-1]):
                progress.update((done + turn / 2) / rounds, f"round {done + 1}, {tree.name}")
                _, record = run_ptelab(*words, tree=tree)
                if record["verdict"] != "pass":
                    raise UserError(f"{tree}: ptelab {' '.join(words)}: the verdict is {record['verdict']}")
                mine.append(Run(str(tree), record))
