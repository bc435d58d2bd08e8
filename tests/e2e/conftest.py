"""One server and one browser for all tests of the page."""

import shutil
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Playwright, async_playwright, expect

from .console import Reader
from .guests import PATIENCE, Guests
from .pages import Pages
from .server import Example

CHROMIUM = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
"""The first is the browser without its windows: it takes half of the time."""
QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)

expect.set_options(timeout=PATIENCE)


async def chromium(playwright: Playwright) -> Browser:
    """The Chromium of this machine; skips where there is none."""
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        pytest.skip("no Chromium on PATH")
    return await playwright.chromium.launch(executable_path=path, args=list(QUIET))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await chromium(playwright)
        yield browser
        await browser.close()


@pytest.fixture(scope="session")
def pages(browser: Browser) -> Pages:
    return Pages(browser)


@pytest.fixture(scope="session")
def server() -> Iterator[Example]:
    with Example() as server:
        yield server


@pytest.fixture
def own_server() -> Iterator[Example]:
    """A server for one test: to be killed, or to have no limits used up and no seats taken by others."""
    with Example() as server:
        yield server


@pytest_asyncio.fixture(loop_scope="session")
async def guests(pages: Pages, server: Example) -> AsyncIterator[Guests]:
    """Guests whose pages must not complain in the console."""
    guests = Guests(pages, server.url)
    yield guests
    await guests.close()
    assert guests.problems == []


@pytest_asyncio.fixture(loop_scope="session")
async def own_guests(pages: Pages, own_server: Example) -> AsyncIterator[Guests]:
    """Guests of the test's own server."""
    guests = Guests(pages, own_server.url)
    yield guests
    await guests.close()
    assert guests.problems == []


@pytest.fixture(scope="session")
def everything() -> Iterator[Example]:
    with Example("tests.e2e.everything:app") as server:
        yield server


@pytest.fixture(scope="session")
def desk() -> Iterator[Example]:
    with Example("example.support_desk.main:app") as server:
        yield server


@pytest.fixture(scope="session")
def operated() -> Iterator[Example]:
    with Example("tests.e2e.operated:app") as server:
        yield server


@pytest_asyncio.fixture(loop_scope="session")
async def operators(pages: Pages, operated: Example) -> AsyncIterator[Guests]:
    """Those who look after an application."""
    guests = Guests(pages, operated.url)
    yield guests
    await guests.close()
    assert guests.problems == []


@pytest_asyncio.fixture(loop_scope="session")
async def guests_of_everything(pages: Pages, everything: Example) -> AsyncIterator[Guests]:
    """Those who look at the page of an application that has everything."""
    guests = Guests(pages, everything.url)
    yield guests
    await guests.close()
    assert guests.problems == []


@pytest_asyncio.fixture(loop_scope="session")
async def reader(guests_of_everything: Guests) -> Reader:
    guest = await guests_of_everything.new()
    return Reader(guest.page, guest.url)
