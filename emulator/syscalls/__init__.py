"""System calls: mmap, madvise, mprotect, mremap, fork. May import walks/ and what lies below it."""
