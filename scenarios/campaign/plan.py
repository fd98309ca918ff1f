"""A plan: a TOML file whose tables are commands of ptelab, their keys the options, and their lists what is multiplied.

    [[run]]                                # ptelab run stress --policy none --seed 0 ... --policy refcount --seed 99
    scenario = "stress"
    policy = ["none", "refcount"]
    seed = "0-99"
    limit = 60                             # seconds of each task; 600 if it is not said
    processors = 2                         # that each task has for itself

The value of an option is checked by the command itself. A name with `*` stands for all names that fit.
"""

from __future__ import annotations

import contextlib
import fnmatch
import glob
import importlib
import importlib.util
import itertools
import math
import re
import shlex
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import click

from scenarios.session import errors
from scenarios.session.files import input_file
from scenarios.session.style import style, styled

ALONE = ("explore", "litmus", "barriers")  # these race no processes: one processor is enough
MUTANTS = "mutants"  # of a clone; it is no command of ptelab
TABLES = ("run", *ALONE, "races", "soak", "arena", "findings", "replay", "whatif", "agree", MUTANTS)
LIMIT = 600.0  # seconds
LIMIT_KEY, PROCESSORS_KEY, SHARDS_KEY = OWN = ("limit", "processors", "shards")
SHARDED = "explore"
OF_THE_CAMPAIGN = (
    "json",
    "html",
    "format",
    "width",
    "write",
    "tables",
    "shard",
    "help",
)  # options that no task may have
MOST_TASKS = 1_000_000  # of a table
MOST_BYTES = 16 << 20  # of a plan


@dataclass(frozen=True)
class Task:
    """One process: the module that runs it and its words, the seed, seconds until it is ended, its processors.

    `subject` and `policy` name it in a table of verdicts. An exploration is split into tasks of so many executions if
    `shards` is not 0. Such a task has the `prefixes` it searches below, and the command of the whole.
    """

    module: str
    words: tuple[str, ...]
    seed: int | None
    limit: float
    processors: int
    subject: str
    policy: str = ""
    shards: int = 0
    exploration: str = ""
    prefixes: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        """As one would type it."""
        start = ["ptelab"] if self.module == "scenarios" else ["python", "-m", self.module]
        return shlex.join([*start, *self.words])


class _Axis(NamedTuple):
    """A key of a table: the parameter it is of, and its values."""

    parameter: click.Parameter
    values: list[Any]


