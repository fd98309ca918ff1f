"""The words of a story: an entry, a count, a lock, as the kernel would name them.

Covers: workers/telling/access
"""

from dataclasses import replace

import pytest
from support import kernels

from emulator.mm_types import VIEWS, WORD
from emulator.pgtable_types import PMD_LEVEL, POISON, POISON_COUNT, PTE_LEVEL, TABLE_FLAGS
from workers.telling import phrases, telling
from workers.telling.access import HELPERS, Access
from workers.telling.story import Trace, story_of

TASKS = ["CPU 0", "CPU 1", "the coordinator"]
PMD_TABLE, TABLE = 3, 4  # an upper table and a PTE table
LEVELS = {PMD_TABLE: PMD_LEVEL, TABLE: PTE_LEVEL}
PMD = PMD_TABLE << 9 | 511
TABLE_ENTRY = TABLE << 12 | TABLE_FLAGS
FRAME_ENTRY = 7 << 12 | TABLE_FLAGS


def access(task, op, field, index, old, new=None, function="f", callers=(), length=1, instruction=""):
    """One access; `trace` numbers it. A load needs no new value."""
    new = old if new is None else new
    return Access(0, task, op, field, index, length, old, new, function, "f.py:1", callers, instruction)


def trace(*accesses, causal=None, guilty=None, what="count-saturated", tasks=TASKS):
    """A trace of these accesses, all of them causal unless told otherwise."""
    numbered = [replace(one, step=step) for step, one in enumerate(accesses)]
    steps = frozenset(range(len(numbered)) if causal is None else causal)
    return Trace(
        numbered, steps, guilty, list(tasks), LEVELS, None, what, "0a3f", "ptelab explore race/x --schedule 0a3f"
    )


def texts(*accesses, **more):
    return [line.text for line in story_of(trace(*accesses, **more)).lines]


def publish_before_init():
    """D1, by hand."""
    count = ("ptdesc.pte_refcount", TABLE)
    return trace(
        access(0, "cmpxchg", "ptdesc.ptl", PMD_TABLE, 0, 1, "spin_lock", ("spin_lock", "pmd_install")),
        access(0, "smp_store_release", "entry", PMD, 0, TABLE_ENTRY, "populate", ("populate", "pmd_install")),
        access(1, "plain store", "cpu.rcu_nesting", 1, 0, 1, "rcu_read_lock", ("rcu_read_lock", "pte_try_get_rcu")),
        access(1, "read_once", "entry", PMD, TABLE_ENTRY, None, "pte_try_get", instruction="touch 0x1000 0x1000"),
        access(1, "cmpxchg", *count, POISON_COUNT, POISON_COUNT + 1, "pte_try_get", instruction="touch 0x1000 0x1000"),
        access(0, "write_once", *count, POISON_COUNT + 1, 1, "pte_ref_init", ("pte_ref_init", "pmd_install")),
        guilty=(1, 4),
    )


# --- what is told ---------------------------------------------------------------------------------------------------


def test_the_story_is_told_in_the_kernels_words():
    assert [line.text for line in story_of(publish_before_init()).lines] == [
        "spin_lock pmd_lock of table 3",
        "pmd 511 of table 3: none -> table 4",
        "rcu_read_lock",
        "pmd 511 of table 3 is table 4",
        "count of table 4: 0x6b6b6b6b -> 0x6b6b6b6c",
        "count of table 4: 0x6b6b6b6c -> 1",
    ]


def test_private_words_are_not_told():
    private = [
        access(task, op, field, 0, 0, 1)
        for field in ("tlb.tag", "pcp_slot", "cpu.faults", "cpu.tlb_misses", "mm.rss_anon", "life.zero", "config.spin")
        for task in (0, 1)
        for op in ("plain load", "plain store")
    ]

    assert texts(*private) == []


# --- phrases --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("index", "entry", "text"),
    [
        (PMD, 0, "pmd 511 of table 3: table 9 -> none"),
        (PMD, TABLE_ENTRY, "pmd 511 of table 3: table 9 -> table 4"),
        (TABLE << 9, FRAME_ENTRY, "pte 0 of table 4: frame 9 rw dirty -> frame 7 rw dirty"),
        (TABLE << 9, 0x25, "pte 0 of table 4: frame 9 rw dirty -> zero page"),
        (TABLE << 9, POISON, "pte 0 of table 4: frame 9 rw dirty -> poison"),
        (8 << 9, POISON, "entry 0 of table 8: table 9 -> poison"),
    ],
)
def test_entries_are_decoded_by_the_level_of_their_table(index, entry, text):
    store = access(0, "write_once", "entry", index, 9 << 12 | TABLE_FLAGS, entry)

    assert phrases.phrase(store, LEVELS, TASKS) == text


def test_a_table_that_is_allocated_again_at_another_level_is_read_as_such():
    level = access(0, "plain store", "ptdesc.level", TABLE, PTE_LEVEL, PMD_LEVEL)
    store = access(0, "write_once", "entry", TABLE << 9, 0, 9 << 12 | TABLE_FLAGS)
    look = access(1, "read_once", "entry", TABLE << 9, 9 << 12 | TABLE_FLAGS)

    assert texts(store, level, store, look)[:2] == [
        "pte 0 of table 4: none -> frame 9 rw dirty",
        "pmd 0 of table 4: none -> table 9",
    ]


def test_whole_tables_are_one_event():
    poison = access(2, "memset", "entry", TABLE << 9, 0, POISON, length=512)
    empty = access(0, "or_words", "entry", TABLE << 9, 0, length=512)

    assert texts(empty, poison) == ["table 4 is empty", "poisons table 4"]


@pytest.mark.parametrize(
    ("field", "old", "new", "text"),
    [
        ("mm.tlb_gen", 3, 4, "flush tlb_gen of mm 0: 3 -> 4"),
        ("cpu.ipi_request", 0, 1, "IPI 1 to CPU 0 requested"),
        ("cpu.cb_head", 0, 5, "call_rcu table 5"),
        ("cpu.cb_head", 5, 0, "takes the callbacks of CPU 0"),
        ("rcu.gp_seq", 6, 7, "grace period 7 begins"),
        ("mm.mmap_readers", 0, 1, "mmap_read_lock (1 reader)"),
        ("run.bug", 0, 9, "BUG: count-saturated"),
        ("insn.left", 3, 2, "insn.left[0]: 3 -> 2"),
    ],
)
def test_changes_have_their_verbs(field, old, new, text):
    assert phrases.phrase(access(0, "xchg", field, 0, old, new), LEVELS, TASKS) == text


def test_every_word_and_function_the_story_knows_exists():
    fields = {
        view if layout is WORD else f"{view}.{name}" for view, (layout, _) in VIEWS.items() for name in layout.comments
    }
    known = {*phrases.NOUNS, *phrases.VALUES, *phrases.VERBS, *phrases.LOCKS}
    known |= telling.STATES | telling.PRIVATE | telling.CACHES | telling.CPU_WORDS | telling.POLLED | telling.WAKES

    assert known <= fields
    assert set(VIEWS) >= telling.PRIVATE_VIEWS
    assert {node.name for _, node in kernels()} >= HELPERS
