"""Retract: the tables of a file's mappings are taken away from everybody who has them."""

from support import BASE, SLOT, race

from emulator.mm_types import PAGE_SIZE
from workers.programs.program import (
    STOP,
    barrier,
    fork,
    jump,
    mmap_file,
    retract,
    touch,
)

CLEAN = ({}, None)
PAGE, OTHER = PAGE_SIZE, BASE + 4 * SLOT


def test_retract_leaves_the_tables_of_a_child_alone_that_fork_is_filling():
    forks = [mmap_file(BASE, SLOT, 0), touch(BASE, PAGE), barrier(), fork(), jump(3, 300), STOP]

    assert race([forks, [barrier(), retract(0), jump(1, 3000), STOP]], "refcount", online=True) == CLEAN
