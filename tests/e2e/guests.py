"""What a person does with the page."""

import re
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import quote

from playwright.async_api import ConsoleMessage, Error, Locator, Page, expect

from .pages import Pages

PATIENCE = 60_000
"""Milliseconds that a browser on a busy machine may need for one thing."""

LOSING = "WebSocket connection to"
"""How Chromium begins what it writes about a socket that failed: the page cannot keep it quiet."""

ROOM, GROUP, PERSON, RELAY = "/rooms/", "/group", "/person", "/base"


class Guest:
    """One person before one page."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url

    async def enter(self, name: str, path: str = ROOM, room: str = "lobby") -> "Guest":
        """Joins by a link, and returns when connected."""
        await self.page.goto(f"{self.url}#{quote(room) if path == ROOM else path}")
        await self.page.locator("#name").fill(name)
        await self.page.locator("#name").press("Enter")
        await self.sees_state("open")
        return self

    async def ask_to_enter(self, name: str, path: str = ROOM, room: str = "lobby") -> None:
        """Joins by the form of the lobby."""
        await self.page.goto(self.url)
        await self.page.get_by_label("Your name").fill(name)
        await self.page.locator(".choice", has_text=path).click()
        if path == ROOM:
            await self.page.get_by_label("Name of the room").fill(room)
        await self.page.get_by_role("button", name="Join").click()

    async def sees_state(self, state: str, timeout: float = PATIENCE) -> None:
        await expect(self.page.locator("#state")).to_have_attribute("data-state", state, timeout=timeout)

    @property
    def draft(self) -> Locator:
        return self.page.locator("#draft")

    @property
    def send(self) -> Locator:
        return self.page.locator("#send")

    @property
    def log(self) -> Locator:
        return self.page.get_by_role("log")

    async def say(self, text: str) -> None:
        await self.draft.fill(text)
        await self.draft.press("Enter")

    def message(self, text: str) -> Locator:
        return self.log.locator(".message", has=self.page.locator(".text").get_by_text(text, exact=True))

    async def sees(self, text: str, by: str) -> None:
        """The message is there, and not one that still waits for its answer."""
        message = self.message(text)
        await expect(message.locator(".author")).to_have_text(by)
        await expect(message.locator(".delivery")).to_be_hidden()

    async def sees_note(self, text: str) -> None:
        await expect(self.log.locator(".note", has_text=text).first).to_be_visible()

    async def sees_people(self, *names: str) -> None:
        people = self.page.get_by_role("list").and_(self.page.locator("#people"))
        await expect(people.get_by_role("listitem").locator("span:last-child")).to_have_text(list(names))

    async def call(self, action: str, fields: str | None = None) -> None:
        """Calls an action by the panel; one that is not listed, by its name."""
        listed = self.page.get_by_label("Action", exact=True)
        if await listed.locator(f'option[value="{action}"]').count():
            await listed.select_option(action)
        else:
            await listed.select_option("")
            await self.page.get_by_label("Name of the action").fill(action)
        if fields is not None:
            await self.page.get_by_label("Fields (JSON)").fill(fields)
        await self.page.locator("#call-button").click()

    def toast(self, code: str) -> Locator:
        return self.page.locator(f'.toast[data-kind="{code}"]')


class Guests:
    """The guests of one test, each in a browser context of their own."""

    def __init__(self, pages: Pages, url: str) -> None:
        self._pages = pages
        self.url = url
        self._leaving = AsyncExitStack()
        self._looked_at: list[Page] = []
        self.problems: list[str] = []
        self.may_lose = False
        """Whether losing connections is what the test is about."""

    async def new(self, **options: Any) -> Guest:
        page = await self._leaving.enter_async_context(self._pages.one(**options))
        page.on("console", self._console)
        page.on("pageerror", self._page_error)
        self._looked_at.append(page)
        return Guest(page, self.url)

    def _console(self, message: ConsoleMessage) -> None:
        expected = self.may_lose and message.text.startswith(LOSING)
        if message.type in ("error", "warning") and not expected:
            self.problems.append(f"{message.type}: {message.text}")

    def _page_error(self, error: Error) -> None:
        self.problems.append(str(error))

    async def close(self) -> None:
        await self._leaving.aclose()
        for page in self._looked_at:  # up to its last word
            page.remove_listener("console", self._console)
            page.remove_listener("pageerror", self._page_error)


def seconds_in(text: str) -> int:
    """The number in "3 s" or "Send (3 s)"."""
    found = re.search(r"(\d+) s", text)
    assert found, text
    return int(found[1])
