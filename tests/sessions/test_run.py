"""A stream that its client takes by windows: never further ahead, and nobody waits for who takes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI

from fastapi_channels import Channel, ConfigurationError, Envelope, Socket, action, add_channel
from fastapi_channels.actions.spec import DETACHED
from fastapi_channels.sessions.socket_session import IN_FLIGHT
from fastapi_channels.testing.asgi import living
from fastapi_channels.testing.clock import now, timeless, turns
from tests.support.wire import Wire, dial, node_of, nothing_is_held, others, serving


class Room(Channel):
    """`made` has the numbers that were asked of its streams, `ended` how many have."""

    room_pattern = "{name:str}"
    finish_timeout = 50.0

    def __init__(self) -> None:
        super().__init__()
        self.made: list[int] = []
        self.ended = 0
        self.gate = asyncio.Event()

    @action()
    async def numbers(self, to: int = 1_000_000) -> AsyncIterator[int]:
        try:
            for number in range(to):
                self.made.append(number)
                yield number
        finally:
            self.ended += 1

    @action()
    async def wait(self) -> str:
        """In the task that handles what comes next."""
        await self.gate.wait()
        return "waited"


def credit(request_id: Any, count: Any) -> dict[str, Any]:
    return {"type": "credit", "request_id": request_id, "count": count}


async def items(wire: Wire, count: int) -> list[tuple[Any, Any]]:
    """The next so many, each with its index."""
    frames = [await wire.receive() for _ in range(count)]
    assert all(frame["more"] for frame in frames)
    return [(frame["data"], frame["index"]) for frame in frames]


async def quiet(wire: Wire) -> None:
    """Nothing more comes."""
    await wire.until(lambda: not wire.waiting)
    await turns(50)
    assert wire.unread == []


@asynccontextmanager
async def connected(room: Room, kind: str) -> AsyncIterator[Wire]:
    """A client in a room of its own WebSocket, or in one of many."""
    app = FastAPI()
    add_channel(app)
    (Socket(room) if kind == "many" else room).mount(app, "/ws" if kind == "many" else "/ws/{channel}")
    async with living(app):
        async with dial(app, "/ws" if kind == "many" else "/ws/r") as wire:
            if kind == "many":
                wire.send({"type": "join", "channel": "r"})
                await wire.receive()
            yield wire
        nothing_is_held(app)


@pytest.mark.parametrize("kind", ["one", "many"])
@timeless
async def test_the_generator_is_at_most_a_window_ahead(kind: str):
    room = Room()
    async with connected(room, kind) as wire:
        wire.call("numbers", channel="r", request_id="q", window=3)
        assert await items(wire, 3) == [(0, 0), (1, 1), (2, 2)]
        await quiet(wire)
        assert room.made == [0, 1, 2]
        wire.send(credit("q", 2))
        assert await items(wire, 2) == [(3, 3), (4, 4)]
        await quiet(wire)
        assert room.made == [0, 1, 2, 3, 4]


@timeless
async def test_the_end_is_counted_too():
    async with serving(Room()) as app, dial(app, "/r") as wire:
        wire.call("numbers", request_id=1, to=2, window=2)
        await items(wire, 2)
        await quiet(wire)
        wire.send(credit(1, 1))
        end = await wire.receive()
        assert (end["data"], end["more"], end["index"]) == (None, False, 2)


@timeless
async def test_without_a_window_credit_says_nothing():
    async with serving(Room()) as app, dial(app, "/r") as wire:
        wire.call("numbers", request_id=1, to=2)
        wire.send(credit(1, 1))
        assert [await wire.receive() for _ in range(3)] == [
            {
                "type": "response",
                "action": "numbers",
                "status": "ok",
                "request_id": 1,
                "data": data,
                "more": more,
            }
            for data, more in ((0, True), (1, True), (None, False))
        ]


@pytest.mark.parametrize("kind", ["one", "many"])
@timeless
async def test_credit_passes_what_waits_in_line(kind: str):
    room = Room()
    async with connected(room, kind) as wire:
        wire.call("numbers", channel="r", request_id=1, window=1)
        await items(wire, 1)
        wire.call("wait", channel="r", request_id=2)
        wire.call("wait", channel="r", request_id=3)
        wire.send(credit(1, 1))
        assert await items(wire, 1) == [(1, 1)]
        room.gate.set()
        assert [(await wire.receive())["request_id"] for _ in range(2)] == [2, 3]


@pytest.mark.parametrize("kind", ["one", "many"])
@timeless
async def test_credit_counts_that_comes_before_the_stream_has_its_turn(kind: str):
    room = Room()
    async with connected(room, kind) as wire:
        wire.call("wait", channel="r")
        wire.call("numbers", channel="r", request_id=1, window=1)
        wire.send(credit(1, 2), credit(1, 2), credit("another", 7))
        await wire.until(lambda: not wire.waiting)
        room.gate.set()
        assert (await wire.receive())["data"] == "waited"
        await items(wire, 5)
        await quiet(wire)
        assert room.made == [0, 1, 2, 3, 4]


@timeless
async def test_credit_counts_while_as_many_streams_as_may_are_stalled():
    room = Room()
    async with serving(room) as app, dial(app, "/r") as wire:
        for number in range(DETACHED):
            wire.call("numbers", request_id=number, window=1)
        await items(wire, DETACHED)
        wire.call("numbers", request_id="last", to=2, window=1)
        wire.send(credit("last", 2))
        await quiet(wire)
        wire.send({"type": "cancel", "request_id": 0})
        assert (await wire.receive())["code"] == "cancelled"
        assert [(await wire.receive()).get("index") for _ in range(3)] == [0, 1, 2]


@timeless
async def test_credit_counts_of_what_waits_for_a_place_in_flight():
    room = Room()
    async with connected(room, "many") as wire:
        for number in range(IN_FLIGHT):
            wire.call("wait", channel="r", request_id=number)
        wire.call("numbers", channel="r", request_id="q", window=1)
        await wire.until(lambda: not wire.waiting)
        wire.send(credit("q", 1))
        await wire.until(lambda: not wire.waiting)
        room.gate.set()
        for _ in range(IN_FLIGHT):
            await wire.receive()
        assert await items(wire, 2) == [(0, 0), (1, 1)]


@pytest.mark.parametrize("count", [0, -1, 1.5, True, "2", None, [1], -(10**400)])
@timeless
async def test_credit_that_says_nothing_usable_is_refused_and_gives_none(count: Any):
    room = Room()
    async with serving(room) as app, dial(app, "/r") as wire:
        wire.call("numbers", request_id=1, window=1)
        await items(wire, 1)
        wire.send(credit(1, count))
        error = await wire.receive()
        assert (error["code"], error["request_id"]) == ("parse_error", 1)
        assert "'count' of a credit must be a whole number above 0" in error["errors"]
        await quiet(wire)
        wire.send(credit(1, 1))
        assert await items(wire, 1) == [(1, 1)]


@timeless
async def test_credit_for_no_request_is_refused():
    async with serving(Room()) as app, dial(app, "/r") as wire:
        wire.send({"type": "credit", "count": 1})
        assert (await wire.receive())["code"] == "parse_error"


@timeless
async def test_credit_for_what_is_unknown_or_has_ended_does_nothing():
    room = Room()
    async with serving(room) as app, dial(app, "/r") as wire:
        wire.call("numbers", request_id=1, to=1, window=2)
        await items(wire, 1)
        await wire.receive()
        for number in range(1000):
            wire.send(credit(number, 10**400))
        await quiet(wire)
        wire.call("numbers", request_id=1, window=1)
        await items(wire, 1)
        await quiet(wire)


@pytest.mark.parametrize("window", [0, -1, 1.5, "2", None])
@timeless
async def test_a_window_that_is_none_is_refused_before_the_stream_begins(window: Any):
    room = Room()
    async with serving(room) as app, dial(app, "/r") as wire:
        wire.call("numbers", request_id=1, window=window)
        error = await wire.receive()
        assert (error["code"], error["request_id"]) == ("parse_error", 1)
        assert "'window' must be a whole number above 0" in error["errors"]
        assert (room.made, room.ended) == ([], 0)


@timeless
async def test_a_stalled_stream_is_cancelled():
    room = Room()
    async with serving(room) as app, dial(app, "/r") as wire:
        wire.call("numbers", request_id=1, window=1)
        await items(wire, 1)
        wire.send({"type": "cancel", "request_id": 1})
        assert (await wire.receive())["code"] == "cancelled"
        assert (room.made, room.ended) == ([0], 1)


@timeless
async def test_who_leaves_with_a_stalled_stream_is_not_waited_for():
    room = Room()
    before = others()
    async with serving(room) as app:
        began = now()
        async with dial(app, "/r") as wire:
            wire.call("numbers", request_id=1, window=1)
            await items(wire, 1)
        assert room.ended == 1
        assert now() - began < 1  # it has fifty seconds to finish
    assert others() <= before


@timeless
async def test_who_leaves_the_room_of_a_stalled_stream_is_not_waited_for():
    room = Room()
    async with connected(room, "many") as wire:
        wire.call("numbers", channel="r", request_id=1, window=1)
        await items(wire, 1)
        began = now()
        wire.send({"type": "leave", "channel": "r"})
        assert (await wire.receive())["code"] == "cancelled"
        assert (await wire.receive())["type"] == "left"
        assert (room.ended, now() - began < 1) == (1, True)


@pytest.mark.parametrize("kind", ["one", "many"])
@timeless
async def test_a_drain_does_not_wait_for_who_takes_nothing(kind: str):
    room = Room()
    app = FastAPI()
    add_channel(app)
    (Socket(room) if kind == "many" else room).mount(app, "/ws" if kind == "many" else "/ws/{channel}")
    async with living(app), dial(app, "/ws" if kind == "many" else "/ws/r") as wire:
        wire.send(*([{"type": "join", "channel": "r"}] if kind == "many" else []))
        wire.call("numbers", channel="r", request_id=1, window=1)
        await wire.until(lambda: room.made == [0])
        await turns()
        began = now()
        await node_of(app).drain(1.0)
        assert (await wire.closed()).code == 1012
        assert now() - began < 2


@timeless
async def test_who_takes_nothing_is_idle_and_who_gives_credit_is_not():
    class Brief(Room):
        idle_timeout = 10.0

    room = Brief()
    async with serving(room) as app, dial(app, "/r") as wire:
        wire.call("numbers", request_id=1, window=1)
        for _ in range(5):
            await items(wire, 1)
            await asyncio.sleep(8)
            wire.send(credit(1, 1))
        began = now()
        assert (await wire.closed()).code == 4008
        assert 9 < now() - began < 12


async def test_no_field_of_a_stream_has_the_name():
    class Averages(Channel):
        @action()
        async def average(self, window: int) -> AsyncIterator[float]:
            yield window / 2

    with pytest.raises(ConfigurationError, match="'average' would never get the field 'window'"):
        Averages()

    class Nested(Averages):
        envelope = Envelope(payload="payload")

    class Plain(Channel):
        @action()
        async def average(self, window: int) -> float:
            return window / 2

    async with serving(Plain()) as app, dial(app, "/r") as wire:
        wire.call("average", window=3)
        assert (await wire.receive())["data"] == 1.5
    async with serving(Nested()) as app, dial(app, "/r") as wire:
        wire.send({"action": "average", "request_id": 1, "window": 1, "payload": {"window": 3}})
        assert await items(wire, 1) == [(1.5, 0)]
        await quiet(wire)
