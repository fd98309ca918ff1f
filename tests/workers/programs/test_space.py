"""The sequential model: what a page holds after each call. The random programs compare it with the emulated kernel."""

from emulator.uapi import EBUS, EFAULT, EINVAL, ENOMEM
from workers.programs.space import ANON, AREA_PAGES, File, Space, address


def space():
    """Ten pages of memory at page 0, a file of four pages at page 20, shared."""
    of = Space(File(4))
    of.mmap(0, 10, "rw")
    of.mmap(20, 6, "rw", offset=0, shared=True)
    return of


def test_a_page_holds_what_was_stored_and_zero_before():
    of = space()

    assert of.load(3, 1) == (0, (0,))
    assert of.store(3, 1, 7) == 0
    assert (of.load(3, 1), of.load(3, 0), of.rss) == ((0, (7,)), (0, (0,)), 1)


def test_access_ends_at_holes_permissions_guards_and_the_end_of_the_file():
    of = space()
    of.mprotect(4, 1, "r")
    of.guard_install(5, 1)

    assert of.touch(0, 10, 1) == -EFAULT
    assert [int(of.anon[page]) for page in range(6)] == [1, 1, 1, 1, 0, 0]
    assert (of.load(4, 0)[0], of.load(5, 0)[0], of.load(10, 0)[0]) == (0, -EFAULT, -EFAULT)
    assert (of.load(23, 0)[0], of.load(24, 0)[0]) == (0, -EBUS)


def test_a_child_has_what_its_parent_had_and_then_its_own():
    of = space()
    of.store(1, 0, 5)
    of.store(20, 0, 6)
    child = of.fork()
    of.store(1, 0, 8)
    of.store(20, 0, 9)

    assert (child.load(1, 0), of.load(1, 0)) == ((0, (5,)), (0, (8,)))
    assert child.load(20, 0) == (0, (9,))


def test_a_child_lacks_what_was_not_to_be_inherited():
    of = space()
    of.touch(0, 3, 5)
    of.flag(0, 1, of.dontcopy, True)
    of.flag(1, 1, of.wipe, True)
    child = of.fork()

    assert (child.load(0, 0)[0], child.load(1, 0), child.load(2, 0)) == (-EFAULT, (0, (0,)), (0, (5,)))
    assert of.flag(20, 1, of.wipe, True) == -EINVAL


def test_a_move_takes_what_is_mapped_and_leaves_what_a_gap_meets():
    of = space()
    of.touch(0, 10, 5)
    of.munmap(1, 1)
    of.mmap(40, 3, "rw")
    of.touch(40, 3, 6)

    assert of.move(0, 3, 40) == 0
    assert [of.load(page, 0) for page in (40, 41, 42)] == [(0, (5,)), (0, (6,)), (0, (5,))]
    assert of.load(0, 0)[0] == -EFAULT
    assert of.move(0, 1, 60) == -EFAULT


def test_advice_passes_over_holes_and_stops_at_what_is_locked():
    of = space()
    of.touch(0, 10, 5)
    of.munmap(2, 1)
    of.mlock(5, 1)

    assert of.dontneed(0, 4) == -ENOMEM
    assert of.dontneed(3, 5) == -EINVAL
    assert [int(of.anon[page]) for page in range(10)] == [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]


def test_what_was_released_by_madv_free_may_be_zero_until_it_is_stored_to():
    of = space()
    of.touch(0, 1, 5)
    of.store(0, 1, 6)
    of.lazyfree(0, 1)
    of.store(0, 0, 7)

    assert (of.load(0, 0), of.load(0, 1)) == ((0, (7,)), (0, (6, 0)))


def test_private_copies_outlive_a_hole_and_not_a_truncation():
    of = space()
    of.mmap(30, 4, "rw", offset=0)
    of.store(20, 0, 5)
    of.store(30, 0, 6)
    of.forget_file(0, 4, False)
    kept = of.load(30, 0)
    of.forget_file(0, 4, True)

    assert (kept, of.load(30, 0)) == ((0, (6,)), (0, (5,)))


def test_the_two_areas_are_where_their_addresses_say():
    assert address(1) == address(0) + 4096
    assert address(AREA_PAGES) != address(AREA_PAGES - 1) + 4096
    assert Space(File(1)).offset[0] == ANON
