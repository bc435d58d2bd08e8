"""Several processes of one application: who is alive, and what they know together."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI

from fastapi_channels import Channel, Connection, PersonChannel, action
from fastapi_channels.cluster.peers import ASK_TIMEOUT, EVERY_NODE, HEARTBEAT, SETTLING
from fastapi_channels.wire.rooms import MAX_ROOM, InvalidRoom, check_room
from tests.support.bus import Bus, BusBackend
from tests.support.clock import now, timeless
from tests.support.wire import Wire, dial, dialing, node_of, others, serving

LIMIT = 50
EXPIRY = 4 * HEARTBEAT
"""By then a process without a sign of life is taken for dead."""


class Room(Channel):
    @action()
    async def join(self, connection: Connection, to: str) -> str:
        await connection.join(to)
        return "joined"

    @action()
    async def part(self, connection: Connection, to: str) -> str:
        await connection.leave(to)
        return "left"


class Process:
    """One process: its channel, application and connection to the bus."""

    def __init__(self, channel: Channel, app: FastAPI, backend: BusBackend) -> None:
        self.channel = channel
        self.app = app
        self.backend = backend

    @property
    def id(self) -> str:
        return node_of(self.app).id

    async def count(self, room: str = "r") -> int:
        return await self.channel.get_connection_count(room)


@asynccontextmanager
async def process(bus: Bus, channel: Channel | None = None, **settings: Any) -> AsyncIterator[Process]:
    channel, backend = channel or Room(), bus.backend()
    async with serving(channel, backend=backend, **settings) as app:
        yield Process(channel, app, backend)


@asynccontextmanager
async def cluster(size: int, kind: type[Channel] = Room) -> AsyncIterator[Sequence[Process]]:
    bus = Bus()
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(process(bus, kind())) for _ in range(size)]
    assert not others()


async def arrive(stack: AsyncExitStack, member: Process, path: str = "/r", count: int = 1) -> list[Wire]:
    return [await stack.enter_async_context(dial(member.app, path)) for _ in range(count)]


# Counting


@timeless
async def test_counts_and_members_are_those_of_all_processes() -> None:
    async with cluster(3) as (a, b, c), AsyncExitStack() as stack:
        await arrive(stack, a, "/r?user=ada", 2)
        await arrive(stack, b, "/r")
        await arrive(stack, b, "/s")
        for member in (a, b, c):
            assert await member.count() == 3
            assert await member.count("s") == 1
            assert await member.count("nobody") == 0
            found = await member.channel.members("r")
            assert sorted(str(each["user"]) for each in found) == ["None", "ada", "ada"]
            assert {each["id"].partition(".")[0] for each in found} == {a.id, b.id}


@timeless
async def test_many_questions_at_a_time_each_get_their_answer() -> None:
    async with cluster(3) as (a, b, c), AsyncExitStack() as stack:
        for number in range(5):
            await arrive(stack, b, f"/room{number}", number)
            await arrive(stack, c, f"/room{number}", 1)
        counts = await asyncio.gather(*(a.count(f"room{number}") for number in range(5) for _ in range(3)))
        assert counts == [number + 1 for number in range(5) for _ in range(3)]
        assert not node_of(a.app).rooms.cluster._pending


@timeless
async def test_one_process_alone_does_not_wait_for_others() -> None:
    async with cluster(1) as (a,), AsyncExitStack() as stack:
        await arrive(stack, a)
        await asyncio.sleep(SETTLING)
        began = now()
        assert await a.count() == 1
        assert now() - began < 0.01


# Coming and going


@timeless
async def test_a_late_starter_knows_the_others_before_it_counts() -> None:
    bus = Bus()
    async with process(bus) as a, dial(a.app, "/r"), dial(a.app, "/r"):
        await asyncio.sleep(10)
        async with process(bus) as late:
            began = now()
            assert await late.count() == 2
            assert now() - began < 2 * SETTLING
            async with dial(late.app, "/r"):
                assert await a.count() == 3


@timeless
async def test_who_says_good_bye_is_not_waited_for() -> None:
    bus = Bus()
    async with process(bus) as a:
        async with process(bus) as b:
            assert await a.count() == await b.count() == 0
        began = now()
        assert await a.count() == 0
        assert now() - began < 0.1


@timeless
async def test_who_says_good_bye_during_a_question_does_not_hold_it_up() -> None:
    bus = Bus()
    async with process(bus) as a:
        async with process(bus) as b:
            await a.count()
            b.backend.deaf = True
            began = now()
            question = asyncio.create_task(a.count())
            await asyncio.sleep(0.1)
        assert await question == 0
        assert now() - began < ASK_TIMEOUT


@pytest.mark.parametrize("delay", [1.5 * ASK_TIMEOUT, 10 * ASK_TIMEOUT])
@timeless
async def test_an_answer_that_comes_too_late_or_never_is_left_out(delay: float) -> None:
    async with cluster(2) as (a, b), AsyncExitStack() as stack:
        await arrive(stack, b)
        assert await a.count() == 1
        b.backend.delay = delay
        assert await a.count() == 0
        b.backend.delay = 0.0
        await asyncio.sleep(4 * ASK_TIMEOUT)
        assert await a.count() == 1


@timeless
async def test_a_process_may_stop_while_the_broker_is_down() -> None:
    bus = Bus()
    async with process(bus) as a, process(bus):
        await a.count()
        bus.crash()
        began = now()
    assert now() - began < 10
    assert not others()


@timeless
async def test_who_dies_without_a_word_is_left_out_and_then_dropped(caplog: pytest.LogCaptureFixture) -> None:
    async with cluster(3) as (a, b, c), AsyncExitStack() as stack:
        for member in (a, b, c):
            await arrive(stack, member)
        assert await a.count() == 3
        c.backend.die()
        began = now()
        assert await a.count() == 2
        assert now() - began == pytest.approx(ASK_TIMEOUT, abs=0.1)
        assert f"no answer to 'count' from {c.id}" in caplog.text
        await asyncio.sleep(EXPIRY)
        assert f"the process {c.id} is gone" in caplog.text
        began = now()
        assert await a.count() == 2
        assert now() - began < 0.1


@timeless
async def test_who_was_taken_for_dead_comes_back() -> None:
    async with cluster(2) as (a, b), AsyncExitStack() as stack:
        await arrive(stack, b)
        b.backend.die()
        await asyncio.sleep(EXPIRY)
        assert await a.count() == 0
        b.backend.mute = b.backend.deaf = False
        await asyncio.sleep(HEARTBEAT + 0.1)
        assert await a.count() == 1
        assert await b.count() == 1


@timeless
async def test_processes_stay_alive_for_each_other() -> None:
    async with cluster(3) as (a, b, c), AsyncExitStack() as stack:
        await arrive(stack, c)
        for _ in range(10):
            await asyncio.sleep(2.5 * HEARTBEAT)
            assert node_of(a.app).rooms.cluster.peers == {b.id, c.id}
            began = now()
            assert await a.count() == await b.count() == 1
            assert now() - began < 0.1


# Losing the broker


@timeless
async def test_an_outage_is_nobodys_death(caplog: pytest.LogCaptureFixture) -> None:
    async with cluster(2) as (a, b), AsyncExitStack() as stack:
        await arrive(stack, b)
        assert await a.count() == 1
        bus = a.backend._bus
        bus.crash()
        await asyncio.sleep(10 * EXPIRY)
        bus.restart()
        await asyncio.sleep(2)
        assert await a.count() == 1
        await a.channel.broadcast("r", "said")
    assert "is gone" not in caplog.text


@timeless
async def test_a_connection_that_dies_silently_is_made_anew() -> None:
    """Nothing arrives any more and nobody says so: the own heartbeat does not come back."""
    async with cluster(2) as (a, b), AsyncExitStack() as stack:
        (wire,) = await arrive(stack, a)
        await asyncio.sleep(HEARTBEAT)
        a.backend.deaf = True
        await b.channel.broadcast("r", "lost")
        await asyncio.sleep(EXPIRY + 2)
        await b.channel.broadcast("r", "said")
        assert (await wire.receive())["type"] == "resync"
        assert (await wire.receive())["event"] == "said"


@timeless
async def test_a_process_may_start_while_the_broker_is_down() -> None:
    bus = Bus()
    bus.down = True
    async with process(bus) as a, process(bus) as b:
        await asyncio.sleep(10)
        async with dialing(a.app, "/r", extensions=["websocket.http.response"]) as wire:
            await wire.ended()
            assert wire.sent[0]["status"] == 503
        bus.restart()
        await asyncio.sleep(2)
        async with dial(a.app, "/r"):
            assert await b.count() == 1


@timeless
async def test_nobody_is_seated_before_the_others_are_known() -> None:
    """A process that cannot ask yet must not give away what others hold."""
    bus = Bus()
    async with process(bus, Limited()) as a, AsyncExitStack() as stack:
        await arrive(stack, a, count=LIMIT)
        async with process(bus, Limited()) as late, dialing(late.app, "/r") as wire:
            await wire.ended()
            assert "accept" not in wire.events
        late_backend = bus.backend()
        late_backend.gate.clear()
        async with serving(Limited(), backend=late_backend) as app, dialing(app, "/r") as wire:
            await wire.ended()
            assert "accept" not in wire.events, "the broker does not answer: nobody can be asked"


# Seats


class Limited(Room):
    max_connection = LIMIT


class Single(Room):
    max_connection = 1


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


@pytest.mark.parametrize("size", [1, 2, 4])
@timeless
async def test_a_rush_fills_the_room_and_no_more(size: int) -> None:
    async with cluster(size, Limited) as processes:
        for _ in range(2):
            assert len(await rush(processes, 200)) == LIMIT


@pytest.mark.parametrize("size", [2, 4])
@timeless
async def test_of_two_who_come_at_the_same_moment_one_gets_the_last_seat(size: int) -> None:
    async with cluster(size, Single) as processes:
        for _ in range(10):
            assert len(await rush(processes, size)) == 1


@timeless
async def test_a_seat_that_is_left_can_be_taken_anywhere() -> None:
    async with cluster(2, Single) as (a, b):
        for member, other in ((a, b), (b, a), (a, b)):
            async with dial(member.app, "/r"), dialing(other.app, "/r") as refused:
                await refused.ended()
                assert "accept" not in refused.events


@timeless
async def test_a_person_has_one_seat_over_all_processes() -> None:
    async with cluster(2, PersonChannel) as (a, b), AsyncExitStack() as stack:
        for member, name in ((a, "ada"), (b, "ada"), (b, "bob"), (a, "bob"), (a, "ada")):
            await arrive(stack, member, f"/r?user={name}")
        for member in (a, b):
            async with dialing(member.app, "/r?user=eve") as wire:
                await wire.ended()
                assert "accept" not in wire.events


class Pair(PersonChannel, Room):
    pass


@timeless
async def test_a_visitor_does_not_give_back_the_seat_of_a_member() -> None:
    """One connection of a user holds a seat; another joins the room without one, and leaves."""
    async with (
        cluster(1, Pair) as (a,),
        dial(a.app, "/r?user=ada"),
        dial(a.app, "/r?user=bob"),
        dial(a.app, "/elsewhere?user=ada") as visitor,
    ):
        for name in ("join", "part"):
            visitor.call(name, to="r")
            assert (await visitor.receive())["status"] == "ok"
        async with dialing(a.app, "/r?user=eve") as wire:
            await wire.ended()
            assert "accept" not in wire.events


# Names


@pytest.mark.parametrize(
    "room",
    [
        "r",
        "r" * MAX_ROOM,
        "a room",
        "房间",
        "😀",
        "a/b",
        "../../etc",
        "**",
        "{r}",
        "a:b",
        "fastapi-channels",
        "0",
    ],
)
def test_names_of_rooms(room: str) -> None:
    assert check_room(room) == room


@pytest.mark.parametrize(
    "room",
    [
        *("", "r" * (MAX_ROOM + 1), "a\nb", "a\0", "\t", "\x7f", "\u200b", "\u202e", "\ud800"),
        *("*", "a\x1fb", EVERY_NODE, "fastapi-channels:", "fastapi-channels:node:x", None, 7, b"r", ["r"]),
    ],
)
def test_what_is_no_name_of_a_room(room: Any) -> None:
    with pytest.raises(InvalidRoom, match="1 to 255 printable characters") as caught:
        check_room(room)
    assert not caught.value.close


# Strangers


@pytest.mark.parametrize(
    "message", ["", "{}", "[]", "null", "7", '{"type":"bye"}', '{"type":1,"node":2,"clock":"x"}']
)
@timeless
async def test_what_a_stranger_says_to_all_processes_is_ignored(message: str) -> None:
    async with cluster(2) as (a, b), AsyncExitStack() as stack:
        await arrive(stack, b)
        for kind in ("", '\x01fc1 {"kind":"cluster"}\n', '\x01fc1 {"kind":"other"}\n'):
            await a.backend.publish(EVERY_NODE, kind + message)
        await asyncio.sleep(1)
        assert await a.count() == 1


@timeless
async def test_a_question_that_nobody_knows_is_not_answered_for_ever(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with cluster(2) as (a, _):
        began = now()
        assert await node_of(a.app).rooms.cluster.ask("weather") == {}
        assert now() - began < 2 * ASK_TIMEOUT
    assert "could not be delivered" not in caplog.text


@timeless
async def test_namespaces_are_apart() -> None:
    bus = Bus()
    async with (
        process(bus, namespace="one:") as one,
        process(bus, namespace="two:") as two,
        dial(one.app, "/r?user=ada") as ada,
        dial(two.app, "/r?user=ada") as other,
    ):
        assert await one.count() == await two.count() == 1
        await one.channel.broadcast("r", "said", 1)
        await one.channel.send_to_user("ada", "said", 2)
        assert [(await ada.receive())["data"], (await ada.receive())["data"]] == [1, 2]
        await asyncio.sleep(1)
        assert other.unread == []


@timeless
async def test_no_more_is_said_than_signs_of_life() -> None:
    async with cluster(3) as (a, *_):
        await asyncio.sleep(HEARTBEAT)
        published = a.backend._bus.published
        before = len(published)
        await asyncio.sleep(10 * HEARTBEAT)
        assert len(published) - before == pytest.approx(3 * 10, abs=3)
