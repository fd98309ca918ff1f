"""What the cover letter of the series reports: the figures that a run is set beside."""

# threads: (pf/min before, after, change as printed). The change for 8 threads, recomputed, is -1.07 %.
COVER_LETTER = {
    1: (32_085_255, 31_880_833, -0.64),
    8: (101_674_967, 100_588_311, -1.17),
    16: (113_207_000, 112_801_832, -0.36),
}
MADVISE_LOOP_KB = (102_640, 248)  # VmPTE of the loop over 50 GiB, before and after
