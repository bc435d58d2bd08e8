"""What the guide, and the tutorial, show of the wire is what passes over it.

The Python blocks under a second-level heading are one application, `app`, served by a real server. A JSON
block below `<!-- ada at /rooms/lobby -->` is what passes over the WebSocket of a client of that name, in
this order; one below `<!-- ada -->` is what passes next. Everybody connects before the first block. What a
server sends has a `type` that no client sends; an ellipsis in a text stands for what is new each time, and
so does any `retry_after`. `, refused 403` says that the block is the answer to the handshake, and
`, closed 4504` that the server closes behind it. An `http` block is a request, made in its turn; one below
`<!-- answered 422 -->` is refused with that status, and a block below `<!-- the answer -->` is what it is
answered. A block below `<!-- eve streams /rooms/lobby/events -->` is what comes in that stream of events, and
one below `<!-- eve streams on -->` what comes next.
"""

import json
import re
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from itertools import groupby
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx
import pytest

from tests.docs.test_docs import FENCE, Block, blocks, fenced, run
from tests.support.events import Events, Reader, listening
from tests.support.live import Client, Site, serving

ROOT: Final = Path(__file__).parents[2]
FOLDERS: Final = ("docs/guide", "docs/zh/guide")
TUTORIALS: Final = [ROOT / "docs/tutorial.md", ROOT / "docs/zh/tutorial.md"]
PAGES: Final = [*TUTORIALS, *(path for folder in FOLDERS for path in sorted(ROOT.glob(f"{folder}/*.md")))]
MARKER: Final = re.compile(r"<!-- (\w+)(?: at (\S+?))?(?:, (refused|closed) (\d+))? -->\n\Z")
STREAMED: Final = re.compile(r"<!-- (\w+) streams (\S+) -->\n\Z")
ANSWER: Final = "<!-- the answer -->\n"
ANSWERED: Final = re.compile(r"<!-- answered (\d+) -->\n\Z")
OF_CLIENTS: Final = {None, "join", "leave", "cancel", "credit", "answer", "auth", "refresh"}
"""The values of `type` in what clients send."""


class Scene(NamedTuple):
    """One block of what passes."""

    section: str
    client: str | None
    """None for a request by HTTP."""
    path: str | None
    """Where the client connects; None goes on with its WebSocket."""
    ending: str | None
    code: int
    frames: list[Any]


def scenes(text: str) -> Iterator[Scene]:
    for found, section, before in fenced(text):
        marker = MARKER.search(before)
        if found[1] == "http":
            line, _, body = found[2].partition("\n")
            refused = ANSWERED.search(before)
            yield Scene(section, None, line, None, int(refused[1]) if refused else 0, values(body))
        elif before.endswith(ANSWER):
            yield Scene(section, None, None, "answer", 0, values(found[2]))
        elif streamed := STREAMED.search(before):
            path = None if streamed[2] == "on" else streamed[2]
            yield Scene(section, streamed[1], path, "streamed", 0, Reader().read(found[2].encode()))
        elif marker:
            yield Scene(section, marker[1], marker[2], marker[3], int(marker[4] or 0), values(found[2]))


def values(source: str) -> list[Any]:
    """The JSON values in `source`, on a line each or over several."""
    try:
        return [json.loads(source)] if source.strip() else []
    except ValueError:
        return [json.loads(line) for line in source.splitlines()]


TIMELY: Final = ("retry_after", "version")
"""What a server says as time has it. Who comes within an interval of presence has the version before it."""


def fits(shown: Any, sent: Any) -> bool:
    """Whether a server may have sent `sent` where the guide shows `shown`."""
    if isinstance(shown, dict) and isinstance(sent, dict):
        same = shown.keys() == sent.keys()
        return same and all(key in TIMELY or fits(shown[key], sent[key]) for key in shown)
    if isinstance(shown, list) and isinstance(sent, list):
        return len(shown) == len(sent) and all(map(fits, shown, sent))
    if isinstance(shown, str) and isinstance(sent, str):
        return re.fullmatch(".+".join(map(re.escape, shown.split("…"))), sent) is not None
    return bool(shown == sent)


