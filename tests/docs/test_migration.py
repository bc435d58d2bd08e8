"""The guides for moving: what was and what is, under one client each.

Under a heading with two Python blocks the first is the old program and the second the new one, each with an
`app`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import pytest
from fastapi import FastAPI
from starlette.types import ASGIApp
from websockets.asyncio.server import ServerConnection, serve

from fastapi_channels.client import Client
from tests.docs.test_docs import Block, blocks
from tests.support.environments import environment
from tests.support.live import CHOSEN, Close, Site, process, serving
from tests.support.live import Client as Peer
from tests.support.tokens import token

DOCS: Final = Path(__file__).parents[2] / "docs"
Script = Callable[[Site], Awaitable[None]]


async def smallest(site: Site) -> None:
    async with site.connect("/ws") as client:
        await client.send("hi")
        assert await client.read() == "Message text was: hi"


async def by_id(site: Site) -> None:
    async with site.clients("/ws/1", "/ws/2?to=1", "/ws/3?to=9") as (one, two, three):
        await three.send("anybody?")
        assert await three.read() == "You wrote: anybody?"
        await two.send("psst")
        assert await two.read() == "You wrote: psst"
        assert await one.read() == "Client #2 whispers: psst"
        await two.close()
        assert [await one.read(), await three.read()] == ["Client #2 left the chat"] * 2
        await one.send("hi")
        assert [await one.read(), await one.read()] == ["You wrote: hi", "Client #1 says: hi"]


async def from_the_query(site: Site) -> None:
    async with site.connect("/ws?room=attic&user_id=7") as client:
        await client.send("hi")
        assert await client.read() == "Welcome to room attic, user 7!"
        assert await client.read() == "[attic] User 7: hi"
    for query in ("", "?room=attic", "?room=attic&user_id=x", f"?user_id=7&room={'x' * 21}"):
        assert (await site.refusal(f"/ws{query}")).status == 403


async def by_token(site: Site) -> None:
    async with site.connect("/ws", additional_headers={"Authorization": "Bearer valid-token"}) as client:
        await client.send("hi")
        assert await client.read() == "Authenticated with token: valid-token"
        assert await client.read() == "Echo: hi"
    for headers in ({}, {"Authorization": "Bearer other"}):
        assert (await site.refusal("/ws", additional_headers=headers)).status == 401


async def plain_json(site: Site) -> None:
    async with site.connect("/ws/json") as client:
        await client.send({"a": [1, None]})
        assert await client.receive() == {"type": "response", "original_message": {"a": [1, None]}}


async def several_clients(site: Site) -> None:
    async with site.connect("/ws/1") as one:
        async with site.connect("/ws/2") as two:
            await two.send("hi")
            assert [await two.read(), await two.read()] == ["You wrote: hi", "Client #2 says: hi"]
            assert await one.read() == "Client #2 says: hi"
        assert await one.read() == "Client #2 left the chat"
    assert (await site.refusal("/ws/x")).status == 403


async def parameters(site: Site) -> None:
    cookie, header = {"Cookie": "session=ada"}, {"X-Token": "bob"}
    async with site.connect("/items/7/ws?q=3", additional_headers=cookie) as client:
        await client.send("hi")
        assert [await client.read(), await client.read()] == ["ada at 7, q is 3", "7: hi"]
    async with site.connect("/items/7/ws", additional_headers=header) as client:
        assert await client.read() == "bob at 7, q is None"
    for path, headers in (("/items/7/ws", {}), ("/items/x/ws", cookie), ("/items/7/ws?q=x", cookie)):
        assert (await site.refusal(path, additional_headers=headers)).status == 403


async def json_and_none(site: Site) -> None:
    async with site.connect("/ws/safe") as client:
        await client.send("{")
        await client.send({"action": "x", "data": [1]})
        assert await client.receive() == {"error": "Invalid JSON format"}
        assert await client.receive() == {"success": True, "action": "x", "data": [1]}


async def closing(site: Site) -> None:
    for text, close in (
        ("close", (1000, "Client requested close")),
        ("error", (1011, "Server error occurred")),
    ):
        async with site.connect("/ws/custom-close") as client:
            await client.send("hi")
            assert await client.read() == "Received: hi"
            await client.send(text)
            assert await client.closed() == Close(*close)


async def django_chat(site: Site) -> None:
    async with site.clients("/ws/chat/lobby/", "/ws/chat/lobby/", "/ws/chat/other/") as (one, two, other):
        await other.send({"message": "elsewhere"})
        assert await other.receive() == {"message": "elsewhere"}
        await one.send({"message": "hello"})
        assert [await one.receive(), await two.receive()] == [{"message": "hello"}] * 2


async def django_token(site: Site) -> None:
    path, key = "/ws/chat/lobby/", "a-secret-of-thirty-two-bytes-or-more"
    ada, bob = (f"{path}?token={token(name, key=key)}" for name in ("ada", "bob"))
    async with site.clients(ada, bob) as (one, two):
        await one.send({"message": "hello"})
        assert [await one.receive(), await two.receive()] == [{"by": "ada", "message": "hello"}] * 2
    for wrong in (path, f"{path}?token={token()}", f"{path}?token={token(seconds=-1, key=key)}"):
        assert (await site.refusal(wrong)).status in (401, 403)


async def dcrf_chat(site: Site) -> None:
    async with site.clients("/ws/chat/lobby/", "/ws/chat/lobby/", "/ws/chat/other/") as (one, two, other):
        await one.send({"action": "say", "request_id": 7, "text": "hello"})
        frames = [await one.receive(), await one.receive()]
        reply = {
            "errors": [],
            "data": {"length": 5},
            "action": "say",
            "response_status": 200,
            "request_id": 7,
        }
        assert reply in frames
        assert {"said": "hello"} in frames
        assert await two.receive() == {"said": "hello"}
        for request, status in (({"action": "say", "text": "shut up"}, {403}), ({"action": "x"}, {404, 405})):
            await other.send({**request, "request_id": 8})
            refusal = await other.receive()
            assert refusal.pop("response_status") in status
            assert len(refusal.pop("errors")) == 1
            assert refusal == {"data": None, "action": request["action"], "request_id": 8}


async def chanx_chat(site: Site) -> None:
    async with site.clients("/ws/chat/lobby/", "/ws/chat/lobby/", "/ws/chat/other/") as (one, two, other):
        await one.send({"action": "say", "payload": {"text": "hello"}})
        frames = [await one.receive(), await one.receive()]
        said = {"action": "said", "payload": {"text": "hello"}}
        assert {"action": "taken", "payload": {"length": 5}} in frames
        assert said in frames
        assert await two.receive() == said
        for wrong in ({"action": "x"}, {"action": "say"}, {"action": "say", "payload": {"text": 7}}):
            await other.send(wrong)
            error = await other.receive()
            assert error["action"] == "error"
            assert {"type", "msg"} <= error["payload"][0].keys()


async def layer_example(site: Site) -> None:
    async with site.connect("/ws/7") as client:
        assert await client.receive() == {"event": "CONNECTED", "user_id": "7"}
        await client.send({"a": 1})
        assert await client.receive() == {"event": "ECHO", "payload": {"a": 1}}
        await post(site, "/users/7?text=hi")
        assert await client.receive() == {"text": "hi"}


async def pinged(site: Site) -> None:
    async with site.connect("/") as client:
        await client.send({"type": "ping"})
        assert (await client.receive())["type"] == "ping"


async def by_secret(site: Site) -> None:
    async with site.connect("/") as client:
        await client.send("SECRET_HUSH_HUSH")
        await client.send({"type": "ping"})
        assert (await client.receive())["type"] == "ping"
    async with site.connect("/") as client:
        await client.send("SECRET")
        assert await client.closed() == Close(1008, "Not authenticated")


async def operations(site: Site) -> None:
    async with site.clients("/", "/") as (one, two):
        for client in (one, two):
            await client.send({"type": "ping"})
            assert (await client.receive())["type"] == "ping"
        await one.send({"type": "user.subscribe", "payload": {"topic": "foobar"}})
        assert await one.receive() == {
            "type": "user.subscribe.response",
            "payload": {"detail": "Subscribed to foobar", "topics": ["foobar"]},
        }
        await post(site, "/alert?topic=foobar&message=hey")
        assert await one.receive() == {"type": "alert", "payload": {"message": "hey"}}
        await two.send({"type": "ping"})
        assert (await two.receive())["type"] == "ping"  # and no alert before
        await two.send({"type": "user.subscribe", "payload": {}})
        if isinstance(site.app, FastAPI):
            error = await two.receive()
            assert (error["type"], error["payload"]["code"]) == ("error", "invalid_payload")
        else:
            assert await two.closed() == Close(1003, "Could not validate payload")


async def managed(site: Site) -> None:
    async with site.clients("/ws/ada", "/ws/bob") as (ada, bob):
        await bob.send({"type": "subscribe", "topic": "news/sport"})
        await bob.send({"type": "send", "topic": "news/sport", "text": "goal"})
        assert await bob.receive() == {"text": "goal"}
        await bob.send({"type": "broadcast", "text": "hello"})
        assert [await ada.receive(), await bob.receive()] == [{"text": "hello"}] * 2
        await ada.send({"type": "send_by_conn_id", "conn_id": "bob", "text": "psst"})
        await ada.send({"type": "send_by_conn_id", "conn_id": ["ada", "bob"], "text": "both"})
        assert [await bob.receive(), await bob.receive()] == [{"text": "psst"}, {"text": "both"}]
        assert await ada.receive() == {"text": "both"}
        await bob.send({"type": "unsubscribe", "topic": "news/sport"})
        await bob.send({"type": "send", "topic": "news/sport", "text": "missed"})
        for topic in ("weather/+", "stock/#"):
            await bob.send({"type": "subscribe", "topic": topic})
        for topic in ("weather/today", "weather/today/noon", "stock/acme/last"):
            await bob.send({"type": "send", "topic": topic, "text": topic})
        assert [await bob.receive(), await bob.receive()] == [
            {"text": "weather/today"},
            {"text": "stock/acme/last"},
        ]
        await bob.send({"type": "broadcast", "text": "last"})
        assert await bob.receive() == {"text": "last"}


async def looping(site: Site) -> None:
    async with site.clients("/ws/ada", "/ws/bob") as (ada, bob):
        await ada.send({"text": "hello"})
        assert [await ada.receive(), await bob.receive()] == [{"text": "hello"}] * 2
        await bob.send({"to": "ada", "text": "psst"})
        await bob.send({"to": ["ada", "bob"], "text": "both"})
        assert [(await ada.receive())["text"], (await ada.receive())["text"]] == ["psst", "both"]
        assert (await bob.receive())["text"] == "both"


async def proxied(site: Site) -> None:
    async with site.connect("/ws/ada") as client:
        await client.send("hi")
        assert await client.read() == "/ws/ada: hi"


async def lobby(site: Site) -> None:
    """Neither side's clients can connect to the other: each program is spoken to in its own way."""
    if isinstance(site.app, FastAPI):
        async with Client(site.http) as ada, Client(site.http) as bob:
            rooms = [
                await each.room("/lobby", query={"name": name}).ready()
                for each, name in ((ada, "ada"), (bob, "bob"))
            ]
            async with rooms[1].events("said") as events:
                assert await rooms[0].call("say", {"text": "hello"}) == 5
                assert await anext(events) == {"by": "ada", "text": "hello"}
        assert (await site.refusal(SOCKET_IO)).status in (403, 404)
    else:
        async with site.clients(SOCKET_IO, SOCKET_IO, SOCKET_IO) as (ada, bob, nobody):
            for peer, said in ((ada, {"name": "ada"}), (bob, {"name": "bob"}), (nobody, {})):
                assert await packet(peer) == ("0", "")
                await peer.send(f"40{json.dumps(said)}")
            assert (await packet(nobody))[0] == "44"
            assert [(await packet(ada))[0], (await packet(bob))[0]] == ["40", "40"]
            await ada.send('421["say","hello"]')
            assert await packet(ada) == ("43", "1[5]")
            assert await packet(bob) == ("42", '["said",{"by":"ada","text":"hello"}]')


