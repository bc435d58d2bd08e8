"""What the pages on deployment say, beyond that their examples run."""

import inspect
import re
import sys
from pathlib import Path
from typing import Any, Final

import pytest
from fastapi import APIRouter, FastAPI
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from fastapi_channels import Channel, Connection, action, add_channel
from tests.docs.test_docs import blocks, run
from tests.support.live import application, serving
from tests.support.servers import RedisServer, required

DOCS: Final = Path(__file__).parents[2] / "docs"
EACH_LANGUAGE: Final = pytest.mark.parametrize("folder", [DOCS, DOCS / "zh"], ids=["en", "zh"])
ROW: Final = re.compile(r"^\| `(\w+)` \| `(.+?)` \| `(.+?)` \| .+ \|$", re.MULTILINE)


def played(page: Path, section: int, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module that the Python under one of the headings of a page is."""
    python = [block for block in blocks(page.read_text()) if block.language == "python"]
    headings = list(dict.fromkeys(block.section for block in python))
    shown = [block for block in python if block.section == headings[section]]
    run(shown, "a_page", str(page), monkeypatch)
    return sys.modules["a_page"]


@EACH_LANGUAGE
def test_every_argument_is_named_as_it_is(folder: Path):
    text = (folder / "settings.md").read_text()
    taken = [
        parameter
        for parameter in inspect.signature(add_channel).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY
    ]
    shown = {name: (kind.replace("\\|", "|"), default) for name, kind, default in ROW.findall(text)}
    assert shown == {each.name: (str(each.annotation), repr(each.default)) for each in taken}
    examples = "".join(block.source for block in blocks(text) if block.language == "python")
    assert [each.name for each in taken if f"{each.name}=" not in examples] == []


@EACH_LANGUAGE
async def test_the_keys_of_a_member_are_those_that_are_named(folder: Path):
    class Room(Channel):
        @action()
        async def me(self, connection: Connection) -> str:
            return connection.id

    room = Room()
    async with serving(application(room)) as site, site.connect("/lobby") as client:
        number = (await client.call("me"))["data"]
        assert await site.node.rooms.members("lobby") == [{"id": number, "user": None}]
        text = (folder / "settings.md").read_text()
        named = re.findall(r"^\| `(\w+)` \| `[^`]+` \| [^`]", text, re.MULTILINE)
        assert named == ["id", "user"]


async def test_a_token_comes_as_a_subprotocol_and_is_not_echoed(monkeypatch: pytest.MonkeyPatch):
    page = played(DOCS / "guide/authentication.md", 0, monkeypatch)
    claims = {"sub": "ada", "aud": "chat", "exp": page.time.time() + 600}
    token = page.jwt.encode(claims, page.SECRET, algorithm="HS256")
    async with serving(page.app, may_complain=True) as site:
        offered = ["app", f"bearer.{token}"]
        async with site.connect("/rooms/lobby", subprotocols=offered) as client:
            assert client.socket.subprotocol == "app"
            assert client.socket.response is not None
            assert token not in str(client.socket.response.headers)
            assert (await client.call("me"))["data"] == "ada"
        for wrong in (["app"], ["app", "bearer.x"], [*offered, "bearer.x"]):
            assert (await site.refusal("/rooms/lobby", subprotocols=wrong)).status == 401, wrong


@pytest.mark.parametrize(
    ("prefix", "root_path", "found"), [("", "/api", "/rooms/lobby"), ("/api", "", "/api/rooms/lobby")]
)
async def test_a_site_below_a_path_is_found_as_the_page_says(prefix: str, root_path: str, found: str):
    """With a proxy that takes the prefix away, and with one that leaves it."""
    app, router = FastAPI(), APIRouter(prefix=prefix)
    add_channel(app)
    Channel().mount(router, "/rooms/{channel}")
    app.include_router(router)
    async with serving(app, root_path=root_path) as site:
        async with site.connect(found, origin=f"http://127.0.0.1:{site.port}"):
            pass
        [other] = {"/rooms/lobby", "/api/rooms/lobby"} - {found}
        assert (await site.refusal(other)).status == 403


async def test_a_rebound_name_is_let_in_without_trusted_hosts():
    async with serving(application(Channel())) as site:
        assert await answer_to("evil.example", "/lobby", site.port) == 101


@EACH_LANGUAGE
async def test_a_rebound_name_is_refused_with_trusted_hosts(folder: Path, monkeypatch: pytest.MonkeyPatch):
    app: FastAPI = played(folder / "proxy.md", 1, monkeypatch).app
    async with serving(app, may_complain=True) as site:
        assert await answer_to("evil.example", "/rooms/lobby", site.port) == 400
        assert await answer_to("chat.example.com", "/rooms/lobby", site.port) == 101


async def answer_to(name: str, path: str, port: int) -> int:
    """The status of a handshake by a page of `name`, which leads to this machine."""
    address = f"{name}:{port}"
    try:
        async with connect(
            f"ws://{address}{path}",
            host="127.0.0.1",
            port=port,
            origin=Origin(f"http://{address}"),
            proxy=None,
        ) as client:
            assert client.response is not None
            return client.response.status_code
    except InvalidStatus as exc:
        return exc.response.status_code


@required(RedisServer)
@EACH_LANGUAGE
async def test_what_is_committed_is_answered_without_the_broker(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    with RedisServer() as redis:
        monkeypatch.setenv("CHANNELS_URL", redis.url)
        page = played(folder / "guide/errors.md", 3, monkeypatch)
        async with serving(page.app) as site, site.connect("/boards/kitchen") as client:
            redis.kill()
            answer = await client.call("post", text="milk", request_id=1)
            assert (answer["status"], answer["data"], page.notes) == ("ok", 1, ["milk"])
            redis.restart()
