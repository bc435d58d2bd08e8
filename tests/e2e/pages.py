"""Pages that are used again: a new one takes a new process, which was a quarter of what a test cost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

from playwright.async_api import Browser, Page, ViewportSize

SCREEN: ViewportSize = {"width": 1280, "height": 720}

FORGET = """() => location.origin === "null" || sessionStorage.clear()"""
TIMEOUT = 30_000
"""Milliseconds: Playwright's own, where a test says nothing else."""


class Pages:
    """The pages of one browser, each in a context of its own."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._idle: dict[str, list[Page]] = {}

    @asynccontextmanager
    async def one(
        self,
        *,
        viewport: ViewportSize = SCREEN,
        color_scheme: Literal["light", "dark"] = "light",
        own: bool = False,
        **options: Any,
    ) -> AsyncIterator[Page]:
        """A blank page, without cookies and storage, in English, where nothing moves.

        Args:
            own: whether nobody gets it afterwards, as it is changed for good: by a clock, a script that comes
                before those of the page, a function that it is given, a permission, a route of its context.
            options: those of a new context.
        """
        idle = self._idle.setdefault(repr(sorted(options.items())), [])
        page = idle.pop() if idle and not own else await self._new(options)
        page.set_default_timeout(TIMEOUT)
        await page.set_viewport_size(viewport)
        await page.emulate_media(color_scheme=color_scheme, reduced_motion="reduce")
        try:
            yield page
        finally:
            if own or page.is_closed():
                await page.context.close()
            else:
                await _clear(page)
                idle.append(page)

    async def _new(self, options: dict[str, Any]) -> Page:
        english: dict[str, Any] = {"locale": "en-US"}
        return await (await self._browser.new_context(**(english | options))).new_page()


async def _clear(page: Page) -> None:
    """Leaves where it is, and forgets what was there."""
    for other in page.context.pages:
        if other is not page:
            await other.close()
    await page.unroute_all(behavior="ignoreErrors")
    await page.evaluate(FORGET)
    session = await page.context.new_cdp_session(page)
    await session.send("Storage.clearDataForOrigin", {"origin": "*", "storageTypes": "all"})
    await session.detach()
    await page.goto("about:blank")
    await page.mouse.move(0, 0)
    await page.context.clear_cookies()
