"""D10: the freer checks under pmd_lock that a table is there, not that it is the one whose count was zero (ABA).

    CPU 0                                  CPU 1
    =====                                  =====
    put: sees the count at zero
                                           put: sees it at zero, too
                                           pmd_lock, clears the pmd
                                           fault: installs a new table
    pmd_lock: a table is there
    clears the pmd of the new table, which is in use

Only where each CPU that sees zero may free, as in the percpu_ref RFC; in v1 the CPU that made it zero does.
"""

from scenarios.zoo.bodies import ONE_ENTRY, at_once, walk, zap_then_fault
from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import barrier, dontneed, jump, mmap, touch


def programs(seed: int) -> Programs:
    """Both CPUs release the same slot at once; CPU 1 then faults in it again."""
    first = [mmap(BASE, SLOT), barrier(), touch(BASE, PAGE), barrier(), dontneed(BASE, SLOT), barrier(), jump(1)]
    second = [barrier(), barrier(), dontneed(BASE, SLOT), touch(BASE + PAGE, PAGE), barrier(), jump(0)]
    return [first, second]


RACE = Race(
    detectors=("table-double-free", "pmd-changed-under-pin", "table-use-after-free", "count-from-zero"),
    programs=programs,
    scene=at_once(ONE_ENTRY, walk, zap_then_fault),
    settings={"any_zero_frees": 1},
    steer=(
        ("zap.cleared", "pte_put.dropped", 100, 1),
        ("pte_put.dropped", "free_pte_table.zero", 100, 0),
        ("free_pte_table.zero", "pmd_install.locked", 200, 0),
    ),
    why="two freers of one table; in v1 only the CPU that made it zero frees",
)
