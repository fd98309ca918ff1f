"""What one CPU's program leaves on a machine with swap."""

from support import BASE, SLOT, at_rest

from emulator.mm_types import PAGE_SIZE, Geometry
from emulator.uapi import MADV_PAGEOUT
from workers.programs.program import STOP, advise, mmap, touch

PAGE, OTHER, PAGES = PAGE_SIZE, BASE + 4 * SLOT, 8
SOME = [mmap(BASE, SLOT), touch(BASE, PAGES * PAGE, value=7)]
PAGEOUT = advise(MADV_PAGEOUT, BASE, SLOT)


class Left:
    """What one CPU's program left behind, after the audit found nothing: figures of mm 0, and of the CPU."""

    def __init__(self, program, policy="refcount", **sizes):
        sizes = {"mms": 3, "frames": 8192, "tables": 256, "files": 1, "swap_pages": 64, **sizes}
        with at_rest([program], Geometry(insns=len(program), **sizes), policy) as views:
            cpu, mm, cache = views["cpu"][0], views["mm"][0], views["cache"]
            self.loaded, self.freed, self.errors = (int(cpu[n]) for n in ("loaded", "tables_freed", "errors"))
            self.anon, self.swap, self.file = (int(mm[n]) for n in ("rss_anon", "rss_swap", "rss_file"))
            self.slots = int((cache["swap_map"] != 0).sum())
            self.cached = int((cache["frame"] != 0).sum())
            self.error = [int(error) for error in views["record"]["error"]]
            self.moved = int(cpu["migrated"])


def run(program, policy="refcount", **sizes):
    """Run a program and stop."""
    return Left([*program, STOP], policy, **sizes)
