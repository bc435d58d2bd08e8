"""What one task sends keeps its order while its client is joining another room."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fastapi import FastAPI

from fastapi_channels import BrokerUnavailable, Channel, Connection, Socket, add_channel
from tests.support.live import Client, serving, unique
from tests.support.redis import RedisServer

ROUNDS = 30


class Room(Channel):
    def __init__(self) -> None:
        super().__init__()
        self.inside: dict[str, Connection] = {}
        self.add_event_handler("join", self.remember)

    async def remember(self, connection: Connection) -> None:
        self.inside[connection.room] = connection


def application(url: str) -> tuple[FastAPI, Room]:
    app, room = FastAPI(), Room()
    add_channel(app, url=url)
    Socket(room).mount(app, "/socket")
    room.bind(app)
    return app, room


async def join(client: Client, name: str) -> None:
    await client.send({"type": "join", "channel": name})


@pytest.mark.parametrize("scheme", ["memory", "redis", "redis-stream"])
async def test_what_comes_before_the_join_is_done_waits_with_all_that_follows(
    shared_redis: RedisServer, monkeypatch: pytest.MonkeyPatch, scheme: str
):
    """The room's subscription is confirmed, and its first broadcast is here, while the join still goes on."""
    url = "memory://" if scheme == "memory" else shared_redis.url.replace("redis", scheme, 1)
    app, room = application(url)
    async with serving(app) as site, site.connect("/socket") as ada:
        home, name = unique("home"), unique()
        await join(ada, home)
        assert (await ada.receive())["type"] == "joined"
        broker = site.node.broker
        subscribe, opened, said = broker.subscribe, asyncio.Event(), asyncio.Event()

        async def linger(topic: str) -> None:
            await subscribe(topic)
            if topic.endswith(name):
                opened.set()
                await said.wait()

        monkeypatch.setattr(broker, "subscribe", linger)
        await join(ada, name)
        await opened.wait()
        await room.broadcast(name, "said", 0)
        asyncio.get_running_loop().call_soon(said.set)
        await room.inside[home].send_event("said", 1)
        await room.broadcast(name, "said", 2)
        frames = [await ada.receive() for _ in range(4)]
        assert [frame.get("data", frame["type"]) for frame in frames] == ["joined", 0, 1, 2]


@pytest.mark.parametrize("scheme", ["redis", "redis-stream"])
async def test_personal_sends_and_broadcasts_keep_their_order(shared_redis: RedisServer, scheme: str):
    app, room = application(shared_redis.url.replace("redis", scheme, 1))
    async with serving(app) as site, site.connect("/socket") as ada:
        home = unique("home")
        await join(ada, home)
        assert (await ada.receive())["type"] == "joined"
        for _ in range(ROUNDS):
            name, done = unique(), asyncio.Event()

            async def talk(name: str = name, done: asyncio.Event = done) -> None:
                number = 0
                while not done.is_set():
                    await room.broadcast(name, "said", number)
                    await room.inside[home].send_event("said", number + 1)
                    number += 2

            talking = asyncio.create_task(talk())
            await join(ada, name)
            seen: list[dict[str, Any]] = []
            while len([frame for frame in seen if frame.get("channel") == name]) < 10:
                seen.append(await ada.receive())
            done.set()
            await talking
            await ada.send({"type": "leave", "channel": name})
            await ada.receive_until(lambda frame: frame.get("type") == "left")
            numbers = [frame["data"] for frame in seen if frame["type"] == "event"]
            assert numbers == sorted(numbers), seen
            kinds = [frame["type"] for frame in seen if frame.get("channel") == name]
            assert kinds[0] == "joined"


async def test_what_was_kept_back_is_dropped_where_the_join_fails(
    shared_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
):
    """What else is sent to the client goes on, in its order."""
    app, room = application(shared_redis.url)
    async with serving(app) as site, site.connect("/socket") as ada:
        home, name = unique("home"), unique()
        await join(ada, home)
        await ada.receive()
        subscribe = site.node.broker.subscribe
        personal: list[asyncio.Task[bool]] = []

        async def fail(topic: str) -> None:
            await subscribe(topic)
            await room.broadcast(name, "said", "of the room")
            personal.extend(asyncio.create_task(room.inside[home].send_event("said", n)) for n in range(3))
            await asyncio.sleep(0)
            assert not personal[0].done(), "it waits behind what is kept back"
            raise BrokerUnavailable("not now")

        monkeypatch.setattr(site.node.broker, "subscribe", fail)
        await join(ada, name)
        frames = [await ada.receive() for _ in range(4)]
        assert [frame["data"] for frame in frames[:3]] == [0, 1, 2]
        assert (frames[3]["status"], frames[3]["code"]) == ("bad", "unavailable")
        assert all(task.result() for task in personal)
