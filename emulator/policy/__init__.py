"""When an empty PTE table goes: the seam, a file per family of policies. May import tables/ and what lies below it."""
