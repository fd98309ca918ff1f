"""`ptelab`, and `python -m scenarios`: the signals and the streams first, then the commands are imported."""

from typing import NoReturn

from scenarios.session import ending


def _command() -> int:
    from scenarios.cli import command_line

    return command_line()


def main() -> NoReturn:
    """Entry point of the command: exits with the status that errors.py names."""
    ending.run(_command)


if __name__ == "__main__":
    main()
