"""Pictures that no plot library draws: the life of one table as a strip, the waits of processes as a ring."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from scenarios.reports.figures import prefix_of_ids
from scenarios.reports.section import Drawing

# what a table is from this event on; docs/protocol.md has the order of its death. get and put are of a reference
STATES = {
    "allocated": "allocated",
    "installed": "in use",
    "get": "in use",
    "put": "in use",
    "zero": "empty",
    "unhooked": "unhooked",
    "flushed": "flushed",
    "deferred": "in limbo",
    "freed": "free",
}
TONES = {"free": 7, "allocated": 3, "in use": 2, "empty": 4, "unhooked": 1, "flushed": 6, "in limbo": 5}
_ROW = 34


def _text(x: float, y: float, text: str, anchor: str = "start", kind: str = "") -> str:
    css = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{css}>{escape(text)}</text>'


def life_of_table(table: int, life: Sequence[Mapping[str, Any]], end_ns: int) -> Drawing:
    """One row per event, oldest first: instant, what happened, by which process, and the state the table is in from
    there on.

    Instants are ns, and `end_ns` that of the violation; rows are equally high, as ns and ms stand beside each other.
    """
    parts, y, state = [], 8, ""
    events = sorted([*life, {"ns": end_ns, "event": "", "who": ""}], key=lambda one: int(one["ns"]))
    for i, event in enumerate(events):
        at, name = int(event["ns"]), str(event["event"])
        until = int(events[i + 1]["ns"]) if i + 1 < len(events) else at
        again = name == "allocated" and any(one["event"] == "freed" for one in events[:i])
        state = STATES.get(name, state)
        if state:
            tone = TONES.get(state, 0)
            parts.append(f'<rect x="96" y="{y}" width="92" height="{_ROW}" style="fill: var(--s{tone})"/>')
            parts.append(_text(142, y + 22, state, "middle", "state"))
        parts.append(_text(86, y + 14, f"{at / 1000:,.1f} us", "end"))
        parts.append(f'<line x1="88" x2="96" y1="{y}" y2="{y}" style="stroke: var(--ink)"/>')
        told = f"{name}{' again: reused' if again else ''}" if name else "the violation"
        parts.append(_text(198, y + 14, told, kind="strong"))
        lasted = f", for {(until - at) / 1000:,.1f} us" if i + 1 < len(events) else ""
        if name:
            parts.append(_text(198, y + 29, f"by {event['who']}{lasted}"))
        y += _ROW
    label = f"The life of table {table}"
    svg = f'<svg class="life" role="img" aria-label="{label}" viewBox="0 0 450 {y + 6}">{"".join(parts)}</svg>'
    said = "the latest event of each kind, and what the table was from then on"
    return Drawing(svg, f"{label}: {said}. get and put: a reference on it was taken, or given back")


def wait_for_graph(edges: Sequence[tuple[str, str, str]]) -> Drawing:
    """Processes in a ring; an arrow (waiter, for what, in whose hands) for each that waits."""
    names = list(dict.fromkeys(name for who, _, by in edges for name in (who, by)))
    radius = 40.0 if len(names) < 3 else 50.0 + 12.0 * len(names)
    middle_x, middle_y, height = 230.0, radius + 40.0, 2 * radius + 80.0
    at = {
        name: (
            middle_x + 150.0 * math.cos(angle),
            middle_y + radius * math.sin(angle),
        )
        for name, angle in ((name, math.pi + 2 * math.pi * i / len(names)) for i, name in enumerate(names))
    }
    tip = f"{prefix_of_ids()}tip"
    parts = [
        f'<defs><marker id="{tip}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" '
        'orient="auto">'
        '<path d="M0,0L10,5L0,10z" style="fill: var(--s1)"/></marker></defs>'
    ]
    for who, what, by in edges:
        (x1, y1), (x2, y2) = at[who], at[by]
        length = math.hypot(x2 - x1, y2 - y1) or 1.0
        bend = 34.0  # two that wait for each other have two arrows
        cx, cy = (x1 + x2) / 2 - bend * (y2 - y1) / length, (y1 + y2) / 2 + bend * (x2 - x1) / length
        start, stop = _towards((x1, y1), (cx, cy)), _towards((x2, y2), (cx, cy))
        parts.append(
            f'<path d="M{start[0]:.1f},{start[1]:.1f}Q{cx:.1f},{cy:.1f} {stop[0]:.1f},{stop[1]:.1f}" '
            f'marker-end="url(#{tip})" style="fill: none; stroke: var(--s1); stroke-width: 2"/>'
        )
        low = cy > middle_y or (cy == middle_y and y2 < y1)
        parts.append(_text(cx, cy + (16 if low else -8), what, "middle"))
    for name, (x, y) in at.items():
        parts.append(
            f'<rect x="{x - 62:.1f}" y="{y - 18:.1f}" width="124" height="36" rx="6" '
            'style="fill: var(--paper); stroke: var(--ink)"/>'
        )
        parts.append(_text(x, y + 5, name, "middle", "strong"))
    svg = (
        f'<svg class="ring" role="img" aria-label="Which process waits for which" viewBox="0 0 460 {height:.0f}">'
        + "".join(parts)
        + "</svg>"
    )
    return Drawing(svg, "Waits: an arrow points to the process that holds what is waited for")


def _towards(box: tuple[float, float], point: tuple[float, float]) -> tuple[float, float]:
    """Where the line from the middle of a box to a point leaves the box."""
    dx, dy = point[0] - box[0], point[1] - box[1]
    scale = min(64 / abs(dx) if dx else math.inf, 20 / abs(dy) if dy else math.inf)
    return box[0] + dx * scale, box[1] + dy * scale