def read_plan(file: str, group: click.Group, processors: int) -> list[Task]:
    """The tasks of a plan, none twice, in its order; `group` has the commands. Raises UserError.

    `-` is stdin, and its folder the present one. Tables that do not say how many processors a task has get 1 or 2, but
    no more than `processors`.
    """
    try:
        with contextlib.nullcontext(sys.stdin.buffer) if file == "-" else open(file, "rb") as stream:
            text = stream.read(MOST_BYTES + 1)
        if len(text) > MOST_BYTES:
            raise errors.UserError(f"{file} is no plan: it is larger than {MOST_BYTES >> 20} MiB")
        plan = tomllib.loads(text.decode())
    except RecursionError:
        raise errors.UserError(f"{file} is not TOML that can be read: it is nested too deep") from None
    except OSError as error:
        raise errors.UserError(f"cannot read {file}: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise errors.UserError(f"{file} is not TOML: {error}") from None
    tasks: dict[str, Task] = {}
    for name, tables in plan.items():
        if name not in TABLES:
            raise _in(file, errors.unknown("table", name, TABLES))
        for number, table in enumerate(tables if isinstance(tables, list) else [tables], 1):
            if not isinstance(table, dict):
                raise errors.UserError(f"{file}: {name} is no table; known: [[{name}]], and a line for each option")
            try:
                reader = _Reader(name, table, group, Path(file).resolve().parent, min(processors, 2))
                tasks |= {task.command: task for task in reader.tasks() if task.command not in tasks}
            except (errors.UserError, click.ClickException) as error:
                words = error.format_message() if isinstance(error, click.ClickException) else str(error)
                raise _in(f"{file}, [[{name}]] {number}", words) from None
    if not tasks:
        raise errors.UserError(f"{file} has no table; known: {', '.join(f'[[{name}]]' for name in TABLES)}")
    return list(tasks.values())


def _in(where: str, error: errors.UserError | str) -> errors.UserError:
    return errors.UserError(f"{where}: {' '.join(str(error).split())}")


class _Reader:
    """Reads one table."""

    def __init__(self, name: str, table: Mapping[str, Any], group: click.Group, folder: Path, processors: int) -> None:
        self.name, self.folder = name, folder
        self.table = dict(table)
        self.limit = self._own(LIMIT_KEY, LIMIT, 0.1, 1e7)
        self.processors = int(self._own(PROCESSORS_KEY, 1 if name in ALONE else processors, 1, 4096, whole=True))
        self.shards = int(self._own(SHARDS_KEY, 0, 1, 1e12, whole=True)) if name == SHARDED else 0
        self.module = "scenarios"
        if name == MUTANTS:
            self.module = "benchmarks.mutants"
            if importlib.util.find_spec("benchmarks") is None:
                raise errors.UserError("mutants are made of a clone; known: run it there, with python -m scenarios")
            self.commands: dict[tuple[str, ...], click.Command] = {(): _mutants()}
        elif name == "run":
            run = _command_of(group, name)
            assert isinstance(run, click.Group)
            known = [item.value for item in run.shell_complete(_context(run), "")]
            given = [one for word in self._listed("scenario") for one in _fitting("scenario", word, known)]
            if not given:
                raise errors.UserError(f"no scenario given; known: {', '.join(run.list_commands(_context(run)))}")
            self.commands = {(name, scenario): _command_of(run, scenario) for scenario in given}
        else:
            self.commands = {(name,): _command_of(group, name)}

    def _own(self, key: str, default: float, low: float, high: float, whole: bool = False) -> float:
        if key not in self.table:
            return default
        value = self.table.pop(key)
        is_one = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
        if not (is_one and low <= value <= high):
            kind = "a whole number" if whole else "a number"
            raise errors.UserError(f"{key} {value!r} is out of range; known: {kind} from {low:g} to {high:g}")
        return float(value)

    def _listed(self, key: str) -> list[str]:
        value = self.table.pop(key, [])
        return [str(one) for one in value] if isinstance(value, list) else [str(value)]

    def tasks(self) -> Iterator[Task]:
        """The tasks of the table."""
        for start, command in self.commands.items():
            axes = {key: self._axis(command, key, value) for key, value in self.table.items()}
            if (count := math.prod(len(axis.values) for axis in axes.values())) > MOST_TASKS:
                raise errors.UserError(f"{count:,} tasks; known: at most {MOST_TASKS:,} in a table")
            self._check(command, axes)
            for values in itertools.product(*(axis.values for axis in axes.values())):
                chosen = dict(zip(axes, values, strict=True))
                words = (*start, *_words(axes, chosen))
                seed, policy = chosen.get("seed"), str(chosen.get("policy", ""))
                named = [str(chosen[key]) for key, axis in axes.items() if isinstance(axis.parameter, click.Argument)]
                subject = start[-1] if self.name == "run" else " ".join([self.name, *map(_last, named)])
                yield Task(self.module, words, seed, self.limit, self.processors, subject, policy, self.shards)

    def _axis(self, command: click.Command, key: str, value: Any) -> _Axis:
        parameters = {_key_of(one): one for one in command.params if _key_of(one) not in OF_THE_CAMPAIGN}
        if key not in parameters:
            own = OWN if self.name == SHARDED else OWN[:-1]
            raise errors.unknown("key", key, [*parameters, *own])
        parameter = parameters[key]
        values = value if isinstance(value, list) else _range(value) if key == "seed" else [value]
        for one in values:
            if not isinstance(one, (bool, int, float, str)):
                raise errors.UserError(f"{key} = {one!r} is no value; known: a number, a text, true, a list of those")
            if _is_flag(parameter) != isinstance(one, bool):
                raise errors.UserError(
                    f"{key} = {one!r}; known: {'true or false' if _is_flag(parameter) else 'a value'}"
                )
        if not values:
            raise errors.UserError(f"{key} is an empty list; known: one value at least")
        return _Axis(parameter, self._expanded(parameter, values))

    def _expanded(self, parameter: click.Parameter, values: Iterable[Any]) -> list[Any]:
        """The values, with files below the plan's folder, and names for those with a `*`."""
        if getattr(parameter.callback, "__wrapped__", parameter.callback) is input_file:
            return [file for value in values for file in self._files(str(value))]
        found = []
        for value in values:
            if not isinstance(value, str) or ("*" not in value and not isinstance(parameter, click.Argument)):
                found.append(value)
                continue
            items = parameter.shell_complete(_context(click.Command("")), "")
            found += _fitting(_key_of(parameter), value, [item.value for item in items])
        return found

    def _files(self, pattern: str) -> list[str]:
        found = sorted(glob.glob(str(self.folder / pattern))) if "*" in pattern else [str(self.folder / pattern)]
        for file in found or [str(self.folder / pattern)]:
            if not Path(file).is_file():
                raise errors.UserError(f"there is no file {file}; known: files by their way from the plan's folder")
        return found

    def _check(self, command: click.Command, axes: Mapping[str, _Axis]) -> None:
        """Have the command read each value once. Raises UserError or ClickException, as it does."""
        for key in (_key_of(one) for one in command.params if one.required):
            if key not in axes:
                raise errors.UserError(f"no {key} given; known: ptelab {self.name} --help")
        models = axes["memory"].values if "memory" in axes else ["sc"]
        if self.shards and ("target" in axes or any(model != "sc" for model in models)):
            raise errors.UserError("an exploration in shards is of memory sc, and of a whole machine: it has no target")
        first = {key: axis.values[0] for key, axis in axes.items()}
        tried = [first, *({**first, key: value} for key, axis in axes.items() for value in _each(key, axis.values)[1:])]
        for chosen in tried:
            with styled(style()):  # a command that is read says how it is shown
                command.make_context(command.name, list(_words(axes, chosen)), parent=_context(command)).close()


def _each(key: str, values: Sequence[Any]) -> Sequence[Any]:
    """Those to be tried: of seeds the first and the last."""
    return [values[0], values[-1]] if key == "seed" else values


def _context(command: click.Command) -> click.Context:
    return click.Context(command, info_name="ptelab", help_option_names=["-h", "--help"])


def _command_of(group: click.Group, name: str) -> click.Command:
    command = group.get_command(_context(group), name)
    assert command is not None  # an unknown one is an error of its own
    return command


def _mutants() -> click.Command:
    command: click.Command = importlib.import_module("benchmarks.mutants.__main__").main
    return command


def _key_of(parameter: click.Parameter) -> str:
    """The name of a parameter in a plan: its option, or what the argument is called."""
    option = next((name for name in parameter.opts if name.startswith("--")), str(parameter.name))
    return option.removeprefix("--")


def _is_flag(parameter: click.Parameter) -> bool:
    return isinstance(parameter, click.Option) and parameter.is_flag


def _last(word: str) -> str:
    """A file without its folders; other names as they are."""
    return Path(word).name if word.startswith("/") else word


def _fitting(kind: str, pattern: str, known: Sequence[str]) -> list[str]:
    """The known names that a pattern stands for. Raises UserError if there are none."""
    found = fnmatch.filter(known, pattern) if "*" in pattern else [name for name in known if name == pattern]
    if not found:
        raise errors.unknown(kind, pattern, known, listed="ptelab list, ptelab list races claims")
    return found


def _range(value: Any) -> list[Any]:
    """The seeds of "0-99", or the one that is given. Raises UserError."""
    if not isinstance(value, str):
        return [value]
    match = re.fullmatch(r"([0-9]{1,10})(?:-([0-9]{1,10}))?", value.strip())
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
    if not 0 <= last - first < MOST_TASKS:
        raise errors.UserError(f"seed '{value}' is no range; known: FIRST-LAST, as 0-99, of at most {MOST_TASKS:,}")
    return list(range(first, last + 1))


def _words(axes: Mapping[str, _Axis], chosen: Mapping[str, Any]) -> Iterator[str]:
    """The words of a command line with these values: the arguments first."""
    for key, value in chosen.items():
        if isinstance(axes[key].parameter, click.Argument):
            yield str(value)
    for key, value in chosen.items():
        parameter = axes[key].parameter
        if isinstance(parameter, click.Argument):
            continue
        if isinstance(value, bool):
            yield from parameter.opts[:1] if value else parameter.secondary_opts[:1]
        else:
            yield from (f"--{key}", f"{value:g}" if isinstance(value, float) else str(value))
