"""Who is in a room, as the client keeps it. The steps are those of `presence.test.ts`."""

import asyncio
import random
from contextlib import AsyncExitStack
from typing import Any, Literal

import pytest
from fastapi import FastAPI
from pydantic import ValidationError

from fastapi_channels import Channel, Connection, add_channel
from fastapi_channels.client import Client, Person, PresenceChange, Room
from fastapi_channels.testing import in_process, running
from fastapi_channels.testing.clock import timeless

from .fake import FakeWire, Frame, World, joined, settle
from .test_cuts import Network


class Lobby(Channel):
    def presence_data(self, connection: Connection) -> Literal["here", "away"]:
        return "here"


def device(id: str, user: str | None, data: Any = "here") -> Frame:
    return {"id": id, "user": user, "data": data}


def whole(version: int, *present: Frame, channel: str = "lobby") -> Frame:
    return {"type": "presence", "channel": channel, "version": version, "present": present}


def diff(version: int, channel: str = "lobby", **what: Any) -> Frame:
    empty: Frame = {"joined": [], "changed": [], "left": []}
    return {"type": "presence_diff", "channel": channel, "version": version, **empty, **what}


def names(people: list[Person]) -> str:
    return ",".join(person.user or person.devices[0].id for person in people)


def told(room: Room) -> list[str]:
    """What is told of changes, in short."""
    heard: list[str] = []

    def listen(change: PresenceChange) -> None:
        heard.append(f"+{names(change.joined)} -{names(change.left)}")

    room.on_presence(listen)
    return heard


def shown(room: Room) -> dict[str | None, list[str]]:
    return {person.user: [each.id for each in person.devices] for person in room.presence.people}


@timeless
async def test_a_list_and_what_is_different_people_with_their_devices():
    world, room = await joined()
    heard = told(room)
    world.wire.say(whole(1, device("a", "ann"), device("b", None)))
    await settle()
    before = room.presence
    world.wire.say(
        diff(2, joined=[device("c", "ann"), device("d", "bob")], changed=[device("b", None, "away")]),
        diff(3, left=["a", "b", "unknown"]),
    )
    await settle()
    assert shown(room) == {"ann": ["c"], "bob": ["d"]}
    assert heard == ["+ann,b -", "+bob -", "+ -b"]
    assert (before.version, len(before.people), room.presence.version) == (1, 2, 3)
    assert room.presence.of(Lobby.presence_data).devices["d"].data == "here"
    world.wire.say(diff(4, changed=[device("d", "bob", 7)]))
    await settle()
    with pytest.raises(ValidationError):
        room.presence.of(Lobby.presence_data)
    await room.leave()


@timeless
async def test_where_a_difference_is_missing_everybody_is_asked_for_once():
    world, room = await joined()
    heard = told(room)
    world.wire.say(diff(7, joined=[device("x", "early")]), whole(1, device("a", "ann")))
    world.wire.say(*(diff(version, joined=[device("b", "bob")]) for version in (3, 4, 5)))
    await settle()
    assert world.wire.sent == [{"type": "presence"}]
    assert (shown(room), room.presence.version) == ({"ann": ["a"]}, None)
    world.wire.say(whole(5, device("a", "ann"), device("b", "bob")), diff(6, left=["a"]))
    await settle()
    assert (heard, room.presence.version) == (["+ann -", "+bob -", "+ -ann"], 6)
    await room.leave()


@timeless
async def test_after_a_loss_the_list_stays_until_everybody_comes_and_who_stayed_is_not_told():
    world, room = await joined()
    world.wire.say(whole(9, device("a", "ann"), device("b", "bob")))
    await settle()
    heard = told(room)
    world.wire.shut()
    await settle()
    assert (len(room.presence.people), room.presence.version) == (2, None)
    await asyncio.sleep(2)
    world.wire.say(whole(1, device("c", "ann"), device("d", "eve")))
    await settle()
    assert (heard, room.presence.version) == (["+eve -bob"], 1)
    await room.leave()
    assert (room.presence.people, heard[-1]) == ([], "+ -"), "who leaves knows of nobody who has gone"


@timeless
async def test_on_a_socket_each_room_has_its_own_and_is_asked_for_by_its_name():
    def arrive(wire: FakeWire) -> None:
        wire.heard = lambda frame: wire.say({**frame, "type": "joined"}) if frame["type"] == "join" else None
        wire.welcome()

    world = World(arrive)
    async with world.client().socket("/desk") as socket:
        a, b = await socket.room("a").ready(), await socket.room("b").ready()
        for channel in ("a", "b"):
            world.wire.say(whole(1, device(channel, channel), channel=channel))
        world.wire.say(diff(5, channel="b"))
        await settle()
        assert (shown(a), shown(b)) == ({"a": ["a"]}, {"b": ["b"]})
        assert world.wire.sent[-1] == {"type": "presence", "channel": "b"}


class Hall(Channel):
    history = 10
    presence = True
    presence_interval = 0.1

    def presence_data(self, connection: Connection) -> str:
        return "here"


@pytest.mark.parametrize("seed", range(3))
@timeless
async def test_it_is_what_the_server_has_when_it_is_quiet(seed: int):
    """Whoever comes, goes, and is lost meanwhile."""
    chance = random.Random(seed)  # noqa: S311
    app = FastAPI()
    add_channel(app)
    Hall().mount(app, "/halls/{channel}")
    async with running(app) as site, AsyncExitStack() as stack:
        networks = [Network(in_process(site.app), loses=True) for _ in range(4)]
        there: dict[Network, Room] = {}
        for _ in range(40):
            network = chance.choice(networks)
            if chance.random() < 0.3:
                await network.cut(chance.random())
            elif network in there and len(there) > 1:
                await there.pop(network).leave()
            elif network not in there:
                client = await stack.enter_async_context(Client("http://testserver", dial=network.dial))
                there[network] = client.room("/halls/{channel}", channel="lobby")
            await asyncio.sleep(chance.random())
        await asyncio.sleep(60)
        present = {room.connection for room in there.values()}
        assert [set(room.presence.devices) for room in there.values()] == [present] * len(there)
        assert len(present) == len(there) > 0
