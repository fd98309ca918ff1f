"""The story of a counterexample: what is told of a trace and how, as text and as a page; data races and deadlocks."""

import json
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from test_layering import kernels

from emulator.cpu.flush import REQUESTED
from emulator.mm_types import EPOCH_BITS, VIEWS, WORD, Geometry
from emulator.pgtable_types import PMD_LEVEL, POISON, POISON_COUNT, PTE_LEVEL, TABLE_FLAGS
from emulator.segment import Segment
from emulator.watch.waits import Wait
from scenarios.proofs.story_html import page
from workers.explorer.data_race import DataRace, data_race_lines, why_unordered
from workers.explorer.deadlock import deadlock_lines
from workers.telling import phrases, telling
from workers.telling.access import HELPERS, Access
from workers.telling.columns import COLUMN, GAP
from workers.telling.story import STORY_LINES, Trace, story_of, story_text

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


class Page(HTMLParser):
    """The tags and attributes of a page; raises ValueError if they are not nested."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.said = [], set(), [], []
        self.feed(text)
        self.close()
        if self.open:
            raise ValueError(self.open)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        if self.open.pop() != tag:
            raise ValueError(tag)

    def handle_data(self, data):
        self.said.append(data)


def test_the_page_needs_nothing_from_outside():
    one = publish_before_init()
    text = page(one, story_of(one), {"executions": 1655, "memory model": "sc"})
    read = Page(text)

    assert not read.tags & {"script", "link", "img", "iframe", "object", "base"}
    assert {name for name, _ in read.attributes} <= {"charset", "class", "colspan", "content", "lang", "name", "title"}
    assert not any(word in text for word in ("http", "url(", "@import"))
    assert "prefers-color-scheme: dark" in text


def test_the_page_says_verdict_command_schedule_facts_and_clash():
    one = publish_before_init()
    said = "\n".join(Page(page(one, story_of(one), {"executions": 1655})).said)

    for word in ("count-saturated", one.command, "0a3f", "executions", "1655", "f.py:1", ">>", "touch 0x1000 0x1000"):
        assert word in said


def test_the_page_escapes_what_it_is_given():
    evil = '<script a="b">&\''
    one = replace(publish_before_init(), what=evil, schedule=evil, command=evil, tasks=[evil, "CPU 1"])
    text = page(one, story_of(one), {evil: evil}, [evil])
    read = Page(text)

    assert "script" not in read.tags
    assert "".join(read.said).count(evil) >= 7


# --- data races -----------------------------------------------------------------------------------------------------


def data_race(first_op="plain store", second_op="read_once"):
    first = access(0, first_op, "ptdesc.pmd", TABLE, 0, PMD, "populate", ("populate pgtable.py:90", "pmd_install"))
    second = access(1, second_op, "ptdesc.pmd", TABLE, PMD, None, "pinned", ("pinned", "pte_try_get"))
    first, second = replace(first, step=4), replace(second, step=9)
    return DataRace("ptdesc.pmd", TABLE, first, second, why_unordered(first, second, TASKS))


def test_a_data_race_has_the_shape_of_kcsans_report():
    lines = data_race_lines(data_race(), TASKS, LEVELS)

    assert lines[0] == "BUG: KCSAN: data-race in pinned / pmd_install"
    assert lines[2] == "read (marked) to ptdesc.pmd[4] (back-pointer of table 4) of 8 bytes by CPU 1, step 9:"
    assert lines[3].split() == ["pinned", "f.py:1"]
    assert lines[6].startswith("write to ptdesc.pmd[4]")
    assert lines[7].split() == ["populate", "pgtable.py:90"]
    assert f"value changed: 0x0 -> {PMD:#x}" in lines
    told = " ".join(lines[-3:])
    assert "no happens-before: read_once in pinned is marked, but the plain store in pmd_install is not" in told


def test_two_plain_accesses_are_named_as_such():
    race = data_race(second_op="plain load")

    assert "both are plain" in race.why
    assert data_race_lines(race, TASKS, LEVELS)[2].startswith("read to ")
    assert json.dumps(race.as_json())


# --- deadlocks ------------------------------------------------------------------------------------------------------


@pytest.fixture
def still():
    """A machine of two CPUs and a coordinator that stand still."""
    geometry = Geometry(cpus=2, insns=4, frames=64, tables=8)
    segment = Segment(geometry)
    segment.views["ptdesc"]["level"][TABLE] = PTE_LEVEL
    return segment.views, geometry


def test_the_cycle_of_two_locks_is_named(still):
    views, geometry = still
    for cpu, (mine, other) in enumerate(((TABLE, 5), (5, TABLE))):
        views["ptdesc"]["ptl"][mine] = cpu + 1
        views["cpu"]["waits_for"][cpu] = Wait.PTE_LOCK
        views["cpu"]["waits_index"][cpu] = other

    lines = deadlock_lines(views, geometry, {})

    assert lines[0] == "DEADLOCK  nobody can move: CPU 0 and CPU 1"
    assert "  CPU 0 waits for ptl of table 5, held by CPU 1" in lines
    assert lines[-1] == "  cycle: CPU 0 -> CPU 1 -> CPU 0"


def test_a_lost_wakeup_names_the_word_that_nobody_will_change(still):
    views, geometry = still
    views["cpu"]["finished"][1] = 1
    views["cpu"]["waits_for"][0] = Wait.FLUSH
    views["cpu"]["flush_state"][0] = REQUESTED
    views["rcu"]["asleep"][0] = 2

    lines = deadlock_lines(views, geometry, {2: [("rcu.wake", 0, 5)]})

    assert "  the coordinator waits until rcu.wake[0] (wake-up number of the coordinator) is no longer 5" in lines
    assert lines[-1] == "  no cycle: nobody is left to wake the coordinator: a wake-up was lost"


def test_a_lock_that_its_owner_took_with_it_is_no_lost_wakeup(still):
    views, geometry = still
    views["cpu"]["finished"][1] = 1
    views["ptdesc"]["ptl"][TABLE] = 2
    views["cpu"]["waits_for"][0] = Wait.PTE_LOCK
    views["cpu"]["waits_index"][0] = TABLE

    lines = deadlock_lines(views, geometry, {0: [("ptdesc.ptl", TABLE, 2)]})

    assert lines[-1] == "  no cycle: CPU 1 ended without giving back what is waited for"
