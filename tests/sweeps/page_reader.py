"""A page as a reader meets it, for the tests of all pages without scripts."""

import re
from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "link", "img", "br"}
BLOCKS = {"p", "h1", "h2", "li", "th", "td", "div", "dd", "br", "span"}


class Page(HTMLParser):
    """A page as a reader meets it: text, headings, addresses; fails where tags do not close in order."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.alternatives: list[str] = []
        self.headings: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(path.read_text())
        self.close()
        assert self._open == []
        self.text = re.sub(r"\s+", " ", self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in {"src", "href", "poster", "srcset", "data", "action"}:
                self.addresses.append(value or "")
            if name == "alt":
                self.alternatives.append(value or "")
        self.text += " " * (tag in BLOCKS)
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        self.text += " " * (tag in BLOCKS)

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            assert "url(" not in data
            assert "@import" not in data
            return
        self.text += data
        if self._open and self._open[-1] == "h2":
            self.headings.append(data)
