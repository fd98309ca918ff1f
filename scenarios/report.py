"""report: records as one HTML page with plots and stories, which holds the records; plots as PNG; a Perfetto trace.

RUN is what --json or --html wrote; - is stdin. The page needs no network, and can be read without JavaScript. Without
an option the pictures are drawn in the terminal. --format csv writes every measurement on a line of its own, for pandas
and the like.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from scenarios.reports.extra import ReportError
from scenarios.reports.long_form import csv_text
from scenarios.reports.reading import Run, read_runs
from scenarios.reports.timeline import timeline_of
from scenarios.session import report
from scenarios.session.errors import OK, UserError
from scenarios.session.files import input_file, kept_file, output_file, write_file
from scenarios.session.options import style_options
from scenarios.session.style import style

HELP = (__doc__ or "").removeprefix("report: ")
HELP = HELP[0].upper() + HELP[1:]
DAMAGE = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)  # what a changed record brings about


def write_plots(runs: Sequence[Run], directory: str) -> list[Path]:
    """Every plot as a PNG in a directory. Raises UserError."""
    from scenarios.reports.page import plots

    drawn = plots(runs)
    if not drawn:
        raise UserError(
            "--png: these records have no plot; known: multi-fault, madvise-loop, replay, whatif, arena, ..."
        )
    try:
        Path(directory).mkdir(parents=True, exist_ok=True)
        names = [plot.name for plot in drawn]
        files = []
        for i, plot in enumerate(drawn):  # of several records with a plot of one name the second is NAME-2
            same = names[:i].count(plot.name)
            files.append(replace(plot, name=f"{plot.name}-{same + 1}" if same else plot.name).png(Path(directory)))
        return files
    except OSError as error:
        raise UserError(f"cannot write to {directory}: {error.strerror}") from None


@click.command("report", help=HELP)
@click.argument("run", nargs=-1, required=True, callback=input_file)
@click.option("-o", "--html", "html_file", metavar="FILE", callback=output_file, help="Write the page.")
@click.option(
    "--perfetto",
    "trace_file",
    metavar="FILE",
    callback=output_file,
    help="Write the events as a trace for ui.perfetto.dev.",
)
@click.option("--png", "png_directory", metavar="DIR", callback=kept_file, help="Write each plot as a PNG.")
@style_options
def command(run: tuple[str, ...], html_file: str | None, trace_file: str | None, png_directory: str | None) -> int:
    """Read, draw, write; the exit status."""
    try:
        runs = [one for file in run for one in read_runs(file)]
        if html_file is not None:
            from scenarios.reports.page import page

            write_file(html_file, page(runs))
        if trace_file is not None:
            write_file(trace_file, timeline_of(runs).serialized())
        if png_directory is not None:
            for file in write_plots(runs, png_directory):
                click.echo(file)
        if style().format == "csv":
            sys.stdout.write(csv_text(runs))
        elif html_file is trace_file is png_directory is None and not report.pictures(runs):
            raise UserError("nothing of this can be drawn in a terminal; known: -o FILE, --perfetto FILE, --png DIR")
    except ReportError as error:
        raise UserError(str(error)) from None
    except DAMAGE as error:
        told = f"{type(error).__name__}: {error}".replace("\n", " ")[:200]
        raise UserError(f"a record is not as ptelab writes it ({told}); known: docs/json.md") from None
    return OK
