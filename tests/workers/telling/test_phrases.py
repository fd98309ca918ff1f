"""The words of a story: an entry, a count, a lock, as the kernel would name them.

Covers: workers/telling/access
"""

import pytest
from stories import FRAME_ENTRY, LEVELS, PMD, TABLE, TABLE_ENTRY, TASKS, access, publish_before_init, texts
from support import kernels

from emulator.mm_types import VIEWS, WORD
from emulator.pgtable_types import PMD_LEVEL, POISON, PSE, PTE_LEVEL, TABLE_FLAGS
from workers.telling import phrases, telling
from workers.telling.access import HELPERS
from workers.telling.story import story_of
from workers.telling.violation import value_text

NAMES = phrases.Names(LEVELS, TASKS, ["the page lock of page 3 of file 0"])

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

    assert phrases.phrase(store, NAMES) == text


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
        ("mutex.owner", 0, 1, "mutex_lock page lock of page 3 of file 0"),
        ("mutex.waiter", 0, 2, "next holder of page lock of page 3 of file 0: nobody -> CPU 1"),
    ],
)
def test_changes_have_their_verbs(field, old, new, text):
    assert phrases.phrase(access(0, "xchg", field, 0, old, new), NAMES) == text


@pytest.mark.parametrize("field", [field for field in phrases.NOUNS if field not in phrases.LOCKS])
def test_a_noun_is_words_and_no_field(field):
    assert field.split(".")[0] + "." not in phrases.noun(field, 1, NAMES)
    assert "[" not in phrases.noun(field, 1, NAMES)


def test_every_word_and_function_the_story_knows_exists():
    fields = {
        view if layout is WORD else f"{view}.{name}" for view, (layout, _) in VIEWS.items() for name in layout.comments
    }
    known = {*phrases.NOUNS, *phrases.VALUES, *phrases.VERBS, *phrases.LOCKS}
    known |= telling.STATES | telling.PRIVATE | telling.CACHES | telling.CPU_WORDS | telling.POLLED | telling.WAKES

    assert known <= fields
    assert set(VIEWS) >= telling.PRIVATE_VIEWS
    assert {node.name for _, node in kernels()} >= HELPERS


@pytest.mark.parametrize(
    ("kind", "word", "said"),
    [
        ("pmd no.", 64 * 512 + 511, "pmd 511 of table 64"),
        ("pmd", 0x37067, "pmd table 55"),
        ("pmd", 0, "pmd none"),
        ("pmd", POISON, "pmd poison"),
        ("pmd", 0x200067 | PSE, "pmd a leaf, frames from 512 on"),
        ("entry", 0x5746F, "entry frame 87 rw dirty"),
    ],
)
def test_the_points_of_real_processes_name_what_they_passed_as_the_explorer_does(kind, word, said):
    assert value_text(kind, word) == said
