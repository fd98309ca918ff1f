"""Programs for a machine, as data: instructions, random programs, scenes."""
