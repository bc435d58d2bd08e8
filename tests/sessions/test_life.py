"""How long a WebSocket may stay, and how a client is noticed that is not there any more."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, Final

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.frames import Opcode

from fastapi_channels import BaseChannel, Channel, ConfigurationError, Connection, Socket, action
from fastapi_channels.sessions.life import JITTER
from fastapi_channels.wire.wheel import COARSE, SPOKES
from tests.support.live import (
    PROTOCOL,
    Client,
    RawClient,
    Site,
    application,
    at_once,
    each_implementation,
    each_with_port,
    serving,
    wait_until,
)

LATE: Final = COARSE / SPOKES
"""Seconds that anything of this may come late."""
SLACK: Final = 5.0
"""Seconds more that a busy machine may need."""


class Room(Channel):
    def __init__(self) -> None:
        super().__init__()
        self.left: list[int | None] = []
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()
        self.add_event_handler("leave", self.remember)

    async def remember(self, connection: Connection, code: int | None) -> None:
        self.left.append(code)

    @action()
    async def quick(self) -> str:
        return "quick"

    @action()
    async def work(self) -> str:
        self.begun.set()
        await self.go_on.wait()
        return "done"


def now() -> float:
    return asyncio.get_running_loop().time()


@asynccontextmanager
async def serving_room(settings: dict[str, Any], **options: Any) -> AsyncIterator[tuple[Site, Any]]:
    """A room with these settings, on a server that pings nobody unless it is told to."""
    room = type("Limited", (Room,), settings)()
    options.setdefault("ws_ping_interval", None)
    async with serving(application(room), **options) as site:
        yield site, room


# Idle


async def test_a_client_that_says_nothing_is_told_to_come_back():
    async with serving_room({"idle_timeout": 0.3}) as (site, room), site.connect("/tea") as ada:
        began = now()
        assert await ada.receive() == {"type": "drain", "within": 0.0, "retry_after": 0.0}
        assert await ada.closed() == (4008, "idle; retry_after=0")
        assert 0.3 <= now() - began <= 0.3 + LATE + SLACK
        await wait_until(lambda: room.left == [4008])


async def test_whoever_speaks_stays_and_a_pong_is_no_word():
    async with serving_room({"idle_timeout": 2.0}) as (site, _), site.connect("/tea") as ada:
        spoke = now()
        for _ in range(5):
            await asyncio.sleep(0.5)
            spoke = now()
            assert (await ada.call("quick"))["data"] == "quick"
        with suppress(ConnectionClosed):
            while now() - spoke < 2.0 + LATE + SLACK and ada.socket.close_code is None:
                await ada.send({"type": "pong"})
                await asyncio.sleep(0.1)
        assert now() - spoke >= 2.0
        assert (await ada.closed()).code == 4008


async def test_who_waits_for_an_action_is_not_idle():
    async with serving_room({"idle_timeout": 0.3}) as (site, room), site.connect("/tea") as ada:
        await ada.send({"action": "work", "request_id": 1})
        await room.begun.wait()
        await asyncio.sleep(0.3 + 3 * LATE)
        room.go_on.set()
        assert (await ada.receive())["data"] == "done"
        assert (await ada.closed()).code == 4008


async def test_a_room_that_relays_is_told_by_the_reason_alone():
    room = type("Quiet", (BaseChannel,), {"idle_timeout": 0.3})()
    async with serving(application(room)) as site, site.connect("/tea") as ada:
        assert await ada.rest() == []
        assert (ada.socket.close_code, ada.socket.close_reason) == (4008, "idle; retry_after=0")


async def test_a_client_of_many_rooms_has_the_limits_of_its_socket():
    socket = type("Brief", (Socket,), {"idle_timeout": 1.5})(Room())
    app = application(Room())
    socket.mount(app, "/many/rooms")
    async with serving(app) as site, site.connect("/many/rooms") as ada:
        await asyncio.sleep(0.4)
        joined = now()
        await ada.send({"type": "join", "channel": "tea"})
        assert (await ada.receive())["type"] == "joined"
        assert (await ada.receive())["type"] == "drain"
        assert (await ada.closed()).code == 4008
        assert now() - joined >= 1.5


# Lifetime


async def ask_on(client: Client) -> None:
    with suppress(ConnectionClosed):
        while True:
            await client.send({"action": "quick"})
            await asyncio.sleep(0.02)


async def test_a_connection_ends_after_its_lifetime_however_busy_it_is():
    async with serving_room({"max_lifetime": 1.0}) as (site, room), site.connect("/tea") as ada:
        began = now()
        asking = asyncio.create_task(ask_on(ada))
        while (frame := await ada.receive())["type"] == "response":
            pass
        within = frame.pop("within")
        assert frame == {"type": "drain", "retry_after": 0.0}
        assert within in (0.0, room.finish_timeout)  # whether an action ran at that moment
        assert await ada.closed() == (4010, "lifetime over; retry_after=0")
        assert 1.0 - JITTER <= now() - began <= 1.0 + LATE + SLACK
        await asking
        await wait_until(lambda: room.left == [4010])


async def test_who_came_together_does_not_go_together():
    async with (
        serving_room({"max_lifetime": 3600.0}) as (site, _),
        site.clients(*["/tea"] * 50),
    ):
        sessions: Any = site.node.sessions
        ends = sorted(session._life._ends - now() for session in sessions)
        assert ends[0] >= 3600 * (1 - JITTER) - SLACK
        assert ends[-1] <= 3600
        assert ends[-1] - ends[0] > 3600 * JITTER / 2


async def test_an_action_that_runs_is_replied_to_first():
    async with (
        serving_room({"max_lifetime": 0.3, "finish_timeout": 5.0}) as (site, room),
        site.connect("/tea") as ada,
    ):
        await ada.send({"action": "work", "request_id": 1})
        assert await ada.receive() == {"type": "drain", "within": 5.0, "retry_after": 0.0}
        room.go_on.set()
        assert (await ada.receive())["data"] == "done"
        assert (await ada.closed()).code == 4010


async def test_an_action_that_does_not_end_is_not_waited_for():
    async with (
        serving_room({"max_lifetime": 0.3, "finish_timeout": 0.2}) as (site, _),
        site.connect("/tea") as ada,
    ):
        await ada.send({"action": "work", "request_id": 1})
        assert [frame["type"] for frame in map(json.loads, await ada.rest())] == ["drain"]
        assert ada.socket.close_code == 4010


# Heartbeat


@pytest.mark.direct
@at_once(each_with_port)
async def test_who_answers_pings_stays(ws: str):
    async with serving_room({"heartbeat": 1.0}, ws=ws) as (site, _), RawClient.open(site, "/tea") as client:
        for _ in range(3):
            assert await client.receive() == (Opcode.PING, b"")
            await client.send(Opcode.PONG, b"")
        await client.send(Opcode.TEXT, b'{"action": "quick"}')
        assert (await client.receive())[0] is Opcode.TEXT


@at_once(each_with_port)
async def test_who_is_silent_from_one_ping_to_the_next_is_gone(ws: str):
    async with (
        serving_room({"heartbeat": 0.2}, ws=ws) as (site, room),
        RawClient.open(site, "/tea") as client,
    ):
        assert await client.closed() == (1011, "no answer to a ping")
        await wait_until(lambda: room.left == [1011])


@pytest.mark.direct
@at_once(each_with_port)
async def test_any_frame_is_a_sign_of_life(ws: str):
    async with serving_room({"heartbeat": 0.8}, ws=ws) as (site, _), RawClient.open(site, "/tea") as client:
        began, opcodes = now(), set()
        # It answers no ping, and stays far beyond the time for an answer.
        while Opcode.PING not in opcodes or now() - began < 1.6 + 5 * LATE:
            await client.send(Opcode.TEXT, b'{"action": "quick"}')
            opcodes.add((await client.receive())[0])
            await asyncio.sleep(0.05)
        assert opcodes == {Opcode.PING, Opcode.TEXT}


async def test_who_is_not_read_is_not_taken_for_silent():
    """An action runs, and so much has come behind it that the server reads nothing, its pongs included."""
    async with serving_room({"heartbeat": 0.2}) as (site, room), RawClient.open(site, "/tea") as client:
        await client.send(Opcode.TEXT, b'{"action": "work"}')
        await room.begun.wait()
        flood = asyncio.create_task(
            client.write(
                100 * RawClient.frame(Opcode.TEXT, b'{"action": "quick", "x": "%s"}' % (b"x" * 60_000))
            )
        )
        began = now()
        while now() - began < 0.2 + 4 * LATE:
            assert not room.left
            await asyncio.sleep(0.05)
        room.go_on.set()
        await flood
        answers = 0
        async for opcode, _ in client.receive_all():
            answers += opcode is Opcode.TEXT
            if answers == 101:
                return
        raise AssertionError(f"closed after {answers} answers")


@at_once(each_implementation)
async def test_a_server_that_takes_no_ping_asks_with_a_frame(ws: str):
    """As seen where something wraps `send`, or the server is not known."""
    settings = {"heartbeat": 0.8}
    async with serving_room(settings, ws=ws) as (site, room):
        wrap(site)
        async with site.connect("/tea") as ada, site.connect("/tea") as bob:
            for _ in range(3):
                assert await ada.receive() == {"type": "ping"}
                await ada.send({"type": "pong"})
            assert (await bob.closed()) == (1011, "no answer to a ping")
            assert (await ada.receive_until(lambda frame: frame["type"] == "ping")) == {"type": "ping"}
            await ada.send({"type": "pong"})
            await wait_until(lambda: room.left == [1011])


def wrap(site: Site) -> None:
    """Put a middleware around the application that stands between it and the server."""
    app: Any = site.app
    inner = app.build_middleware_stack()

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        async def pass_on(message: Any) -> None:
            await send(message)

        await inner(scope, receive, pass_on)

    app.middleware_stack = wrapped


async def test_a_relaying_room_without_a_port_is_not_pinged():
    room = type("Quiet", (BaseChannel,), {"heartbeat": 0.2})()
    async with serving(application(room), ws_ping_interval=None) as site:
        wrap(site)
        async with site.connect("/tea") as ada:
            await asyncio.sleep(0.2 + 3 * LATE)
            await ada.send("hello")
            assert await ada.read() == "hello"


@pytest.mark.direct
@at_once(each_with_port)
async def test_the_server_s_own_pings_are_enough(ws: str):
    async with (
        serving_room({"heartbeat": 0.3}, ws=ws, ws_ping_interval=0.3, ws_ping_timeout=5.0) as (
            site,
            _,
        ),
        RawClient.open(site, "/tea") as client,
    ):
        for _ in range(3):
            opcode, payload = await client.receive()
            assert opcode is Opcode.PING
            assert payload != b""
            await client.send(Opcode.PONG, payload)


@at_once(each_with_port)
async def test_server_pings_that_do_not_find_it_out_in_time_are_not(ws: str):
    rare, not_to_be_answered = {"ws_ping_interval": 20.0}, {"ws_ping_interval": 0.2, "ws_ping_timeout": None}
    for server in (rare, not_to_be_answered):
        async with (
            serving_room({"heartbeat": 0.2}, ws=ws, **server) as (site, _),
            RawClient.open(site, "/tea") as client,
        ):
            assert await client.closed() == (1011, "no answer to a ping")


# What it costs


@pytest.mark.parametrize("ws", ["auto", PROTOCOL])
async def test_all_share_one_timer_and_leave_it(ws: str):
    everything = {"idle_timeout": 60.0, "max_lifetime": 3600.0, "heartbeat": 25.0}
    async with serving_room(everything, ws=ws) as (site, _), AsyncExitStack() as stack:
        spokes = site.node.wheel._spokes
        await stack.enter_async_context(site.connect("/tea"))
        timer = site.node.wheel._timer
        assert timer is not None
        for _ in range(49):
            await stack.enter_async_context(site.connect("/tea"))
        assert sum(map(len, spokes)) == 50
        await stack.aclose()
        await wait_until(lambda: not any(spokes))
        await wait_until(lambda: site.node.wheel._timer is None)


async def test_who_asks_for_nothing_gets_nothing():
    async with serving_room({}) as (site, _), site.connect("/tea"):
        assert site.node.wheel._timer is None
        (session,) = site.node.sessions
        assert session._life is None  # type: ignore[attr-defined]


@pytest.mark.parametrize("value", [0, -1, math.inf, math.nan, "10", True])
@pytest.mark.parametrize("name", ["idle_timeout", "max_lifetime", "heartbeat"])
@pytest.mark.parametrize("owner", [Channel, BaseChannel, Socket])
def test_what_is_no_time(owner: Any, name: str, value: Any):
    limited = type("Limited", (owner,), {name: value})
    with pytest.raises(ConfigurationError, match=rf"Limited\.{name} must be more than 0 seconds, or None"):
        limited(*([Channel()] if owner is Socket else []))
