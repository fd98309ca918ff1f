"""Frames and what maps them: allocator, VMAs, rmap, page cache, swap map. May import locking/ and below."""
