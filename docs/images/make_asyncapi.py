"""Takes asyncapi.png, asyncapi-dark.png and asyncapi-zh.png: the page of the support desk, in a real browser.

python docs/images/make_asyncapi.py

`asyncapi.txt` says of which page; `tests/e2e/test_asyncapi_page.py` compares it with the page of today.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playwright.async_api import async_playwright, expect

if TYPE_CHECKING:
    from tests.e2e.guests import Guests

IMAGES = Path(__file__).resolve().parent
ROOT = IMAGES.parents[1]
SCREEN = {"width": 1440, "height": 900}
PICTURES: dict[str, dict[str, Any]] = {
    "asyncapi.png": {"color_scheme": "light"},
    "asyncapi-dark.png": {"color_scheme": "dark"},
    "asyncapi-zh.png": {"color_scheme": "light", "locale": "zh-CN"},
}


def page_of_today() -> str:
    """What the page is made of, as a hash."""
    files = sorted((ROOT / "fastapi_channels/contract/browser").iterdir())
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


async def take() -> None:
    from tests.e2e.conftest import chromium
    from tests.e2e.guests import Guests
    from tests.e2e.pages import Pages
    from tests.e2e.server import Example

    with Example("example.support_desk.main:app") as server:
        async with async_playwright() as playwright:
            browser = await chromium(playwright)
            guests = Guests(Pages(browser), server.url)
            for name, options in PICTURES.items():
                await _show(guests, name, options)
            await guests.close()
            await browser.close()
    (IMAGES / "asyncapi.txt").write_text(f"{page_of_today()}\n")


async def _show(guests: Guests, name: str, options: dict[str, Any]) -> None:
    from tests.e2e.console import Reader

    guest = await guests.new(viewport=SCREEN, **options)
    page = guest.page
    await page.request.post(guest.url + "login", data={"name": "ada"})
    opened = await page.request.post(guest.url + "tickets", data={"room": "billing", "subject": "Hi"})
    room = f"ticket:{(await opened.json())['id']}"
    reader = await Reader(page, guest.url).open("#operation/Desk.assistant.ask")
    column = await reader.connect("Desk")
    ticket = await page.evaluate("fetch('/pass', { method: 'POST' }).then((answer) => answer.json())")
    await column.field("BearerSubprotocol").fill(ticket)
    await column.connect()
    await column.root.locator(".join-room").fill(room)
    await column.root.locator(".join button").click()
    await expect(column.root.locator(".joined")).to_contain_text(room)
    await column.root.locator(".action").select_option(label="assistant.ask")
    await column.field("question").fill("Where is my invoice?")
    card = await column.send()
    await expect(card).to_have_attribute("data-state", "ok")
    await column.root.locator(".action").focus()
    await page.screenshot(path=IMAGES / name)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    asyncio.run(take())
