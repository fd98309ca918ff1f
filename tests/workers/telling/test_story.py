"""The story of a counterexample: what is told of a trace, and how it looks as text."""

import json
from dataclasses import replace

from stories import FRAME_ENTRY, PMD, TABLE, TABLE_ENTRY, access, publish_before_init, texts, trace

from emulator.mm_types import EPOCH_BITS
from workers.telling.columns import COLUMN, GAP
from workers.telling.story import STORY_LINES, WHOLE, story_of, story_text


def test_the_accesses_that_clash_are_told_whatever_they_are():
    private = access(0, "plain store", "cpu.faults", 0, 1, 2)
    flood = [access(n % 2, "write_once", "ptdesc.pte_refcount", TABLE, n, n + 1) for n in range(3 * STORY_LINES)]

    story = story_of(trace(private, *flood, guilty=(0, 1), causal={5}))

    assert [line.step for line in story.lines if line.guilty] == [0, 1]
    assert story.lines[0].text == "cpu.faults[0]: 1 -> 2"


def test_a_long_story_begins_with_how_much_came_before():
    flood = [access(n % 2, "write_once", "ptdesc.pte_refcount", TABLE, n, n + 1) for n in range(STORY_LINES + 7)]

    story = story_of(trace(*flood))

    assert len(story.lines) == STORY_LINES
    assert story.lines[-1].step == STORY_LINES + 6
    assert "... 7 earlier events" in story_text(story)[2]


def test_a_look_at_the_word_that_two_accesses_clash_on_is_told_however_old_it_is():
    early = access(1, "read_once", "entry", PMD, TABLE_ENTRY)
    flood = [access(n % 2, "write_once", "ptdesc.pte_refcount", TABLE, n, n + 1) for n in range(2 * STORY_LINES)]
    clash = [access(0, "write_once", "entry", PMD, TABLE_ENTRY, 0), access(1, "read_once", "entry", PMD, 0)]

    story = story_of(trace(early, *flood, *clash, guilty=(len(flood) + 1, len(flood) + 2)))

    assert story.lines[0].text == "pmd 511 of table 3 is table 4"
    assert len(story.lines) == STORY_LINES


def test_a_whole_story_leaves_nothing_out():
    flood = [access(n % 2, "write_once", "ptdesc.pte_refcount", TABLE, n, n + 1) for n in range(2 * STORY_LINES)]

    assert len(story_of(trace(*flood), WHOLE).lines) == 2 * STORY_LINES


def test_events_without_a_link_to_the_failure_go_first():
    flood = [access(n % 2, "write_once", "ptdesc.pte_refcount", TABLE, n, n + 1) for n in range(2 * STORY_LINES)]

    story = story_of(trace(*flood, causal={0, 1, 2}))

    assert [line.step for line in story.lines] == [0, 1, 2]
    assert story.unconnected == 2 * STORY_LINES - 3


def test_a_look_is_told_only_if_another_task_changes_the_word():
    look = access(0, "read_once", "entry", PMD, 0)

    assert texts(look, access(0, "write_once", "mm.tlb_gen", 0, 1, 2)) == []
    assert texts(look, access(1, "write_once", "entry", PMD, 0, TABLE_ENTRY))[0] == "pmd 511 of table 3 is none"


def test_a_look_that_the_same_task_changes_next_is_left_to_the_change():
    count = ("ptdesc.pte_refcount", TABLE)
    look, add = access(0, "read_once", *count, 1), access(0, "cmpxchg", *count, 1, 2)
    other = access(1, "atomic_add", *count, 1, 0)

    assert texts(other, look, add) == ["count of table 4: 1 -> 0", "count of table 4: 1 -> 2"]
    assert "count of table 4 is 1" in texts(look, other, add)


def test_looks_of_detectors_are_not_told():
    state = ("ptdesc.state", TABLE)
    change = access(1, "write_once", *state, 2, 3)

    assert texts(access(0, "read_once", *state, 2, None, "check_use"), change) == ["table 4: installed -> unhooked"]
    assert texts(access(0, "read_once", *state, 2), change)[0] == "table 4 is installed"


def test_wake_up_words_are_looked_at_in_the_story_of_a_deadlock_only():
    wake = ("rcu.wake", 0)
    events = [access(2, "read_once", *wake, 5), access(0, "atomic_add", *wake, 5, 6)]

    assert texts(*events) == ["wakes the coordinator"]
    assert texts(*events, what="deadlock")[0] == "wake-up number of the coordinator is 5"


