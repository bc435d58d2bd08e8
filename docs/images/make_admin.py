"""Takes admin.png, admin-dark.png, admin-zh.png and admin-room.png: the page of operators, in a real browser.

python docs/images/make_admin.py

`admin.txt` says of which page; `tests/e2e/test_admin.py` compares it with the page of today.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playwright.async_api import async_playwright, expect
from websockets.asyncio.client import ClientConnection, connect

if TYPE_CHECKING:
    from tests.e2e.guests import Guests

IMAGES = Path(__file__).resolve().parent
ROOT = IMAGES.parents[1]
SCREEN = {"width": 1280, "height": 620}
PICTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "admin.png": ("", {"color_scheme": "light"}),
    "admin-dark.png": ("", {"color_scheme": "dark"}),
    "admin-zh.png": ("", {"color_scheme": "light", "locale": "zh-CN"}),
    "admin-room.png": ("room//lobby", {"color_scheme": "light"}),
}
PEOPLE = {
    "lobby": ("ada", "bob", "carol", "dan", "eve"),
    "support/4711": ("bob", "grace"),
    "garden": ("carol", "frank", "heidi"),
}
SAID = ("Good morning", "Is the kettle on?", "Two minutes", "Green or black?", "Green, please")
LOOKS = 12
"""Seconds in which the page draws its lines."""


def page_of_today() -> str:
    """What the page is made of, as a hash."""
    files = sorted((ROOT / "fastapi_channels/operations/admin/browser").iterdir())
    files.append(ROOT / "fastapi_channels/contract/browser/page.css")
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


async def take() -> None:
    from tests.e2e.conftest import chromium
    from tests.e2e.guests import Guests
    from tests.e2e.pages import Pages
    from tests.e2e.server import Example

    with Example("tests.e2e.operated:app") as server:
        async with AsyncExitStack() as stack:
            sockets = [
                await stack.enter_async_context(
                    connect(f"{server.url.replace('http', 'ws')}{path}", proxy=None)
                )
                for path in (*(f"chat/{room}?user={name}" for room in PEOPLE for name in PEOPLE[room]),)
            ]
            north = f"{server.url.replace('http', 'ws')}orders/north?user=ivan"
            orders = await stack.enter_async_context(connect(north, proxy=None))
            tasks = [asyncio.create_task(_read(each)) for each in (*sockets, orders)]
            tasks.append(asyncio.create_task(_talk(sockets, orders)))
            async with async_playwright() as playwright:
                browser = await chromium(playwright)
                guests = Guests(Pages(browser), server.url)
                for name, (view, options) in PICTURES.items():
                    await _show(guests, name, view, options)
                await guests.close()
                await browser.close()
            for task in tasks:
                task.cancel()
    (IMAGES / "admin.txt").write_text(f"{page_of_today()}\n")


async def _read(socket: ClientConnection) -> None:
    async for _ in socket:
        pass


async def _talk(sockets: list[ClientConnection], orders: ClientConnection) -> None:
    number = 0
    while True:
        number += 1
        text = SAID[number % len(SAID)]
        await sockets[number % len(sockets)].send(json.dumps({"action": "say", "text": text}))
        if number % 40 == 0:
            await orders.send(json.dumps({"action": "fail"}))
        if number % 90 == 0:
            await orders.send("{")
        await asyncio.sleep(0.02 + 0.05 * (number // 30 % 3))


async def _show(guests: Guests, name: str, view: str, options: dict[str, Any]) -> None:
    page = (await guests.new(viewport=SCREEN, **options)).page
    await page.request.post(guests.url + "sign-in")
    await page.goto(f"{guests.url}admin/#{view}")
    await expect(page.locator("html")).to_have_attribute("data-ready", f"#{view}" if view else "")
    if view:
        await page.set_viewport_size({"width": SCREEN["width"], "height": 880})
        await page.get_by_role("button", name="Listen").click()
    await asyncio.sleep(LOOKS)
    await page.screenshot(path=IMAGES / name)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    asyncio.run(take())
