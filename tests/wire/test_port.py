"""What is known of uvicorn, held against each of its WebSocket protocols, and against other servers."""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, Final

import pytest
import trustme
from fastapi import FastAPI, WebSocket
from websockets.asyncio.client import connect
from websockets.frames import Opcode

from fastapi_channels import Channel, Connection, action
from fastapi_channels.api import add_channel
from fastapi_channels.wire.port import Port, unmasking
from fastapi_channels.wire.shortcut import port_of
from tests.support.live import (
    DEFLATING,
    RawClient,
    Site,
    application,
    each_implementation,
    each_with_port,
    serving,
    wait_until,
)
from tests.support.names import stable

pytestmark = pytest.mark.direct

BIG: Final = 16 * 1024 * 1024


class Room(Channel):
    max_message_size = BIG + 1024
    outbox_limit = 4 * BIG

    def __init__(self) -> None:
        super().__init__()
        self.connections: list[Connection] = []
        self.add_event_handler("join", self.remember)

    async def remember(self, connection: Connection) -> None:
        self.connections.append(connection)

    @action()
    async def echo(self, text: str) -> str:
        return text

    @property
    def port(self) -> Port | None:
        return self.connections[0]._carrier.writer.port


def offer(port: Port, wire: bytes) -> bool:
    """Write `wire`, if the port is ready for it."""
    if not port.ready:
        return False
    port.transport.write(wire)
    return True


@each_with_port
async def test_each_protocol_of_uvicorn_has_a_port(ws: str) -> None:
    room = Room()
    async with serving(application(room), ws=ws) as site, site.connect("/r") as client:
        await client.call("echo", text="x")
        port = room.port
        assert port is not None
        assert offer(port, b"\x81\x02hi")
        assert await client.read() == "hi"


@each_implementation
async def test_frames_are_sent_at_once_on_the_socket_of_a_worker_too(ws: str) -> None:
    """uvicorn opens one for its workers that does not say what it is."""
    async with serving(application(Room()), ws=ws, proto=0) as site, site.connect("/r") as client:
        await client.call("echo", text="x")
        assert site._server is not None
        (protocol,) = site._server.server_state.connections
        connection = protocol.transport.get_extra_info("socket")
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@each_with_port
async def test_a_port_takes_nothing_while_the_transport_is_paused(ws: str) -> None:
    room = Room()
    async with (
        serving(application(room), ws=ws) as site,
        RawClient.open(site, "/r", receive_buffer=4096) as client,
    ):
        await wait_until(lambda: room.connections)
        port, sent = room.port, 0
        assert port is not None
        wire = b"\x82\x7f" + (1 << 16).to_bytes(8, "big") + bytes(1 << 16)
        while offer(port, wire):
            sent += 1
            assert sent < 1000
            await asyncio.sleep(0)
        for _ in range(sent):
            assert await client.receive() == (Opcode.BINARY, bytes(1 << 16))
        await wait_until(lambda: offer(port, b"\x81\x00"))
        assert await client.receive() == (Opcode.TEXT, b"")


@each_with_port
async def test_a_port_takes_nothing_behind_a_close_frame(ws: str) -> None:
    room = Room()
    async with serving(application(room), ws=ws) as site, RawClient.open(site, "/r") as client:
        await wait_until(lambda: room.connections)
        port = room.port
        assert port is not None
        closing = asyncio.create_task(room.connections[0].close(4001, "enough"))
        assert await client.closed() == (4001, "enough")
        assert not offer(port, b"\x81\x02hi")
        client.reset()
        await closing


@each_with_port
async def test_a_port_takes_nothing_when_the_client_has_gone(ws: str) -> None:
    room = Room()
    async with serving(application(room), ws=ws) as site, RawClient.open(site, "/r") as client:
        await wait_until(lambda: room.connections)
        port = room.port
        assert port is not None
        client.reset()
        await wait_until(lambda: not offer(port, b"\x81\x00"))


@each_with_port
async def test_a_port_can_cut_a_client_that_reads_nothing(ws: str) -> None:
    room = Room()
    async with (
        serving(application(room), ws=ws, may_complain=True) as site,
        RawClient.open(site, "/r", receive_buffer=4096) as client,
    ):
        await wait_until(lambda: room.connections)
        port = room.port
        assert port is not None
        while offer(port, bytes(2)):
            await asyncio.sleep(0)
            if offer(port, b"\x82\x7f" + (1 << 20).to_bytes(8, "big") + bytes(1 << 20)):
                break
        port.abort()
        await wait_until(lambda: room.connections[0].closed)
        client.close()


