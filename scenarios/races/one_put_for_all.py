"""D5: insert_pages takes a reference on each table it comes to, and drops one behind its loop.

CPU 0, insert_pages over two tables    CPU 1
===================================    =====
pins the first table, sets entries
pins the second, sets entries
pte_put(): of the second
                                       munmap: zap clears the entries, its puts are not the last
                                       free_pgtables: the first table is still there - BUG() in patch 5
"""

from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import STOP, barrier, dontneed, insert_pages, jump, mmap_file, munmap, read
from workers.programs.scene import Scene

AT = BASE + SLOT - PAGE  # the last page of one table, then the next table's first


def programs(seed: int) -> Programs:
    """CPU 0 inserts two pages, one into each of two tables; CPU 1 maps and unmaps them."""
    cached = [mmap_file(BASE + 4 * SLOT, 2 * PAGE, 0), read(BASE + 4 * SLOT, 2 * PAGE)]
    driver = [*cached, barrier(), insert_pages(AT, 2 * PAGE), barrier(), jump(2)]
    unmapper = [mmap_file(AT, 2 * PAGE, 0), barrier(), barrier(), munmap(AT, 2 * PAGE), jump(0)]
    return [driver, unmapper]


RACE = Race(
    detectors=("table-left-at-teardown",),
    programs=programs,
    scene=Scene(
        setup=(mmap_file(AT, 2 * PAGE, 0), read(AT, 2 * PAGE), dontneed(AT, 2 * PAGE), STOP),
        programs=((insert_pages(AT, 2 * PAGE), munmap(AT, 2 * PAGE), STOP),),
    ),
)
