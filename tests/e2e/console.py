"""What a person does with the page at /asyncapi."""

from __future__ import annotations

from playwright.async_api import Locator, Page, expect

from .guests import PATIENCE


class Column:
    """One connection of the console."""

    def __init__(self, root: Locator) -> None:
        self.root = root

    def field(self, name: str) -> Locator:
        """The field whose label begins with `name`."""
        label = f".field:has(> .label code:text-is('{name}'))"
        return self.root.locator(label).locator("> input, > textarea, > select").first

    @property
    def action(self) -> Locator:
        return self.root.get_by_label("Action", exact=True)

    async def connect(self) -> Column:
        """Opens it as the form stands; returns when connected."""
        await self.root.locator(".connect button[type=submit]").click()
        await self.sees_state("open")
        return self

    async def sees_state(self, state: str) -> None:
        await expect(self.root).to_have_attribute("data-state", state)

    async def send(self, action: str | None = None) -> Locator:
        """Sends what the form says; the card of the request."""
        if action is not None:
            await self.action.select_option(label=action)
        await self.root.locator(".send").click()
        return self.root.locator(".calls > li").first

    async def frames(self) -> Locator:
        await self.root.get_by_role("tab", name="Frames").click()
        return self.root.locator(".frames > li")

    async def as_json(self, text: str | None = None) -> Locator:
        await self.root.get_by_role("button", name="JSON", exact=True).click()
        area = self.root.get_by_label("Frame", exact=True)
        if text is not None:
            await area.fill(text)
        return area


class Reader:
    """One person before the page."""

    def __init__(self, page: Page, url: str) -> None:
        page.set_default_timeout(PATIENCE)
        self.page = page
        self.url = url + "asyncapi"

    async def open(self, anchor: str = "") -> Reader:
        await self.page.goto(self.url + anchor)
        await expect(self.page.locator("html")).to_have_attribute("data-ready", "")
        return self

    def operation(self, key: str) -> Locator:
        return self.page.locator(f'[id="operation/{key}"]')

    async def connect(self, channel: str) -> Column:
        """Asks for a connection to a channel; its column."""
        await self.page.locator(f'[data-connect="{channel}"]').click()
        return await self.last_column()

    async def last_column(self) -> Column:
        columns = self.page.locator(".connection")
        return Column(columns.nth(await columns.count() - 1))
