"""Reads a page as a browser would, for the tests of all pages."""

from __future__ import annotations

from collections import Counter
from html.parser import HTMLParser

VOID = {"meta", "img", "br", "link"}


class Reader(HTMLParser):
    """Collects tags, ids, addresses and text, and that what is opened is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open, self.tags, self.ids, self.addresses, self.attributes, self.words = [], Counter(), Counter(), [], set(), []
        self.feed(page)
        assert self.open == []
        self.text = " ".join(" ".join(self.words).replace("\u00a0", " ").split())

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        given = dict(attrs)
        self.attributes |= set(given)
        if "id" in given:
            self.ids[given["id"]] += 1
        self.addresses += [given[key] for key in ("href", "src", "xlink:href", "data", "action", "srcset") if key in given]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)
