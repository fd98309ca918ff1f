"""The state of the machine at every step of a traced execution."""

from stories import FRAME_ENTRY, PMD, PMD_TABLE, TABLE, TABLE_ENTRY, access, publish_before_init, trace

from emulator.mm_types import EPOCH_BITS
from workers.telling.state import MOST_ENTRIES
from workers.telling.story import story_of

COUNT = f"count of table {TABLE}"


def watched(*accesses, of=None, **more):
    """Group and name of what is watched -> its values."""
    story = story_of(of or trace(*accesses, **more))
    return {(row.group, row.name): row.values for row in story.watched}


def test_a_word_holds_from_the_start_what_its_first_change_found_and_then_what_each_change_left():
    found = watched(of=publish_before_init())

    assert found["tables", COUNT] == [(0, "0x6b6b6b6b"), (4, "0x6b6b6b6c"), (5, "1")]
    assert found["tables", f"pmd 511 of table {PMD_TABLE}"] == [(0, "none"), (1, f"table {TABLE}")]


def test_a_task_holds_its_locks_from_the_step_that_takes_them_on():
    found = watched(of=publish_before_init())

    assert found["locks", "CPU 0"] == [(0, f"pmd_lock of table {PMD_TABLE}")]
    assert found["locks", "CPU 1"] == [(0, "none"), (2, "rcu_read_lock")]


def test_a_store_is_in_its_buffer_until_it_reaches_memory():
    count = ("ptdesc.pte_refcount", TABLE)
    found = watched(
        access(0, "read_once", *count, 7),
        access(1, "issue", *count, 7, 1),
        access(1, "read_once", *count, 1),  # its own store, which nobody else sees
        access(0, "read_once", *count, 7),
        access(1, "commit", *count, 7, 1),
        guilty=(1, 3),
    )

    assert found["tables", COUNT] == [(0, "7"), (4, "1")]
    assert found["store buffers", "CPU 1"] == [(0, "empty"), (1, f"{COUNT}: 1"), (4, "empty")]
    assert ("store buffers", "CPU 0") not in found


def test_a_word_that_clashes_and_is_of_no_table_stands_by_itself():
    generation = ("page.generation", 8)
    found = watched(access(1, "write_once", *generation, 0, 1), access(0, "read_once", *generation, 1), guilty=(0, 1))

    assert found["other words", "generation of frame 8"] == [(0, "1")]


def test_a_translation_is_there_until_its_cpu_empties_its_tlb():
    tag = 0x12345 << EPOCH_BITS
    found = watched(
        access(1, "plain load", "cpu.tlb_epoch", 1, 0),
        access(1, "plain store", "tlb.tag", 1024 + 0x345, 0, tag),
        access(1, "plain store", "tlb.entry", 1024 + 0x345, 0, FRAME_ENTRY),
        access(0, "write_once", "entry", PMD, TABLE_ENTRY, 0),
        access(1, "plain store", "cpu.tlb_epoch", 1, 0, 1),
        guilty=(2, 3),
    )
    (name, values), *others = [(name, values) for (group, name), values in found.items() if group == "caches"]

    assert (name, others) == ("TLB of CPU 1", [])
    assert [(step, text.partition(":")[0]) for step, text in values] == [
        (0, "empty"),
        (1, "0x12345000"),
        (2, "0x12345000"),
        (4, "empty"),
    ]


def test_of_a_story_that_goes_through_a_table_the_first_entries_are_watched_and_the_one_that_clashes():
    entries = [access(0, "write_once", "entry", TABLE << 9 | i, 0, FRAME_ENTRY) for i in range(2 * MOST_ENTRIES)]
    last = access(1, "read_once", "entry", TABLE << 9 | 511, 0)

    found = watched(*entries, last, guilty=(0, len(entries)))

    names = [name for _, name in found if name.startswith("pte ")]
    assert len(names) == MOST_ENTRIES
    assert f"pte 511 of table {TABLE}" in names
