"""When no frame is left, reclaim makes room."""

from support import BASE, SLOT
from swapping import PAGE, run

from workers.programs.program import (
    load,
    mmap,
    read,
    touch,
)


def test_memory_that_runs_out_goes_to_swap_if_there_is_any():
    program = [mmap(BASE, SLOT), touch(BASE, 60 * PAGE, value=7), read(BASE, 60 * PAGE), load(BASE)]

    left = run(program, frames=40)
    assert (left.errors, left.loaded) == (0, 7)
    assert left.anon + left.swap == 60
    assert run(program, frames=40, swap_pages=0).errors != 0
