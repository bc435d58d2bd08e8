"""Rules that the guide states, and that no frame in it shows."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, HTTPException
from pydantic import ValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException

from fastapi_channels import (
    ActionRouter,
    Channel,
    ConfigurationError,
    Connection,
    Event,
    NotFound,
    Socket,
    action,
    add_channel,
)
from tests.support.live import Client, application, serving, wait_until

# Actions


async def test_a_parameter_of_the_room_is_never_the_clients():
    class Ticket(Channel):
        room_pattern = "ticket:{number:int}"

        @action()
        async def read(self, number: int) -> int:
            return number

    async with serving(application(Ticket())) as site, site.connect("/ticket:1") as client:
        assert (await client.call("read", number=2))["data"] == 1


# Dependencies


async def swallowing() -> AsyncIterator[None]:
    with suppress(LookupError):
        yield


class Rude(Channel):
    @action()
    async def fail(self, swallows: Annotated[None, Depends(swallowing)]) -> str:
        raise LookupError

    @action()
    async def stream(self, swallows: Annotated[None, Depends(swallowing)]) -> AsyncIterator[int]:
        yield 1
        raise LookupError


async def test_a_dependency_that_swallows_an_exception_leaves_no_request_unanswered():
    async with serving(application(Rude())) as site, site.connect("/r") as client:
        assert (await client.call("fail"))["code"] == "internal_error"
        assert (await client.call("stream"))["data"] == 1
        assert (await client.receive())["code"] == "internal_error"


# Streams


class Streams(Channel):
    turns = 0

    @action()
    async def hurry(self) -> AsyncIterator[int]:
        """Never waits for anything; replies with how many turns others had meanwhile."""
        for _ in range(100):
            yield self.turns

    @action()
    async def wait(self) -> AsyncIterator[int]:
        yield 0
        await asyncio.Event().wait()


async def test_a_stream_that_never_waits_leaves_others_their_turn():
    streams = Streams()

    async def take_turns() -> None:
        while True:
            streams.turns += 1
            await asyncio.sleep(0)

    async with serving(application(streams)) as site, site.connect("/r") as client:
        others = asyncio.create_task(take_turns())
        await client.send({"action": "hurry"})
        seen = [(await client.receive())["data"] for _ in range(100)]
        others.cancel()
        assert seen == sorted(set(seen)), "between two pieces there is a turn"


async def test_a_stream_without_an_id_cannot_be_cancelled():
    async with serving(application(Streams())) as site, site.connect("/r") as client:
        assert (await client.call("wait"))["more"] is True
        await client.send({"type": "cancel"})
        assert (await client.call("nothing", request_id=1))["code"] == "unknown_action"


async def test_one_stream_too_many_waits_and_a_cancel_is_read_even_then():
    async with serving(application(Streams())) as site, site.unharmed(), site.connect("/r") as client:
        for number in range(32):
            assert (await client.call("wait", request_id=number))["more"] is True
        await client.send({"action": "wait", "request_id": "one more"})
        await client.send({"type": "cancel", "request_id": 7})
        assert (await client.receive())["code"] == "cancelled"
        assert (await client.receive())["request_id"] == "one more"


def test_a_plain_generator_is_refused_where_it_is_declared():
    with pytest.raises(ConfigurationError, match="'numbers' must be an async generator"):

        @Channel().action()
        def numbers() -> Any:
            yield 1


# Events


class Said(Event):
    text: str


class Typed(Channel):
    event_types = (Said,)


def test_an_event_is_named_by_its_class_or_by_a_keyword():
    class TicketClosed(Event): ...

    class Renamed(Event, name="ticket.renamed"): ...

    assert [each.event_name for each in (Said, TicketClosed, Renamed)] == [
        "said",
        "ticket_closed",
        "ticket.renamed",
    ]


async def test_only_declared_events_are_sent():
    class Other(Event): ...

    class AlsoSaid(Event, name="said"):
        text: str

    app = FastAPI()
    add_channel(app)
    channel = Typed()
    channel.bind(app)
    for event in (Other(), AlsoSaid(text="not this one"), "other"):
        with pytest.raises(ConfigurationError, match="declares the events said"):
            await channel.broadcast("r", event)
    with pytest.raises(ValidationError):
        await channel.broadcast("r", "said", {"txt": "…"})


# Routers


def test_a_router_is_read_when_it_is_included():
    router, channel = ActionRouter("a."), Channel()

    @router.action()
    async def early() -> None: ...

    channel.include_router(router)

    @router.action()
    async def late() -> None: ...

    assert channel.actions == ["a.early"]
    with pytest.raises(ConfigurationError, match=r"an action named 'a\.early' already"):
        channel.include_router(router)


def test_routers_of_a_subclass_replace_those_of_its_parent():
    one, two = ActionRouter("one."), ActionRouter("two.")
    for router in (one, two):

        @router.action()
        async def act() -> None: ...

    class Parent(Channel):
        routers = (one,)

    class Child(Parent):
        routers = (two,)

    class Heir(Parent): ...

    assert [cls().actions for cls in (Parent, Child, Heir)] == [["one.act"], ["two.act"], ["one.act"]]


# Rooms


class Reasons(Channel):
    async def authorize(self, connection: Connection) -> bool:
        if connection.room == "gone":
            raise NotFound(error_msg="it was here yesterday")
        if connection.room == "sold":
            raise HTTPException(402, "pay first")
        raise RuntimeError("a secret of the hook")


async def join(client: Client, room: str) -> tuple[Any, Any]:
    await client.send({"type": "join", "channel": room})
    answer = await client.receive()
    return answer["status"], answer["errors"]


async def test_what_authorize_raises_for_the_client_is_its_answer():
    app = application(Reasons())
    Socket(Reasons()).mount(app, "/many/rooms")
    async with serving(app, may_complain=True) as site:
        assert (await site.refusal("/gone")).body["errors"] == "it was here yesterday"
        assert (await site.refusal("/sold")).body["errors"] == "pay first"
        assert (await site.refusal("/else")).body["errors"] == "Permission Denied"
        async with site.connect("/many/rooms") as client:
            assert await join(client, "gone") == ("bad", "it was here yesterday")
            assert await join(client, "sold") == (402, "pay first")
            assert await join(client, "else") == ("bad", "Permission Denied")


async def test_closing_a_connection_ends_its_room_and_closing_the_websocket_all():
    class Room(Channel):
        @action()
        async def close_one(self, connection: Connection) -> None:
            await connection.close(4000, "out")

        @action()
        async def close_all(self, connection: Connection) -> None:
            await connection.websocket.close(4000, "bye")

    app = FastAPI()
    add_channel(app)
    Socket(Room()).mount(app, "/")
    async with serving(app) as site, site.unharmed(), site.connect("/") as client:
        for room in ("a", "b"):
            await client.send({"type": "join", "channel": room})
            assert (await client.receive())["type"] == "joined"
        await client.send({"action": "close_one", "channel": "b"})
        left = {"type": "left", "channel": "b", "close_code": 4000, "reason": "out"}
        assert await client.receive() == left
        await client.send({"action": "close_all", "channel": "a"})
        assert await client.closed() == (4000, "bye")
        await wait_until(lambda: not site.node.hub.rooms)


# Errors


async def test_the_http_exception_of_starlette_is_that_of_fastapi():
    class Shop(Channel):
        @action()
        async def buy(self) -> None:
            raise StarletteHTTPException(409, "sold out")

    async with serving(application(Shop())) as site, site.connect("/shop") as client:
        refused = await client.call("buy")
        assert (refused["status"], refused["errors"]) == (409, "sold out")
