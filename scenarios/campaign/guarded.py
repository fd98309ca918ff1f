"""The start of a task's process: it ends with the process that started it, and keeps to its processors.

python -m scenarios.campaign.guarded PARENT PROCESSOR,... MODULE WORD...
"""

from __future__ import annotations

import os
import runpy
import signal
import sys

from workers.parent import die_with


def main(parent: str, processors: str, module: str, *words: str) -> None:
    """Become the command."""
    die_with(int(parent))
    os.sched_setaffinity(0, [int(number) for number in processors.split(",")])
    signal.signal(signal.SIGTERM, lambda *_: os.killpg(0, signal.SIGKILL))  # ptelab itself has a handler of its own
    sys.argv = [module, *words]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
