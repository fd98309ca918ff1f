"""The story of a counterexample as a page."""

from dataclasses import replace
from html.parser import HTMLParser

from stories import publish_before_init

from scenarios.proofs.story_html import page
from workers.telling.story import story_of


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