@pytest.mark.parametrize("ws", ["websockets-sansio", DEFLATING])
async def test_frames_pass_uncompressed_where_compression_was_negotiated(ws: str) -> None:
    """As RFC 7692 section 6 allows: a message without RSV1 is not compressed."""
    room = Room()
    async with (
        serving(application(room), ws=ws) as site,
        site.connect("/r", compression="deflate") as client,
    ):
        response = client.socket.response
        assert response is not None
        assert "permessage-deflate" in response.headers["Sec-WebSocket-Extensions"]
        for number in range(10):
            text = f"{number}" * 200
            assert (await client.call("echo", text=text, request_id=number))["data"] == text
            await room.connections[0].websocket.send_text("compressed" * 100)  # by the server itself
            assert await client.read() == "compressed" * 100


@each_implementation
async def test_messages_of_16_mib_in_fragments_with_pings_between(ws: str) -> None:
    room = Room()
    options: dict[str, Any] = {"ws": ws, "ws_max_size": BIG + 1024}
    async with serving(application(room), **options) as site, site.connect("/r") as client:
        part = "x" * (BIG // 16)

        async def parts() -> AsyncIterator[str]:
            yield '{"action": "echo", "request_id": 1, "text": "'
            for _ in range(16):
                yield part
                await (await client.socket.ping())
            yield '"}'

        await client.socket.send(parts())
        reply = await client.receive()
        assert reply["request_id"] == 1
        assert len(reply["data"]) == BIG


@each_with_port
async def test_over_tls(ws: str, tmp_path: Any) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    key, chain = tmp_path / "key.pem", tmp_path / "chain.pem"
    certificate.private_key_pem.write_to_path(key)
    certificate.cert_chain_pems[0].write_to_path(chain)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    room = Room()
    async with serving(application(room), ws=ws, ssl_keyfile=str(key), ssl_certfile=str(chain)) as site:
        url = f"wss://localhost:{site.port}/r"
        async with connect(url, ssl=context, proxy=None, host="127.0.0.1") as client:
            await wait_until(lambda: room.connections)
            assert room.port is not None
            for size in (0, 125, 126, 65_535, 65_536, 1_000_000):
                await room.broadcast_to_channel("r", "x" * size)
                assert len(await client.recv()) == size


async def test_a_send_that_was_wrapped_is_not_known() -> None:
    """A middleware around may do something with what is sent: it must see it."""
    seen: list[str] = []
    room = Room()
    app = FastAPI()
    add_channel(app)
    room.mount(app, "/{channel}")

    async def around(scope: Any, receive: Any, send: Any) -> None:
        async def watched(message: Any) -> None:
            seen.append(message.get("text", ""))
            await send(message)

        await app(scope, receive, watched if scope["type"] == "websocket" else send)

    async with serving(around) as site, site.connect("/r") as client:
        await client.call("echo", text="seen", request_id=7)
        assert room.port is None
        assert any("seen" in text for text in seen)


class Around:
    """A middleware that has the last word on what passes."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def redacted(message: Any) -> None:
            text = message.get("text")
            await send(message if text is None else {**message, "text": text.replace("secret", "***")})

        await self.app(scope, receive, redacted)


class Ahead:
    """A middleware that reads ahead, in a task of its own."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        queue: asyncio.Queue[Any] = asyncio.Queue()

        async def read() -> None:
            while True:
                queue.put_nowait(await receive())

        reading = asyncio.create_task(read())
        try:
            await self.app(scope, queue.get, send)
        finally:
            reading.cancel()


def within(room: Room) -> FastAPI:
    app = FastAPI()
    app.add_middleware(Around)
    add_channel(app)
    room.mount(app, "/{channel}")
    return app


def mounted(room: Room) -> FastAPI:
    inner, app = FastAPI(), FastAPI()
    room.mount(inner, "/{channel}")
    add_channel(app)
    app.mount("/", Around(inner))
    return app


def ahead(room: Room) -> FastAPI:
    app = FastAPI()
    app.add_middleware(Ahead)
    add_channel(app)
    room.mount(app, "/{channel}")
    return app


@pytest.mark.parametrize(("make", "said"), [(within, "***"), (mounted, "***"), (ahead, "secret")])
@each_with_port
async def test_what_a_middleware_does_with_messages_is_done(make: Any, said: str, ws: str) -> None:
    room = Room()
    async with serving(make(room), ws=ws) as site:
        async with site.connect("/r") as client:
            assert (await client.call("echo", text="secret"))["data"] == said
            await room.broadcast("r", "told", "secret")
            assert (await client.receive())["data"] == said
            assert room.port is None
        await wait_until(lambda: not site.node.hub.count("r"))


@each_with_port
async def test_the_end_of_a_client_that_answers_no_ping(ws: str) -> None:
    """Also where the ping was sent before the port was there."""
    room = Room()
    ends: list[int | None] = []
    room.add_event_handler("leave", lambda code: ends.append(code))
    app = application(room)
    pinged = asyncio.Event()

    @app.websocket("/own/late")
    async def late(websocket: WebSocket) -> None:
        await websocket.accept()
        await pinged.wait()
        await room.connect(websocket, channel="r")

    async with serving(app, ws=ws, ws_ping_interval=0.1, ws_ping_timeout=0.5) as site:
        for path in ("/r", "/own/late"):
            async with RawClient.open(site, path) as client:
                assert (await client.receive())[0] == Opcode.PING
                pinged.set()
                assert await client.closed() == (1011, "keepalive ping timeout")
        await wait_until(lambda: len(ends) == 2)
    assert ends == [1011, 1011]


@each_with_port
async def test_a_close_does_not_wait_for_messages_that_nobody_handles(ws: str) -> None:
    room = Room()

    @room.action()
    async def bye(connection: Connection) -> None:
        await connection.close(4001, "bye")

    async with serving(application(room), ws=ws) as site, RawClient.open(site, "/r") as client:
        message = client.frame(Opcode.TEXT, b'{"action": "echo", "text": ""}')
        await client.write(client.frame(Opcode.TEXT, b'{"action": "bye"}') + 200 * message)
        assert await client.closed() == (4001, "bye")
        await client.send(Opcode.CLOSE, (4001).to_bytes(2, "big"))
        await wait_until(lambda: not site.open_connections)


@each_with_port
async def test_nothing_follows_the_close_of_a_server_that_stops(ws: str) -> None:
    room = Room()
    room.max_message_size = 1000  # so that little is read ahead
    running, release = asyncio.Event(), asyncio.Event()

    @room.action()
    async def slow() -> None:
        running.set()
        await release.wait()

    serves: asyncio.Future[Site] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()

    async def serve() -> None:
        async with serving(application(room), ws=ws) as site:
            serves.set_result(site)
            await stop.wait()

    serving_it = asyncio.create_task(serve())
    async with RawClient.open(await serves, "/r") as client:
        message = client.frame(Opcode.TEXT, b'{"action": "echo", "text": ""}')
        ping = client.frame(Opcode.PING, b"there?")
        await client.write(client.frame(Opcode.TEXT, b'{"action": "slow"}') + 80 * message + ping)
        await running.wait()
        stop.set()
        assert await client.receive() == (Opcode.CLOSE, (1012).to_bytes(2, "big"))
        release.set()
        assert await client.closed() == (None, None)
    await serving_it


async def test_an_endpoint_that_accepted_itself_is_written_to_directly_too() -> None:
    room = Room()
    app = FastAPI()
    add_channel(app)

    @app.websocket("/own")
    async def own(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("first")
        await room.connect(websocket, channel="r")

    async with serving(app) as site, site.connect("/own") as client:
        assert await client.read() == "first"
        assert (await client.call("echo", text="x"))["data"] == "x"
        assert room.port is not None


class Stranger:
    """Looks like uvicorn's protocol, and is not of it."""

    def __init__(self) -> None:
        self.transport: Any = asyncio.Transport()
        self.config: Any = SimpleNamespace(ws_max_size=1024)
        self.queue: Any = asyncio.Queue()
        self.writable: Any = asyncio.Event()
        self.close_sent: Any = False
        self.read_paused: Any = False

    def keepalive_timeout(self) -> None: ...

    async def send(self, message: Any) -> None: ...

    async def receive(self) -> None: ...


async def test_other_servers_are_not_known() -> None:
    async def send(message: Any) -> None: ...

    stranger = Stranger()
    assert port_of(send, stranger.receive, is_new=True) is None
    assert port_of(stranger.send, stranger.receive, is_new=True) is None


class Changed(Stranger):
    """A uvicorn of another time."""


Changed.__module__ = "uvicorn.protocols.websockets.new"


@pytest.mark.parametrize(
    "attributes",
    [
        {"transport": None},
        {"transport": object()},
        {"config": None},
        {"config": SimpleNamespace(ws_max_size=None)},
        {"queue": []},
        {"writable": True},
        {"close_sent": None},
        {"close_sent": "no"},
        {"read_paused": None},
    ],
    ids=stable,
)
async def test_a_uvicorn_that_looks_different_is_not_known(attributes: dict[str, Any]) -> None:
    protocol = Changed()
    for name, value in attributes.items():
        setattr(protocol, name, value)
    assert port_of(protocol.send, protocol.receive, is_new=True) is None
    assert not isinstance(protocol.queue, Port)


async def test_a_uvicorn_without_a_keepalive_is_not_known() -> None:
    protocol = type("Lasting", (Changed,), {"keepalive_timeout": None})()
    assert port_of(protocol.send, protocol.receive, is_new=True) is None
    assert not isinstance(protocol.queue, Port)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 127, 128])
def test_payloads_are_unmasked_where_websockets_is_not_installed(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "websockets.frames", None)
    data, mask = bytes(range(size)), b"\x01\x80\xff\x00"
    assert unmasking.__wrapped__()(data, mask) == bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))
