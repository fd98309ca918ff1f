"""The page fault, copy-on-write, zap, files, swap, userfaultfd. May import rmap_walks/ and what lies below it."""