def test_the_same_event_again_is_one_line():
    spin = access(1, "cmpxchg", "ptdesc.ptl", TABLE, 1, None)
    take = access(0, "cmpxchg", "ptdesc.ptl", TABLE, 0, 1)

    story = story_of(trace(take, *[replace(spin, function=f"f{n}") for n in range(3)]))
    assert [line.text for line in story.lines[1:]] == ["ptl of table 4 is held by CPU 0"] * 3

    add = access(0, "atomic_add", "rcu.wake", 0, 1, 2)
    story = story_of(trace(add, add, add, access(2, "read_once", "rcu.wake", 0, 4)))
    assert (story.lines[0].text, story.lines[0].times) == ("wakes the coordinator", 3)


def test_neighbouring_entries_are_one_line():
    zaps = [access(0, "xchg", "entry", TABLE << 9 | n, FRAME_ENTRY, 0) for n in range(5)]
    looks = [access(1, "read_once", "entry", TABLE << 9 | n, 0) for n in range(5)]

    assert texts(*zaps, *looks) == [
        "ptes 0-4 of table 4: frame 7 rw dirty -> none",
        "ptes 0-4 of table 4 are none",
    ]


def test_a_stale_translation_is_told_of_a_failure_that_is_about_one():
    page_tag = 0x40000 << EPOCH_BITS | 1
    cached = [
        access(0, "plain store", "tlb.entry", 9, 0, FRAME_ENTRY, "tlb_fill"),
        access(0, "plain store", "tlb.tag", 9, page_tag, 0, "forget"),
        access(0, "plain load", "tlb.entry", 9, FRAME_ENTRY, None, "tlb_lookup"),
    ]

    assert texts(*cached) == []
    assert texts(*cached, what="tlb-hit-freed-frame") == [
        "the TLB takes frame 7 rw dirty",
        "the TLB forgets 0x40000000",
        "the TLB has frame 7 rw dirty",
    ]


def test_a_helper_is_told_under_the_name_of_its_caller():
    lines = story_of(publish_before_init()).lines

    assert [line.function for line in lines] == [
        *("pmd_install", "pmd_install", "rcu_read_lock", "pte_try_get", "pte_try_get", "pte_ref_init")
    ]


def test_locks_and_read_sections_are_noted_where_they_change():
    ptl = ("ptdesc.ptl", TABLE)
    story = story_of(
        trace(
            access(0, "plain store", "cpu.mmap_lock_held", 0, 0, 1),
            access(0, "cmpxchg", *ptl, 0, 1),
            access(0, "atomic_add", "ptdesc.pte_refcount", TABLE, 1, 2),
            access(0, "smp_store_release", *ptl, 1, 0),
            access(1, "plain store", "cpu.rcu_nesting", 1, 0, 1),
        )
    )

    assert [line.notes for line in story.lines] == [
        ("holds mmap_lock of mm 0 for reading, ptl of table 4",),
        (),
        ("holds mmap_lock of mm 0 for reading",),
        ("holds rcu_read_lock",),
    ]
    assert story.ending == {"CPU 0": "holds mmap_lock of mm 0 for reading", "CPU 1": "holds rcu_read_lock"}


def test_a_store_is_told_when_it_is_issued_and_when_it_reaches_memory():
    issue = access(0, "issue", "entry", PMD, 0, TABLE_ENTRY)
    look = access(1, "read_once", "entry", PMD, 0)

    assert texts(issue, access(0, "smp_wmb", "", 0, 0), look, replace(issue, op="commit")) == [
        "pmd 511 of table 3: none -> table 4 (in the store buffer)",
        "smp_wmb",
        "pmd 511 of table 3 is none",
        "pmd 511 of table 3: none -> table 4 (reaches memory)",
    ]
    assert "smp_wmb" not in texts(access(0, "smp_wmb", "", 0, 0), look)


def test_a_read_section_is_told_once_with_store_buffers_too():
    issue = access(0, "issue", "cpu.rcu_nesting", 0, 0, 1)

    assert texts(issue, replace(issue, op="commit")) == ["rcu_read_lock"]


# --- text and page --------------------------------------------------------------------------------------------------


def test_the_text_has_a_column_per_task_that_did_something_and_marks_the_clash():
    lines = story_text(story_of(publish_before_init()))

    assert lines[0].split("  ")[-1].strip() == "CPU 1"
    assert "the coordinator" not in lines[0]
    assert [line.split()[:2] for line in lines if ">>" in line] == [["1", ">>"], ["4", ">>"]]
    assert any("[touch 0x1000 0x1000]" in line for line in lines)
    assert all(len(line) <= 10 + 2 * COLUMN - GAP for line in lines[:-3])


def test_no_events_make_no_text():
    assert story_text(story_of(trace())) == []


def test_the_record_is_json():
    told = json.loads(json.dumps(story_of(publish_before_init()).as_json()))

    assert [line["step"] for line in told["lines"] if line["guilty"]] == [1, 4]
    assert told["columns"] == ["CPU 0", "CPU 1"]
