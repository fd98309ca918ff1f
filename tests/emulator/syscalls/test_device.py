"""The device whose driver takes its frame back from whoever maps it."""

from support import BASE, SLOT, race

from emulator.mm_types import PAGE_SIZE
from workers.programs.program import (
    DEVICE_REMOVE,
    EXIT,
    STOP,
    jump,
    mmap_device,
    mremap_fixed,
    touch,
)

CLEAN = ({}, None)
PAGE, OTHER = PAGE_SIZE, BASE + 4 * SLOT


def test_the_driver_finds_its_frame_wherever_mremap_has_it():
    to = BASE + PAGE
    moves = [mmap_device(BASE), mremap_fixed(BASE, PAGE, to), mremap_fixed(to, PAGE, BASE)]
    loops = [[*moves, jump(0, 300), STOP], [DEVICE_REMOVE, jump(0, 300), STOP], [touch(BASE, SLOT), jump(0, 300), STOP]]

    assert race(loops, "refcount", online=True) == CLEAN


def test_the_driver_comes_while_the_mm_that_maps_its_frame_ends():
    maps = [[mmap_device(BASE), touch(BASE, PAGE), EXIT]] * 2
    drivers = [[DEVICE_REMOVE, jump(0, 2000), STOP]] * 2

    assert race([*maps, *drivers], "none", mm_of_cpu=(0, 1, 2, 2), online=True) == CLEAN
