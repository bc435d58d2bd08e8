"""Joining again a room that one is in: what was missed there comes, and nothing else changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
from fastapi import FastAPI

from fastapi_channels import Channel, Connection, Socket, action, add_channel
from fastapi_channels.testing.asgi import living
from fastapi_channels.testing.broker import FaultyBroker
from fastapi_channels.testing.clock import timeless
from fastapi_channels.testing.store import FaultyStore
from fastapi_channels.wire.outbox import SlowPolicy
from fastapi_channels.wire.positions import Position
from tests.support.wire import Wire, dial, nothing_is_held

PADDING: Final = "x" * 100


class Room(Channel):
    """Remembers the connections that it had."""

    history = 100
    scope = "room"
    slow_policy: SlowPolicy = "drop_oldest"
    outbox_limit = 2000

    def __init__(self) -> None:
        super().__init__()
        self.connections: list[Connection] = []
        self.add_event_handler("join", self._meet)

    async def _meet(self, connection: Connection) -> None:
        self.connections.append(connection)

    async def publish(self, *numbers: int, **options: Any) -> None:
        for number in numbers:
            await self.broadcast("r", "said", f"{number}{PADDING}", **options)
            await asyncio.sleep(0)

    @action()
    async def tell(self, connection: Connection) -> None:
        await self.publish(-1, exclude=connection)

    @action()
    async def leave_it(self, connection: Connection) -> None:
        await connection.leave(connection.room)


class DropsNewest(Room):
    slow_policy: SlowPolicy = "drop_newest"


class Brief(Room):
    history = 3


class Forgetful(Room):
    history = 0


class Many(Socket):
    slow_policy: SlowPolicy = "drop_oldest"
    outbox_limit = 2000


@asynccontextmanager
async def serving(room: Room, **settings: Any) -> AsyncIterator[FastAPI]:
    app = FastAPI()
    add_channel(app, **settings)
    Many(room).mount(app, "/many")
    room.mount(app, "/{channel}")
    room.bind(app)
    async with living(app):
        yield app
        nothing_is_held(app)


async def joined(wire: Wire, many: bool) -> Any:
    if many:
        wire.send({"type": "join", "channel": "r", "request_id": 0})
    frame = await wire.receive()
    assert frame["type"] == "joined", frame
    return frame


def again(since: str, id: int = 1) -> dict[str, Any]:
    return {"type": "join", "channel": "r", "since": since, "request_id": id}


async def until(wire: Wire, kind: str) -> list[Any]:
    """The frames up to the next of that kind, and it."""
    frames = [await wire.receive()]
    while frames[-1]["type"] != kind:
        frames.append(await wire.receive())
    return frames


def number(frame: Any) -> int:
    found = int(frame["data"].removesuffix(PADDING))
    assert Position.parse(frame["position"]).offset == found
    return found


each_way = pytest.mark.parametrize("many", [False, True])


def at(many: bool) -> str:
    return "/many" if many else "/r"


@pytest.mark.parametrize(("kind", "many"), [(Room, False), (Room, True), (DropsNewest, False)])
@timeless
async def test_who_was_too_slow_gets_what_was_dropped_in_order_and_then_what_follows(
    kind: type[Room], many: bool
):
    """The notice names the position to ask from, and the room goes on meanwhile."""
    room = kind()
    async with serving(room) as app, dial(app, at(many)) as wire:
        await joined(wire, many)
        await wire.until(lambda: room.connections)
        wire.block()
        await room.publish(*range(1, 51))
        wire.unblock()
        if kind is DropsNewest:
            await wire.until(lambda: not room.connections[0]._carrier.writer.is_writing)
            await room.publish(51)
        *before, lagged = await until(wire, "lagged")
        got = [number(frame) for frame in before]
        assert got == [*range(1, len(got) + 1)]
        assert lagged["channel"] == "r"
        assert Position.parse(lagged["since"]).offset == len(got)
        wire.send(again(lagged["since"]))
        await room.publish(*range(52 if kind is DropsNewest else 51, 61))
        *_, frame = await until(wire, "joined")
        assert (frame["position"], frame["recovered"], frame["request_id"]) == (lagged["since"], True, 1)
        assert frame["connection"] == room.connections[0].id
        got += [number(await wire.receive()) for _ in range(60 - len(got))]
        assert got == [*range(1, 61)]
        assert wire.unread == []
        assert len(room.connections) == 1, "it has not joined anew"


@each_way
@timeless
async def test_what_is_published_while_the_store_is_read_comes_behind_it(many: bool):
    room, store = Room(), FaultyStore()
    async with (
        serving(room, backend=FaultyBroker().backend(), store=store) as app,
        dial(app, at(many)) as wire,
    ):
        since = (await joined(wire, many))["position"]
        await room.publish(1, 2, 3)
        assert [number(await wire.receive()) for _ in range(3)] == [1, 2, 3]
        store.delay = 0.5
        wire.send(again(since))
        await asyncio.sleep(0.1)
        store.delay = 0
        await room.publish(4, 5)
        assert wire.unread == []
        assert (await wire.receive())["recovered"] is True
        assert [number(await wire.receive()) for _ in range(5)] == [1, 2, 3, 4, 5]


@each_way
@timeless
async def test_a_member_that_has_missed_more_than_there_is_goes_on_where_the_room_is(many: bool):
    room = Brief()
    async with serving(room) as app, dial(app, at(many)) as wire:
        since = (await joined(wire, many))["position"]
        await room.publish(*range(1, 6))
        assert [number(await wire.receive()) for _ in range(5)] == [1, 2, 3, 4, 5]
        wire.send(again(since))
        frame = await wire.receive()
        assert (frame["recovered"], frame["reason"]) == (False, "limit")
        assert Position.parse(frame["position"]).offset == 5
        wire.send(again("0ther:1", 2))
        frame = await wire.receive()
        assert (frame["recovered"], frame["reason"], frame["request_id"]) == (False, "epoch", 2)
        await room.publish(6)
        assert number(await wire.receive()) == 6


@each_way
@timeless
async def test_what_was_kept_from_a_member_is_not_among_what_it_has_missed(many: bool):
    room = Room()
    async with serving(room) as app, dial(app, at(many)) as wire, dial(app, at(many)) as other:
        since = (await joined(wire, many))["position"]
        await joined(other, many)
        wire.call("tell", channel="r")
        assert (await other.receive())["data"].startswith("-1")
        await room.publish(2)
        assert number(await wire.receive()) == number(await other.receive()) == 2
        for each, expected in ((wire, [2]), (other, [-1, 2])):
            each.send(again(since))
            assert (await each.receive())["recovered"] is True
            data = [(await each.receive())["data"] for _ in expected]
            assert [int(found.removesuffix(PADDING)) for found in data] == expected
            assert each.unread == []


@each_way
@timeless
async def test_a_store_that_is_away_is_said_and_the_member_stays(many: bool):
    room, store = Room(), FaultyStore()
    async with (
        serving(room, backend=FaultyBroker().backend(), store=store) as app,
        dial(app, at(many)) as wire,
    ):
        since = (await joined(wire, many))["position"]
        await room.publish(1, 2)
        assert [number(await wire.receive()) for _ in range(2)] == [1, 2]
        store.fates = ["fail"]
        wire.send(again(since))
        frame = await wire.receive()
        assert (frame["code"], frame["action"], frame["request_id"]) == ("unavailable", "join", 1)
        await room.publish(3)
        assert number(await wire.receive()) == 3
        wire.send(again(since, 2))
        assert (await wire.receive())["recovered"] is True
        assert [number(await wire.receive()) for _ in range(3)] == [1, 2, 3]


@each_way
@timeless
async def test_who_does_not_say_where_it_was_has_joined_already(many: bool):
    room = Room()
    async with serving(room) as app, dial(app, at(many)) as wire:
        position = (await joined(wire, many))["position"]
        for frame, code in (
            ({"type": "join", "channel": "r", "request_id": 1}, "already_joined"),
            (again("nowhere"), "invalid_position"),
        ):
            wire.send(frame)
            answer = await wire.receive()
            assert (answer["code"], answer["request_id"], answer["action"]) == (code, 1, "join")
        wire.call("leave_it", channel="r")
        wire.send(again(position, 2))
        answer = await wire.receive()
        assert (answer["code"], answer["request_id"]) == ("not_joined", 2)


@timeless
async def test_without_a_history_nothing_can_be_asked_for():
    room = Forgetful()
    async with serving(room) as app:
        async with dial(app, "/many") as wire:
            wire.send({"type": "join", "channel": "r"}, again("e:1"))
            assert (await wire.receive())["type"] == "joined"
            assert (await wire.receive())["code"] == "already_joined"
        async with dial(app, "/r") as wire:
            wire.send(again("e:1"))
            assert (await wire.receive())["code"] == "parse_error"


@timeless
async def test_in_one_room_no_other_is_joined():
    room = Room()
    async with serving(room) as app, dial(app, "/r") as wire:
        await joined(wire, many=False)
        wire.send({"type": "join", "channel": "s", "since": "e:1"}, {"type": "join", "since": 5})
        assert (await wire.receive())["code"] == "parse_error"
        assert (await wire.receive())["code"] == "invalid_position"


@each_way
@timeless
async def test_who_does_not_read_is_not_read_for_ever(many: bool):
    """What is asked for is not bounded by the outbox: so nothing more is taken before it has left."""
    room = Room()
    async with serving(room) as app, dial(app, at(many)) as wire:
        since = (await joined(wire, many))["position"]
        await room.publish(*range(1, 51))
        assert [number(await wire.receive()) for _ in range(50)] == [*range(1, 51)]
        wire.block()
        for id in range(20):
            wire.send(again(since, id))
        await asyncio.sleep(9)
        writer = room.connections[0]._carrier.writer
        assert len(writer._outbox) <= 4
        assert writer.waiting == 0
        wire.unblock()
        for id in range(20):
            frame = await wire.receive()
            assert (frame["recovered"], frame["request_id"]) == (True, id)
            assert [number(await wire.receive()) for _ in range(50)] == [*range(1, 51)]
        assert writer.waiting == 0


@each_way
@timeless
async def test_the_whole_history_is_given_once_a_second_however_often_it_is_asked_for(many: bool):
    room = Room()
    async with serving(room) as app, dial(app, at(many)) as wire:
        since = (await joined(wire, many))["position"]
        await room.publish(*range(1, 51))
        assert [number(await wire.receive()) for _ in range(50)] == [*range(1, 51)]
        wire.send(*(again(since, id) for id in range(5)))
        loop = asyncio.get_running_loop()
        times = []
        for id in range(5):
            assert (await wire.receive())["request_id"] == id
            times.append(loop.time())
            assert [number(await wire.receive()) for _ in range(50)] == [*range(1, 51)]
        assert [round(time - times[0]) for time in times] == [0, 1, 2, 3, 4]
        await asyncio.sleep(1)
        wire.send(again(since, 5))
        assert (await wire.receive())["request_id"] == 5
        assert loop.time() - times[-1] < 1.5, "who has waited does not wait again"


@timeless
async def test_who_is_put_out_meanwhile_is_out():
    room, store = Room(), FaultyStore()
    async with (
        serving(room, backend=FaultyBroker().backend(), store=store) as app,
        dial(app, "/many") as wire,
    ):
        since = (await joined(wire, many=True))["position"]
        await room.publish(1)
        assert number(await wire.receive()) == 1
        store.delay = 0.5
        wire.send(again(since))
        await asyncio.sleep(0.1)
        await room.connections[0].close(4001, "out")
        *_, left = await until(wire, "left")
        assert left["close_code"] == 4001
