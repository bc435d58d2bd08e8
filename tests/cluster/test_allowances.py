"""How many rooms a user may be in, and how many connections it may have, over several processes."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest
from fastapi import FastAPI

from fastapi_channels import Channel, ConfigurationError, Connection, Socket, action, add_channel
from fastapi_channels.cluster.tenure import LEASE, RENEWAL
from fastapi_channels.testing.asgi import living
from fastapi_channels.testing.broker import FaultyBroker
from fastapi_channels.testing.clock import timeless
from tests.support.wire import Wire, dial, dialing

from .test_places import Process, Room, Single, Site, arrive, cluster, receive


class Few(Channel):
    max_rooms_per_user = 2
    ack = True

    @action()
    async def enter(self, connection: Connection, to: str) -> None:
        await connection.join(to)

    @action()
    async def part(self, connection: Connection, to: str) -> None:
        await connection.leave(to)


async def may(process: Process, path: str) -> bool:
    """Whether a client may come, which goes at once."""
    async with dialing(process.app, path, extensions=["websocket.http.response"]) as wire:
        await wire.until(lambda: "accept" in wire.events or wire.done)
        if "accept" in wire.events:
            return True
        assert (wire.sent[0]["status"], b"too_many_rooms" in wire.sent[1]["body"]) == (429, True)
        return False


async def asked(wire: Wire, name: str, to: str) -> Any:
    wire.call(name, to=to, request_id=1)
    return (await wire.receive()).get("code")


@timeless
async def test_a_user_is_in_so_many_rooms_over_all_processes() -> None:
    site = Site()
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        a, b = [await enter(site.process(Few)) for _ in range(2)]
        async with dial(a.app, "/one?user=ann") as first, dial(b.app, "/two?user=ann"):
            assert not await may(a, "/three?user=ann")
            assert not await may(b, "/three?user=ann")
            # The same room from another device, somebody else, and nobody.
            assert await may(b, "/one?user=ann")
            assert await may(b, "/three?user=bob")
            assert await may(b, "/three")
            assert await asked(first, "enter", "three") == "too_many_rooms"
        assert await may(b, "/three?user=ann")
        async with dial(a.app, "/one?user=ann") as first:
            assert await asked(first, "enter", "three") is None
            assert not await may(b, "/two?user=ann")
            assert await asked(first, "part", "three") is None
            assert await may(b, "/two?user=ann")
            # What a process had that has gone is given back when its lease ends.
            a.cut()
            await asyncio.sleep(LEASE + RENEWAL + 1)
            async with dial(b.app, "/four?user=ann"):
                assert await may(b, "/five?user=ann")
            a.mend()
            await asyncio.sleep(RENEWAL + 2)
    assert not site.store._rooms


@timeless
async def test_who_was_counted_out_meanwhile_leaves_the_rooms_that_are_too_many() -> None:
    async with cluster(2, Few) as (a, b), AsyncExitStack() as stack:
        (first,) = await arrive(stack, a, "/one?user=ann")
        assert await asked(first, "enter", "two") is None
        (bob,) = await arrive(stack, a, "/one?user=bob")
        a.cut()
        await asyncio.sleep(LEASE + RENEWAL + 1)
        await arrive(stack, b, "/three?user=ann")
        a.mend()
        await asyncio.sleep(RENEWAL + 2)
        assert [await a.count(room) for room in ("one", "two", "three")] == [2, 0, 1]
        left = await receive(first, "left")
        assert (left["channel"], left["close_code"]) == ("two", 4509)
        assert not first.done
        await arrive(stack, b, "/one?user=ann")
        assert not await may(b, "/four?user=ann")
        assert not bob.done


def test_without_a_store_it_does_not_start() -> None:
    app = FastAPI()
    add_channel(app, backend=FaultyBroker().backend())
    with pytest.raises(ConfigurationError, match="max_rooms_per_user needs a store"):
        Few().mount(app, "/{channel}")


@pytest.mark.parametrize("wrong", [0, "2", 1.5])
def test_it_is_a_number(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_rooms_per_user must be 1 or more"):
        type("Wrong", (Channel,), {"max_rooms_per_user": wrong})()


# Connections

DENIAL = ["websocket.http.response"]
ONE: dict[str, Any] = {"max_connections_per_user": 1, "per_user_policy": "close_oldest"}


async def refused(process: Process, path: str) -> tuple[int, bool]:
    """The status, and whether the body says that the user has too many connections."""
    async with dialing(process.app, path, extensions=DENIAL) as wire:
        await wire.ended()
        return wire.sent[0]["status"], b"too_many_connections" in wire.sent[1]["body"]


@timeless
async def test_a_user_has_so_many_connections_in_all_rooms_and_processes() -> None:
    async with cluster(2, max_connections_per_user=2) as (a, b), AsyncExitStack() as stack:
        (first,) = await arrive(stack, a, "/one?user=ann")
        await arrive(stack, b, "/two?user=ann")
        for process in (a, b):
            assert await refused(process, "/three?user=ann") == (429, True)
            assert await refused(process, "/one?user=ann") == (429, True)
            await arrive(stack, process, "/one?user=bob")
            await arrive(stack, process, "/one", 3)  # who is nobody is not counted
        first.leave()
        await first.ended()
        await arrive(stack, b, "/three?user=ann")
        # What a process had that has gone is given back when its lease ends.
        b.cut()
        await asyncio.sleep(LEASE + RENEWAL + 1)
        await arrive(stack, a, "/one?user=ann", 2)
        b.mend()
        await asyncio.sleep(RENEWAL + 2)
        assert await refused(b, "/one?user=ann") == (429, True)


@timeless
async def test_the_oldest_makes_room_wherever_it_is() -> None:
    async with cluster(2, **ONE) as (a, b), AsyncExitStack() as stack:
        (before,) = await arrive(stack, a, "/one?user=ann")
        for number, process in enumerate((b, b, a, a)):
            (after,) = await arrive(stack, process, f"/{number}?user=ann")
            assert await before.closed() == (4509, "A newer connection of yours took the place of this one")
            assert not after.done
            before = after


@timeless
async def test_of_those_who_come_at_once_one_stays_and_each_other_is_told() -> None:
    async with cluster(2, **ONE) as processes, AsyncExitStack() as stack:
        wires = [
            await stack.enter_async_context(
                dialing(processes[number % 2].app, f"/{number}?user=ann", extensions=DENIAL)
            )
            for number in range(12)
        ]
        await asyncio.sleep(5)
        assert sum(not wire.done for wire in wires) == 1
        for wire in wires:
            if wire.done:
                end = wire.sent[-1]["code"] if "accept" in wire.events else wire.sent[0]["status"]
                assert end in (4509, 429)


@timeless
async def test_who_is_not_let_in_takes_nobodys_place() -> None:
    class Closed(Single):
        async def authorize(self, connection: Connection) -> bool:
            return connection.room != "closed"

    async with cluster(1, Closed, max_connections_per_user=1) as (a,), AsyncExitStack() as stack:
        assert not await may_enter(a, "/closed?user=ann")
        (bob,) = await arrive(stack, a, "/one?user=bob")
        assert not await may_enter(a, "/one?user=ann"), "the room is full"
        bob.leave()
        await bob.ended()
        await arrive(stack, a, "/one?user=ann")
    async with cluster(1, Closed, **ONE) as (a,), AsyncExitStack() as stack:
        (ann,) = await arrive(stack, a, "/one?user=ann")
        assert not await may_enter(a, "/closed?user=ann")
        assert not ann.done


async def may_enter(process: Process, path: str) -> bool:
    async with dialing(process.app, path, extensions=DENIAL) as wire:
        await wire.until(lambda: "accept" in wire.events or wire.done)
        return "accept" in wire.events


@timeless
async def test_a_socket_is_one_connection_whatever_rooms_it_is_in() -> None:
    app = FastAPI()
    add_channel(app, max_connections_per_user=1)

    class Desk(Socket):
        pass

    Desk(Room()).mount(app, "/desk", user=lambda user: user)
    async with living(app), dial(app, "/desk?user=ann", extensions=DENIAL) as ann:
        for room in ("one", "two"):
            ann.send({"type": "join", "channel": room})
            assert (await ann.receive())["type"] == "joined"
        async with dialing(app, "/desk?user=ann", extensions=DENIAL) as wire:
            await wire.ended()
            assert wire.sent[0]["status"] == 429
        ann.leave()
        await ann.ended()
        async with dial(app, "/desk?user=ann"):
            pass


@timeless
async def test_while_the_store_is_away_no_user_gets_in_and_who_is_in_stays() -> None:
    async with cluster(1, max_connections_per_user=1) as (a,), AsyncExitStack() as stack:
        (ann,) = await arrive(stack, a, "/one?user=ann")
        a.store.down = True
        await asyncio.sleep(LEASE + 1)
        assert await refused(a, "/one?user=bob") == (503, False)
        await arrive(stack, a, "/one")
        ann.call("say", text="here")
        assert (await ann.receive())["data"] == "here"
        a.store.down = False
        await asyncio.sleep(RENEWAL + 1)
        await arrive(stack, a, "/one?user=bob")


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"max_connections_per_user": 0}, "max_connections_per_user must be 1 or more"),
        ({"max_connections_per_user": "2"}, "max_connections_per_user must be 1 or more"),
        ({"max_connections_per_user": 2, "per_user_policy": "close"}, "per_user_policy must be 'refuse' or"),
        ({"per_user_policy": "close_oldest"}, "does nothing without max_connections_per_user"),
        (
            {"max_connections_per_user": 2, "backend": FaultyBroker().backend()},
            "max_connections_per_user needs a store .* store_url=",
        ),
    ],
)
def test_a_limit_on_connections_that_cannot_work_does_not_start(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        add_channel(FastAPI(), **settings)
