"""After an outage of the broker: each client of a room is told once that messages may be missing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI

from fastapi_channels import BaseChannel, Channel, Envelope, Socket, add_channel
from tests.support.live import Client, Site, serving, wait_until
from tests.support.redis import RedisServer


class Room(Channel):
    scope = "room"


class Quiet(Channel):
    scope = "quiet"
    resync = False


class Relay(BaseChannel):
    scope = "relay"


class Other(Channel):
    scope = "room"
    envelope = Envelope(type="t", channel="room")


def application(url: str) -> tuple[FastAPI, Room]:
    app, room = FastAPI(), Room()
    add_channel(app, url=url)
    room.mount(app, "/room/{channel}")
    Quiet().mount(app, "/quiet/{channel}")
    Relay().mount(app, "/relay/{channel}")
    Other().mount(app, "/other/{channel}")
    Socket(room).mount(app, "/socket")
    room.bind(app)
    return app, room


@asynccontextmanager
async def clients(site: Site, *paths: str) -> AsyncIterator[list[Client]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(site.connect(path)) for path in paths]


async def restart(site: Site, server: RedisServer) -> None:
    await asyncio.to_thread(server.kill)
    await wait_until(lambda: not site.node.broker.up)
    await asyncio.to_thread(server.restart)
    await wait_until(lambda: site.node.broker.up)


async def test_each_is_told_once_and_before_what_comes_after(mortal_redis: RedisServer):
    app, room = application(mortal_redis.url)
    async with serving(app) as site, clients(site, "/room/tea", "/room/tea", "/room/coffee") as members:
        for outage in range(2):
            await restart(site, mortal_redis)
            await room.broadcast(["tea", "coffee"], "said", outage)
            for member, name in zip(members, ("tea", "tea", "coffee"), strict=True):
                assert await member.receive() == {"type": "resync", "channel": name}
                assert (await member.receive())["data"] == outage


async def test_a_socket_is_told_for_each_of_its_rooms(mortal_redis: RedisServer):
    app, _ = application(mortal_redis.url)
    async with serving(app) as site, site.connect("/socket") as ada:
        for name in ("tea", "coffee"):
            await ada.send({"type": "join", "channel": name})
            assert (await ada.receive())["type"] == "joined"
        await restart(site, mortal_redis)
        frames = [await ada.receive() for _ in range(2)]
        assert {frame["channel"] for frame in frames} == {"tea", "coffee"}
        assert {frame["type"] for frame in frames} == {"resync"}


async def test_the_frame_is_that_of_the_clients_envelope(mortal_redis: RedisServer):
    app, _ = application(mortal_redis.url)
    async with serving(app) as site, clients(site, "/room/tea", "/other/tea") as (ada, bob):
        await restart(site, mortal_redis)
        assert await ada.receive() == {"type": "resync", "channel": "tea"}
        assert await bob.receive() == {"t": "resync", "room": "tea"}


@pytest.mark.parametrize("path", ["/quiet/tea", "/relay/tea"])
async def test_a_channel_may_not_want_it_and_a_relay_has_none(mortal_redis: RedisServer, path: str):
    app, _ = application(mortal_redis.url)
    async with serving(app) as site, site.connect(path) as ada:
        await restart(site, mortal_redis)
        (key,) = site.node.hub.rooms
        await site.node.publish(key, '"the next"')
        assert await ada.receive() == "the next"


async def test_what_goes_on_where_it_was_says_nothing(mortal_redis: RedisServer):
    """A stream is read from where the connection was lost: nothing is missing, and nobody is told so."""
    app, room = application(mortal_redis.url.replace("redis://", "redis-stream://"))
    async with serving(app) as site, site.connect("/room/tea") as ada:
        lost: list[Any] = []
        broker = site.node.broker
        before = broker._session
        mortal_redis.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await wait_until(lambda: broker.up and broker._session is not before)
        await room.broadcast("tea", "said", "after")
        lost.append(await ada.receive())
        assert lost[0].get("data") == "after"
