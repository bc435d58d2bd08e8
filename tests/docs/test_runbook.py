"""What the runbook shows is what its commands print: they are run in their order, against two processes."""

from __future__ import annotations

import logging
import os
import re
import shlex
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx
import pytest

from tests.commands.test_over_the_broker import command, inside, line
from tests.docs import test_monitoring
from tests.docs.test_docs import FENCE, ROOT, blocks, run
from tests.support.live import Site, serving, wait_until
from tests.support.servers import RedisServer

PAGES: Final = [ROOT / folder / "guide" / "runbook.md" for folder in ("docs", "docs/zh")]
NODES: Final = ("0c4e2ad1b7f3", "77b1a90c0d52")
"""The processes on the page."""
HOST: Final = "http://localhost:8000"
ANY: Final = {
    r"web-\d": "web-1",
    r"(?<=pid )7\d\b|(?<=web-1 )7\d\b": "71",
    r"\d{4}-\d\d-\d\dT[\d:]{8}[+-]\d\d:\d\d": "2026-01-31T12:00:00+00:00",
    r"(?<![\w.])\d+\.\d+(?![\w.])": "0.1",
    r'process="\d+"': 'process="1"',
}
"""What differs each time, and what stands for it."""
FORMATS: Final = re.compile(r"""(?:told =|warning\(\s*)\s*"([^"]+)\"""")
SLUG: Final = re.compile(r"^## (.+)$", re.MULTILINE)


class Command(NamedTuple):
    words: str
    printed: list[str]


def shown(page: Path, language: str) -> list[str]:
    return [found[2] for found in FENCE.finditer(page.read_text()) if found[1] == language]


def commands(page: Path) -> Iterator[Command]:
    for block in shown(page, "console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            words, *printed = part.splitlines()
            yield Command(words, printed)


def plain(text: str) -> str:
    """One line without what differs each time; of blanks one is left."""
    text = " ".join(text.split())
    for pattern, stands in ANY.items():
        text = re.sub(pattern, stands, text)
    return text


def fits(wanted: str, printed: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, plain(wanted).split("…"))), plain(printed)) is not None


class Shell:
    """Runs what stands behind a prompt, as if the processes of the page were those of the sites."""

    def __init__(self, sites: list[Site], capsys: pytest.CaptureFixture[str], stack: AsyncExitStack) -> None:
        self._names = dict(zip(NODES, (site.node.id for site in sites), strict=True))
        self._url = sites[0].http
        self._capsys = capsys
        self._stack = stack
        self._listener: Any = None

    async def prints(self, words: str) -> list[str]:
        for name, real in self._names.items():
            words = words.replace(name, real)
        printed = [each async for each in self._run(shlex.split(words))]
        return [self._as_on_the_page(each) for each in printed]

    def _as_on_the_page(self, text: str) -> str:
        for name, real in self._names.items():
            text = text.replace(real, name)
        text = text.replace(socket.gethostname(), "web-1")
        return re.sub(rf"(pid |web-1 +){os.getpid()}\b", r"\g<1>71", text)

    async def _run(self, words: list[str]) -> AsyncIterator[str]:
        if words[0] == "curl":
            for each in await self._curl(words[1:]):
                yield each
            return
        assert words.pop(0) == "fastapi-channels"
        if words[-1] == "&":
            self._listener = await self._stack.enter_async_context(command(*words[:-1]))
            yield await line(self._listener.stderr)
            return
        done = await inside(self._capsys, *words)
        assert done.status == 0, done
        for each in (done.out + done.err).splitlines():
            yield each
        if words[0] == "publish":
            yield await line(self._listener.stdout)

    async def _curl(self, words: list[str]) -> list[str]:
        method, headers, pattern, url = "GET", {}, "", ""
        given = iter(words)
        for word in given:
            match word:
                case "-s":
                    pass
                case "-X":
                    method = next(given)
                case "-H":
                    name, _, value = next(given).partition(": ")
                    headers[name] = value
                case "|":
                    assert next(given) == "grep"
                    pattern = next(given)
                case _:
                    url = word.replace(HOST, self._url)
        async with httpx.AsyncClient(trust_env=False) as http:
            response = await http.request(method, url, headers=headers)
        assert response.is_success, response.text
        return [each for each in response.text.splitlines() if re.search(pattern, each)]


@pytest.mark.fault
async def test_what_is_printed_is_what_is_shown(
    shared_redis: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
):
    caplog.set_level(logging.INFO, "fastapi_channels.connections")
    monkeypatch.setenv("CHANNELS_URL", shared_redis.url)
    (page, _) = PAGES
    python = [block for block in blocks(page.read_text()) if block.language == "python"]
    apps = []
    for name in NODES:
        run(python, f"runbook_{name}", str(page), monkeypatch)
        apps.append(sys.modules[f"runbook_{name}"].app)
    async with (
        serving(apps[0]) as one,
        serving(apps[1]) as other,
        one.clients("/rooms/lobby?user=ada", "/rooms/lobby?user=bob"),
        other.connect("/rooms/lobby?user=mallory") as mallory,
        AsyncExitStack() as stack,
    ):
        shell = Shell([one, other], capsys, stack)
        for words, wanted in commands(page):
            printed = await shell.prints(words)
            # Processes answer in any order.
            pairs = zip(sorted(map(plain, wanted)), sorted(map(plain, printed)), strict=True)
            assert all(fits(*pair) for pair in pairs), "\n".join([words, *printed])
        assert (await mallory.closed()).code == 4503
        await wait_until(lambda: other.node.draining)
    (logged, *_) = [
        each.getMessage() for each in caplog.records if each.name == "fastapi_channels.connections"
    ]
    (written,) = [each for block in shown(page, "text") for each in block.splitlines() if "closed_by" in each]
    assert re.findall(r"(\w+)=", written) == re.findall(r"(\w+)=", logged)


def test_every_line_of_the_log_is_one_that_is_written():
    sources = "".join(path.read_text() for path in (ROOT / "fastapi_channels").rglob("*.py"))
    formats = {re.sub(r"%(\.\d)?[a-z]", "…", text) for text in FORMATS.findall(sources)}
    for each in (each for block in shown(PAGES[0], "text") for each in block.splitlines()):
        if "closed_by" not in each:
            assert any(fits(text, each) for text in formats), each


@pytest.mark.parametrize(
    "query", [each for block in shown(PAGES[0], "promql") for each in block.splitlines()]
)
def test_a_query_of_the_page_asks_for_what_there_is(query: str):
    test_monitoring.test_a_query_asks_for_what_there_is("", query)


@pytest.mark.parametrize("language", ["console", "promql", "text", "python"])
def test_both_languages_show_the_same(language: str):
    english, chinese = (shown(page, language) for page in PAGES)
    assert english == chinese
    assert english


@pytest.mark.parametrize("page", PAGES, ids=["en", "zh"])
def test_an_alert_leads_to_its_section(page: Path):
    text = page.read_text()
    headings = SLUG.findall(FENCE.sub("", text))
    slugs = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
    led = {
        alert: row[1]
        for row in re.findall(r"^\| (`Channels.*) \| .*\(#(.+)\) \|$", text, re.MULTILINE)
        for alert in re.findall(r"`(\w+)`", row[0])
    }
    assert led.keys() == {rule["alert"] for rule in test_monitoring.RULES}
    assert set(led.values()) <= set(slugs)
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= set(slugs)
    if page is PAGES[0]:
        wanted = {alert: f"docs/guide/runbook.md#{slug}" for alert, slug in led.items()}
        assert {rule["alert"]: rule["annotations"]["runbook"] for rule in test_monitoring.RULES} == wanted
