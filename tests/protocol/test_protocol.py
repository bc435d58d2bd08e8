"""Our WebSocket protocol for uvicorn under plain endpoints, which know nothing of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from uvicorn.protocols.utils import ClientDisconnected
from websockets.frames import Opcode

from fastapi_channels.uvicorn import Protocol
from fastapi_channels.uvicorn.server import Server
from tests.support.live import (
    PROTOCOL,
    Close,
    RawClient,
    Site,
    serving,
    wait_until,
)

LITTLE: Final = 4096
"""Bytes that the kernel keeps for a client that does not read."""
PINGS: Final = 10_000
THEIRS: Final = "websockets-sansio"
each: Final = pytest.mark.parametrize("ws", [THEIRS, PROTOCOL])
"""What holds for uvicorn's own protocol holds for ours."""


class Endpoint:
    """An application with one endpoint, at /a, that echoes.

    Attributes:
        seen: all messages that it received.
        failures: what `send` raised.
    """

    def __init__(self) -> None:
        self.app = FastAPI()
        self.seen: list[Any] = []
        self.failures: list[BaseException] = []
        self.sent = 0
        self.app.add_api_websocket_route("/a", self.echo)
        self.app.add_api_websocket_route("/flood", self.flood)
        self.app.add_api_websocket_route("/leave", self.leave)

    async def echo(self, websocket: WebSocket) -> None:
        await websocket.accept()
        while True:
            event = await websocket.receive()
            self.seen.append(event)
            if event["type"] != "websocket.receive":
                return
            if event.get("text") == "close":
                await websocket.close(4001, "as you wish")
            else:
                await websocket.send({**event, "type": "websocket.send"})

    async def flood(self, websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            while self.sent < 1000:
                await websocket.send_bytes(bytes(65_536))
                self.sent += 1
        except WebSocketDisconnect as exc:
            self.failures.append(exc)

    async def leave(self, websocket: WebSocket) -> None:
        """Go on when the client has left."""
        await websocket.accept()
        self.seen.append(await websocket.receive())
        for event in ({"type": "websocket.send", "text": "x"}, {"type": "websocket.close"}):
            try:
                await websocket._send(event)
            except OSError as exc:
                self.failures.append(exc)


@asynccontextmanager
async def serve(
    endpoint: Endpoint, path: str = "/a", ws: str = PROTOCOL, little: bool = False, **options: Any
) -> AsyncIterator[tuple[Site, RawClient]]:
    async with (
        serving(endpoint.app, ws=ws, may_complain=True, **options) as site,
        RawClient.open(site, path, receive_buffer=LITTLE if little else None) as client,
    ):
        yield site, client


def protocol_of(site: Site) -> Protocol:
    assert site._server is not None
    connections: Any = site._server.server_state.connections
    (protocol,) = connections
    assert isinstance(protocol, Protocol)
    return protocol


@pytest.mark.parametrize(
    ("opcode", "data"),
    [
        (Opcode.TEXT, "é".encode()),
        (Opcode.BINARY, b"\xff"),
        (Opcode.TEXT, b""),
        (Opcode.BINARY, bytes(100_000)),
    ],
)
async def test_texts_and_bytes_of_any_size(opcode: Opcode, data: bytes) -> None:
    async with serve(Endpoint()) as (_, client):
        for part in (data, data * 2):
            await client.send(opcode, part)
            assert await client.receive() == (opcode, part)


async def test_there_is_no_parser_but_for_what_is_not_plain() -> None:
    async with serve(Endpoint()) as (site, client):
        protocol = protocol_of(site)
        await client.send(Opcode.TEXT, b"plain")
        assert await client.receive() == (Opcode.TEXT, b"plain")
        assert protocol._parser is None
        await client.send(Opcode.TEXT, b"a", fin=False)
        await wait_until(lambda: protocol._parser is not None)
        await client.send(Opcode.PING, b"p")
        assert await client.receive() == (Opcode.PONG, b"p")
        assert protocol._parser is not None
        await client.send(Opcode.CONT, b"b")
        assert await client.receive() == (Opcode.TEXT, b"ab")
        await client.write(client.frame(Opcode.PING, b"half")[:5])
        await wait_until(lambda: protocol._theirs or protocol._rest)
        await client.write(
            client.frame(
                Opcode.PING,
                b"half",
            )[5:]
        )


async def test_a_parser_is_let_go_when_the_rest_of_its_frame_has_come() -> None:
    async with serve(Endpoint()) as (site, client):
        protocol = protocol_of(site)
        frame = client.frame(Opcode.PING, b"in two")
        await client.write(frame[:8])
        await wait_until(lambda: protocol._parser is not None)
        await client.write(frame[8:])
        assert await client.receive() == (Opcode.PONG, b"in two")
        assert protocol._parser is None


@pytest.mark.parametrize("payload", [b"", b"\x03\xe8", b"\x0f\xa1" + b"x" * 123])
async def test_a_close_that_is_right_needs_none(payload: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Server, "parser")
    endpoint = Endpoint()
    async with serve(endpoint) as (site, client):
        await client.send(Opcode.TEXT, b"plain")
        assert await client.receive() == (Opcode.TEXT, b"plain")
        await client.send(Opcode.CLOSE, payload)
        assert await client.receive() == (Opcode.CLOSE, payload)
        await wait_until(lambda: not site.open_connections)
    assert endpoint.seen[-1]["code"] == (int.from_bytes(payload[:2], "big") or 1005)


@each
async def test_a_close_amid_a_message(ws: str) -> None:
    endpoint = Endpoint()
    async with serve(endpoint, ws=ws) as (_, client):
        await client.send(Opcode.TEXT, b"a", fin=False)
        await client.send(Opcode.CLOSE, b"\x03\xe8")
        assert (await client.closed()).code == 1002
        await wait_until(lambda: endpoint.seen)
    assert endpoint.seen[0]["code"] == 1002


@each
async def test_the_application_gets_to_know_how_the_client_left(ws: str) -> None:
    for frame, code, reason in ((b"\x0f\xa1why", 4001, "why"), (b"", 1005, "")):
        endpoint = Endpoint()
        async with serve(endpoint, ws=ws) as (_, client):
            await client.send(Opcode.CLOSE, frame)
            assert await client.receive() == (Opcode.CLOSE, frame)
            await wait_until(lambda seen=endpoint.seen: seen)
        assert endpoint.seen == [{"type": "websocket.disconnect", "code": code, "reason": reason}]


@each
async def test_of_two_tasks_that_receive_one_may_give_up(ws: str) -> None:
    app = FastAPI()

    @app.websocket("/a")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        first, second = (asyncio.create_task(websocket.receive_text()) for _ in range(2))
        await asyncio.wait((first, second), timeout=0)
        first.cancel()
        await asyncio.wait((first,))
        await websocket.send_text("ready")
        await websocket.send_text(await second)

    async with serving(app, ws=ws) as site, RawClient.open(site, "/a") as client:
        assert await client.receive() == (Opcode.TEXT, b"ready")
        await client.send(Opcode.TEXT, b"hi")
        assert await client.receive() == (Opcode.TEXT, b"hi")


@each
async def test_a_client_that_goes_without_a_word(ws: str) -> None:
    endpoint = Endpoint()
    async with serve(endpoint, ws=ws) as (_, client):
        client.reset()
        await wait_until(lambda: endpoint.seen)
    assert endpoint.seen == [{"type": "websocket.disconnect", "code": 1005}]


@each
async def test_who_sends_to_a_client_that_has_gone_is_told(ws: str) -> None:
    endpoint = Endpoint()
    async with serve(endpoint, "/leave", ws) as (_, client):
        await client.send(Opcode.CLOSE, b"\x03\xe8")
        await wait_until(lambda: endpoint.failures)
    assert [type(failure) for failure in endpoint.failures] == [ClientDisconnected]


@each
async def test_a_close_of_the_application_waits_for_the_clients(ws: str) -> None:
    endpoint = Endpoint()
    async with serve(endpoint, ws=ws) as (site, client):
        await client.send(Opcode.TEXT, b"close")
        assert await client.receive() == (Opcode.CLOSE, b"\x0f\xa1as you wish")
        await client.send(Opcode.TEXT, b"not heard")
        await client.send(Opcode.PING, b"there?")
        assert await client.receive() == (Opcode.PONG, b"there?")
        assert site.open_connections == 1
        await client.send(Opcode.CLOSE, b"\x0f\xa1")
        await wait_until(lambda: not site.open_connections)


async def test_a_client_that_does_not_answer_a_close_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastapi_channels.uvicorn.protocol.CLOSE_TIMEOUT", 0.05)
    async with serve(Endpoint()) as (site, client):
        await client.send(Opcode.TEXT, b"close")
        assert (await client.receive())[0] is Opcode.CLOSE
        await wait_until(lambda: not site.open_connections)


@each
async def test_who_floods_a_client_that_does_not_read_waits(ws: str) -> None:
    endpoint = Endpoint()
    async with serve(endpoint, "/flood", ws, little=True) as (_, client):
        await wait_until(lambda: endpoint.sent > 1)
        before = -1
        while before != endpoint.sent:
            before = endpoint.sent
            await asyncio.sleep(0.05)
        assert before < 200
        for _ in range(before):
            assert (await client.receive())[1] == bytes(65_536)
        await wait_until(lambda: endpoint.sent > before)
        client.reset()
        await wait_until(lambda: endpoint.failures)


async def test_many_pings_in_one_piece() -> None:
    async with serve(Endpoint()) as (site, client):
        frames = b"".join(client.frame(Opcode.PING, b"%d" % number) for number in range(PINGS))
        sending = asyncio.create_task(client.write(frames + client.frame(Opcode.TEXT, b"done")))
        for number in range(PINGS):
            assert await client.receive() == (Opcode.PONG, b"%d" % number)
        assert await client.receive() == (Opcode.TEXT, b"done")
        await sending
        assert protocol_of(site)._parser is None


async def test_who_pings_without_reading_is_owed_the_last_pong_alone() -> None:
    async with serve(Endpoint(), little=True) as (site, client):
        protocol = protocol_of(site)
        frames = b"".join(client.frame(Opcode.PING, b"%8d" % number * 15) for number in range(10 * PINGS))
        await client.write(frames)  # 12 MB, all of which the server takes
        assert protocol.transport.get_write_buffer_size() < 1_000_000
        payload = b""
        while payload[:8] != b"%8d" % (10 * PINGS - 1):
            opcode, payload = await client.receive()
            assert opcode is Opcode.PONG
        await client.send(Opcode.TEXT, b"alive")
        assert await client.receive() == (Opcode.TEXT, b"alive")


@each
@pytest.mark.parametrize("message", [b"x" * 1001, b"x" * 70_000])
async def test_messages_beyond_the_servers_bound(ws: str, message: bytes) -> None:
    async with serve(Endpoint(), ws=ws, ws_max_size=1000) as (_, client):
        await client.send(Opcode.TEXT, b"x" * 1000)
        assert (await client.receive())[1] == b"x" * 1000
        await client.send(Opcode.TEXT, message)
        assert (await client.closed()).code == 1009


async def test_fragments_beyond_the_servers_bound() -> None:
    async with serve(Endpoint(), ws_max_size=1000) as (_, client):
        await client.send(Opcode.TEXT, b"x" * 600, fin=False)
        await client.send(Opcode.CONT, b"x" * 600)
        assert (await client.closed()).code == 1009


@pytest.mark.parametrize(
    ("event", "failure"),
    [
        ({"type": "websocket.accept"}, RuntimeError),
        ({"type": "websocket.close", "code": 1006}, Exception),
        ({"type": "websocket.close", "reason": "x" * 124}, Exception),
    ],
)
async def test_what_an_open_connection_does_not_take(event: dict[str, Any], failure: type[Exception]) -> None:
    raised: list[BaseException] = []
    app = FastAPI()

    @app.websocket("/a")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            await websocket._send(event)
        except failure as exc:
            raised.append(exc)
        await websocket._send({"type": "websocket.send"})  # nothing
        await websocket.send_text("still here")
        await websocket.close()
        with pytest.raises(RuntimeError):
            await websocket._send({"type": "websocket.send", "text": "x"})

    async with serving(app, ws=PROTOCOL) as site, RawClient.open(site, "/a") as client:
        assert await client.receive() == (Opcode.TEXT, b"still here")
        assert await client.closed() == Close(1000, "")
    assert raised


@each
async def test_it_counts_as_a_connection_of_the_server(ws: str) -> None:
    """`--limit-concurrency` refuses HTTP requests then, and no handshakes: uvicorn asks nobody for these."""
    async with serve(Endpoint(), ws=ws, limit_concurrency=2) as (site, _):
        assert site.open_connections == 1
        async with RawClient.open(site, "/a"):
            reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
            writer.write(b"GET /a HTTP/1.1\r\nHost: test\r\n\r\n")
            assert b" 503 " in await reader.readline()
            writer.close()
            await writer.wait_closed()
