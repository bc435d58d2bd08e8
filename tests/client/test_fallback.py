"""The TypeScript client where a proxy breaks WebSockets: the same room over HTTP, and the way back."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, Self, TypeAlias

import pytest
from fastapi import FastAPI
from fastapi.security import HTTPBearer
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection

from fastapi_channels import Channel, Connection, Publisher, action, add_channel
from fastapi_channels.auth import Authenticator, BearerSubprotocol, Identity
from tests.support.live import Site, process, serving, wait_until
from tests.support.nginx import Nginx
from tests.support.proxy import Proxy
from tests.support.servers import RedisServer, free_port, required

from .driven import Driven, in_chromium, in_node
from .served import Brief, Fleeting, Room, create_app

Place: TypeAlias = Callable[[str], AbstractAsyncContextManager[Driven]]
PLACES: Final = [in_node, pytest.param(in_chromium, marks=pytest.mark.fault)]
SETTINGS: Final = """
map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
map $http_upgrade $to {{ default 127.0.0.1:{hole}; '' 127.0.0.1:{app}; }}
proxy_http_version 1.1;
server {{
    listen 127.0.0.1:{refusing};
    location / {{
        proxy_pass http://127.0.0.1:{app};
        proxy_set_header Host $http_host;
        proxy_set_header Connection '';
    }}
}}
server {{
    listen 127.0.0.1:{silent};
    location / {{
        proxy_pass http://$to;
        proxy_set_header Host $http_host;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection $connection_upgrade;
    }}
}}
"""


class Broken:
    """An nginx that refuses WebSockets, and one that takes them and says nothing more.

    Attributes:
        hole: where the second one leads; it can be mended.
    """

    def __init__(self, app: int, hole: Proxy, refusing: int, silent: Nginx) -> None:
        self.hole = hole
        self.refusing, self.silent = (f"http://127.0.0.1:{port}" for port in (refusing, silent.port))


@asynccontextmanager
async def broken(app: int) -> AsyncIterator[Broken]:
    async with Proxy(app) as hole:
        hole.freeze()
        refusing = free_port()
        nginx = Nginx(refusing)
        nginx.configure(SETTINGS.format(app=app, hole=hole.port, refusing=refusing, silent=nginx.port))
        await asyncio.to_thread(nginx.start)
        try:
            yield Broken(app, hole, refusing, nginx)
        finally:
            await asyncio.to_thread(nginx.stop)


def sessions(site: Site) -> Counter[str]:
    return Counter(type(session).__name__ for session in site.node.sessions)


async def enter(
    client: Driven, id: str = "a", address: str = "/rooms/{channel}", by: str = "fallback"
) -> None:
    client.do("room", id=id, address=address, parameters={"channel": "lobby"}, by=by)
    await client.until(lambda told: told == {"id": id, "state": "joined"})


class Speaker:
    """Says numbers in the room, each so many times, while its block lasts; then `end`, which is waited for.

    Attributes:
        said: all of it.
    """

    def __init__(self, site: Site, client: Driven, channel: type[Channel], times: int = 1) -> None:
        self._publisher = Publisher._of(site.node)
        self._client, self._channel, self._times = client, channel, times
        self._is_over = False
        self.said: list[dict[str, Any]] = []

    async def __aenter__(self) -> Self:
        self._speaking = asyncio.create_task(self._speak())
        return self

    async def __aexit__(self, kind: object, *exc: object) -> None:
        self._is_over = True
        await self._speaking
        if kind is None:
            await self._say("end")
            await self._client.until(lambda told: told.get("said") == self.said[-1])

    async def _speak(self) -> None:
        while not self._is_over:
            await self._say(str(len(self.said) // self._times))
            await asyncio.sleep(0.01)

    async def _say(self, text: str) -> None:
        self.said.append({"text": text})
        await self._publisher.broadcast("lobby", "said", self.said[-1], channel=self._channel)


@required(Nginx)
@pytest.mark.parametrize("how", ["refusing", "silent"])
@pytest.mark.parametrize("place", PLACES)
async def test_all_that_passes_over_http(place: Place, how: str):
    async with (
        serving(create_app(), may_complain=True) as site,
        broken(site.port) as between,
        place(getattr(between, how)) as client,
    ):
        await enter(client)
        assert sessions(site) == {"StreamSession": 1}
        assert (await client.call("a", "say", text="hello"))["reply"] == 5
        assert await client.until(lambda told: "said" in told) == {"id": "a", "said": {"text": "hello"}}
        assert (await client.call("a", "nothing"))["reply"] is None
        assert (await client.call("a", "refused"))["error"] == "permission_denied"
        assert (await client.call("a", "say", words="hello"))["error"] == "invalid_payload"
        assert (await client.call("a", "sure", question="really?"))["error"] == "internal_error"
        streamed = await client.asked("stream", id="a", action="count", payload={"upto": 3000})
        assert streamed["items"] == [*range(3000)]
        left = await client.asked("stream", id="a", action="forever", payload={}, most=2)
        assert left["items"] == [1, 1]
        while (await client.call("a", "is_running"))["reply"]:
            pass
        await client.call("a", "say", text="second")
        read = await client.asked("history", id="a", limit=1)
        assert read["pages"] == [["second"], ["hello"]]
        await enter(client, "e", "/shown/{channel}")
        await enter(client, "f", "/shown/{channel}")
        await client.until(lambda told: told == {"id": "e", "present": 2})
        client.do("leave", id="f")
        client.do("room", id="b", address="/rooms/{channel}", parameters={"channel": "closed"}, by="fallback")
        refused = {"id": "b", "state": "refused", "code": "permission_denied"}
        await client.until(lambda told: told == refused)
        client.do("socket", id="s", address="/desk", by="fallback")
        await client.until(lambda told: told == {"id": "s", "state": "joining", "code": "no_events"})
        assert client.of("a", "gap") == []


@required(Nginx)
@pytest.mark.parametrize("place", PLACES)
async def test_there_and_back_all_is_told_once_and_in_order(place: Place):
    async with (
        serving(create_app(), may_complain=True) as site,
        broken(site.port) as between,
        place(between.silent) as client,
    ):
        await enter(client)
        async with Speaker(site, client, Room) as speaker:
            for _ in range(2):
                assert sessions(site) == {"StreamSession": 1}
                between.hole.thaw()
                await wait_until(lambda: sessions(site) == {"RoomSession": 1})
                assert (await client.call("a", "is_running"))["reply"] is False
                between.hole.freeze()
                between.hole.cut()
                await wait_until(lambda: sessions(site) == {"StreamSession": 1})
        assert client.of("a", "said") == speaker.said
        assert client.of("a", "gap") == []
        assert len(speaker.said) > 50


@required(Nginx)
async def test_the_way_back_has_no_gap_in_a_room_without_history_either():
    async with (
        serving(create_app(), may_complain=True) as site,
        broken(site.port) as between,
        in_node(between.silent) as client,
    ):
        await enter(client, address="/fleeting/{channel}")
        # What is the same twice is told twice.
        async with Speaker(site, client, Fleeting, times=2) as speaker:
            await client.until(lambda told: told.get("said") == {"text": "20"})
            between.hole.thaw()
            await wait_until(lambda: sessions(site) == {"RoomSession": 1})
        assert client.of("a", "said") == speaker.said
        assert client.of("a", "gap") == []


def signed(origin: str, seen: list[str]) -> FastAPI:
    """An application that a page of `origin` may use, and that wants a new token every other second."""

    def verify(token: str, connection: HTTPConnection) -> Identity:
        seen.append(f"{connection.scope['type']} {token}")
        return Identity("ann", expires_at=time.time() + 3.2)

    class Signed(Channel):
        authenticator = Authenticator(verify, sources=[HTTPBearer(), BearerSubprotocol()], warning=3.0)

        @action()
        async def me(self, connection: Connection) -> str:
            return str(connection.user)

    app = FastAPI()
    add_channel(app, allowed_origins=[origin])
    more: dict[str, Any] = {
        "allow_credentials": True,
        "allow_methods": ["GET", "POST"],
        "allow_headers": ["Authorization", "Content-Type", "Idempotency-Key"],
    }
    app.add_middleware(CORSMiddleware, allow_origins=[origin], **more)
    Signed().mount(app, "/rooms/{channel}", sse=True, http=True)
    return app


@asynccontextmanager
async def in_page_of_another_origin(url: str, origin: str) -> AsyncIterator[Driven]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n"
        writer.write(head + b"<!doctype html>")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", int(origin.rpartition(":")[2]))
    async with server, in_chromium(url, origin) as client:
        yield client


@required(Nginx)
@pytest.mark.parametrize(
    "is_page", [False, pytest.param(True, marks=pytest.mark.fault)], ids=["node", "another origin"]
)
async def test_tokens_are_renewed_without_a_gap(is_page: bool):
    origin = f"http://127.0.0.1:{free_port()}"
    seen: list[str] = []
    async with serving(signed(origin, seen), may_complain=True) as site, broken(site.port) as between:
        url = between.refusing
        async with in_page_of_another_origin(url, origin) if is_page else in_node(url) as client:
            await enter(client, by="both")
            assert (await client.call("a", "me"))["reply"] == "ann"
            await wait_until(lambda: len(site.node.sessions) == 1 and len(set(seen)) >= 3)
            assert (await client.call("a", "me"))["reply"] == "ann"
            assert client.of("a", "state").count("joined") == 1
            assert client.of("a", "gap") == []


@pytest.mark.fault
@required(Nginx)
async def test_a_process_that_is_killed_is_come_back_to(mortal_redis: RedisServer):
    address = ["--factory", "--port", str(free_port())]
    how = {"environment": {"CHANNELS_URL": mortal_redis.url}}
    said = []
    async with broken(int(address[-1])) as between, in_node(between.refusing) as client:
        for ending in ("kill", "terminate"):
            async with process("tests.client.served:create_app", *address, **how) as server:
                if not said:
                    await enter(client)
                for number in range(3):
                    said.append({"text": f"{ending} {number}"})
                    assert (await client.call("a", "say", **said[-1]))["reply"] == len(said[-1]["text"])
                await getattr(server, ending)()
        async with process("tests.client.served:create_app", *address, **how):
            said.append({"text": "end"})
            assert (await client.call("a", "say", **said[-1]))["reply"] == 3
            await client.until(lambda told: told == {"id": "a", "said": {"text": "end"}})
            assert client.of("a", "said") == said
            assert client.of("a", "gap") == []


@required(Nginx)
async def test_who_reads_too_slowly_is_told_what_a_websocket_would_be_told():
    """More than the history keeps was sent meanwhile."""
    async with (
        serving(create_app(), may_complain=True) as site,
        broken(site.port) as between,
        in_node(between.refusing) as client,
    ):
        await enter(client, address="/brief/{channel}")
        publisher = Publisher._of(site.node)
        with client.standing_still():
            for number in range(600):
                text = f"{number} {'x' * 50_000}"
                await publisher.broadcast("lobby", "said", {"text": text}, channel=Brief)
                await asyncio.sleep(0)
        await client.until(lambda told: "gap" in told)
        await publisher.broadcast("lobby", "said", {"text": "end"}, channel=Brief)
        await client.until(lambda told: told == {"id": "a", "said": {"text": "end"}})
        numbers = [int(said["text"].split()[0]) for said in client.of("a", "said")[:-1]]
        assert numbers == sorted(set(numbers))
        assert len(numbers) < 600