SOCKET_IO: Final = "/socket.io/?EIO=4&transport=websocket"


async def packet(peer: Peer) -> tuple[str, str]:
    """The type and the content of the next packet of Socket.IO; of what opens a connection its type alone."""
    text = str(await peer.read())
    return ("0", "") if text.startswith("0") else (text[:2], text[2:])


async def upstreams_rooms(site: Site) -> None:
    async with site.clients("/person?name=ada", "/person") as (ada, bob):
        # Upstream accepts before it subscribes: whose action is answered is in the room.
        for peer in (bob, ada):
            counted = await peer.call("count", user="x")
        assert counted == {"action": "count", "user": "x", "message": 2, "status": "ok"}
        said = {"action": "message", "user": "ada", "message": "hi"}
        await ada.send(said)
        assert [await ada.receive(), await bob.receive()] == [said | {"status": "ok"}] * 2
        for peer, action, text in (
            (ada, "count", "Too Many Requests"),
            (ada, "shout", "deprecated"),
            (ada, "error", "Permission Denied"),
            (bob, "message", "Permission Denied"),
            (ada, "nothing", "Not Exist"),
        ):
            await refused(peer, action, text)
        await ada.send({"action": "close"})
        assert (await ada.closed()).code == 1000
    said = {"action": "message", "message": "hi"}
    async with site.connect("/group") as ada:
        assert await ada.receive() == {"joined": "group_channel"}
        assert await ada.call(**said) == said
        async with site.connect("/group") as bob:
            assert await bob.receive() == {"joined": "group_channel"}
            assert await bob.call(**said) == said
            assert await ada.receive() == said
            await refused(ada, "denied", "Permission Denied")
            await refused(ada, "thrown_out", "Permission Denied")
            assert (await ada.closed()).code == 1008
            assert await bob.receive() == {"left": "group_channel"}


