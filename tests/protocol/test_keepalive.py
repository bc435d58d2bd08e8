"""One timer for the pings of all connections."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from fastapi import FastAPI, WebSocket
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Opcode

from fastapi_channels.uvicorn.keepalive import SPOKES, Wheel
from tests.support.live import PROTOCOL, RawClient, Site, serving, wait_until


class Clock:
    """An event loop's timers, whose time the test decides."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[tuple[float, Any]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, call: Any) -> object:
        self.timers.append((when, call))
        return object()

    def pass_until(self, until: float) -> None:
        while self.timers and self.timers[0][0] <= until:
            when, call = self.timers.pop(0)
            self.now = max(self.now, when)
            call()
        self.now = max(self.now, until)


def wheel(clock: Any, call: Any) -> Wheel[Any]:
    return Wheel(clock, 10.0, call)


@given(st.lists(st.floats(0, 30), min_size=1, max_size=20))
def test_each_rider_is_called_once_when_its_turn_is_over(delays: list[float]) -> None:
    clock = Clock()
    called: dict[int, float] = {}

    def call(rider: int) -> None:
        assert rider not in called
        called[rider] = clock.now

    turning = wheel(clock, call)
    began: dict[int, float] = {}
    for rider, delay in enumerate(sorted(delays)):
        clock.pass_until(100.0 + delay)
        turning.ride(rider)
        began[rider] = clock.now
    clock.pass_until(200.0)
    assert called.keys() == began.keys()
    assert all(10 - 1e-6 <= called[rider] - began[rider] <= 10 + 10 / SPOKES + 1e-6 for rider in called)
    assert not clock.timers


def test_who_got_off_is_not_called() -> None:
    clock, called = Clock(), []
    turning = wheel(clock, called.append)
    spoke = turning.ride("a")
    turning.ride("b")
    spoke.discard("a")
    clock.pass_until(200.0)
    assert called == ["b"]


def test_a_rider_may_throw_another_off() -> None:
    clock, called = Clock(), []

    def call(rider: str) -> None:
        called.append(rider)
        spoke.clear()

    turning = wheel(clock, call)
    turning.ride("a")
    spoke = turning.ride("b")
    clock.pass_until(200.0)
    assert len(called) == 1


def test_a_rider_may_get_on_again() -> None:
    clock, called = Clock(), []

    def call(rider: str) -> None:
        called.append(clock.now)
        if len(called) < 3:
            turning.ride(rider)

    turning = wheel(clock, call)
    turning.ride("a")
    clock.pass_until(200.0)
    assert [round(when) for when in called] == [110, 120, 130]


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
        echo(ws_ping_interval=0.05, ws_ping_timeout=0.5) as site,
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
