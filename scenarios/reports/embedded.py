"""The records that lie in an HTML report."""

from __future__ import annotations

from html.parser import HTMLParser

DATA_ID = "ptelab-records"


class _Embedded(HTMLParser):
    """The text of the script element that holds the records of a report."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = False
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside = tag == "script" and ("id", DATA_ID) in attrs

    def handle_endtag(self, tag: str) -> None:
        self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.text.append(data)


def records_in(page: str) -> str:
    """The JSON of the records that a page holds; empty if it holds none."""
    parser = _Embedded()
    parser.feed(page)
    return "".join(parser.text)
