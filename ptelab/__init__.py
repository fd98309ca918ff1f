"""ptelab from Python: a program for each CPU of a machine, run under a policy, and what came of it.

    import ptelab
    from ptelab import dontneed, mmap, touch

    base = 0x7F00_0000_0000
    heap = [mmap(base, 64 << 20), touch(base, 64 << 20), dontneed(base, 64 << 20)]
    lab = ptelab.Lab(policies=("none", "refcount"))
    for policy in lab.policies:
        print(policy, ptelab.run([heap], policy, lab).vmpte_kb)

It is what the scenarios use, under one name. docs/python.md explains it.
"""

from emulator.mm_types import Geometry
from emulator.policy.policies import POLICIES
from ptelab.experiment import Result, run
from scenarios.session.errors import UserError
from scenarios.session.options import Lab
from workers.programs.program import (
    STOP,
    Insn,
    advise,
    barrier,
    compute,
    dontneed,
    fork,
    free,
    gup,
    jump,
    load,
    migrate,
    mincore,
    mlock,
    mmap,
    mmap_file,
    mprotect,
    mremap,
    mremap_fixed,
    munlock,
    munmap,
    pagemap,
    read,
    smaps,
    store,
    swapout,
    touch,
    truncate,
    writeback,
)
from workers.telling.postmortem import MachineFailed

__all__ = [
    "POLICIES",
    "STOP",
    "Geometry",
    "Insn",
    "Lab",
    "MachineFailed",
    "Result",
    "UserError",
    "advise",
    "barrier",
    "compute",
    "dontneed",
    "fork",
    "free",
    "gup",
    "jump",
    "load",
    "migrate",
    "mincore",
    "mlock",
    "mmap",
    "mmap_file",
    "mprotect",
    "mremap",
    "mremap_fixed",
    "munlock",
    "munmap",
    "pagemap",
    "read",
    "run",
    "smaps",
    "store",
    "swapout",
    "touch",
    "truncate",
    "writeback",
]
