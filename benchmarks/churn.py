"""A program that allocates and frees in waves, as a server does under load, and then waits: for allocators.py.

Blocks of 1 KiB to 1 MiB, sizes spread by their logarithm, are allocated by the malloc of this process and written to.
Each wave frees most of what there is, in random order. Two threads do so. Only the standard library is used.
"""

from __future__ import annotations

import ctypes
import random
import sys
import threading

SMALLEST, LARGEST = 10, 20  # powers of two
KEPT = 0.003  # of the blocks of a wave, which live to the end


def wave(libc: ctypes.CDLL, rng: random.Random, size: int, kept: list[int]) -> None:
    """Allocate and write `size` bytes, then free all blocks but a few."""
    blocks, total = [], 0
    while total < size:
        length = int(2 ** rng.uniform(SMALLEST, LARGEST))
        block = libc.malloc(length)
        libc.memset(block, 1, length)
        blocks.append(block)
        total += length
    rng.shuffle(blocks)
    stay = int(len(blocks) * KEPT)
    kept += blocks[:stay]
    for block in blocks[stay:]:
        libc.free(block)


def thread(seed: int, waves: int, size: int) -> None:
    """The waves of one thread, and then a little work: an allocator releases only when it is called."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    rng = random.Random(seed)
    kept: list[int] = []
    for number in range(waves):
        wave(libc, rng, size * (1 + number % 3), kept)
    for _ in range(2000):
        libc.free(libc.malloc(4096))


def main() -> None:
    """churn.py WAVES MEBIBYTES: say `ready` in the end, and wait for a line."""
    waves, size = int(sys.argv[1]), int(sys.argv[2]) << 20
    threads = [threading.Thread(target=thread, args=(seed, waves, size)) for seed in range(2)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()


if __name__ == "__main__":
    main()
