"""Frames and who maps them: allocator, VMAs, rmap, page cache, swap map. May import locking/ and what lies below it."""