class Stage:
    """A served application, and the clients of one section."""

    def __init__(self, site: Site, stack: AsyncExitStack) -> None:
        self._site = site
        self._stack = stack
        self._clients: dict[str, Client] = {}
        self._streams: dict[str, Events] = {}
        self._answer: httpx.Response | None = None

    async def enter(self, scene: Scene) -> None:
        if scene.client and scene.path and scene.ending == "streamed":
            stream = listening(self._site, scene.path)
            self._streams[scene.client] = await self._stack.enter_async_context(stream)
        elif scene.client and scene.path and scene.ending != "refused":
            self._clients[scene.client] = await self._stack.enter_async_context(
                self._site.connect(scene.path)
            )

    async def play(self, scene: Scene) -> None:
        if scene.ending == "answer":
            assert self._answer is not None
            assert fits(scene.frames[0], self._answer.json()), self._answer.text
        elif scene.client is None:
            await self._request(scene)
        elif scene.ending == "streamed":
            for event in scene.frames:
                sent = await self._streams[scene.client].next()
                assert fits([event.name, event.id], [sent.name, sent.id]), sent
                assert fits(event.frame, sent.frame), sent
        elif scene.ending == "refused":
            refusal = await self._site.refusal(scene.path or "")
            assert refusal.status == scene.code
            assert fits(scene.frames[0], refusal.body), refusal.body
        else:
            await self._talk(scene, self._clients[scene.client])

    async def _request(self, scene: Scene) -> None:
        method, path = (scene.path or "").split()
        async with self._site.client() as http:
            response = await http.request(method, path, json=scene.frames[0] if scene.frames else None)
        assert response.status_code == scene.code if scene.code else response.is_success, response.text
        self._answer = response

    async def _talk(self, scene: Scene, client: Client) -> None:
        for frame in scene.frames:
            if frame.get("type") in OF_CLIENTS:
                await client.send(frame)
            else:
                sent = await client.receive()
                if sent.get("type") == "presence_diff" != frame.get("type"):
                    sent = await client.receive()  # it names again who came within an interval
                assert fits(frame, sent), f"{scene.client} was sent {sent}, not {frame}"
        if scene.ending == "closed":
            assert (await client.closed()).code == scene.code


class Act(NamedTuple):
    """One section of a page that shows what passes."""

    python: list[Block]
    scenes: list[Scene]


def acts(page: Path) -> Iterator[Act]:
    text = page.read_text()
    python = [block for block in blocks(text) if block.language == "python"]
    for section, played in groupby(scenes(text), key=lambda scene: scene.section):
        yield Act([block for block in python if block.section == section], list(played))


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
async def test_what_passes_is_what_is_shown(page: Path, monkeypatch: pytest.MonkeyPatch):
    for number, act in enumerate(acts(page)):
        name = f"{page.stem}_{number}_served"
        run(act.python, name, str(page), monkeypatch)
        # uvicorn calls it an error when an endpoint answers in place of accepting.
        async with serving(sys.modules[name].app, may_complain=True) as site, AsyncExitStack() as stack:
            stage = Stage(site, stack)
            for scene in act.scenes:
                await stage.enter(scene)
            for scene in act.scenes:
                await stage.play(scene)


def test_both_languages_have_the_same_pages():
    english, chinese = ({path.name for path in (ROOT / folder).glob("*.md")} for folder in FOLDERS)
    assert english == chinese


def test_both_languages_show_the_same_code():
    """Names and frames may differ where people speak in them; how often there is something to see, not."""
    for page in sorted((ROOT / FOLDERS[0]).glob("*.md")):
        shown = [
            [found[0] for found in FENCE.findall((ROOT / folder / page.name).read_text())]
            for folder in FOLDERS
        ]
        assert shown[0] == shown[1], page.name


def test_how_the_guide_is_read():
    text = """
## One
<!-- ada at /x, closed 4504 -->
```json
{"action": "a", "request_id": 1}
{"type": "response", "retry_after": 1, "errors": "Internal error …"}
```
```http
POST /y
{"a": 1}
```
"""
    played = list(scenes(text))
    assert [(scene.client, scene.path, scene.ending, scene.code) for scene in played] == [
        ("ada", "/x", "closed", 4504),
        (None, "POST /y", None, 0),
    ]
    shown = played[0].frames[1]
    assert fits(shown, {"type": "response", "retry_after": 0.3, "errors": "Internal error 1f"})
    assert not fits(shown, {"type": "response", "retry_after": 0.3, "errors": "Internal error "})
    assert not fits(shown, {"type": "response", "errors": "Internal error 1f"})
    assert fits([{"a": 1}], [{"a": 1}])
    assert not fits([{"a": 1}], [{"a": 1}, {}])
