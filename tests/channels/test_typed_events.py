"""Events as types: checked wherever they are published."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import date
from typing import Any

import pytest
from fastapi import Request
from pydantic import Field, ValidationError

from fastapi_channels import BaseChannel, Channel, ConfigurationError, Connection, Envelope, Event
from fastapi_channels.testing import FaultyStore
from fastapi_channels.testing.clock import now, timeless
from tests.support.wire import dial, serving


class Said(Event):
    text: str
    day: date = date(2020, 1, 1)


class Moved(Event, name="piece.moved"):
    to: int = Field(alias="target", ge=0)
    secret: str = Field(default="hidden", exclude=True)


class Cleared(Event): ...


class Shouted(Said): ...


class Undeclared(Event): ...


class Room(Channel):
    event_types = (Said, Moved, Cleared)


class Anything(Channel):
    """Whoever connects is kept."""


Publish = Callable[..., Awaitable[Any]]


def ways(room: BaseChannel, connection: Connection) -> dict[str, Publish]:
    """All ways to publish an event to the client."""

    async def to_room(*event: Any) -> None:
        await room.broadcast(connection.room, *event)

    async def to_rooms(*event: Any) -> None:
        await room.broadcast([connection.room, "another"], *event)

    async def to_one(*event: Any) -> None:
        await connection.send_event(*event)

    async def to_id(*event: Any) -> None:
        await room.send_to_connection(connection.id, *event)

    async def to_user(*event: Any) -> None:
        await room.send_to_user("ada", *event)

    return {"room": to_room, "rooms": to_rooms, "one": to_one, "id": to_id, "user": to_user}


each_way = pytest.mark.parametrize("way", ["room", "rooms", "one", "id", "user"])


@asynccontextmanager
async def publishing(room: BaseChannel, way: str) -> AsyncIterator[Publish]:
    """What publishes an event, and returns the frame that the client gets."""
    connections: list[Connection] = []

    async def keep(connection: Connection) -> None:
        connections.append(connection)

    room.add_event_handler("join", keep)
    async with serving(room) as app, dial(app, "/attic?user=ada") as wire:
        await wire.until(lambda: connections)

        async def publish(*event: Any) -> Any:
            await ways(room, connections[0])[way](*event)
            return await wire.receive()

        yield publish


async def published(room: BaseChannel, way: str, *event: Any) -> Any:
    async with publishing(room, way) as publish:
        return await publish(*event)


@each_way
async def test_an_event_is_a_frame_with_its_name_and_fields(way: str):
    channel = {"id": "*", "user": "*"}.get(way, "attic")
    assert await published(Room(), way, Said(text="hi")) == {
        "type": "event",
        "event": "said",
        "channel": channel,
        "data": {"text": "hi", "day": "2020-01-01"},
    }


@each_way
async def test_what_fits_the_declared_types(way: str):
    cases: list[tuple[Any, str, Any]] = [
        ((Moved(target=3),), "piece.moved", {"target": 3}),
        ((Cleared(),), "cleared", {}),
        (("cleared",), "cleared", {}),
        (("cleared", {}), "cleared", {}),
        (
            ("said", {"text": "hi", "day": "2021-02-03", "more": 1}),
            "said",
            {"text": "hi", "day": "2021-02-03"},
        ),
        (("said", Said(text="hi")), "said", {"text": "hi", "day": "2020-01-01"}),
        (("piece.moved", {"target": "3", "secret": "x"}), "piece.moved", {"target": 3}),
    ]
    async with publishing(Room(), way) as publish:
        for event, name, data in cases:
            frame = await publish(*event)
            assert (frame["event"], frame["data"]) == (name, data), event


@each_way
async def test_an_event_that_is_not_declared_is_an_error(way: str):
    cases: list[Any] = [
        (Undeclared(),),
        (Shouted(text="hi"),),
        ("undeclared", {}),
        ("said", Cleared()),
        ("Said", {"text": "hi"}),
    ]
    said = r"Room declares the events said, piece\.moved, cleared, not "
    async with publishing(Room(), way) as publish:
        for event in cases:
            with pytest.raises(ConfigurationError, match=said):
                pytest.fail(f"{event} became {await publish(*event)}")


@each_way
async def test_data_that_does_not_fit_is_an_error(way: str):
    cases: list[Any] = [
        ("said",),
        ("said", {"text": 1}),
        ("piece.moved", {"target": -1}),
        ("cleared", 0),
        ("cleared", "text"),
        ("cleared", []),
    ]
    async with publishing(Room(), way) as publish:
        for event in cases:
            with pytest.raises(ValidationError):
                pytest.fail(f"{event} became {await publish(*event)}")


@each_way
async def test_a_channel_that_declares_nothing_sends_anything(way: str):
    cases: list[tuple[Any, str, Any]] = [
        ((Undeclared(),), "undeclared", {}),
        (("anything",), "anything", None),
        (("anything", 0), "anything", 0),
        (("said", {"text": 1}), "said", {"text": 1}),
    ]
    async with publishing(Anything(), way) as publish:
        for event, name, data in cases:
            frame = await publish(*event)
            assert (frame["event"], frame["data"]) == (name, data), event


async def test_a_base_channel_may_declare_events_too():
    class Relay(BaseChannel):
        event_types = (Said,)

    assert (await published(Relay(), "room", Said(text="hi")))["event"] == "said"
    with pytest.raises(ConfigurationError, match="Relay declares the events said"):
        await published(Relay(), "room", Cleared())


async def test_events_are_checked_outside_of_any_connection_too():
    room = Room()
    async with serving(room) as app, dial(app, "/attic") as wire:

        @app.post("/say")
        async def say(request: Request) -> None:
            await room.broadcast("attic", Said(text="from a request"))

        with pytest.raises(ConfigurationError):
            await room.broadcast("attic", "undeclared")
        await room.broadcast("attic", Said(text="from outside"))
        assert (await wire.receive())["data"]["text"] == "from outside"


async def test_an_event_that_does_not_fit_reaches_nobody():
    class Two(Room):
        async def both(self, rooms: list[str]) -> None:
            await self.broadcast(rooms, "said", {"text": 1})

    room = Two()
    async with serving(room) as app, dial(app, "/a") as wire:
        with pytest.raises(ValidationError):
            await room.both(["a", "b"])
        await room.broadcast("a", Cleared())
        assert (await wire.receive())["event"] == "cleared"


@timeless
async def test_many_rooms_are_told_together():
    class Kept(Room):
        history = 1

    store, room = FaultyStore(), Kept()
    async with serving(room, store=store) as app, dial(app, "/a") as wire:
        store.delay = 0.1
        began = now()
        await room.broadcast([*(f"room {number}" for number in range(99)), "a"], Cleared())
        while (await wire.receive()).get("event") != "cleared":
            pass
        assert now() - began < 0.5


async def test_another_envelope_names_its_fields():
    class Other(Room):
        envelope = Envelope(type="kind", event="what", channel="where", data="how")

    frame = await published(Other(), "room", Said(text="hi"))
    assert frame == {
        "kind": "event",
        "what": "said",
        "where": "attic",
        "how": {"text": "hi", "day": "2020-01-01"},
    }


@pytest.mark.parametrize(
    ("types", "problem"),
    [
        ((Said, "text"), "event_types are classes of events, not 'text'"),
        ((Said, dict), "event_types are classes of events, not <class 'dict'>"),
        ((Said, Said(text="hi")), "event_types"),
        ((Said, type("Said", (Event,), {})), "two events named 'said'"),
    ],
)
def test_types_that_cannot_be_told_apart_are_told_at_once(types: Any, problem: str):
    with pytest.raises(ConfigurationError, match=problem):
        type("Room", (Channel,), {"event_types": types})
