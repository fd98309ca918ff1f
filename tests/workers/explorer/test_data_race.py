"""The report of a data race."""

import json
from dataclasses import replace

from emulator.pgtable_types import PMD_LEVEL, PTE_LEVEL
from workers.explorer.data_race import DataRace, data_race_lines, why_unordered
from workers.telling.access import Access
from workers.telling.phrases import Names

TASKS = ["CPU 0", "CPU 1", "the coordinator"]
PMD_TABLE, TABLE = 3, 4  # an upper table and a PTE table
LEVELS = {PMD_TABLE: PMD_LEVEL, TABLE: PTE_LEVEL}
PMD = PMD_TABLE << 9 | 511


def access(task, op, field, index, old, new=None, function="f", callers=(), length=1, instruction=""):
    """One access; `trace` numbers it. A load needs no new value."""
    new = old if new is None else new
    return Access(0, task, op, field, index, length, old, new, function, "f.py:1", callers, instruction)


# --- data races -----------------------------------------------------------------------------------------------------


def data_race(first_op="plain store", second_op="read_once"):
    first = access(0, first_op, "ptdesc.pmd", TABLE, 0, PMD, "populate", ("populate pgtable.py:90", "pmd_install"))
    second = access(1, second_op, "ptdesc.pmd", TABLE, PMD, None, "pinned", ("pinned", "pte_try_get"))
    first, second = replace(first, step=4), replace(second, step=9)
    return DataRace("ptdesc.pmd", TABLE, first, second, why_unordered(first, second, TASKS))


def test_a_data_race_has_the_shape_of_kcsans_report():
    lines = data_race_lines(data_race(), Names(LEVELS, TASKS))

    assert lines[0] == "BUG: KCSAN: data-race in pinned / pmd_install"
    assert lines[2] == "read (marked) to ptdesc.pmd[4] (back-pointer of table 4) of 8 bytes by CPU 1, step 9:"
    assert lines[3].split() == ["pinned", "f.py:1"]
    assert lines[6].startswith("write to ptdesc.pmd[4]")
    assert lines[7].split() == ["populate", "pgtable.py:90"]
    assert f"value changed: 0x0 -> {PMD:#x}" in lines
    told = " ".join(lines[-3:])
    assert "no happens-before: read_once in pinned is marked, but the plain store in pmd_install is not" in told


def test_two_plain_accesses_are_named_as_such():
    race = data_race(second_op="plain load")

    assert "both are plain" in race.why
    assert data_race_lines(race, Names(LEVELS, TASKS))[2].startswith("read to ")
    assert json.dumps(race.as_json())
