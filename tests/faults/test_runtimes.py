"""The TypeScript client where it is not tested all the time: Deno and Bun, as npm brings them; and the cache
that a browser has for the way back."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import pytest
from playwright.async_api import async_playwright

from fastapi_channels.client import Client
from tests.client import test_alike
from tests.client.driven import TYPESCRIPT, Driven, bundled, driven
from tests.e2e.conftest import CHROMIUM, QUIET
from tests.support.live import process
from tests.support.npm import installed

SERVED: Final = ("tests.client.served:create_app", "--factory")
RUNTIMES: Final = {
    "deno": ("@deno/linux-x64-glibc", "2.9.6", "deno", "run", "--allow-net", "--allow-read"),
    "bun": ("@oven/bun-linux-x64", "1.4.5", "bin/bun", "run"),
}


@pytest.mark.parametrize("runtime", RUNTIMES)
async def test_all_that_passes_passes_there_too(runtime: str):
    package, version, path, *words = RUNTIMES[runtime]
    try:
        folder = await asyncio.to_thread(installed, runtime, {package: version})
    except (OSError, subprocess.SubprocessError) as exc:
        pytest.skip(f"npm cannot install {runtime}: {exc}")
    program = folder / "node_modules" / package / path

    @asynccontextmanager
    async def there(url: str) -> AsyncIterator[Driven]:
        program.chmod(0o755)
        async with driven(str(program), *words, "test/driver.ts", url, folder=TYPESCRIPT) as client:
            yield client

    await test_alike.test_all_that_passes_between_the_two(there)


async def test_a_page_comes_back_from_the_cache_of_the_browser_with_what_it_missed():
    bundle = await asyncio.to_thread(bundled)
    async with process(*SERVED) as server, async_playwright() as playwright:
        # The one without windows keeps no page.
        path = next(filter(None, map(shutil.which, CHROMIUM[1:])), None)
        if path is None:
            pytest.skip("no Chromium on PATH")
        browser = await playwright.chromium.launch(
            executable_path=path,
            args=[*QUIET, "--headless=new"],
            ignore_default_args=["--disable-back-forward-cache"],
        )
        page, url = await browser.new_page(), server.site.http
        await page.goto(f"{url}/page")
        await page.add_script_tag(content=bundle)
        await page.evaluate(
            "(url) => { window.told = []; window.run = clients.driven(url, (it) => told.push(it)); }", url
        )
        room = {"do": "room", "id": "a", "address": "/rooms/{channel}", "parameters": {"channel": "lobby"}}
        await page.evaluate("(room) => run(room)", room)
        await page.wait_for_function("told.some(({ state }) => state === 'joined')")
        await page.goto(f"{url}/page?other")
        async with Client(url, proxy=None) as client:
            await client.room("/rooms/{channel}", channel="lobby").call("say", {"text": "meanwhile"})
        await page.go_back(wait_until="commit")  # it is not loaded
        if not await page.evaluate("'told' in window"):
            pytest.skip("this browser keeps no page")
        await page.wait_for_function("told.some(({ said }) => said?.text === 'meanwhile')")
        states = await page.evaluate("told.flatMap(({ state, gap, fault }) => state ?? gap ?? fault ?? [])")
        assert states == ["joined", "joining", "joined"], "and no gap, and no fault"
        await browser.close()
