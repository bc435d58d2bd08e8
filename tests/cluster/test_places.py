"""Several processes of one application: who is where, and places in rooms of limited size."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI

from fastapi_channels import Channel, ConfigurationError, Connection, PersonChannel, action, add_channel
from fastapi_channels.cluster.pulse import HEARTBEAT
from fastapi_channels.cluster.tenure import LEASE, RENEWAL
from fastapi_channels.stores import StoreUnavailable
from fastapi_channels.testing.broker import FaultyBackend, FaultyBroker
from fastapi_channels.testing.clock import now, timeless
from fastapi_channels.testing.store import FaultyStore, StoreView
from fastapi_channels.wire.rooms import EVERY_NODE
from tests.support.wire import Wire, dial, dialing, node_of, others, serving

LIMIT = 50


class Room(Channel):
    scope = "room"

    @action()
    async def say(self, connection: Connection, text: str) -> None:
        await self.broadcast(connection.room, "said", text)

    @action()
    async def join(self, connection: Connection, to: str) -> str:
        await connection.join(to)
        return "joined"

    @action()
    async def part(self, connection: Connection, to: str) -> str:
        await connection.leave(to)
        return "left"


class Limited(Room):
    max_connection = LIMIT


class Shown(Limited):
    presence = True


class Single(Room):
    max_connection = 1


class Pair(PersonChannel, Room):
    pass


class Process:
    """One process: its channel, its application, and its ways to the broker and the store."""

    def __init__(self, channel: Channel, app: FastAPI, backend: FaultyBackend, store: StoreView) -> None:
        self.channel = channel
        self.app = app
        self.backend = backend
        self.store = store

    @property
    def id(self) -> str:
        return node_of(self.app).id

    async def count(self, room: str = "r") -> int:
        return await self.channel.get_connection_count(room)

    def cut(self) -> None:
        self.backend.die()
        self.store.down = True

    def mend(self) -> None:
        self.backend.mute = self.backend.deaf = False
        self.store.down = False


class Site:
    """What several processes have in common."""

    def __init__(self) -> None:
        self.bus = FaultyBroker()
        self.store = FaultyStore()

    @asynccontextmanager
    async def process(
        self, kind: type[Channel] = Room, *, delay: float = 0.0, **settings: Any
    ) -> AsyncIterator[Process]:
        channel, backend, view = kind(), self.bus.backend(), self.store.view()
        view.delay = delay
        async with serving(channel, backend=backend, store=view.as_store, **settings) as app:
            yield Process(channel, app, backend, view)


@asynccontextmanager
async def cluster(size: int, kind: type[Channel] = Room, **settings: Any) -> AsyncIterator[Sequence[Process]]:
    site = Site()
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(site.process(kind, **settings)) for _ in range(size)]
    assert not others()
    assert not site.store._rooms, "the store keeps nothing of processes that ended"


async def arrive(stack: AsyncExitStack, member: Process, path: str = "/r", count: int = 1) -> list[Wire]:
    return [await stack.enter_async_context(dial(member.app, path)) for _ in range(count)]


async def is_refused(member: Process, path: str = "/r") -> bool:
    async with dialing(member.app, path, extensions=["websocket.http.response"]) as wire:
        await wire.ended()
        return "accept" not in wire.events and wire.sent[0]["status"] == 503


async def receive(wire: Wire, kind: str) -> Any:
    """The next frame of that type; others are skipped."""
    while (frame := await wire.receive())["type"] != kind:
        pass
    return frame


# Counting


@timeless
async def test_counts_and_members_are_those_of_all_processes() -> None:
    async with cluster(3) as (a, b, c), AsyncExitStack() as stack:
        await arrive(stack, a, "/r?user=ada", 2)
        await arrive(stack, b, "/r")
        await arrive(stack, b, "/s")
        await asyncio.sleep(0.1)
        for member in (a, b, c):
            assert await member.count() == 3
            assert await member.count("s") == 1
            assert await member.count("nobody") == 0
            found = await member.channel.members("r")
            assert sorted(str(each["user"]) for each in found) == ["None", "ada", "ada"]
            assert {each["id"].partition(".")[0] for each in found} == {a.id, b.id}


@pytest.mark.parametrize("size", [1, 8])
@pytest.mark.parametrize("kind", [Limited, Shown])
@timeless
async def test_a_question_is_one_call_of_the_store_however_many_processes_there_are(
    size: int, kind: type[Room]
) -> None:
    site = Site()
    async with AsyncExitStack() as stack:
        processes = [await stack.enter_async_context(site.process(kind)) for _ in range(size)]
        for member in processes:
            await arrive(stack, member, count=3)
        await asyncio.sleep(0.5)  # until all know who came
        first, asked = processes[0], site.store.calls

        async def ask(question: Awaitable[object], call: str) -> None:
            asked.clear()
            published, began = len(site.bus.published), now()
            await question
            assert asked == [call]
            assert len(site.bus.published) == published
            assert now() - began < 0.1

        await ask(first.count(), "count")
        await ask(first.channel.members("r"), "occupancy")
        if kind is Shown:
            await ask(first.channel.people("r"), "occupancy")
            await ask(first.channel.count_people("r"), "count_people")
        else:
            await ask(arrive(stack, first), "enter")


@timeless
async def test_who_asks_sees_what_its_process_has_done_before() -> None:
    async with cluster(2) as (a, _), AsyncExitStack() as stack:
        for number in range(1, 5):
            await arrive(stack, a)
            assert await a.count() == number
    async with cluster(1) as (a,):
        async with dial(a.app, "/r"):
            pass
        assert await a.count() == 0


@timeless
async def test_a_herd_is_a_few_calls() -> None:
    site = Site()
    async with site.process(Limited) as a, AsyncExitStack() as stack:
        await arrive(stack, a)
        site.store.calls.clear()
        await asyncio.gather(*(arrive(stack, a) for _ in range(40)))
        assert site.store.calls.count("enter") <= 3
        assert await a.count() == 41


# Coming and going


@timeless
async def test_who_stops_leaves_at_once() -> None:
    site = Site()
    async with site.process() as a:
        async with site.process() as b, dial(b.app, "/r"):
            await asyncio.sleep(0.1)
            assert await a.count() == 1
        assert await a.count() == 0


@timeless
async def test_who_dies_without_a_word_leaves_within_its_lease_and_once() -> None:
    async with cluster(3) as (a, b, c), AsyncExitStack() as stack:
        for member in (a, b, c):
            await arrive(stack, member)
        await asyncio.sleep(0.1)
        c.cut()
        assert await a.count() == 3
        await asyncio.sleep(LEASE + RENEWAL + 0.1)
        assert await a.count() == await b.count() == 2
        c.mend()
        await asyncio.sleep(RENEWAL + 1)
        assert await a.count() == 3, "who was taken for dead has come back"


@timeless
async def test_an_outage_of_the_broker_is_nobodys_death() -> None:
    async with cluster(2) as (a, b), AsyncExitStack() as stack:
        await arrive(stack, b)
        a.backend._bus.crash()
        await asyncio.sleep(10 * LEASE)
        assert await a.count() == 1
        a.backend._bus.restart()
        await asyncio.sleep(2)
        await a.channel.broadcast("r", "said")


@timeless
async def test_a_process_may_stop_while_broker_and_store_are_away() -> None:
    site = Site()
    async with (
        site.process(Limited) as a,
        site.process(Limited) as b,
        dial(a.app, "/r"),
        dial(b.app, "/r"),
    ):
        site.bus.crash()
        site.store.down = True
        began = now()
    assert now() - began < 20
    assert not others()


@timeless
async def test_a_connection_that_dies_silently_is_made_anew() -> None:
    """Nothing arrives any more and nobody says so: the own heartbeat does not come back."""
    async with cluster(2) as (a, b), AsyncExitStack() as stack:
        (wire,) = await arrive(stack, a)
        await asyncio.sleep(HEARTBEAT)
        a.backend.deaf = True
        await b.channel.broadcast("r", "lost")
        await asyncio.sleep(5 * HEARTBEAT)
        await b.channel.broadcast("r", "said")
        assert (await wire.receive())["type"] == "resync"
        assert (await wire.receive())["event"] == "said"


# Places


async def rush(processes: Sequence[Process], count: int) -> list[Wire]:
    """Who gets in, of many who come at the same moment and stay."""
    async with AsyncExitStack() as stack:
        wires = [
            await stack.enter_async_context(dialing(processes[number % len(processes)].app, "/r"))
            for number in range(count)
        ]
        await wires[0].until(lambda: all(wire.done or "accept" in wire.events for wire in wires))
        seated = [wire for wire in wires if "accept" in wire.events]
        counts = [await member.count() for member in processes]
        assert counts == [len(seated)] * len(processes)
        return seated


@pytest.mark.parametrize("size", [1, 2, 8])
@timeless
async def test_a_rush_fills_the_room_and_no_more(size: int) -> None:
    async with cluster(size, Limited) as processes:
        for _ in range(2):
            assert len(await rush(processes, 200)) == LIMIT


@pytest.mark.parametrize("size", [2, 4])
@timeless
async def test_of_those_who_come_at_the_same_moment_one_gets_the_last_place(size: int) -> None:
    async with cluster(size, Single) as processes:
        for _ in range(10):
            assert len(await rush(processes, size)) == 1


@timeless
async def test_a_place_that_is_left_can_be_taken_anywhere() -> None:
    async with cluster(2, Single) as (a, b):
        for member, other in ((a, b), (b, a), (a, b)):
            async with dial(member.app, "/r"):
                assert await is_refused(other)
            await asyncio.sleep(0.1)


@timeless
async def test_a_person_has_one_place_over_all_processes() -> None:
    async with cluster(2, PersonChannel) as (a, b), AsyncExitStack() as stack:
        for member, name in ((a, "ada"), (b, "ada"), (b, "bob"), (a, "bob"), (a, "ada")):
            await arrive(stack, member, f"/r?user={name}")
        for member in (a, b):
            assert await is_refused(member, "/r?user=eve")


@timeless
async def test_a_visitor_does_not_give_back_the_place_of_a_member() -> None:
    """One connection of a user has a place; another joins the room, and leaves."""
    async with (
        cluster(1, Pair) as (a,),
        dial(a.app, "/r?user=ada"),
        dial(a.app, "/r?user=bob"),
        dial(a.app, "/elsewhere?user=ada") as visitor,
    ):
        for name in ("join", "part"):
            visitor.call(name, to="r")
            assert (await visitor.receive())["status"] == "ok"
        assert await is_refused(a, "/r?user=eve")


@timeless
async def test_a_process_that_is_slow_to_reach_the_store_lets_nobody_in_to_a_full_room() -> None:
    site = Site()
    async with site.process(Single) as a, dial(a.app, "/r"), site.process(Single, delay=0.3) as late:
        assert await is_refused(late)


@timeless
async def test_while_the_store_is_away_nobody_gets_a_place_and_others_come_in() -> None:
    site = Site()
    async with site.process(Limited) as a, site.process(Room) as b, AsyncExitStack() as stack:
        site.store.down = True
        assert await is_refused(a)
        await arrive(stack, b, "/other")
        with pytest.raises(StoreUnavailable):
            await b.count("other")
        site.store.down = False
        await asyncio.sleep(RENEWAL + 0.1)
        assert await a.count("other") == 1
        await arrive(stack, a)


@timeless
async def test_who_came_and_went_before_the_store_was_there_leaves_nothing() -> None:
    site = Site()
    site.store.down = True
    async with site.process(Room) as a:
        roster = node_of(a.app).rooms.roster
        assert roster is not None
        async with AsyncExitStack() as stack:
            await arrive(stack, a)
            assert roster._rooms
        await asyncio.sleep(0.1)
        assert not roster._rooms


# A lease that was lost


@timeless
async def test_who_was_cut_off_gives_up_what_others_were_given() -> None:
    """A room for two: the third is not let in while the lease lasts, and the second hears nothing of it."""
    async with cluster(2, Pair) as (a, b), AsyncExitStack() as stack:
        (ada,) = await arrive(stack, a, "/r?user=ada")
        (bob,) = await arrive(stack, b, "/r?user=bob")
        b.cut()
        assert await is_refused(a, "/r?user=eve")
        await asyncio.sleep(LEASE + 0.1)
        (eve,) = await arrive(stack, a, "/r?user=eve")
        bob.call("say", text="am I alone?", request_id=1)
        reply = await receive(bob, "response")
        assert (reply["code"], reply["request_id"]) == ("unavailable", 1)
        b.mend()
        eve.call("say", text="for two")
        for wire in (ada, eve):
            assert (await wire.receive())["data"] == "for two"
        bob.call("say", text="still here")
        assert (await bob.closed()).code == 1013
        assert "for two" not in str(bob.sent)
        assert "still here" not in str(ada.sent)


@timeless
async def test_who_was_cut_off_and_kept_its_place_goes_on_and_is_told_that_something_is_missing() -> None:
    async with cluster(2, Limited) as (a, b), AsyncExitStack() as stack:
        (ada,) = await arrive(stack, a)
        (bob,) = await arrive(stack, b)
        b.store.down = True
        await asyncio.sleep(LEASE + 0.1)
        assert await a.count() == 1
        ada.call("say", text="withheld")
        assert (await ada.receive())["data"] == "withheld"
        b.store.down = False
        await asyncio.sleep(RENEWAL + 0.5)
        assert await bob.receive() == {"type": "resync", "channel": "r"}
        assert await a.count() == 2
        bob.call("say", text="again")
        assert (await bob.receive())["data"] == "again"


@timeless
async def test_a_room_never_serves_more_than_it_holds() -> None:
    async with cluster(2, Limited) as (a, b), AsyncExitStack() as stack:
        old = await arrive(stack, b, count=LIMIT)
        b.cut()
        await asyncio.sleep(LEASE + 0.1)
        await arrive(stack, a, count=LIMIT - 10)
        b.mend()
        await asyncio.sleep(RENEWAL + 2)
        assert sum(wire.done for wire in old) == LIMIT - 10
        assert await a.count() == LIMIT


@timeless
async def test_a_place_in_another_room_is_lost_alone() -> None:
    async with cluster(2, Single) as (a, b), AsyncExitStack() as stack:
        (bob,) = await arrive(stack, b, "/own")
        bob.call("join", to="r", request_id=1)
        assert (await bob.receive())["data"] == "joined"
        b.cut()
        await asyncio.sleep(LEASE + 0.1)
        await arrive(stack, a, "/r")
        b.mend()
        await asyncio.sleep(RENEWAL + 2)
        left = await receive(bob, "left")
        assert (left["channel"], left["close_code"]) == ("r", 1013)
        bob.call("say", text="here")
        assert (await receive(bob, "event"))["data"] == "here"


# Without a store


async def test_a_room_of_limited_size_does_not_start_without_a_store_that_is_shared() -> None:
    app = FastAPI()
    add_channel(app, backend=FaultyBroker().backend())
    with pytest.raises(ConfigurationError, match=r"Single.max_connection needs a store .* store_url="):
        Single().mount(app, "/{channel}")


@timeless
async def test_a_count_needs_one() -> None:
    room = Room()
    async with serving(room, backend=FaultyBroker().backend()) as app, dial(app, "/r"):
        for ask in (room.get_connection_count, room.members):
            with pytest.raises(ConfigurationError, match=r"needs a store .* store_url="):
                await ask("r")


# Strangers


@pytest.mark.parametrize("message", ["", "{}", "[]", "null", "7", '{"type":"bye"}'])
@timeless
async def test_what_a_stranger_says_to_all_processes_is_ignored(message: str) -> None:
    async with cluster(2) as (a, b), AsyncExitStack() as stack:
        await arrive(stack, b)
        for kind in ("", '\x01fc1 {"kind":"pulse"}\n', '\x01fc1 {"kind":"other"}\n'):
            await a.backend.publish(EVERY_NODE, kind + message)
        await asyncio.sleep(1)
        assert await a.count() == 1
