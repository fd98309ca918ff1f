"""Write-back write-protects a page in its PTEs and does not flush: a store through a TLB is not noticed.

CPU 0, write-back                      CPU 1
=================                      =====
                                       stores: its TLB has a writable translation
page_mkclean: the PTE is read-only
  and clean (not flushed)
takes the page for clean, writes it
                                       stores, no fault: the page stays clean, and that
                                         word is lost when it is reclaimed
"""

from scenarios.zoo.race import BASE, PAGE, Programs, Race
from workers.programs.program import STOP, dontneed, jump, mmap_file, touch, writeback
from workers.programs.scene import Scene


def programs(seed: int) -> Programs:
    """CPU 0 writes a file back, CPU 1 stores to it."""
    writer = [mmap_file(BASE, PAGE, 0, shared=True), writeback(0), jump(1)]
    storer = [touch(BASE, PAGE), jump(0)]
    return [writer, storer]


RACE = Race(
    detectors=("store-to-clean-page",),
    programs=programs,
    scene=Scene(
        setup=(mmap_file(BASE, PAGE, 0, shared=True), touch(BASE, PAGE), STOP),
        programs=((writeback(0), dontneed(BASE, PAGE), STOP), (touch(BASE, PAGE), touch(BASE, PAGE), STOP)),
    ),
)
