"""The command `ptelab`."""

from __future__ import annotations

import importlib
import os
import sys
from typing import NoReturn

import click
from click.shell_completion import CompletionItem

from emulator import engine as engines
from scenarios.session import ending, errors
from scenarios.session.style import styled
from scenarios.zoo.race import RACES

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
    "arena": ("scenarios.arena.command", "what does each policy give back on each workload, at what cost, how late?"),
    "finish-fault-deadlock": (
        "scenarios.finish_fault",
        "does a fault that allocates its table under the page lock hang against write-back?",
    ),
    "mremap-oom": ("scenarios.mremap_oom", "does an mremap that runs out of memory leave every page where it was?"),
    "bad-input": ("scenarios.bad_input", "what becomes of a thread that makes a wrong access, and of the machine?"),
    "stress": ("scenarios.stress", "does the protocol survive random programs of every instruction?"),
}

_COMPLETION = "_PTELAB_COMPLETE"  # of click

# name -> (module, its command, what it is for)
LATER = {
    "arena": (
        "scenarios.arena.command",
        "command",
        "Every policy on every workload, in tables.",
    ),
    "advise": (
        "scenarios.advice.command",
        "command",
        "Which page tables of a live process hold nothing, and what to do about it.",
    ),
    "import": (
        "scenarios.imports.command",
        "command",
        "Make a memory trace of what people have at hand: strace, perf, /proc, syzkaller.",
    ),
    "whatif": (
        "scenarios.traces.whatif",
        "command",
        "What a real program would hold in page tables under each design.",
    ),
    "record": (
        "scenarios.traces.recorder",
        "command",
        "Measure a memory trace on this host's kernel, or record a program.",
    ),
    "agree": (
        "scenarios.traces.agree",
        "command",
        "Random memory traces on this host's kernel and in the emulator: where do they differ?",
    ),
    "list": ("scenarios.listing", "list_command", "List scenarios, policies, knobs, settings, engines, races, claims."),
    "points": ("scenarios.listing", "points_command", "List the points where --kill and --stall can stop a process."),
    "replay": ("scenarios.traces.replay_command", "command", "Run a memory trace: its figures, line by line."),
    "help": ("scenarios.manual", "command", "Explain a topic: traces, exit-status, json, explore, tutorial, ..."),
    "campaign": ("scenarios.campaign.command", "command", "Run a plan of commands on many processors or machines."),
    "soak": ("scenarios.soak", "command", "Run the full protocol clean for 1e10 page faults, resumably."),
    "compare": ("scenarios.compare", "command", "Two records side by side: what changed, and can the rounds tell?"),
    "report": ("scenarios.report", "command", "Records as one HTML page, as plots."),
    "races": ("scenarios.zoo.zoo", "races_command", "Leave out each piece of the protocol and catch what follows."),
    "explore": ("scenarios.proofs.explore", "explore_command", "Try every interleaving of a small program."),
    "litmus": ("scenarios.proofs.litmus", "litmus_command", "Hold the explorer to published verdicts."),
    "barriers": ("scenarios.proofs.barriers", "barriers_command", "Leave each barrier out: which model needs it?"),
    "findings": ("scenarios.proofs.findings", "command", "What is wrong, posted and merged, each defect shown."),
}


def _race(name: str) -> click.Command:
    if name not in RACES:
        raise errors.unknown("race", name, RACES, listed="ptelab list races")
    engines.choose("native", debug=True)
    command: click.Command = importlib.import_module("scenarios.zoo.zoo").race_command(name)
    return command


class _Listed(click.Group):
    """A group that lists its commands without importing them."""

    def described(self) -> dict[str, str]:
        """Each command with what is said of it."""
        raise NotImplementedError

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.described())

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The commands that begin like this, none of which is imported for it."""
        known = self.described() if not incomplete.startswith("-") else {}
        found = [CompletionItem(name, help=text) for name, text in known.items() if name.startswith(incomplete)]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(self.described().items()))


class _Scenarios(_Listed):
    """`run NAME`: each scenario is a command of its own, imported when it is named."""

    def described(self) -> dict[str, str]:
        return {name: question for name, (_, question) in SCENARIOS.items()}

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        races = [CompletionItem(f"race/{name}") for name in RACES if f"race/{name}".startswith(incomplete)]
        return [*super().shell_complete(ctx, incomplete), *races]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name.startswith("race/"):
            return _race(cmd_name.removeprefix("race/"))
        if cmd_name not in SCENARIOS:
            raise errors.unknown("scenario", cmd_name, SCENARIOS, [f"race/{name}" for name in RACES])
        command: click.Command = importlib.import_module(SCENARIOS[cmd_name][0]).command
        return command


class _Commands(_Listed):
    """The commands, with an error that says what is known; those of LATER are imported when they are named."""

    def described(self) -> dict[str, str]:
        here = {name: command.get_short_help_str(80) for name, command in sorted(self.commands.items())}
        return {**here, **{name: text for name, (_, _, text) in LATER.items()}}

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in LATER:
            module, name, _ = LATER[cmd_name]
            later: click.Command = getattr(importlib.import_module(module), name)
            return later
        if cmd_name not in self.commands:
            raise errors.unknown("command", cmd_name, self.list_commands(ctx))
        return self.commands[cmd_name]


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ptelab")
def ptelab() -> None:
    """Emulate the Linux series "Free user PTE page table pages" with real processes and shared page tables.

    Exit status: 0 pass, 1 a check failed, 2 usage, 3 a process died or ptelab itself failed, 4 inconclusive. 129, 130
    and 143 are interrupted, 141 nobody read stdout.

    Names of commands, races, claims, policies, knobs and points are completed by bash after
    eval "$(_PTELAB_COMPLETE=bash_source ptelab)"; zsh_source and fish_source are for those shells.
    """


@ptelab.group(cls=_Scenarios, short_help="Run a scenario, or race/NAME of the zoo.")
def run() -> None:
    """Run a scenario, or race/NAME of the zoo (run NAME --help: its options; ptelab list races)."""


def command_line(arguments: list[str] | None = None) -> int:
    """Run a command line, that of the process by default; the exit status. A mistake in it is one line on stderr."""
    with styled():
        return _command_line(arguments)


def _command_line(arguments: list[str] | None) -> int:
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
        return _complain(error.format_message())


def _complain(text: str) -> int:
    words = " ".join(text.split())  # what was typed may hold anything; a line is a line, and commands no terminal
    sys.stderr.write(f"ptelab: {''.join(one if one.isprintable() else ascii(one)[1:-1] for one in words)}\n")
    return errors.USAGE


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run a command line and end the process."""
    ending.run(lambda: command_line(arguments))