async def refused(peer: Peer, action: str, text: str) -> None:
    error = await peer.call(action, user="x", message="y")
    assert text.lower() in error["errors"].lower()
    assert (error["type"], error["status"], error["data"]) == ("response", "bad", None)


async def post(site: Site, path: str) -> None:
    async with site.client() as http:
        (await http.post(path)).raise_for_status()


SCRIPTS: Final[dict[str, list[Script]]] = {
    "django-channels.md": [django_chat, django_token, django_chat, dcrf_chat, chanx_chat],
    "fastapi-distributed-websocket.md": [managed, looping, proxied],
    "fastapi-websockets.md": [layer_example],
    "fastapi.md": [
        *(smallest, several_clients, by_id, parameters, from_the_query),
        *(by_token, plain_json, json_and_none, closing),
    ],
    "fastws.md": [pinged, operations, by_secret],
    "python-socketio.md": [lobby],
    "../upstream.md": [upstreams_rooms],
}
"""For each page, the client of each heading that has programs."""


def programs(page: Path) -> list[list[Block]]:
    python = [block for block in blocks(page.read_text()) if block.language == "python"]
    return [list(section) for _, section in groupby(python, key=lambda block: block.section)]


def app_of(block: Block) -> ASGIApp:
    names: dict[str, Any] = {"__name__": "a_program"}
    exec(compile(block.source, "a program", "exec", dont_inherit=True), names)  # noqa: S102
    app: ASGIApp = names["app"]
    return app


