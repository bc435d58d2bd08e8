"""Each source of the guide to authentication, as it stands there: in a page, and in Python."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest

from tests.docs.test_docs import ROOT, Block, blocks, run
from tests.support.live import Site, serving

from .pages import Pages

pytestmark = pytest.mark.asyncio(loop_scope="session")

TOKEN: Final = "a-secret-token"  # noqa: S105  # that of the guide
GUIDE: Final = ("docs/guide/authentication.md", "## Each source")
IN_CHINESE: Final = ("docs/zh/guide/authentication.md", "## 逐个来源")
EXECUTED: Final = """async ([url, token]) => {
  %s
  return await new Promise((found, lost) => {
    socket.addEventListener("open", () => socket.send(JSON.stringify({ action: "me" })));
    socket.addEventListener("close", ({ code }) => lost(new Error(`closed with ${code}`)));
    socket.addEventListener("message", ({ data }) => {
      const frame = JSON.parse(data);
      if (frame.action === "me") found([frame.data, socket.protocol]);
    });
  });
}"""


def shown(page: str, section: str) -> list[Block]:
    return [block for block in blocks((ROOT / page).read_text()) if block.section == section]


@asynccontextmanager
async def served(found: list[Block], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    run([block for block in found if block.language == "python" and block.runs], "each", "guide", monkeypatch)
    async with serving(vars(sys.modules["each"])["app"]) as site:
        yield site


async def test_in_a_page(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    found = shown(*GUIDE)
    async with served(found, monkeypatch) as site, pages.one() as tab:
        await tab.goto(f"{site.http}/openapi.json")
        url = f"{site.http.replace('http', 'ws')}/rooms/lobby"
        said = []
        for block in found:
            if block.language == "js":
                said.append(await tab.evaluate(EXECUTED % block.source, [url, TOKEN]))
                await tab.context.clear_cookies()
    assert said == [["ada", "app"], ["ada", ""], ["ada", ""], ["ada", "app"], ["ada", ""]]


async def test_in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [block for block in shown(*GUIDE) if block.language == "python"]
    said = []
    async with served(found, monkeypatch) as site:
        for block in found:
            if not block.runs:
                names: dict[str, Any] = {"site": site.http, "token": TOKEN}
                names["url"] = f"{site.http.replace('http', 'ws')}/rooms/lobby"
                code = compile(block.source, "guide", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
                await eval(code, names)  # noqa: S307  # of the guide
                said.append(await me(names["socket"]))
    assert said == ["ada"] * 7


async def test_it_is_the_same_in_chinese() -> None:
    english, chinese = ([block.source.strip() for block in shown(*page)[1:]] for page in (GUIDE, IN_CHINESE))
    assert english == chinese


async def me(socket: Any) -> Any:
    async with socket:
        await socket.send(json.dumps({"action": "me"}))
        while (frame := json.loads(await socket.recv())).get("action") != "me":
            pass
        return frame["data"]
