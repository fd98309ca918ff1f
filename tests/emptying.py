"""Programs that take the entries of a table away, and three CPUs that do so at once."""

from support import BASE, SLOT

from workers.programs.program import (
    STOP,
    dontneed,
    free,
    jump,
    mincore,
    mmap,
    mmap_file,
    mremap_fixed,
    munmap,
    punch_hole,
    read,
    swapout,
    touch,
)

PAGE = 4096
PIECES = [dontneed(BASE + at, SLOT // 32) for at in range(0, SLOT, SLOT // 32)]
LAST = {  # each takes the last entry of one table away
    "in pieces": [mmap(BASE, SLOT), touch(BASE, SLOT), *PIECES],
    "by munmap beside a neighbour": [mmap(BASE, SLOT), touch(BASE, PAGE), munmap(BASE, SLOT // 2)],
    "by reclaim": [mmap(BASE, SLOT), touch(BASE, PAGE), free(BASE, PAGE), swapout(8)],
    "by mremap": [mmap(BASE, SLOT), touch(BASE, PAGE), mremap_fixed(BASE, PAGE, BASE + 4 * SLOT)],
    "by a hole in a file": [mmap_file(BASE, SLOT, 0, shared=True), read(BASE, PAGE), punch_hole(0, 0, 16)],
}
THREE_CPUS = [  # faults, looks and unmaps
    [mmap(BASE, 2 * SLOT), touch(BASE, SLOT // 8), *PIECES[:4], munmap(BASE, SLOT), jump(0, 40), STOP],
    [touch(BASE + SLOT - PAGE, 2 * PAGE), dontneed(BASE + SLOT - PAGE, 2 * PAGE), jump(0, 40), STOP],
    [mincore(BASE, 2 * SLOT), read(BASE, PAGE), jump(0, 40), STOP],
]
