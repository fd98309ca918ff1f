"""The figures of docs/real-programs.md: programs are run and recorded here, and replayed under each design.

python -m benchmarks.programs               all that are installed
python -m benchmarks.programs --only redis  those whose name begins so
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import click

from benchmarks.advice import CHURN, SETTINGS, library
from scenarios.imports.program import choose_tool, record_command
from scenarios.session import report
from scenarios.session.errors import UserError
from scenarios.session.options import Lab
from scenarios.session.progress import note
from scenarios.session.record import Record
from scenarios.traces.agreement import host_policy
from scenarios.traces.trace import TraceError, parse
from scenarios.traces.whatif import Curve, run

POLICIES = ("none", "pt-reclaim", "refcount", "async-scan")
LAB = Lab(policies=POLICIES)
_QUIET = ["sh", "-c", 'exec "$0" "$@" </dev/null >/dev/null']
_SCAVENGER = """
import mmap, os
memory = mmap.mmap(-1, 256 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for at in range(0, 256 << 20, 4096):
    memory[at] = 1
for at in range(0, 256 << 20, {piece}):
    memory.madvise(mmap.MADV_DONTNEED, at, {piece})
os._exit(0)
"""
_FILE = """
import mmap, os, random, sys
with open(sys.argv[1], "w+b") as file:
    file.truncate(4 << 30)
    memory = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
for at in random.Random(1).sample(range(0, 4 << 30, 4096), 4000):
    memory[at]
os._exit(0)
"""
_REDIS = """
cd "$1"
(until redis-cli -s r ping; do sleep 0.05; done
 redis-cli -s r debug populate 40000 k 300; redis-cli -s r bgsave; sleep 1
 redis-cli -s r flushall; redis-cli -s r shutdown nosave) >/dev/null 2>&1 &
exec redis-server --port 0 --unixsocket r --save "" --dir . --enable-debug-command yes >/dev/null
"""


class Program(NamedTuple):
    """A program that can be recorded: its name, and its command."""

    name: str
    command: list[str]


def programs(directory: Path) -> Iterator[Program]:
    """The programs whose parts are installed; a note says which are not."""
    python = [sys.executable, "-I"]
    for allocator, name, settings in SETTINGS:
        path = library(name) if name else ""
        if name and not path:
            note(f"{allocator} is left out: {name} is not installed")
            continue
        environment = [f"{key}={value}" for key, value in settings.items()] + ([f"LD_PRELOAD={path}"] if path else [])
        title = ",".join(value if key == "MALLOC_CONF" else f"{key}={value}" for key, value in settings.items())
        for long, short in (("dirty_decay_ms:0,muzzy_decay_ms:0", "decay 0"), ("TCMALLOC_", ""), ("MIMALLOC_", "")):
            title = title.replace(long, short)
        title = title.partition(",PURGE")[0]
        yield Program(f"{allocator} {title}".strip(), [*_QUIET, "env", *environment, *python, str(CHURN), "3", "8"])
    for piece, words in ((64 << 10, "64 KiB"), (2 << 20, "2 MiB")):
        yield Program(f"released by {words}", [*_QUIET, *python, "-c", _SCAVENGER.format(piece=piece)])
    yield Program("file read at random", [*_QUIET, *python, "-c", _FILE, str(directory / "file")])
    for name, needs, command in (
        ("redis, BGSAVE", "redis-server", ["sh", "-c", _REDIS, "sh", str(directory)]),
        ("sqlite in memory", "sqlite3", [*_QUIET, "sqlite3", ":memory:", _SQL]),
        ("node", "node", [*_QUIET, "node", "-e", _NODE]),
    ):
        if shutil.which(needs):
            yield Program(name, command)
        else:
            note(f"{name} is left out: {needs} is not installed")


_SQL = (
    "create table t(a, b); with recursive n(i) as (select 1 union all select i + 1 from n where i < 200000) "
    "insert into t select i, hex(randomblob(100)) from n; create index x on t(b); delete from t where a % 3; vacuum;"
)
_NODE = "let a = []; for (let i = 0; i < 6e5; i++) { a.push({i, s: 'x' + i}); if (i % 2e5 == 0) a = []; }"


def _end(curve: Curve, rest: bool = False) -> int:
    """What is held at the end; of a program that has given all up, when it was looked at last."""
    if curve.end:
        return curve.at_rest if rest else curve.end
    texts = (operation.text for operation in curve.result.trace.operations)
    looks = [row for row, text in enumerate(texts) if text.startswith("expect")]
    return int(curve.held[looks[-1]]) if looks else 0


def _row(name: str, curves: Sequence[Curve], host: str) -> list[str]:
    """One line of the table."""
    by_name = {curve.policy: curve for curve in curves}
    own = by_name.get(host, curves[0])
    met = f"{(own.off == 0).sum()} of {len(own.off)}" if len(own.off) else "-"
    least = _end(by_name["refcount"])
    waste = 100 * (_end(own) - least) / _end(own) if _end(own) else 0.0
    held = [f"{_end(by_name[policy]):,}" for policy in POLICIES[:-1]]
    rest = f"{_end(by_name['async-scan'], rest=True):,}"
    return [name, f"{own.peak:,}", *held, rest, f"{waste:.0f} %", met]


def measure(wanted: Sequence[Program], tool: str) -> list[list[str]]:
    """Record each program and replay it; a program that fails is left out, with a note."""
    host = host_policy()
    rows = []
    for program in wanted:
        with tempfile.TemporaryDirectory(prefix="ptelab-") as directory:
            trace = str(Path(directory) / "program.trace")
            try:
                record_command(program.command, trace, tool)
                curves = run(parse(trace), LAB, Record("whatif", 0))
            except (UserError, TraceError) as error:
                note(f"{program.name} is left out: {error}")
                continue
        rows.append(_row(program.name, curves, host))
        note("  ".join(rows[-1]))
    return rows


@click.command()
@click.option("--only", default="", help="Programs whose name begins so.")
@click.option("--tool", default=None, help="perf or strace. [the first that can be used]")
def main(only: str, tool: str | None) -> None:
    """Record and replay."""
    LAB.choose_engine()
    chosen = choose_tool(tool)
    with tempfile.TemporaryDirectory(prefix="ptelab-") as directory:
        wanted = [one for one in programs(Path(directory)) if one.name.startswith(only)]
        rows = measure(wanted, chosen)
    report.write(
        f"recorded by {chosen}; page tables in kB; peak and waste are those of this kernel's design, {host_policy()}"
    )
    header = ["program", "peak", "none", "pt-reclaim", "refcount", "scan", "waste", "met"]
    report.table(header, rows)


if __name__ == "__main__":
    main()
