"""`ptelab`, and `python -m scenarios`: the signals and the streams first, then the commands are imported."""

import os
from typing import NoReturn

from scenarios.session import ending


def _command() -> int:
    from scenarios.cli import command_line

    return command_line()


def main() -> NoReturn:
    """Entry point of the command: exits with the status that errors.py names."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # nobody multiplies matrices; its threads want memory, and fork
    ending.run(_command)


if __name__ == "__main__":
    main()
