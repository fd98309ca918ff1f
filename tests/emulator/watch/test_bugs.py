"""Every detector fires on what it is there for. The zoo shows most of them on real races; these are the bare twins.

Covers: emulator/watch/lockdep, emulator/policy/pins
"""

import provoke
from support import hammer, in_engine, race, random_program

from emulator.watch.bugs import BUGS, Bug
from scenarios.zoo.race import RACES, load_race

EXPECTED = {
    "swap_count": "swap-count-underflow",
    "unlock": "unlock-not-owner",
    "mmap_unlock": "unlock-not-owner",
    "lock_order": "lock-order",
    "longer_lock_order": "lock-order",
    "lock_recursion": "lock-recursion",
    "mmap_lock_not_held": "lock-not-held",
    "mmap_lock_held_for_reading": "lock-not-held",
    "ptl_not_held": "lock-not-held",
    "pmd_lock_not_held": "lock-not-held",
    "page_lock_not_held": "lock-not-held",
    "sleep_under_ptl": "sleep-in-atomic",
    "sleep_in_read_section": "sleep-in-atomic",
    "flush_in_read_section": "read-section",
    "age_outside_of_read_section": "read-section",
    "walk_with_interrupts_on": "interrupts-on",
    "clear_without_gather": "gather-not-open",
    "frame_count": "frame-count-underflow",
    "frame_double_free": "frame-double-free",
    "table_double_free": "table-double-free",
    "bad_mm_at_exit": "bad-mm-at-exit",
    "deposit_missing": "deposit-missing",
    "foreign_contents": "foreign-contents",
    "foreign_store": "foreign-contents",
    "lost_store": "lost-store",
    "changed_word": "lost-store",
    "value_never_stored": "value-never-stored",
    "store_to_shared": "store-to-shared",
    "shared_elsewhere": "foreign-contents",
    "moved_away": "foreign-contents",
    "stale_after_dontneed": "stale-after-dontneed",
    "tlb_hit_freed_frame": "tlb-hit-freed-frame",
    "psc_hit_freed_table": "psc-hit-freed-table",
    "walk_freed_table": "walk-freed-table",
    "retry_bound": "retry-bound",
    "freed_under_reader": "freed-under-rcu-reader",
    "old_under_reader": "freed-under-rcu-reader",
}
EXACT = {"stale-translation", "stale-table"}  # tests/emulator/program/test_check_translation.py


def test_every_provocation_is_seen_by_its_detector():
    found = in_engine("semaphore", provoke.provoke_all)

    assert found == EXPECTED


def test_every_detector_has_a_twin_here_or_in_the_zoo_and_a_text():
    shown = set(EXPECTED.values()) | EXACT | {name for race in RACES for name in load_race(race).detectors}

    assert {bug.detector for bug in Bug if bug != Bug.NONE} == shown - {"deadlock"}  # the explorer's word for it
    assert set(BUGS) == set(Bug) - {Bug.NONE}


def test_read_sections_find_tables_of_age_0_or_1_only():
    assert race([random_program(i, 300) for i in range(3)], "refcount", online=True) == ({}, None)
    assert race(hammer(3, 100), "refcount", online=True) == ({}, None)
