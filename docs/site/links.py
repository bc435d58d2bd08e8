"""Follows every link within the built site: python links.py build/site.

A page that is not there, or has no such anchor, ends it with 1. MkDocs warns of what it reads in the pages.
This sees what came of them: links to another language, those of the theme and of the reference too.
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urljoin, urlsplit

BASE: Final = "/latest/"
"""Each version is in a folder: a link that leaves it is dead, though a browser stops at the top."""


class Page(HTMLParser):
    """What a page leads to, and the anchors that it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.anchors: set[str] = {"", "top"}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in {"href", "src", "srcset"}:
                self.links.add(value or "")
            elif name == "id" or (tag == "a" and name == "name"):
                self.anchors.add(value or "")


def dead(site: Path) -> list[str]:
    """The links of the pages in the folder `site` that lead nowhere, each with its page."""
    pages = {path.relative_to(site).as_posix(): Page(path.read_text()) for path in site.rglob("*.html")}
    pages.pop("404.html", None)  # shown anywhere, so it names the top of the host
    found: list[str] = []
    for address, page in pages.items():
        for link in sorted(page.links):
            to = urlsplit(urljoin(BASE + address, link))
            if to.scheme or to.netloc:
                continue
            path = unquote(to.path).removeprefix(BASE) + ("index.html" if to.path.endswith("/") else "")
            target = pages.get(path)
            there = (site / path).is_file() if target is None else unquote(to.fragment) in target.anchors
            if not there:
                found.append(f"{address} leads to {link}, which is not there")
    return found


if __name__ == "__main__":
    lines = dead(Path(sys.argv[1]))
    print(*lines, sep="\n", end="\n" if lines else "")
    sys.exit(bool(lines))
