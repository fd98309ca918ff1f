"""A walker takes the first VMA that ends above the address, and begins at the address: where no VMA is.

CPU 0, smaps                           CPU 1, munmap
============                           =============
                                       takes the VMA away, downgrades mmap_lock
find_vma(): one further up
walks from the address on: finds the
  PMD table
                                       no VMA is left in this GiB: frees its
                                       PMD table, with no lock that CPU 0 has
reads an entry of it
"""

from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import STOP, jump, mmap, munmap, smaps, touch
from workers.programs.scene import Scene

ABOVE = BASE + (1 << 30)


def programs(seed: int) -> Programs:
    """CPU 0 looks at all from BASE on, CPU 1 maps and unmaps there, a VMA further up stays."""
    look = [mmap(ABOVE, PAGE), touch(ABOVE, PAGE), smaps(BASE, ABOVE + PAGE - BASE), jump(2)]
    return [look, [mmap(BASE, SLOT), touch(BASE, PAGE), munmap(BASE, SLOT), jump(0)]]


RACE = Race(
    detectors=("walked-freed-table", "table-use-after-free", "ptlock-dead"),
    programs=programs,
    scene=Scene(
        setup=(mmap(BASE, SLOT), touch(BASE, PAGE), mmap(ABOVE, PAGE), STOP),
        programs=((smaps(BASE, ABOVE + PAGE - BASE), STOP), (munmap(BASE, SLOT), STOP)),
    ),
    steer=(("munmap.zapped", "pagewalk.upper", 100), ("pagewalk.upper", "table.freed", 100)),
    policy="none",
    why="any would do: what munmap frees above the PTE tables nobody counts",
)