UPSTREAM: Final = ("../upstream.md", 0)
"""Its old program runs here too, unchanged."""
OLD: Final = {
    **dict.fromkeys((("fastws.md", number) for number in range(3)), ("fastws==0.1.7",)),
    ("django-channels.md", 3): ("djangochannelsrestframework==1.3.0",),
    UPSTREAM: (
        "fastapi-channels[redis]==0.0.1b2",
        f"--constraint={DOCS.parent / 'benchmarks/constraints/upstream.txt'}",
    ),
}
"""Old programs that cannot share an environment with what they are compared with, and what they need."""
WARNED: Final = pytest.mark.filterwarnings("ignore")
"""Of what the packages of old programs are warned of."""


@pytest.fixture
async def _other_server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """What programs with a proxy connect to."""

    async def echo(socket: ServerConnection) -> None:
        assert socket.request is not None
        async for message in socket:
            await socket.send(f"{socket.request.path}: {message!s}")

    async with serve(echo, "127.0.0.1", 0) as running:
        port = next(iter(running.sockets)).getsockname()[1]
        monkeypatch.setenv("CHAT", f"ws://127.0.0.1:{port}/ws")
        yield


@pytest.mark.usefixtures("_other_server")
@pytest.mark.parametrize(
    ("page", "number", "which"),
    [
        pytest.param(page, number, which, id=f"{page}-{number}-{age}", marks=marks)
        for page, scripts in SCRIPTS.items()
        for number in range(len(scripts))
        for which, age, marks in ((0, "old", WARNED), (1, "new", ()))
        if which == 1 or (page, number) not in OLD or (page, number) == UPSTREAM
    ],
)
async def test_the_same_client_sees_the_same(page: str, number: int, which: int):
    section = programs(DOCS / "migration" / page)[number]
    assert len(section) == 2
    async with serving(app_of(section[which]), may_complain=True) as site:
        await SCRIPTS[page][number](site)


