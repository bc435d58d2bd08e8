"""Takes demo.png and demo-dark.png: the chatroom as two people see it, in a real browser.

python docs/images/make_demo.py

`demo.txt` says of which page; `tests/e2e/test_look.py` compares it with the page of today.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from playwright.async_api import async_playwright, expect

if TYPE_CHECKING:
    from tests.e2e.guests import Guest

IMAGES = Path(__file__).resolve().parent
ROOT = IMAGES.parents[1]
SCREEN = {"width": 1440, "height": 810}
TALK = [
    ("Ada", "Hi Grace! This room is a class with six actions."),
    ("Grace", "And in the middle is what really travels?"),
    ("Ada", "Every frame. The panel on the right calls any action."),
    ("Ada", "Pull the plug on the server, if you like."),
    ("Grace", "Done. It came back by itself, and my draft was still there."),
    ("Grace", "And 你好 to everybody else."),
]


def page_of_today() -> str:
    """What the page is made of, as a hash."""
    files = sorted((ROOT / "templates").rglob("*.*"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


async def take() -> None:
    from tests.e2e.conftest import chromium
    from tests.e2e.guests import Guests
    from tests.e2e.pages import Pages
    from tests.e2e.server import Example

    with Example() as server:
        async with async_playwright() as playwright:
            browser = await chromium(playwright)
            guests = Guests(Pages(browser), server.url)
            seats = {}
            for name, scheme in (("Ada", "light"), ("Grace", "dark")):
                seats[name] = await guests.new(viewport=SCREEN, color_scheme=scheme)
                await seats[name].enter(name)
            for by, text in TALK:
                await seats[by].say(text)
                for guest in seats.values():
                    await expect(guest.message(text)).to_be_visible()
            await _show(seats["Ada"], "demo.png")
            await _show(seats["Grace"], "demo-dark.png")
            await guests.close()
            await browser.close()
    (IMAGES / "demo.txt").write_text(f"{page_of_today()}\n")


async def _show(guest: Guest, name: str) -> None:
    await guest.call("who")
    await expect(guest.page.locator("#result")).to_have_text('[ "Ada", "Grace" ]')
    await guest.draft.focus()
    await guest.page.screenshot(path=IMAGES / name)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    asyncio.run(take())
