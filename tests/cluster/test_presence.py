"""Who is present: what members are told, over several processes."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI

from fastapi_channels import (
    BaseChannel,
    Channel,
    ConfigurationError,
    Connection,
    Envelope,
    Socket,
    action,
    add_channel,
)
from fastapi_channels.cluster.presence import COMPARING, GREETED, MAX_TOLD, PATIENCE
from fastapi_channels.cluster.tenure import LEASE, RENEWAL
from fastapi_channels.testing.asgi import living
from fastapi_channels.testing.broker import FaultyBroker
from fastapi_channels.testing.clock import now, timeless
from fastapi_channels.wire.messages import SUBPROTOCOL
from fastapi_channels.wire.presence import MAX_DATA
from tests.support.live import serving as serving_live
from tests.support.live import unique
from tests.support.wire import Wire, dial, dialing, others, serving

from .test_places import Process, Site

GRACE = 5.0
DENIAL = ["websocket.http.response"]
"""What a server that answers a handshake with an HTTP status and a body says of itself."""
SOON = 0.2
"""Seconds in which what happens at once has happened."""


class Room(Channel):
    scope = "room"
    presence = True
    presence_grace = GRACE

    def presence_data(self, connection: Connection) -> dict[str, str]:
        return {"status": "here"}

    @action()
    async def status(self, connection: Connection, value: Any) -> None:
        await connection.set_presence({"status": value})

    @action()
    async def odd(self, connection: Connection) -> None:
        await connection.set_presence(object())

    @action()
    async def sign(self, connection: Connection, name: str) -> None:
        connection.user = name

    @action()
    async def go(self, connection: Connection, to: str) -> None:
        await connection.join(to)

    @action()
    async def part(self, connection: Connection, to: str) -> None:
        await connection.leave(to)

    @action()
    async def say(self, connection: Connection, text: str) -> None:
        await self.broadcast(connection.room, "said", text)


class Kept(Room):
    history = 10


class Quiet(Channel):
    """In the same rooms, and shows nobody."""

    scope = "room"


class Follower:
    """A client that does what the protocol says.

    Attributes:
        present: who is in the room, by the id of the connection.
        frames: those about presence.
        gaps: how often one was missing.
    """

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.present: dict[str, tuple[str | None, Any]] = {}
        self.frames: list[dict[str, Any]] = []
        self.gaps = 0
        self._version = -1
        self._read = 0

    def look(self) -> Follower:
        """Take what has come."""
        frames = [json.loads(frame) for frame in self.wire.frames[self._read :]]
        self._read += len(frames)
        for frame in frames:
            if frame.get("type") in ("presence", "presence_diff"):
                self.frames.append(frame)
                self._take(frame)
        return self

    def _take(self, frame: dict[str, Any]) -> None:
        if frame["type"] == "presence":
            self.present = {each["id"]: (each["user"], each["data"]) for each in frame["present"]}
        elif frame["version"] != self._version + 1:
            self.gaps += 1
            self.wire.send({"type": "presence"})
            return
        else:
            for each in (*frame["joined"], *frame["changed"]):
                self.present[each["id"]] = each["user"], each["data"]
            for id in frame["left"]:
                self.present.pop(id, None)
        self._version = frame["version"]

    @property
    def users(self) -> list[str]:
        return sorted({str(user) for user, _ in self.look().present.values()})

    @property
    def kinds(self) -> list[str]:
        return [frame["type"] for frame in self.look().frames]


@asynccontextmanager
async def cluster(size: int, kind: type[Channel] = Room) -> AsyncIterator[list[Process]]:
    site = Site()
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(site.process(kind)) for _ in range(size)]
    assert not others()
    assert not site.store._rooms


async def arrive(stack: AsyncExitStack, member: Process, user: str = "", path: str = "/r") -> Follower:
    wire = await stack.enter_async_context(dial(member.app, f"{path}?user={user}" if user else path))
    await asyncio.sleep(SOON)
    return Follower(wire)


async def users(member: Process, room: str = "r") -> list[str]:
    return [str(person.user) for person in await member.channel.people(room)]


# One process, in memory


@timeless
async def test_a_state_comes_first_and_then_what_is_different() -> None:
    room = Room()
    async with serving(room) as app, dial(app, "/r?user=ann") as ann, dial(app, "/r?user=bob") as bob:
        state = await ann.receive()
        (own,) = state["present"]
        assert own["id"]
        expected = {"type": "presence", "channel": "r", "version": state["version"], "present": [own]}
        assert state == expected
        assert (own["user"], own["data"]) == ("ann", {"status": "here"})
        difference = await ann.receive()
        joined = {"id": difference["joined"][0]["id"], "user": "bob", "data": {"status": "here"}}
        assert difference == {
            "type": "presence_diff",
            "channel": "r",
            "version": state["version"] + 1,
            "joined": [joined],
            "changed": [],
            "left": [],
        }
        assert (await bob.receive())["present"] == [own, joined]
        people = await room.people("r")
        assert [(each.user, [device.id for device in each.devices]) for each in people] == [
            ("ann", [own["id"]]),
            ("bob", [joined["id"]]),
        ]
        assert people[0].devices[0].data == {"status": "here"}
        bob.leave(1000)
        assert (await ann.receive())["left"] == [joined["id"]]
        assert await room.people("elsewhere") == []


@timeless
async def test_people_have_devices() -> None:
    room = Room()
    async with (
        serving(room) as app,
        dial(app, "/r?user=ann"),
        dial(app, "/r"),
        dial(app, "/r?user=ann"),
        dial(app, "/r"),
    ):
        people = await room.people("r")
        assert [(person.user, len(person.devices)) for person in people] == [("ann", 2), (None, 1), (None, 1)]
        assert await room.count_people("r") == 3
        sinces = [device.since for person in people for device in person.devices]
        assert len(set(sinces)) == 4


@timeless
async def test_a_room_with_history_tells_that_it_was_joined_before() -> None:
    async with serving(Kept()) as app, dial(app, "/r?user=ann") as ann:
        assert [(await ann.receive())["type"] for _ in range(2)] == ["joined", "presence"]


@timeless
async def test_on_a_socket_each_room_shows_its_members() -> None:
    channel = Room()
    socket, app = Socket(channel), FastAPI()
    add_channel(app)
    socket.mount(app, "/ws")
    async with living(app), dial(app, "/ws") as wire:
        for room in ("r", "s"):
            wire.send({"type": "join", "channel": room})
            assert (await wire.receive())["type"] == "joined"
            state = await wire.receive()
            assert (state["type"], state["channel"], len(state["present"])) == ("presence", room, 1)
        wire.send({"type": "presence", "channel": "s"})
        assert await wire.receive() == state
        for wrong in ("elsewhere", 7):
            wire.send({"type": "presence", "channel": wrong})
            assert (await wire.receive())["code"] == "not_joined"
        wire.send({"type": "leave", "channel": "r"})
        assert (await wire.receive())["type"] == "left"
        assert await channel.people("r") == []


@timeless
async def test_who_is_in_other_rooms_by_the_application_is_shown_there() -> None:
    async with serving(Room()) as app, dial(app, "/r?user=ann") as ann, dial(app, "/s?user=bob") as bob:
        await bob.receive()
        await ann.receive()
        ann.call("go", to="s")
        assert [each["user"] for each in (await bob.receive())["joined"]] == ["ann"]
        state = await ann.receive()
        assert (state["channel"], [each["user"] for each in state["present"]]) == ("s", ["bob", "ann"])
        ann.call("status", value="away")
        assert (await bob.receive())["changed"][0]["data"] == {"status": "away"}
        ann.call("part", to="s")
        await asyncio.sleep(GRACE + 1)
        assert len((await bob.receive())["left"]) == 1


@timeless
async def test_a_channel_that_shows_nobody_is_sent_nothing_in_the_same_room() -> None:
    site = Site()
    async with site.process(Room) as a, site.process(Quiet) as b, AsyncExitStack() as stack:
        quiet = await arrive(stack, b, "eve")
        ann = await arrive(stack, a, "ann")
        other = await arrive(stack, a, "bob")
        await asyncio.sleep(1)
        assert ann.users == other.users == ["ann", "bob"]
        assert not quiet.wire.frames
        assert await users(a) == ["ann", "bob"]
        assert await a.count() == 3
        # The view goes on, although changes that concern nobody are told by nobody.
        await stack.enter_async_context(dial(b.app, "/r?user=ada"))
        await arrive(stack, a, "cid")
        await asyncio.sleep(1 + PATIENCE + SOON)
        assert ann.users == ["ann", "bob", "cid"]


# What is said of a connection


@timeless
async def test_what_is_said_of_a_connection_can_be_changed() -> None:
    async with cluster(2) as (a, b), AsyncExitStack() as stack:
        ann, bob = await arrive(stack, a, "ann"), await arrive(stack, b, "bob")
        await asyncio.sleep(1)
        bob.wire.call("status", value="away")
        await asyncio.sleep(1 + SOON)
        assert [each["data"] for each in ann.look().frames[-1]["changed"]] == [{"status": "away"}]
        assert ("bob", {"status": "away"}) in ann.present.values()
        count = len(ann.frames)
        bob.wire.call("status", value="away")
        await asyncio.sleep(2)
        assert len(ann.look().frames) == count, "the same once more is no change"
        assert (await a.channel.people("r"))[1].devices[0].data == {"status": "away"}


@timeless
async def test_who_says_later_who_it_is_has_changed() -> None:
    async with cluster(2) as (a, b), AsyncExitStack() as stack:
        ann, other = await arrive(stack, a, "ann"), await arrive(stack, b)
        await asyncio.sleep(1)
        other.wire.call("sign", name="bob")
        await asyncio.sleep(1 + SOON)
        assert [each["user"] for each in ann.look().frames[-1]["changed"]] == ["bob"]
        assert await users(a) == ["ann", "bob"]


@timeless
async def test_what_cannot_be_said_is_refused_and_nothing_changes() -> None:
    async with serving(Room()) as app, dial(app, "/r?user=ann") as ann:
        await ann.receive()
        for call in ({"action": "status", "value": MAX_DATA * "x"}, {"action": "odd"}):
            ann.send(call)
            reply = await ann.receive()
            assert (reply["code"], reply["status"]) == ("invalid_presence", "bad")
            assert "4096" in reply["errors"] or "object" in reply["errors"]
        ann.call("status", value="x" * (MAX_DATA - len('{"status":""}')))
        assert (await ann.receive())["type"] == "presence_diff"


class Hostile(Room):
    async def presence_data(self, connection: Connection) -> Any:
        return "x" * MAX_DATA


@timeless
async def test_who_says_too_much_when_it_joins_is_refused() -> None:
    async with serving(Hostile()) as app, dialing(app, "/r", extensions=["websocket.http.response"]) as wire:
        await wire.ended()
        assert wire.sent[0]["status"] == 400


@timeless
async def test_a_channel_that_shows_nobody_has_nothing_to_say() -> None:
    class Plain(Room):
        presence = False

    async with serving(Plain()) as app, dial(app, "/r") as wire:
        wire.call("status", value="away")
        assert (await wire.receive())["code"] == "internal_error"
        wire.send({"type": "presence"})
        assert (await wire.receive())["code"] == "parse_error"


@pytest.mark.parametrize(
    "wrong",
    [
        {"presence": 1},
        {"presence_interval": -1},
        {"presence_grace": "x"},
        {"per_user_policy": "close"},
        {"max_per_user": 0},
    ],
)
def test_settings_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        type("Wrong", (Channel,), wrong)()


async def test_it_does_not_start_without_a_store_that_is_shared() -> None:
    app = FastAPI()
    add_channel(app, backend=FaultyBroker().backend())
    with pytest.raises(ConfigurationError, match=r"Room.presence needs a store .* store_url="):
        Room().mount(app, "/{channel}")


async def test_a_room_that_relays_has_none() -> None:
    class Relay(BaseChannel):
        presence = True

    app = FastAPI()
    add_channel(app)
    with pytest.raises(ConfigurationError, match="presence needs a Channel"):
        Relay().mount(app, "/{channel}")


# Several processes


@timeless
async def test_everybody_is_seen_everywhere() -> None:
    async with cluster(3) as (a, b, c), AsyncExitStack() as stack:
        ann, bob, cid = [await arrive(stack, m, user) for m, user in ((a, "ann"), (b, "bob"), (c, "cid"))]
        await asyncio.sleep(1)
        for follower in (ann, bob, cid):
            assert follower.users == ["ann", "bob", "cid"]
            assert follower.kinds.count("presence") == 1
            assert follower.gaps == 0
        for member in (a, b, c):
            assert await users(member) == ["ann", "bob", "cid"]
        bob.wire.leave(1000)
        await asyncio.sleep(1 + SOON)
        assert ann.users == cid.users == ["ann", "cid"]


@timeless
async def test_people_are_one_call_of_the_store() -> None:
    site = Site()
    async with AsyncExitStack() as stack:
        processes = [await stack.enter_async_context(site.process(Room)) for _ in range(4)]
        for member in processes:
            await arrive(stack, member, "ann")
        site.store.calls.clear()
        assert [len(person.devices) for person in await processes[0].channel.people("r")] == [4]
        assert site.store.calls == ["occupancy"]


@timeless
async def test_a_page_that_is_loaded_anew_is_no_leave_and_no_join() -> None:
    async with cluster(2) as (a, b), AsyncExitStack() as stack:
        ann = await arrive(stack, a, "ann")
        for member in (a, b, a):
            async with dial(member.app, "/r?user=bob"):
                await asyncio.sleep(2)
            await asyncio.sleep(GRACE / 2)
            assert ann.users == ["ann", "bob"]
        assert [len(frame["joined"]) - len(frame["left"]) for frame in ann.frames[1:]] == [1, 0, 0]
        await asyncio.sleep(GRACE)
        assert ann.users == ["ann"]


@timeless
async def test_who_means_to_leave_has_left_at_once() -> None:
    async with cluster(2) as (a, b), AsyncExitStack() as stack:
        ann = await arrive(stack, a, "ann")
        async with dial(b.app, "/r?user=bob") as bob:
            await asyncio.sleep(2)
            assert ann.users == ["ann", "bob"]
            bob.leave(1000)
            await asyncio.sleep(SOON)
            assert ann.users == ["ann"]


@timeless
async def test_a_process_that_stops_is_left_when_nobody_comes_back() -> None:
    site = Site()
    async with site.process(Room) as a, AsyncExitStack() as stack:
        ann = await arrive(stack, a, "ann")
        async with site.process(Room) as b, dial(b.app, "/r?user=bob"), dial(b.app, "/r?user=cid"):
            await asyncio.sleep(2)
        cid = await arrive(stack, a, "cid")
        await asyncio.sleep(1)
        assert ann.users == cid.users == ["ann", "bob", "cid"]
        await asyncio.sleep(GRACE)
        assert ann.users == cid.users == ["ann", "cid"]


@timeless
async def test_the_members_of_a_process_that_dies_leave_once_within_its_lease() -> None:
    async with cluster(3) as (a, b, c), AsyncExitStack() as stack:
        ann, bob = await arrive(stack, a, "ann"), await arrive(stack, b, "bob")
        for user in ("cid", "dan"):
            await arrive(stack, c, user)
        await asyncio.sleep(1)
        assert ann.users == bob.users == ["ann", "bob", "cid", "dan"]
        before = [len(follower.frames) for follower in (ann, bob)]
        c.cut()
        await asyncio.sleep(LEASE + RENEWAL + SOON)
        for follower, count in zip((ann, bob), before, strict=True):
            assert follower.users == ["ann", "bob"]
            assert [len(frame["left"]) for frame in follower.frames[count:]] == [2]
        c.mend()
        await asyncio.sleep(RENEWAL + 2)
        assert ann.users == bob.users == ["ann", "bob", "cid", "dan"]


@timeless
async def test_who_comes_between_two_frames_is_shown_at_once_and_what_follows_is_different_to_that() -> None:
    async with serving(Room()) as app, AsyncExitStack() as stack:
        followers = []
        for user in ("ann", "bob", "cid", "dan"):
            followers.append(Follower(await stack.enter_async_context(dial(app, f"/r?user={user}"))))
            await asyncio.sleep(0.1)
            assert user in followers[-1].users, "at once, and itself is there"
        ann, bob, cid, dan = followers
        assert ann.kinds == ["presence"]
        assert [each.users for each in followers] == [["ann"], ["ann", "bob"], ["ann", "cid"], ["ann", "dan"]]
        bob.wire.call("status", value="away")
        cid.wire.leave(1000)
        await asyncio.sleep(1)
        for each in (ann, bob, dan):
            assert each.users == ["ann", "bob", "dan"]
            assert each.present == ann.present
            assert (each.kinds, each.gaps) == (["presence", "presence_diff"], 0)
        eve = Follower(await stack.enter_async_context(dial(app, "/r?user=eve")))
        dan.wire.leave(1000)
        await asyncio.sleep(0.1)
        assert eve.users == ["ann", "bob", "dan", "eve"], "as the others have been shown"
        await asyncio.sleep(1)
        assert eve.users == ann.users == ["ann", "bob", "eve"]
        assert eve.gaps == ann.gaps == 0


@timeless
async def test_the_first_of_a_process_is_shown_everybody_and_not_told_of_itself() -> None:
    async with cluster(2) as (a, b), AsyncExitStack() as stack:
        await arrive(stack, a, "ann")
        b.store.delay = 0.05
        bob = await arrive(stack, b, "bob")
        assert bob.users == ["ann", "bob"]
        await asyncio.sleep(3)
        assert bob.kinds == ["presence"]


@timeless
async def test_lists_for_those_who_come_are_bounded_and_a_herd_shares_them() -> None:
    listed: list[float] = []

    class Counting(Envelope):
        def presence(self, room: str, version: int, present: list[Any]) -> dict[str, Any]:
            listed.extend([now()] * len(present))
            return super().presence(room, version, present)

    class Crowded(Room):
        envelope = Counting()
        presence_interval = 10.0

    async with serving(Crowded()) as app, AsyncExitStack() as stack:
        followers = []
        for number in range(400):
            followers.append(Follower(await stack.enter_async_context(dial(app, f"/r?user=u{number}"))))
            await asyncio.sleep(0.001)
        await asyncio.sleep(SOON)
        took = now() - listed[0]
        assert len(listed) < took * GREETED + 400
        assert all(f"u{number}" in each.users for number, each in enumerate(followers))
        await asyncio.sleep(20)
        assert {len(each.look().present) for each in followers} == {400}
        assert not any(each.gaps for each in followers)


@timeless
async def test_who_shared_a_list_does_not_keep_those_of_it_who_left_before_the_next_difference() -> None:
    async with serving(Room()) as app, AsyncExitStack() as stack:

        async def come(*names: str) -> list[Follower]:
            return [Follower(await stack.enter_async_context(dial(app, f"/r?user={name}"))) for name in names]

        crowd = await come(*(f"u{number:03}" for number in range(200)))
        await asyncio.sleep(3)
        there = crowd[0].users
        await come("first")
        await asyncio.sleep(0.1)
        ann, bob, cid = await come("ann", "bob", "cid")
        await asyncio.sleep(0.1)
        assert bob.users == cid.users == sorted([*there, "first", "bob", "cid"])
        bob.wire.leave(1000)
        await asyncio.sleep(2)
        expected = sorted([*there, "first", "ann", "cid"])
        assert [each.users for each in (crowd[0], ann, cid)] == [expected] * 3
        assert not any(each.gaps for each in (*crowd, ann, cid))


class Slow(Channel):
    presence = True
    presence_interval = 600.0


@pytest.mark.parametrize("kind", ["memory", "shared_redis", "shared_postgres"])
async def test_over_every_store_who_comes_is_shown_itself_and_at_once(
    kind: str, request: pytest.FixtureRequest
) -> None:
    def named(name: str) -> str:
        return name

    url, namespace, sites = "memory://", unique(), []
    if kind != "memory":
        url = request.getfixturevalue(kind).url
    async with AsyncExitStack() as stack:
        for _ in range(1 if kind == "memory" else 2):
            app = FastAPI()
            add_channel(app, url=url, namespace=namespace)
            Slow().mount(app, "/{channel}", user=named)
            sites.append(await stack.enter_async_context(serving_live(app)))
        for number in range(6):
            path = f"/r?name=u{number}"
            client = await stack.enter_async_context(sites[number % len(sites)].connect(path))
            state = await client.receive()
            users = [each["user"] for each in state["present"]]
            assert (state["type"], state["version"]) == ("presence", 1)
            assert users[-1] == f"u{number}"
            assert number == 0 or "u0" in users


@timeless
async def test_churn_is_one_frame_in_an_interval_and_what_cancels_out_is_none() -> None:
    async with cluster(2) as (a, b), AsyncExitStack() as stack:
        ann = await arrive(stack, a)
        before, began = len(ann.look().frames), now()
        for number in range(100):
            async with dial(b.app, f"/r?user=user{number}") as wire:
                await asyncio.sleep(0.01)
                wire.leave(1000)
        took = now() - began
        assert took < 10
        await asyncio.sleep(1 + SOON)
        assert len(ann.look().frames) - before <= took + 2
        assert ann.users == ["None"]
        assert ann.gaps == 0


@timeless
async def test_a_herd_is_few_changes_and_all_see_all() -> None:
    async with cluster(2) as (a, b), AsyncExitStack() as stack:
        followers = await asyncio.gather(*(arrive(stack, m, f"u{i}") for i in range(30) for m in (a, b)))
        await asyncio.sleep(2)
        for follower in followers:
            assert len(follower.look().present) == 60
            assert len(follower.frames) <= 4


@timeless
async def test_what_the_broker_loses_is_found_in_the_store() -> None:
    async with cluster(2) as (a, b), AsyncExitStack() as stack:
        ann = await arrive(stack, a, "ann")
        a.backend.deaf = True  # the broker takes all, and brings nothing
        await arrive(stack, b, "bob")
        await asyncio.sleep(1)
        assert ann.users == ["ann"]
        a.backend.deaf = False
        await arrive(stack, b, "cid")
        await asyncio.sleep(1 + PATIENCE)
        assert ann.users == ["ann", "bob", "cid"], "one that comes later shows that one is missing"
        a.backend.deaf = True
        await arrive(stack, b, "dan")
        a.backend.deaf = False
        await asyncio.sleep(COMPARING + 1)
        assert ann.users == ["ann", "bob", "cid", "dan"], "or a look at the store does"
        assert ann.gaps == 0


@timeless
async def test_after_an_outage_of_the_broker_all_see_all_again() -> None:
    async with cluster(2) as (a, b), AsyncExitStack() as stack:
        ann, bob = await arrive(stack, a, "ann"), await arrive(stack, b, "bob")
        a.backend._bus.crash()
        bob.wire.call("status", value="away")
        await asyncio.sleep(3)
        assert ("bob", {"status": "away"}) not in ann.look().present.values()
        a.backend._bus.restart()
        await asyncio.sleep(10)
        assert ("bob", {"status": "away"}) in ann.look().present.values()
        assert ann.present == bob.look().present


@timeless
async def test_while_the_store_is_away_members_come_in_and_are_shown_when_it_is_back() -> None:
    async with cluster(2) as (a, b), AsyncExitStack() as stack:
        ann = await arrive(stack, a, "ann")
        a.store.down = True
        bob = await arrive(stack, a, "bob")
        bob.wire.call("say", text="here")
        cid = await arrive(stack, b, "cid")
        await asyncio.sleep(1)
        assert bob.users == ["ann", "cid"]
        a.store.down = False
        await asyncio.sleep(RENEWAL + 2)
        assert ann.users == bob.users == cid.users == ["ann", "bob", "cid"]


@timeless
async def test_what_a_store_has_lost_while_the_lease_holds_is_entered_again() -> None:
    """As a replica that has become the master, and had not heard of the last changes."""
    async with cluster(2) as (a, b), AsyncExitStack() as stack:
        ann, bob = await arrive(stack, a, "ann"), await arrive(stack, b, "bob")
        await asyncio.sleep(1)
        store = b.store._store
        room = store._rooms["room/r" if "room/r" in store._rooms else next(iter(store._rooms))]
        lost = [id for id, one in room.occupants.items() if one.user == "bob"]
        for id in lost:
            del room.occupants[id]
        room.version -= 1
        store.connects += 1
        assert await users(a) == ["ann"]
        await asyncio.sleep(RENEWAL + 2)
        assert await users(a) == ["ann", "bob"]
        assert ann.users == bob.users == ["ann", "bob"]
        cid = await arrive(stack, a, "cid")
        await asyncio.sleep(1 + PATIENCE + SOON)
        assert ann.users == bob.users == cid.users == ["ann", "bob", "cid"]


@timeless
async def test_a_change_that_is_too_large_to_be_told_is_read() -> None:
    count = MAX_TOLD // MAX_DATA + 10

    class Wordy(Room):
        def presence_data(self, connection: Connection) -> Any:
            return (MAX_DATA - 2) * "x"

    async with cluster(2, Wordy) as (a, b), AsyncExitStack() as stack:
        ann = await arrive(stack, a, "ann")
        b.store.delay = 0.5
        await asyncio.gather(*(arrive(stack, b, f"u{number}") for number in range(count)))
        await asyncio.sleep(5)
        assert len(ann.look().present) == count + 1


@timeless
async def test_a_client_that_missed_a_frame_notices_and_is_shown_everybody() -> None:
    async with serving(Room()) as app, AsyncExitStack() as stack:
        ann = Follower(await stack.enter_async_context(dial(app, "/r?user=ann")))
        await stack.enter_async_context(dial(app, "/r?user=bob"))
        await asyncio.sleep(1 + SOON)
        assert ann.users == ["ann", "bob"]
        await stack.enter_async_context(dial(app, "/r?user=cid"))
        await asyncio.sleep(1 + SOON)
        ann._read += 1  # it was left out, as for a client that reads too slowly
        await stack.enter_async_context(dial(app, "/r?user=dan"))
        await asyncio.sleep(1 + SOON)
        ann.look()
        assert ann.gaps == 1
        await asyncio.sleep(1 + SOON)
        assert ann.users == ["ann", "bob", "cid", "dan"]


@timeless
async def test_a_client_that_asks_again_and_again_gets_one_in_an_interval() -> None:
    async with serving(Room()) as app, dial(app, "/r?user=ann") as ann:
        await asyncio.sleep(SOON)
        for _ in range(100):
            ann.send(*[{"type": "presence"}] * 10)
            await asyncio.sleep(0.1)
        await asyncio.sleep(1)
        assert len(ann.frames) <= 13


@timeless
async def test_a_client_that_does_not_read_holds_up_nobody_and_is_closed() -> None:
    class Narrow(Room):
        outbox_limit = 2000

    async with serving(Narrow()) as app, dial(app, "/r?user=ann") as slow, dial(app, "/r?user=bob") as bob:
        slow.block()
        for number in range(10):
            bob.call("status", value=str(number))
            await asyncio.sleep(1)
        follower = Follower(bob)
        assert follower.look().gaps == 0
        slow.unblock()
        assert (await slow.closed()).code == 4000


@pytest.mark.parametrize(
    "body", ["", "[]", "[1]", '[1,[["a.1","ann","{",1]],[],[]]', '["x",[],[],[]]', "null"]
)
@timeless
async def test_what_a_stranger_says_of_a_room_is_ignored(body: str) -> None:
    async with cluster(2) as (a, b), AsyncExitStack() as stack:
        ann = await arrive(stack, a, "ann")
        topic = next(topic for topic in b.backend._bus.backends[0].topics if topic.endswith("r"))
        await b.backend.publish(topic, f'\x01fc1 {{"kind":"presence"}}\n{body}')
        await arrive(stack, b, "bob")
        await asyncio.sleep(1)
        assert ann.users == ["ann", "bob"]


# Limits for each user


class Twice(Room):
    max_per_user = 2


class Once(Room):
    max_per_user = 1
    per_user_policy = "close_oldest"


@timeless
async def test_a_user_may_have_so_many_connections_over_all_processes() -> None:
    async with cluster(2, Twice) as (a, b), AsyncExitStack() as stack:
        await arrive(stack, a, "ann")
        await arrive(stack, b, "ann")
        for member in (a, b):
            async with dialing(
                member.app, "/r?user=ann&lang=zh", extensions=["websocket.http.response"]
            ) as wire:
                await wire.ended()
                assert wire.sent[0]["status"] == 429
                body = json.loads(wire.sent[1]["body"])
                assert (body["code"], body["errors"]) == (
                    "too_many_connections",
                    "同一用户在这里最多可有 2 个连接",
                )
            await arrive(stack, member, "bob")
            await arrive(stack, member)
        assert [len(person.devices) for person in await a.channel.people("r")] == [2, 2, 1, 1]


@timeless
async def test_the_oldest_makes_room_wherever_it_is() -> None:
    async with cluster(2, Once) as (a, b), AsyncExitStack() as stack:
        bob = await arrive(stack, a, "bob")
        before = await arrive(stack, a, "ann", "/r?lang=en&x=1".replace("?", "?user=ann&"))
        for member in (b, b, a):
            after = await arrive(stack, member, "ann")
            assert await before.wire.closed() == (
                4509,
                "A newer connection of yours took the place of this one",
            )
            before = after
            await asyncio.sleep(1)
            assert bob.users == ["ann", "bob"]
            assert await a.count() == 2
        assert all(user != "ann" or frame for user, frame in bob.present.values())


def told(wire: Wire) -> tuple[str | int, ...]:
    """How a handshake was answered, and what came of it."""
    if wire.sent[0]["type"] == "websocket.http.response.start":
        return wire.sent[0]["status"], json.loads(wire.sent[1]["body"])["code"]
    code = (wire.sent[-1]["code"],) if wire.done else ()
    return (wire.events[0], *code)


@timeless
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("pause", [0.0, 0.001])
async def test_of_those_of_a_user_who_come_at_once_one_stays_and_each_other_is_told(
    processes: int, pause: float
) -> None:
    async with cluster(processes, Once) as members, AsyncExitStack() as stack:
        wires = []
        for number in range(12):
            app = members[number % processes].app
            wires.append(await stack.enter_async_context(dialing(app, "/r?user=ann", extensions=DENIAL)))
            await asyncio.sleep(pause)
        await asyncio.sleep(5)
        found = Counter(told(wire) for wire in wires)
        assert found.pop(("accept",)) == 1
        assert not found.keys() - {("accept", 4509), (429, "too_many_connections")}
        assert await members[0].count() == 1
        if processes == 1:
            assert not wires[-1].done


@timeless
async def test_who_is_displaced_before_it_hears_of_its_place_does_not_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with cluster(2, Once) as (a, b), AsyncExitStack() as stack:
        enter = a.store.enter

        async def late(*args: Any) -> Any:
            entered = await enter(*args)
            await asyncio.sleep(1)
            return entered

        monkeypatch.setattr(a.store, "enter", late, raising=False)
        before = await stack.enter_async_context(dialing(a.app, "/r?user=ann", extensions=DENIAL))
        await asyncio.sleep(SOON)
        after = await arrive(stack, b, "ann")
        await before.ended()
        assert told(before) == (429, "too_many_connections")
        assert not after.wire.done
        assert await a.count() == 1


@timeless
async def test_whoever_is_told_in_frames_is_told_to_stay_away() -> None:
    """Also if a newer one has come before it had its place."""
    async with cluster(1, Once) as (a,), AsyncExitStack() as stack:
        wires = [
            await stack.enter_async_context(dialing(a.app, "/r?user=ann", subprotocols=[SUBPROTOCOL]))
            for _ in range(3)
        ]
        assert [(await wire.closed()).code for wire in wires[:2]] == [4509, 4509]
        assert not wires[2].done


@timeless
async def test_the_oldest_is_closed_also_if_the_broker_was_away() -> None:
    async with cluster(2, Once) as (a, b), AsyncExitStack() as stack:
        before = await arrive(stack, a, "ann")
        await arrive(stack, b, "zoe")
        b.backend.mute = True
        a.backend._bus.crash()
        await asyncio.sleep(1)
        a.backend._bus.restart()
        await asyncio.sleep(5)
        b.backend.mute = False
        await arrive(stack, b, "ann")
        assert (await before.wire.closed()).code == 4509


@timeless
async def test_a_process_that_was_cut_off_takes_no_place_back() -> None:
    async with cluster(2, Once) as (a, b), AsyncExitStack() as stack:
        before = await arrive(stack, a, "ann")
        a.cut()
        await asyncio.sleep(LEASE + RENEWAL)
        after = await arrive(stack, b, "ann")
        a.mend()
        assert (await before.wire.closed()).code == 4509
        assert not after.wire.done
        assert await b.count() == 1
