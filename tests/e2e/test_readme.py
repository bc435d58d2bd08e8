"""The README on a phone, as GitHub lays it out: no table has to be pushed aside."""

import re
from html import escape
from typing import Final

import pytest

from .pages import Pages
from .server import ROOT

pytestmark = pytest.mark.asyncio(loop_scope="session")

STYLE: Final = """
body { margin: 16px; overflow-wrap: break-word }
body { font: 16px/1.5 "Segoe UI", "Noto Sans", Helvetica, Arial, sans-serif }
table { display: block; width: max-content; max-width: 100%; overflow: auto; border-collapse: collapse }
td, th { padding: 6px 13px; border: 1px solid }
code { padding: .2em .4em; font: 85% ui-monospace, monospace; white-space: break-spaces }
"""
"""What github-markdown-css says of text and tables."""
WIDE: Final = """() => [...document.querySelectorAll("table")]
  .filter((table) => table.scrollWidth > table.clientWidth)
  .map(({ scrollWidth, clientWidth, rows }) => `${scrollWidth} > ${clientWidth}: ${rows[0].textContent}`)"""


def _tables(page: str) -> list[str]:
    """The tables of a page in Markdown, as HTML."""
    found = re.findall(r"(?:^\|.*\n)+", (ROOT / page).read_text(), re.MULTILINE)
    return [f"<table>{''.join(map(_row, table.splitlines()))}</table>" for table in found]


def _row(line: str) -> str:
    if set(line) <= set("|- "):
        return ""
    text = re.sub(r"\[(.+?)\]\(.+?\)", r"<a>\1</a>", re.sub(r"`(.+?)`", r"<code>\1</code>", escape(line)))
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in text.strip("|").split("|")) + "</tr>"


@pytest.mark.parametrize("readme", ["README.md", "README_zh.md"])
async def test_no_table_is_wider_than_a_phone(pages: Pages, readme: str) -> None:
    tables = _tables(readme)
    assert tables
    async with pages.one() as tab:
        await tab.set_content(f"<style>{STYLE}</style>{''.join(tables)}")
        for width in (320, 360, 390):
            await tab.set_viewport_size({"width": width, "height": 640})
            assert await tab.evaluate(WIDE) == []
