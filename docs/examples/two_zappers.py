"""A policy experiment: two CPUs fault into one table and release it, over and over. Which piece can be left out?

Run it with `python docs/examples/two_zappers.py`; it says what the detectors saw with each knob, and who pays what.
"""

import ptelab
from ptelab import dontneed, jump, mmap, touch

BASE, SLOT = 0x7F00_0000_0000, 2 << 20


def programs() -> list[list[ptelab.Insn]]:
    """Each CPU touches half of one PTE table and releases the whole of it, without end."""
    halves = [touch(BASE + cpu * SLOT // 2, SLOT // 2) for cpu in range(2)]
    return [[mmap(BASE, SLOT), half, dontneed(BASE, SLOT), jump(1)] for half in halves]


def without(*knobs: str, seconds: float = 5.0) -> ptelab.Result:
    """The two of them under the counting design, with pieces of the protocol left out."""
    lab = ptelab.Lab(policies=("refcount",), checks="online", knobs=knobs, perturb=64)
    return ptelab.run(programs(), "refcount", lab, seconds=seconds)


if __name__ == "__main__":
    for knobs in ((), ("no-flush",), ("plain-count",)):
        result = without(*knobs)
        seen = result.violations[0]["saw"] if result.violations else f"{result.counters['faults']:,} faults, all well"
        print(f"{', '.join(knobs) or 'whole':<20} {result.verdict}: {seen}")
