"""A client in a program of its own, of whatever language, that is driven by lines of JSON."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from playwright.async_api import async_playwright

from tests.e2e.conftest import chromium
from tests.support import forks
from tests.support.live import DEADLINE, stream
from tests.support.npm import FOLDER, NODE, installed

ROOT = Path(__file__).parents[2]
TYPESCRIPT = ROOT / "clients" / "typescript"
PACKAGE = json.loads((TYPESCRIPT / "package.json").read_text())


class Driven:
    """The program, and all that it has told.

    Args:
        write: hands it a command.
        pid: of its process, if it has one of its own.
    """

    def __init__(self, write: Callable[[dict[str, Any]], object], pid: int = 0) -> None:
        self._write = write
        self._pid = pid
        self._told = asyncio.Event()
        self._count = 0
        self.told: list[dict[str, Any]] = []
        self.at: list[float] = []
        """When each was told."""

    def do(self, command: str, **words: Any) -> None:
        self._write({"do": command, **words})

    async def call(self, id: str, name: str, *, retry: bool = False, **payload: Any) -> Any:
        """What is told of a call: its `reply`, or the `error`."""
        return await self.asked("call", id=id, action=name, payload=payload, retry=retry)

    async def asked(self, what: str, **words: Any) -> Any:
        return await self.until(self.start(what, **words))

    def start(self, what: str, **words: Any) -> Callable[[dict[str, Any]], bool]:
        """Begin; what is returned knows the answer."""
        self._count += 1
        number = self._count
        self.do(what, **{"as": number}, **words)
        return lambda told: told.get("as") == number

    async def until(self, wanted: Callable[[dict[str, Any]], bool], after: int = 0) -> dict[str, Any]:
        """What was told, or is going to be, and is wanted."""
        async with asyncio.timeout(2 * DEADLINE):
            while True:
                found = next(filter(wanted, self.told[after:]), None)
                if found is not None:
                    return found
                self._told.clear()
                await self._told.wait()

    def of(self, id: str, what: str) -> list[Any]:
        """All that was told of a room: `said`, `state` or `gap`."""
        return [told[what] for told in self.told if told.get("id") == id and what in told]

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """It does nothing and reads nothing meanwhile."""
        os.kill(self._pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._pid, signal.SIGCONT)

    def hear(self, told: dict[str, Any]) -> None:
        self.told.append(told)
        self.at.append(asyncio.get_running_loop().time())
        self._told.set()


@asynccontextmanager
async def driven(*command: str, folder: Path) -> AsyncIterator[Driven]:
    (reads, stdin), (stdout, writes) = os.pipe(), os.pipe()
    # Node strips the types from a module once, not each time that it starts: a fifth of a second.
    environment = {**os.environ, "NODE_COMPILE_CACHE": str(FOLDER / "compiled")}
    process = await asyncio.to_thread(
        forks.start, command, cwd=folder, env=environment, stdin=reads, stdout=writes, stderr=2
    )
    os.close(reads)
    os.close(writes)
    client = Driven(lambda command: os.write(stdin, json.dumps(command).encode() + b"\n"), process.pid)

    async def read() -> None:
        async for line in await stream(stdout):
            client.hear(json.loads(line))

    reading = asyncio.create_task(read())
    try:
        yield client
    finally:
        process.kill()
        await asyncio.to_thread(process.wait, DEADLINE)
        await reading
        os.close(stdin)


@asynccontextmanager
async def in_node(url: str) -> AsyncIterator[Driven]:
    """The TypeScript client."""
    async with driven(NODE, "test/driver.ts", url, folder=TYPESCRIPT) as client:
        yield client


@asynccontextmanager
async def in_python(url: str) -> AsyncIterator[Driven]:
    async with driven(sys.executable, "-m", "tests.client.driver", url, folder=ROOT) as client:
        yield client


@asynccontextmanager
async def in_chromium(url: str, page_of: str = "") -> AsyncIterator[Driven]:
    """The TypeScript client in a page of the same origin, or of another one, which has to be served when it
    begins."""
    bundle = await asyncio.to_thread(bundled)
    async with async_playwright() as playwright:
        browser = await chromium(playwright)
        page = await browser.new_page()
        doing: set[asyncio.Task[Any]] = set()

        def write(command: dict[str, Any]) -> None:
            doing.add(asyncio.create_task(page.evaluate("(command) => run(command)", command)))

        client = Driven(write)
        await page.expose_function("tell", client.hear)
        await page.goto(f"{page_of or url}/page")
        await page.add_script_tag(content=bundle)
        await page.evaluate("(url) => { window.run = clients.driven(url, tell); }", url)
        yield client
        await asyncio.gather(*doing)
        await browser.close()


def bundled() -> str:
    """The driven client as a script of a page."""
    tools = installed("typescript-client", PACKAGE["devDependencies"]) / "node_modules"
    words = (str(tools / "esbuild/bin/esbuild"), "test/commands.ts", "--bundle", "--global-name=clients")
    return subprocess.run([NODE, *words], cwd=TYPESCRIPT, check=True, capture_output=True, text=True).stdout
