"""A plot, drawn by matplotlib and returned as SVG that takes its colours from the page: light, dark, or on paper."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scenarios.reports.extra import library

INK, QUIET, RULE, PAPER = "#1b1b1f", "#5d5d66", "#d4d4da", "#fdfdfe"
# light, dark: told apart by eyes that see fewer colours, too (after Okabe and Ito)
SERIES = (
    ("#0072b2", "#5ab4f0"),
    ("#c4500a", "#f08a4b"),
    ("#00805c", "#3ccf9f"),
    ("#a3478a", "#e08cc8"),
    ("#80650a", "#e0c050"),
    ("#5c5ccc", "#a5a5ff"),
    ("#8a3030", "#ff9a9a"),
    ("#4d6b1a", "#b4d870"),
)
DASHES = ("-", "--", "-.", ":")
WIDE, NARROW = (9.6, 4.1), (4.3, 3.7)  # inches; a page of 400 pixels shows the second
VARIABLES = {INK: "--ink", QUIET: "--quiet", RULE: "--rule", PAPER: "--paper"} | {
    light: f"--s{i}" for i, (light, _) in enumerate(SERIES)
}

Draw = Callable[[Any, bool], None]  # (axes, narrow): draws into the axes
_numbers = itertools.count()


@dataclass(frozen=True)
class Plot:
    """A picture: its file name, what it shows in a sentence, how it is drawn, how high it is."""

    name: str
    caption: str
    draw: Draw
    height: float = 1.0  # times the usual height

    def svg(self) -> str:
        """Two SVG elements: one for wide pages, one for narrow ones; the style sheet shows either."""
        return "".join(
            f'<div class="{kind}">{_inline(self._drawn(size, kind == "narrow"), self.caption)}</div>'
            for kind, size in (("wide", WIDE), ("narrow", NARROW))
        )

    def png(self, directory: Path) -> Path:
        """Write it as NAME.png, light, and return the path."""
        file = directory / f"{self.name}.png"
        figure = self._drawn(WIDE, False)
        figure.savefig(file, dpi=150, facecolor=PAPER)
        return file

    def _drawn(self, size: tuple[float, float], narrow: bool) -> Any:
        matplotlib = library("matplotlib")
        figures = library("matplotlib.figure")
        with matplotlib.rc_context(_style(narrow)):
            figure = figures.Figure(figsize=(size[0], size[1] * self.height), layout="constrained")
            self.draw(figure.add_subplot(), narrow)
            figure.canvas.draw()  # lays it out while the style holds
        return figure


def prefix_of_ids() -> str:
    """What makes the ids of a drawing its own in a page."""
    return f"f{next(_numbers)}-"


def colour(i: int) -> str:
    """The colour of series i."""
    return SERIES[i % len(SERIES)][0]


def dash(i: int) -> str:
    """The line of series i: another one where colours begin anew."""
    return DASHES[i // len(SERIES) % len(DASHES)]


def style_sheet(dark: bool) -> str:
    """The values of the variables for a light page or a dark one."""
    grounds = {INK: "#ececf1", QUIET: "#a9a9b5", RULE: "#3c3c46", PAPER: "#17171b"}
    values = {light: other if dark else light for light, other in [*SERIES, *grounds.items()]}
    return " ".join(f"{VARIABLES[light]}: {value};" for light, value in values.items())


def _style(narrow: bool) -> dict[str, Any]:
    return {
        "svg.fonttype": "none",
        "svg.hashsalt": "ptelab",
        "text.parse_math": False,
        "font.family": "sans-serif",
        "font.size": 11 if narrow else 10.5,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": QUIET,
        "axes.facecolor": "none",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.titlesize": "medium",
        "grid.color": RULE,
        "grid.linewidth": 0.6,
        "xtick.color": QUIET,
        "ytick.color": QUIET,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "figure.facecolor": "none",
        "legend.frameon": False,
        "lines.linewidth": 1.8,
    }


def _inline(figure: Any, caption: str) -> str:
    """The SVG element alone: ids of its own, colours that are variables, a size that follows the page."""
    written = io.StringIO()
    matplotlib = library("matplotlib")
    with matplotlib.rc_context(_style(False)):
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = written.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    prefix = prefix_of_ids()
    used = set(re.findall(r'(?:href="|url\()#([\w.-]+)', text))
    text = re.sub(r' id="([\w.-]+)"', lambda m: f' id="{prefix}{m[1]}"' if m[1] in used else "", text)
    text = re.sub(r'(href="|url\()#', rf"\g<1>#{prefix}", text)
    for light, variable in VARIABLES.items():
        text = text.replace(light, f"var({variable})")
    text = re.sub(r'<svg (.*?)(?:width|height)="[^"]*" ?', r"<svg \1", text, count=1, flags=re.DOTALL)
    text = re.sub(r'^<svg ([^>]*?)(?:width|height)="[^"]*" ?', r"<svg \1", text, count=1)
    text = re.sub(r"\n\s*", "\n", text)
    label = caption.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return text.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
