"""Section of a campaign: its distinct verdicts, and the command that shows each finding again."""

from __future__ import annotations

from scenarios.reports.reading import Run
from scenarios.reports.section import Lines, Section, Table


def campaign_sections(run: Run) -> list[Section]:
    """The table of the terminal, and below it the commands."""
    rows = run.rows
    if run.scenario != "campaign" or not rows:
        return []
    lines = [
        [row["title"], f"{row['count']:,}", "-" if row["first_seed"] is None else str(row["first_seed"])]
        + [f"{row['seconds']:,.1f}"]
        for row in rows
    ]
    found = [row for row in rows if row["verdict"] not in ("pass", "inconclusive")]
    again = [Lines(f"{row['title']}\nagain: {row['again']}") for row in found]
    return [Section("Verdicts of the tasks", "", [Table(["verdict", "tasks", "first seed", "s"], lines), *again])]
