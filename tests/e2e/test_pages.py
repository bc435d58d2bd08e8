"""A page that is used again has forgotten what was done in it."""

from __future__ import annotations

import pytest

from .pages import Pages
from .server import Example

pytestmark = pytest.mark.asyncio(loop_scope="session")

KEEP = """async () => {
  localStorage.kept = sessionStorage.kept = document.cookie = "kept=1";
  const opening = indexedDB.open("kept");
  await new Promise((resolve) => (opening.onsuccess = resolve));
  opening.result.close();
  await caches.open("kept");
}"""
KEPT = """async () => [
  ...Object.keys(localStorage), ...Object.keys(sessionStorage), document.cookie,
  ...(await indexedDB.databases()).map(({ name }) => name), ...(await caches.keys()),
]"""


async def test_what_a_page_keeps_is_gone_when_it_is_used_again(pages: Pages, server: Example) -> None:
    async with pages.one() as first:
        await first.goto(server.url)
        await first.evaluate(KEEP)
        assert await first.evaluate(KEPT) == ["kept", "kept", "kept=1", "kept", "kept"]
    async with pages.one() as page:
        assert page is first
        await page.goto(server.url)
        assert await page.evaluate(KEPT) == [""]