@pytest.mark.fault  # long: it installs
@pytest.mark.parametrize(("page", "number"), OLD)
async def test_the_same_client_sees_the_same_of_an_older_world(page: str, number: int, tmp_path: Path):
    python = await asyncio.to_thread(environment, tmp_path / "env", *OLD[page, number], "uvicorn[standard]")
    (tmp_path / "program.py").write_text(programs(DOCS / "migration" / page)[number][0].source)
    options = {"environment": {CHOSEN: "auto"}, "folder": tmp_path, "python": python}
    async with process("program:app", **options) as server:
        await SCRIPTS[page][number](server.site)


def test_the_example_of_fastws_has_no_more_lines_than_there():
    old, new = (
        [line for line in block.source.splitlines() if line.strip()]
        for block in programs(DOCS / "migration" / "fastws.md")[0]
    )
    assert len(new) < len(old)


FEATURES: Final = "features.md"
"""The page that says of each feature where it is: tests/docs/test_features.py holds it to that."""


def test_every_guide_is_played_and_both_languages_show_the_same_code():
    assert {path.name for path in (DOCS / "migration").glob("*.md")} == {*SCRIPTS, FEATURES} - {UPSTREAM[0]}
    for page, scripts in SCRIPTS.items():
        shown = [programs(folder / "migration" / page) for folder in (DOCS, DOCS / "zh")]
        code = [[block.source.strip() for section in found for block in section] for found in shown]
        assert code[0] == code[1]
        assert len(shown[0]) == len(scripts)
        for folder, words in (
            (DOCS, ("Better here:", "Not there:")),
            (DOCS / "zh", ("更好的地方：", "没有的：")),
        ):
            text = (folder / "migration" / page).read_text()
            assert all(f"**{word}**" in text for word in words), (folder, page)
