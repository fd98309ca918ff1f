"""munmap of a device mapping takes the VMA out of i_mmap before it flushes: the driver believes nobody maps its frame.

CPU 0                          CPU 1, munmap                    CPU 2, driver
=====                          =============                    =============
has the device's frame in its
  TLB
                               clears the PTE (flush deferred)
                               unlinks the VMA from i_mmap
                                                                unmap_mapping_range: no VMA
                                                                frees the frame
stores through its TLB into a
  freed frame
                               flushes, too late
"""

from scenarios.zoo.race import BASE, PAGE, Programs, Race
from workers.programs.program import DEVICE_REMOVE, STOP, barrier, jump, mmap_device, munmap, touch
from workers.programs.scene import Scene


def programs(seed: int) -> Programs:
    """CPU 0 stores to the device, CPU 1 maps it and unmaps it, CPU 2 is the driver."""
    return [
        [barrier(), touch(BASE, PAGE), barrier(), *[touch(BASE, PAGE)] * 40, barrier(), jump(0)],
        [mmap_device(BASE), barrier(), barrier(), munmap(BASE, PAGE), barrier(), jump(0)],
        [barrier(), barrier(), DEVICE_REMOVE, barrier(), jump(0)],
    ]


RACE = Race(
    detectors=("tlb-hit-freed-frame",),
    programs=programs,
    scene=Scene(  # CPU 0 is the driver as well
        setup=(mmap_device(BASE), touch(BASE, PAGE), STOP),
        programs=((DEVICE_REMOVE, touch(BASE, PAGE), STOP), (munmap(BASE, PAGE), STOP)),
    ),
    policy="none",
    steer=(("munmap.unlinked", "access.translated", 300), ("device.freed", "access.translated", 50)),
    why="any would do: tables play no part",
)
