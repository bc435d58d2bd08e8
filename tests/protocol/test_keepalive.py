"""Pings of our own protocol: one timer for all connections."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from fastapi import FastAPI, WebSocket
from websockets.frames import Opcode

from tests.support.live import PROTOCOL, RawClient, Site, serving, wait_until


@asynccontextmanager
async def echo(**options: Any) -> AsyncIterator[Site]:
    app = FastAPI()

    @app.websocket("/a")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        async for text in websocket.iter_text():
            await websocket.send_text(text)

    async with serving(app, ws=PROTOCOL, **options) as site:
        yield site


async def test_who_answers_pings_stays_and_is_pinged_again() -> None:
    async with (
        echo(ws_ping_interval=0.05, ws_ping_timeout=10) as site,
        RawClient.open(site, "/a") as client,
    ):
        seen: set[bytes] = set()
        for _ in range(4):
            opcode, payload = await client.receive()
            assert opcode is Opcode.PING
            assert payload not in seen
            seen.add(payload)
            await client.send(Opcode.PONG, payload)
        await client.send(Opcode.TEXT, b"hi")
        while (answer := await client.receive())[0] is Opcode.PING:
            await client.send(Opcode.PONG, answer[1])
        assert answer == (Opcode.TEXT, b"hi")


async def test_a_pong_that_nobody_asked_for_is_no_answer() -> None:
    async with (
        echo(ws_ping_interval=0.05, ws_ping_timeout=0.1) as site,
        RawClient.open(site, "/a") as client,
    ):
        await client.send(Opcode.PONG, b"early")
        assert (await client.receive())[0] is Opcode.PING
        await client.send(Opcode.PONG, b"other")
        assert await client.closed() == (1011, "keepalive ping timeout")


async def test_without_a_timeout_nobody_is_closed() -> None:
    async with (
        echo(ws_ping_interval=0.02, ws_ping_timeout=None) as site,
        RawClient.open(site, "/a") as client,
    ):
        for _ in range(5):
            assert (await client.receive())[0] is Opcode.PING


async def test_without_an_interval_nobody_is_pinged() -> None:
    async with echo(ws_ping_interval=None) as site, RawClient.open(site, "/a") as client:
        assert site._server is not None
        (protocol,) = site._server.server_state.connections
        assert protocol._spoke is None  # type: ignore[attr-defined]
        await client.send(Opcode.TEXT, b"hi")
        assert await client.receive() == (Opcode.TEXT, b"hi")


async def test_a_hundred_connections_have_one_timer() -> None:
    """uvicorn's own have one each, and two while a pong is waited for."""
    async with echo(ws_ping_interval=20, ws_ping_timeout=20) as site, AsyncExitStack() as stack:
        assert site._server is not None
        await stack.enter_async_context(RawClient.open(site, "/a"))
        state: Any = site._server.server_state
        (protocol,) = state.connections
        pings = protocol._server.pings
        before = pings._timer
        assert before is not None
        for _ in range(99):
            await stack.enter_async_context(RawClient.open(site, "/a"))
        assert sum(map(len, pings._spokes)) == 100
        await stack.aclose()
        await wait_until(lambda: not site.open_connections)
        assert not any(pings._spokes)
