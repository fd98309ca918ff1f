"""A scenario of one's own: a heap in which one page of each 2 MiB stays. Which design gives the rest back?

Run it with `python docs/examples/sparse_heap.py`; it prints a line per policy.
"""

import ptelab
from ptelab import dontneed, mmap, touch

BASE, SLOT, PAGE = 0x7F00_0000_0000, 2 << 20, 4096
SLOTS = 64


def heap(kept: int) -> list[ptelab.Insn]:
    """All pages are used; then everything is released but one page of each of the first `kept` slots."""
    released = [
        dontneed(BASE + slot * SLOT + PAGE * (slot < kept), SLOT - PAGE * (slot < kept)) for slot in range(SLOTS)
    ]
    return [mmap(BASE, SLOTS * SLOT), touch(BASE, SLOTS * SLOT), *released]


def measure(policies: tuple[str, ...], kept: int) -> list[ptelab.Result]:
    """The heap under each policy, every detector watching."""
    lab = ptelab.Lab(policies=policies, checks="online")
    return [ptelab.run([heap(kept)], policy, lab) for policy in policies]


if __name__ == "__main__":
    for result in measure(("none", "refcount", "pt-reclaim", "two-counter"), SLOTS // 2):
        wasted = result.vmpte_kb - result.needed_kb
        print(f"{result.policy:<12} holds {result.vmpte_kb:>4} kB, needs {result.needed_kb:>4}, wastes {wasted:>4}")
