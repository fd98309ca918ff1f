"""mmap_lock in every interleaving: readers commute, a writer is alone, no wake-up is lost."""

import litmus
import pytest
from support import in_engine


def test_readers_of_mmap_lock_commute():
    assert in_engine("explore", litmus.mmap_lock, "rrr") == [1, False, [[0, 0]]]


@pytest.mark.parametrize(
    ("tasks", "seen"), [("rw", [[0, 0], [2, 2]]), ("rd", [[0, 0], [2, 2]]), ("dd", [[1, 1], [2, 2]])]
)
def test_mmap_lock_excludes_a_writer_and_loses_no_wake_up(tasks, seen):
    assert in_engine("explore", litmus.mmap_lock, tasks)[1:] == [False, seen]


def test_without_mmap_lock_a_reader_sees_half_of_a_write():
    assert [0, 2] in in_engine("explore", litmus.mmap_lock, "rw", False)[2]
