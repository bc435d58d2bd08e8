"""The room as Server-Sent Events: with a real server, and a client that reads as a browser does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.security import APIKeyCookie
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.websockets import WebSocket

from fastapi_channels import BaseChannel, BasePermission, Channel, Connection, Publisher, action, add_channel
from fastapi_channels.auth import Authenticator
from fastapi_channels.sessions.identity import Identity
from fastapi_channels.sessions.session import Session
from fastapi_channels.wire import stream, writer
from tests.support.events import Events, listening
from tests.support.live import RawClient, Site, serving, wait_until


class IsWelcome(BasePermission):
    def has_permission(self, websocket: WebSocket, action: str | None, **kwargs: Any) -> bool:
        return websocket.headers.get("x-banned") is None


class Room(Channel):
    history = 3
    presence = True
    presence_interval = 0.0
    max_connection = 3
    permission_classes = IsWelcome

    def __init__(self) -> None:
        super().__init__()
        self.left: list[int | None] = []
        self.add_event_handler("leave", self.remember)

    def presence_data(self, connection: Connection) -> str:
        return "here"

    async def remember(self, connection: Connection, code: int | None) -> None:
        self.left.append(code)

    @action()
    async def say(self, text: str, connection: Connection) -> None:
        await self.broadcast(connection.room, "said", text)

    @action()
    async def count(self, connection: Connection) -> int:
        return await self.get_connection_count(connection.room)


class Impatient(Channel):
    idle_timeout = heartbeat = 0.3


class Bare(Channel):
    outbox_limit = 1000


def name_of(connection: HTTPConnection) -> str | None:
    return connection.query_params.get("name")


def create_app(channel: BaseChannel, **settings: Any) -> FastAPI:
    app = FastAPI()
    add_channel(app, **settings)
    channel.mount(app, "/{channel}", sse=True, user=name_of)
    return app


@pytest.fixture
def room() -> Room:
    return Room()


@pytest.fixture
async def site(room: Room) -> AsyncIterator[Site]:
    async with serving(create_app(room)) as site:
        yield site


async def said(events: Events, kind: str) -> Any:
    """The next frame of a kind, and the id that came with it."""
    while True:
        event = await events.next()
        if event.frame["type"] == kind:
            return event.frame, event.id


async def refused(site: Site, path: str, **headers: str) -> tuple[int, str]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with site.client() as http:
        answer = await http.get(path, headers=named)
    return answer.status_code, answer.json()["code"]


async def test_it_gets_what_a_websocket_gets_and_is_there_for_all(site: Site, room: Room) -> None:
    async with site.unharmed():
        async with site.connect("/r?name=ada") as ada, listening(site, "/r/events?name=bob") as bob:
            joined, id = await said(bob, "joined")
            assert joined["position"] == id
            assert (await ada.call("count"))["type"] == "joined"
            shown = await ada.receive_until(lambda frame: frame["type"] == "presence_diff")
            assert [each["data"] for each in shown["joined"]] == ["here"]
            await ada.send({"action": "say", "text": "one\r\ntwo\u2028"})
            frame, id = await said(bob, "event")
            assert frame == await ada.receive_until(lambda frame: frame["type"] == "event")
            assert (id, frame["data"]) == (frame["position"], "one\r\ntwo\u2028")
            assert sorted(str(each["user"]) for each in await room.members("r")) == ["ada", "bob"]
            await room.send_to_user("bob", "psst", 1)
            assert (await said(bob, "event"))[0]["event"] == "psst"
        await wait_until(lambda: sorted(room.left, key=str) == [1000, 1006])


async def test_who_comes_back_with_the_last_id_misses_nothing(site: Site, room: Room) -> None:
    async with listening(site, "/r/events") as events:
        await said(events, "joined")
        await room.broadcast("r", "said", 0)
        await said(events, "event")
        last_id = events.reader.last_id
    for number in (1, 2):
        await room.broadcast("r", "said", number)
    async with listening(site, "/r/events?since=gone:1", last_event_id=last_id) as events:
        assert (await said(events, "joined"))[0]["recovered"] is True
        assert [(await said(events, "event"))[0]["data"] for _ in range(2)] == [1, 2]
        await room.broadcast("r", "said", 3)
        assert (await said(events, "event"))[0]["data"] == 3
    for number in (4, 5, 6, 7):
        await room.broadcast("r", "said", number)
    for id, reason in ((last_id, "limit"), ("gone:1", "epoch")):
        async with listening(site, "/r/events", last_event_id=id) as events:
            joined, id = await said(events, "joined")
            assert (joined["recovered"], joined["reason"]) == (False, reason)
            assert id == joined["position"], "from here on it knows"


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"x_banned": "yes"}, 403, "permission_denied"),
        ({"origin": "https://evil.example"}, 403, "origin_denied"),
        ({"sec_fetch_site": "cross-site"}, 403, "origin_denied"),
        ({"last_event_id": "<script>"}, 400, "invalid_position"),
        ({"last_event_id": "a" * 8000}, 400, "invalid_position"),
    ],
)
async def test_a_refusal_is_a_status(site: Site, headers: dict[str, str], status: int, code: str) -> None:
    assert await refused(site, "/r/events", **headers) == (status, code)


KNOWS = "text/event-stream; protocol=fastapi-channels.1"


async def test_who_knows_the_protocol_is_greeted_and_reads_a_refusal_in_frames(site: Site) -> None:
    async with listening(site, "/r/events", accept=KNOWS) as events:
        joined, _ = await said(events, "joined")
        welcome, _ = await said(events, "welcome")
        assert (welcome["connection"], welcome["max_message_size"]) == (joined["connection"], 64 * 1024)
    async with site.unharmed():
        for headers, code, close in (
            ({"x_banned": "yes"}, "permission_denied", 1008),
            ({"last_event_id": "gone"}, "invalid_position", 4500),
        ):
            async with listening(site, "/r/events", accept=KNOWS, **headers) as events:
                error, end = await events.rest()
                assert (error.frame["code"], end.name, end.frame["code"]) == (code, "close", close)
    await site.node.drain(0)
    async with listening(site, "/r/events", accept=KNOWS) as events:
        error, end = await events.rest()
        assert (error.frame["code"], end.frame["code"]) == ("unavailable", 1013)


async def test_a_full_room_is_full(site: Site) -> None:
    async with site.clients("/r", "/r"), listening(site, "/r/events") as events:
        await said(events, "joined")
        assert await refused(site, "/r/events") == (503, "channel_full")


async def test_who_says_nothing_is_neither_idle_nor_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "BEAT", 0.01)
    async with (
        serving(create_app(Impatient())) as site,
        site.connect("/r") as ada,
        listening(site, "/r/events") as events,
    ):
        assert (await ada.closed()).code in (1011, 4008), "a WebSocket is"
        reading = asyncio.create_task(events.rest())
        await wait_until(lambda: len(events.reader.comments) >= 2)
        assert not reading.done()
        reading.cancel()


async def test_a_process_that_drains_says_when_to_come_back(site: Site) -> None:
    async with listening(site, "/r/events") as events:
        await said(events, "joined")
        await site.node.drain(0.1)
        *_, drain, close = await events.rest()
        delay = drain.frame["retry_after"]
        assert close.name == "close"
        assert close.frame == {"code": 1012, "reason": f"restart; retry_after={delay:g}"}
        assert events.reader.retry == round(1000 * delay)
    assert await refused(site, "/r/events") == (503, "unavailable")


async def test_who_is_disconnected_is_told_to_stay_away(site: Site, room: Room) -> None:
    async with listening(site, "/r/events?name=eve") as events:
        await said(events, "joined")
        await Publisher._of(site.node).disconnect_user("eve", 4503, "banned")
        assert (await events.rest())[-1].frame == {"code": 4503, "reason": "banned"}
        assert (events.reader.retry or 0) > 1e9
        await wait_until(lambda: room.left == [4503])


async def test_a_lifetime_ends() -> None:
    class Short(Channel):
        max_lifetime = 0.05

    async with serving(create_app(Short())) as site, listening(site, "/r/events") as events:
        close = (await events.rest())[-1]
        assert (close.frame["code"], events.reader.retry) == (4010, 0)


async def test_a_room_that_relays_and_other_origins() -> None:
    app = create_app(BaseChannel(), allowed_origins=["https://a.example"])
    app.add_middleware(CORSMiddleware, allow_origins=["https://a.example"])

    @app.middleware("http")
    async def see(request: Request, call_next: Any) -> Any:
        return await call_next(request)

    async with (
        serving(app) as site,
        site.connect("/r") as ada,
        listening(site, "/r/events", origin="https://a.example") as events,
    ):
        assert events.response.headers["access-control-allow-origin"] == "https://a.example"
        await ada.send("data: no\n\nevent: field\r\rid: 1")
        await ada.send(b"\x00")
        assert await events.next() == ("message", "data: no\n\nevent: field\n\nid: 1", "")
        assert await events.next() == ("binary", "AA==", "")
        await site.node.drain(0)
        assert [event.name for event in await events.rest()] == ["close"], "no frame of ours"


async def test_who_asks_is_known_by_its_cookie_and_cannot_say_it_later() -> None:
    class Guarded(Channel):
        authenticator = Authenticator(
            lambda token, connection: Identity(token),
            sources=[APIKeyCookie(name="key")],
            first_frame=5,
            tell=True,
        )

    guarded = Guarded()
    async with serving(create_app(guarded)) as site:
        async with listening(site, "/r/events", cookie="key=ada"):
            await wait_until(lambda: site.node.hub.count("r"))
            assert [each["user"] for each in await guarded.members("r")] == ["ada"]
        assert await refused(site, "/r/events") == (401, "unauthenticated")


async def test_it_is_one_of_the_connections_of_its_user_and_a_call_is_none() -> None:
    app = create_app(Bare(), max_connections_per_user=1, per_user_policy="close_oldest")

    class Asked(Channel):
        @action()
        async def ask(self) -> str:
            return "answer"

    Asked().mount(app, "/asked/{channel}", http=True, user=name_of)
    async with serving(app) as site, listening(site, "/r/events?name=ada") as events:
        await wait_until(lambda: site.node.hub.count("r"))
        async with site.client() as http:
            answer = await http.post("/asked/r/actions/ask?name=ada")
        assert answer.json()["data"] == "answer"
        async with site.connect("/other?name=ada"):
            assert (await events.rest())[-1].frame["code"] == 4509
            assert (events.reader.retry or 0) > 1e9


@asynccontextmanager
async def silent(site: Site, path: str) -> AsyncIterator[RawClient]:
    """A client that has read the head of its stream, and reads nothing more."""
    raw = RawClient(receive_buffer=4096)
    try:
        await raw.send_get(site, path)
        assert (await raw.read_head()).startswith("HTTP/1.1 200 ")
        yield raw
    finally:
        raw.close()


@pytest.mark.parametrize("http", ["httptools", "h11"])
async def test_who_does_not_read_is_cut_off_and_others_are_not(
    http: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "CLOSE_TIMEOUT", 0.1)
    room = Bare()
    async with (
        serving(create_app(room), http=http) as site,
        silent(site, "/r/events"),
        listening(site, "/r/events") as events,
        site.connect("/r") as ada,
    ):
        await wait_until(lambda: site.node.hub.count("r") == 3)
        sent = 0
        async with asyncio.timeout(30):
            while site.node.hub.count("r") == 3:
                await room.broadcast("r", "said", "x" * 100_000)
                sent += 1
                heard = [await events.frame(), await ada.receive()]
                assert [len(frame["data"]) for frame in heard] == [100_000] * 2
        await wait_until(lambda: len(site.node.sessions) == 2 and site.open_connections == 2)
        assert sent > 1


async def test_who_reads_slowly_is_told_what_is_missing() -> None:
    class Patient(Channel):
        slow_policy = "drop_oldest"
        outbox_limit = 200_000

    room = Patient()
    async with serving(create_app(room)) as site, silent(site, "/r/events") as slow:
        await wait_until(lambda: site.node.hub.count("r") == 1)
        (session,) = site.node.sessions
        assert isinstance(session, Session)
        while not session.writer.waiting:  # until the kernel takes no more
            await room.broadcast("r", "said", "x" * 100_000)
        for _ in range(3):
            await room.broadcast("r", "said", "x" * 100_000)
        received = await slow.read_until(b'"dropped":')
        assert b'data: {"type":"lagged","channel":"r","dropped":' in received
