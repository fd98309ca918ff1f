"""Files that a command line names: `-` is stdin where one is read, and stdout where one is written, each once."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from scenarios.session.errors import UserError

_STDIN, _STDOUT = "ptelab.stdin", "ptelab.stdout"  # in a context's meta: the option that has the stream for itself


def _take(context: click.Context, stream: str, option: str) -> None:
    """An option has a stream for itself. Raises UserError if another one has."""
    other = context.meta.setdefault(stream, option)
    if other != option:
        raise UserError(f"{other} and {option} both want {stream.rpartition('.')[2]}; known: one of them")


def take_stdout(context: click.Context, option: str) -> None:
    """An option has stdout for itself, and nothing else may be printed. Raises UserError if another one has it."""
    _take(context, _STDOUT, option)


def stdout_is_taken() -> bool:
    """True if stdout belongs to an option of this command."""
    context = click.get_current_context(silent=True)
    return context is not None and _STDOUT in context.meta


def _named(parameter: click.Parameter) -> str:
    """A parameter as one types it."""
    return max(parameter.opts, key=len) if isinstance(parameter, click.Option) else parameter.human_readable_name


def input_file(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """A click callback for one file or several that are read: `-` becomes a file that holds what stdin gave.

    Raises UserError if stdin is to be read twice.
    """
    if isinstance(value, tuple):
        if value.count("-") > 1:
            raise UserError(f"{_named(parameter)} - is stdin, which can be read once; known: one -")
        return tuple(input_file(context, parameter, one) for one in value)
    if value != "-":
        return value
    _take(context, _STDIN, _named(parameter))
    directory = tempfile.TemporaryDirectory(prefix="ptelab-")
    context.find_root().call_on_close(directory.cleanup)  # which closes even if the command line has a mistake
    file = Path(directory.name) / "stdin"
    with file.open("wb") as copy:
        shutil.copyfileobj(sys.stdin.buffer, copy)
    return str(file)


def output_file(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """A click callback for a file that is written: `-` has stdout for itself, another one can be written.

    Raises UserError.
    """
    if value == "-":
        take_stdout(context, f"{_named(parameter)} -")
    elif value is not None:
        check_writable(value)
    return value


def kept_file(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """A click callback for a file that is read and written again, or a directory: `-` is neither. Raises UserError."""
    if value == "-":
        kind = "a directory" if parameter.metavar == "DIR" else "a file, which is read first"
        raise UserError(f"{_named(parameter)} cannot be stdout; known: {kind}")
    if value is not None and parameter.metavar != "DIR":
        check_writable(value)
    return value


def write_file(file: str | Path, content: str | bytes) -> None:
    """Write a file the user has named, or to stdout for '-'. Where there is no room for it, what stood there stays.

    Raises UserError if the file cannot be opened, OSError if it cannot be filled.
    """
    if file == "-":
        if isinstance(content, str):
            sys.stdout.write(content)
        else:
            sys.stdout.buffer.write(content)
        return
    data = content if isinstance(content, bytes) else content.encode(errors="backslashreplace")
    existed = os.path.exists(file)
    try:
        number = os.open(file, os.O_WRONLY | os.O_CREAT, 0o666)
    except OSError as error:
        raise UserError(f"cannot write {file}: {error.strerror}") from None
    try:
        _fill(number, data)
    except OSError as error:
        if not existed:
            os.unlink(file)
        raise OSError(error.errno, error.strerror, str(file)) from None
    finally:
        os.close(number)


def _fill(number: int, data: bytes) -> None:
    """Give an open file, or a pipe, its contents. A file gets the room first, or keeps what it has."""
    status = os.fstat(number)
    regular = stat.S_ISREG(status.st_mode)
    if regular and data:
        try:
            os.posix_fallocate(number, 0, len(data))
        except OSError:
            os.ftruncate(number, status.st_size)
            raise
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(number, rest) :]
    if regular:
        os.ftruncate(number, len(data))


def check_writable(file: str) -> None:
    """Find out before a long run that a file could not be written. Raises UserError."""
    path = Path(file)
    try:
        existed = path.exists()
        with path.open("a"):
            pass
        if not existed:
            path.unlink()
    except OSError as error:
        raise UserError(f"cannot write {file}: {error.strerror}") from None
