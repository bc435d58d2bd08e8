"""AsyncAPI's own React component in place of the page."""

import os
import subprocess
from collections.abc import Iterator

import pytest
from playwright.async_api import expect

from tests.support.npm import published

from .guests import Guests
from .pages import Pages
from .server import Example

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture(scope="module")
def component() -> Iterator[Example]:
    try:
        folder = published("@asyncapi/react-component", "3.2.1")
    except (OSError, subprocess.SubprocessError) as exc:
        pytest.skip(f"npm cannot get AsyncAPI's component: {exc}")
    os.environ["ASYNCAPI_COMPONENT"] = str(folder)
    with Example("tests.e2e.component:app") as server:
        yield server
    del os.environ["ASYNCAPI_COMPONENT"]


async def test_it_shows_the_document(pages: Pages, component: Example) -> None:
    guests = Guests(pages, component.url)
    page = (await guests.new()).page
    await page.goto(component.url + "asyncapi")
    for said in ("Everything <b>", "/shop/{channel}", "An order was placed."):
        await expect(page.get_by_text(said).filter(visible=True).first).to_be_visible()
    await guests.close()
    assert guests.problems == []
