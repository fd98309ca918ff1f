"""mremap moves an entry, drops the ptls, and flushes the old address then: the CPU that frees the frame flushes the new
one.

CPU 0                          CPU 1, mremap                    CPU 2, driver
=====                          =============                    =============
has the old address in its TLB
                               clears the old entry
                               sets the new one
                               drops both ptls
                                                                zaps the old address: none
                                                                zaps the new one, flushes it
                                                                frees the frame
stores through its TLB into a
  freed frame
                               flushes the old range, too late
"""

from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import DEVICE_REMOVE, STOP, barrier, jump, mmap_device, mremap_fixed, munmap, touch
from workers.programs.scene import Scene


def programs(seed: int) -> Programs:
    """CPU 0 stores to the device where it was, CPU 1 maps it and moves it, CPU 2 is the driver."""
    to = BASE + SLOT
    return [
        [barrier(), touch(BASE, PAGE), barrier(), *[touch(BASE, PAGE)] * 40, barrier(), jump(0)],
        [mmap_device(BASE), barrier(), barrier(), mremap_fixed(BASE, PAGE, to), barrier(), munmap(to, PAGE), jump(0)],
        [barrier(), barrier(), DEVICE_REMOVE, barrier(), jump(0)],
    ]


RACE = Race(
    detectors=("tlb-hit-freed-frame",),
    programs=programs,
    scene=Scene(  # CPU 0 is the driver as well
        setup=(mmap_device(BASE), touch(BASE, PAGE), STOP),
        programs=((DEVICE_REMOVE, touch(BASE, PAGE), STOP), (mremap_fixed(BASE, PAGE, BASE + PAGE), STOP)),
    ),
    policy="none",
    steer=(("mremap.unlocked", "device.freed", 300), ("device.freed", "access.translated", 50)),
    why="any would do: the table stays",
)
