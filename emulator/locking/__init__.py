"""Spinlocks, mmap_lock, sleeping locks. May import cpu/ and what lies below it."""
