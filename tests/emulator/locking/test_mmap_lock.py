"""mmap_lock in every interleaving: readers commute, a writer is alone, no wake-up is lost."""

import pytest
from support import in_engine


def explore(expression):
    return in_engine("explore", f"__import__('litmus').{expression}", build="debug")


def test_readers_of_mmap_lock_commute():
    assert explore("mmap_lock('rrr')") == [1, False, [[0, 0]]]


@pytest.mark.parametrize(
    ("tasks", "seen"), [("rw", [[0, 0], [2, 2]]), ("rd", [[0, 0], [2, 2]]), ("dd", [[1, 1], [2, 2]])]
)
def test_mmap_lock_excludes_a_writer_and_loses_no_wake_up(tasks, seen):
    assert explore(f"mmap_lock({tasks!r})")[1:] == [False, seen]


def test_without_mmap_lock_a_reader_sees_half_of_a_write():
    assert [0, 2] in explore("mmap_lock('rw', locked=False)")[2]
