"""A tiny process, as a program: the page tables that are there before a workload begins."""

from __future__ import annotations

from workers.programs.program import Insn, mmap, touch

PIECE = 2 << 20
BASE_KB = 40  # 2 PUD, 3 PMD, 5 PTE tables
LIBRARIES = 0x7FFF_F000_0000  # inside a GiB: mappings end here, the libraries begin
BINARY, HEAP, STACK = 0x5555_5555_4000, 0x5555_5580_0000, 0x7FE0_0000_0000


def image(base_kb: int = BASE_KB) -> list[Insn]:
    """The program that builds a tiny process of `base_kb` of page tables."""
    pieces = [BINARY, HEAP, STACK, *(LIBRARIES + i * PIECE for i in range(2 + (base_kb - BASE_KB) // 4))]
    return [insn for addr in pieces for insn in (mmap(addr, 16 << 10), touch(addr, 16 << 10))]
