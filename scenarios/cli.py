"""The command `ptelab`."""

from __future__ import annotations

import importlib
import os
import sys
import textwrap
from typing import NoReturn

import click

from emulator import engine as engines
from emulator.knobs import KNOBS, SETTINGS
from emulator.policy.policies import POLICIES
from scenarios.session import ending, errors
from scenarios.session.options import Lab, engine_options, one_of

WIDTH = 100  # columns of a listing

# name -> (module, the question it answers)
SCENARIOS = {
    "multi-fault": (
        "scenarios.multi_fault",
        "what does the reference count cost per page fault? (the cover letter's table)",
    ),
    "madvise-loop": (
        "scenarios.madvise_loop",
        "how large are the page tables after 50 GiB of touch and MADV_DONTNEED?",
    ),
    "server-snapshot": ("scenarios.server_snapshot", "what does a 55 TiB server get back, and what does it need?"),
    "finish-fault-deadlock": (
        "scenarios.finish_fault",
        "does a fault that allocates its table under the page lock hang against write-back?",
    ),
    "mremap-oom": ("scenarios.mremap_oom", "does an mremap that runs out of memory leave every page where it was?"),
    "bad-input": ("scenarios.bad_input", "what becomes of a thread that makes a wrong access, and of the machine?"),
    "stress": ("scenarios.stress", "does the protocol survive random programs of every instruction?"),
}

_COMPLETION = "_PTELAB_COMPLETE"  # of click

LATER = {
    "advise": ("scenarios.advice.command", "command"),
    "record": ("scenarios.traces.recorder", "command"),
    "soak": ("scenarios.soak", "command"),
    "races": ("scenarios.zoo.zoo", "races_command"),
    "explore": ("scenarios.proofs.explore", "explore_command"),
    "findings": ("scenarios.proofs.findings", "command"),
}


def _race(name: str) -> click.Command:
    from scenarios.zoo.race import RACES

    if name not in RACES:
        raise errors.UserError(f"unknown race '{name}'; known: {', '.join(RACES)}")
    engines.choose("native", debug=True)
    from scenarios.zoo.zoo import race_command

    return race_command(name)


class _Scenarios(click.Group):
    """`run NAME`: each scenario is a command of its own, imported when it is named."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(SCENARIOS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name.startswith("race/"):
            return _race(cmd_name.removeprefix("race/"))
        if cmd_name not in SCENARIOS:
            raise errors.UserError(f"unknown scenario '{cmd_name}'; known: {', '.join(SCENARIOS)}")
        command: click.Command = importlib.import_module(SCENARIOS[cmd_name][0]).command
        return command


class _Commands(click.Group):
    """The commands, with an error that says what is known; those of LATER are imported when they are named."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *LATER]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in LATER:
            module, name = LATER[cmd_name]
            later: click.Command = getattr(importlib.import_module(module), name)
            return later
        if cmd_name not in self.commands:
            raise errors.UserError(f"unknown command '{cmd_name}'; known: {', '.join(self.list_commands(ctx))}")
        return self.commands[cmd_name]


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ptelab")
def ptelab() -> None:
    """Emulate the Linux series "Free user PTE page table pages" with real processes and shared page tables.

    Exit status: 0 pass, 1 a check failed, 2 usage, 3 a process died or ptelab itself failed, 4 inconclusive, 129, 130
    and 143 interrupted, 141 nobody read stdout.
    """


@ptelab.command("list")
def list_() -> None:
    """List scenarios, policies, knobs, settings and engines."""
    parts: list[tuple[str, dict[str, str]]] = [
        ("scenarios", {name: question for name, (_, question) in SCENARIOS.items()}),
        ("policies", {name: policy.title for name, policy in POLICIES.items()}),
        ("knobs", {name: knob.effect for name, knob in KNOBS.items()}),
        ("settings", {name: setting.effect for name, setting in SETTINGS.items()}),
        ("engines", {"native": "compiled, LLVM atomics", "semaphore": "plain Python, POSIX semaphores"}),
    ]
    room = max(len(name) for _, names in parts for name in names)
    for title, names in parts:
        click.echo(title)
        for name, text in names.items():
            first, *rest = textwrap.wrap(text, WIDTH - room - 4, break_on_hyphens=False)
            click.echo("\n".join([f"  {name:<{room}}  {first}", *(" " * (room + 4) + line for line in rest)]))


@ptelab.group(cls=_Scenarios)
def run() -> None:
    """Run a scenario (run NAME --help: its options)."""


@ptelab.command()
@click.argument("file")
@click.option("--policy", default="none", callback=one_of("policy", POLICIES), help="The policy of the run. [none]")
@click.option("--host", is_flag=True, help="Record the trace on this host, too: where do its figures differ?")
@engine_options
def replay(file: str, policy: str, host: bool, lab: Lab) -> int:
    """Run a memory trace on one CPU: its figures, line by line."""
    if host and policy != "none":
        raise errors.UserError(f"--host compares with policy none, not {policy}")
    from scenarios.traces.replay import command

    return command(file, policy, lab, host)


@ptelab.command()
def points() -> None:
    """List the points where --kill and --stall can stop a process."""
    from emulator.watch.points import POINTS

    for name, point in POINTS.items():
        needs = f" ({point.needs})" if point.needs else ""
        click.echo(f"  {name:<24} {point.where:<34} {point.holds}{needs}")


def command_line(arguments: list[str] | None = None) -> int:
    """Run a command line, that of the process by default; the exit status. A mistake in it is one line on stderr."""
    try:
        if _COMPLETION in os.environ:  # a shell asks what may come next
            ptelab.main(arguments, "ptelab")
        with ptelab.make_context("ptelab", sys.argv[1:] if arguments is None else arguments) as context:
            return int(ptelab.invoke(context) or 0)
    except click.exceptions.Exit as end:
        return end.exit_code
    except (errors.UserError, engines.UnknownField) as error:
        return _complain(str(error))
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return errors.USAGE
    except click.ClickException as error:
        return _complain(error.format_message().replace("\n", " "))


def _complain(text: str) -> int:
    sys.stderr.write(f"ptelab: {text}\n")
    return errors.USAGE


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run a command line and end the process."""
    ending.run(lambda: command_line(arguments))
