"""What a machine that did not come to rest has lost: memory that nobody will free, references nobody will drop."""

from __future__ import annotations

from typing import Any

from emulator import lazy_numpy as np
from emulator.checks import Frozen, holds
from emulator.mm_types import FRAMES, GATHER_PAGES, GATHER_TABLES, TABLES, Geometry
from emulator.pgtable_types import TABLE_ALLOCATED, TABLE_FREE, TABLE_LIMBO, TABLE_STATES, TABLE_UNHOOKED
from workers.telling.whereabouts import Fates, Views, life_of, many, several, stamp, who

SHOWN = 4  # of each kind, the rest is a number
EVENTS = 3  # of a table's life, the latest


def _counts(**found: Any) -> str:
    """How many of each, those apart of which there are none."""
    return several([many(int(n), name.replace("_", " ")) for name, n in found.items() if n])


def cut(lines: list[str], shown: int) -> list[str]:
    """The first few, and how many more there are."""
    more = len(lines) - shown
    return lines if more <= 0 else [*lines[:shown], f"... and {more} more like that"]


def _numbers(found: np.ndarray) -> str:
    """The first few numbers."""
    return ", ".join(str(n) for n in found[:SHOWN]) + (", ..." if len(found) > SHOWN else "")


def _lost_tables(frozen: Frozen, fates: Fates) -> list[str]:
    """Tables that are neither installed nor free, those of a gather apart: with the end of their life.

    Those in limbo are as many as a grace period could not free: one line.
    """
    cpu, geometry = frozen.views["cpu"], frozen.geometry
    gathered = {
        int(table)
        for i in range(geometry.cpus)
        for table in frozen.views["gather_table"]["word"][i * GATHER_TABLES :][: int(cpu["gather_tables"][i])]
    }
    lines = []
    for table in np.flatnonzero(np.isin(frozen.state, (TABLE_ALLOCATED, TABLE_UNHOOKED))):
        if int(table) in gathered:
            continue
        line = f"table {table} is {TABLE_STATES[frozen.state[table]]}, neither installed nor free"
        life = life_of(frozen.views, int(table)) if geometry.debug else []
        told = [f"{event} by {who(geometry, by, fates)}" for _, by, event in life[-EVENTS:]]
        lines.append(f"{line}; {', '.join(told)}" if told else line)
    limbo = np.flatnonzero(frozen.state == TABLE_LIMBO)
    if len(limbo):
        lines.append(f"{many(len(limbo), 'table')} in limbo: {_numbers(limbo)}")
    return lines


def _references(frozen: Frozen, fates: Fates) -> list[str]:
    """Installed tables whose count is not their number of entries, or zero: nobody will free them."""
    if not holds(frozen.views, "pte_refcount"):
        return []
    lines = []
    for table in frozen.live_pte:
        count, entries = int(frozen.views["ptdesc"]["pte_refcount"][table]), int(frozen.nonempty[table])
        text = f"table {table} has {many(entries, 'entry')} and count {count}"
        if count > entries:
            lines.append(f"{text}: {many(count - entries, 'reference')} not dropped")
        elif count < entries:
            lines.append(f"{text}: {many(entries - count, 'reference')} too few")
        elif count == 0:
            by = stamp(frozen.views["life"]["zero"][table])[1] if frozen.geometry.debug else -1
            freer = f" by {who(frozen.geometry, by, fates)}" if by >= 0 else ""
            lines.append(f"{text}: its pmd was not cleared{freer}")
    return lines


def _gathers(frozen: Frozen, fates: Fates) -> list[str]:
    """What open gathers hold: unmapped, and never flushed or never freed."""
    views, lines = frozen.views, []
    for i in range(frozen.geometry.cpus):
        row = views["cpu"][i]
        pages = views["gather_page"]["word"][i * GATHER_PAGES :][: int(row["gather_pages"])]
        tables = views["gather_table"]["word"][i * GATHER_TABLES :][: int(row["gather_tables"])]
        users, states = views["page"]["refcount"][pages], frozen.state[tables]  # some of them may be free already
        held = _counts(frame=np.count_nonzero(users > 0), table=np.count_nonzero(states == TABLE_UNHOOKED))
        if row["gather_mm"] and held:
            flushed = "not yet freed" if row["gather_end"] == 0 else "not yet flushed"
            lines.append(f"{held} in the gather of {who(frozen.geometry, i, fates)}, {flushed}")
    return lines


def _lost_frames(frozen: Frozen) -> list[str]:
    """Frames in use that no entry maps, no page of a file is in, no gather holds, and the device does not own."""
    users = frozen.views["page"]["refcount"][: frozen.used_frames]
    accounted = (frozen.mapped > 0) | (frozen.cached > 0) | (users <= 0)
    accounted[frozen.free(FRAMES)] = True
    accounted[int(frozen.views["device"]["frame"][0])] = True
    for i in range(frozen.geometry.cpus):
        pages = int(frozen.views["cpu"]["gather_pages"][i])
        accounted[frozen.views["gather_page"]["word"][i * GATHER_PAGES :][:pages]] = True
    lost = int(np.count_nonzero(~accounted))
    return [f"{many(lost, 'frame')} neither mapped nor free, on the way to an entry or back"] if lost else []


def _free_lists(frozen: Frozen, fates: Fates) -> list[str]:
    """What is free and yet nobody's: on no list, or on the lists of a dead CPU."""
    lines = []
    on_lists = np.bincount(frozen.free(TABLES), minlength=frozen.used)
    vanished = np.flatnonzero((frozen.state == TABLE_FREE) & (on_lists == 0))[1:]  # table 0 is none
    if len(vanished):
        lines.append(f"{many(len(vanished), 'free table')} on no list: {_numbers(vanished)}")
    for number, fate in fates.items():
        count = frozen.views["pcp"]["count"]
        kept = _counts(free_frame=count[2 * number + FRAMES], free_table=count[2 * number + TABLES])
        if fate == "dead" and kept:
            lines.append(f"{kept} on the per-CPU lists of {who(frozen.geometry, number, fates)}")
    return lines


def leaks(views: Views, geometry: Geometry, fates: Fates) -> list[str]:
    """What nobody will give back, one line each; the processes of `fates` do not move any more."""
    frozen = Frozen(views, geometry)
    return [
        *cut(_references(frozen, fates), SHOWN),
        *cut(_lost_tables(frozen, fates), SHOWN),
        *cut(_gathers(frozen, fates), SHOWN),
        *_lost_frames(frozen),
        *_free_lists(frozen, fates),
    ]
