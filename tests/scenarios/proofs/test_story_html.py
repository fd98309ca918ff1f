"""The story of a counterexample as a page."""

from dataclasses import replace
from html.parser import HTMLParser

from emulator.pgtable_types import PMD_LEVEL, POISON_COUNT, PTE_LEVEL, TABLE_FLAGS
from scenarios.proofs.story_html import page
from workers.telling.access import Access
from workers.telling.story import Trace, story_of

TASKS = ["CPU 0", "CPU 1", "the coordinator"]
PMD_TABLE, TABLE = 3, 4  # an upper table and a PTE table
LEVELS = {PMD_TABLE: PMD_LEVEL, TABLE: PTE_LEVEL}
PMD = PMD_TABLE << 9 | 511
TABLE_ENTRY = TABLE << 12 | TABLE_FLAGS


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
