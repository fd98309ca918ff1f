"""Tasks in processes of their own, some at a time: each is forked for its one task, and named if it fails."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from workers import interrupts
from workers.processes import child_main, fork, wait_for
from workers.telling.postmortem import MachineFailed, how_it_ended
from workers.vigil import LOOK_SECONDS, Vigil


def in_processes(
    body: Callable[[Any], Any], tasks: Sequence[Any], jobs: int, name_of: Callable[[Any], str]
) -> Iterator[Any]:
    """What `body` returns for each task, in the order in which they are done, `jobs` of them at a time.

    Raises MachineFailed if a process dies or is stopped. None outlives the iterator.
    """
    waiting = list(reversed(tasks))
    running: dict[Any, tuple[Any, str]] = {}
    vigil = Vigil({})
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                task = waiting.pop()
                _start(body, task, name_of(task), running, vigil)
            for pipe in wait_for(list(running), LOOK_SECONDS):
                process, name = running[pipe]
                try:
                    answer = pipe.recv()
                except EOFError:
                    process.join()
                    raise MachineFailed(f"{name} (process {process.pid}) {how_it_ended(process.exitcode)}") from None
                process.join()
                del running[pipe], vigil.names[process.pid]
                yield answer
            vigil.look()
    finally:
        for process, _ in running.values():
            process.kill()
            process.join()


def _start(body: Callable[[Any], Any], task: Any, name: str, running: dict[Any, Any], vigil: Vigil) -> None:
    """Fork the process of a task."""
    ours, theirs = fork().Pipe(duplex=False)

    def work(_m: Any, _cpu: int) -> None:
        ours.close()
        theirs.send(body(task))

    process = fork().Process(target=child_main, args=(os.getpid(), work, None, 0), name=name, daemon=True)
    with interrupts.held_back():
        process.start()
        running[ours] = process, name
    theirs.close()
    vigil.names[process.pid] = name
