"""Clients that come, join rooms at random and go, over and over: what of them is left."""

from __future__ import annotations

import asyncio
import gc
import json
import random
import resource
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from redis.asyncio import Redis

from fastapi_channels import Channel, Connection, Socket, action, add_channel
from fastapi_channels.cluster.node import Node
from fastapi_channels.stores.redis.server import PREFIX

from .live import wait_until

ROOMS: Final = 2_000
AT_ONCE: Final = 200
"""Clients that are there at the same time."""
EMPTY: Final = 60_000
"""Milliseconds that the store remembers a room that nobody is in."""


class Room(Channel):
    room_pattern = "room:{number:int}"

    @action()
    async def say(self, connection: Connection, text: str) -> None:
        await self.broadcast(connection.room, "said", text)


class Place(Channel):
    """Its members are entered in the store before they are let in."""

    room_pattern = "place:{number:int}"
    max_connection = 100_000


def application(url: str, namespace: str) -> FastAPI:
    app = FastAPI()
    add_channel(app, url=url, namespace=namespace, asyncapi_url=None)
    Socket(Room(), Place()).mount(app, "/many")
    Room().mount(app, "/{channel}")
    return app


@dataclass(frozen=True)
class Held:
    """What a process, its broker and its store hold."""

    objects: Counter[str]
    """Of this package, Starlette and asyncio, by type."""
    resident: int
    """Bytes of memory."""
    topics: frozenset[str]
    """That the process wants from the broker."""
    channels: int
    """That the server knows of this application."""
    keys: frozenset[bytes]
    """Of the store: those that do not end by themselves within a minute."""


class Soak:
    """Clients of an application, over ASGI: without sockets, which cost more than all that is looked at."""

    def __init__(self, app: FastAPI, redis: Redis, namespace: str) -> None:
        self._app = app
        self._redis = redis
        self._namespace = namespace
        self._chance = random.Random(9)  # noqa: S311 - no secret

    @property
    def node(self) -> Node:
        node = Node.attached(self._app)
        assert node is not None
        return node

    async def run(self, visits: int) -> None:
        """Let so many clients come and go; returns when no room is held for them any more.

        The store forgets which rooms a process was in with the next renewal of its lease.
        """
        numbers = iter(range(visits))
        async with asyncio.TaskGroup() as tasks:
            for _ in range(AT_ONCE):
                tasks.create_task(self._visit_all(numbers))
        rooms = self.node.rooms
        assert rooms.roster is not None
        entered = rooms.roster._rooms
        await wait_until(lambda: not self.node.hub.rooms and not rooms.idle and not entered, within=60)
        await wait_until(lambda: self.node.broker.topics == set(rooms.topics), within=60)
        noted = f"{PREFIX}:{self._namespace}:rooms:{{leases}}"
        async with asyncio.timeout(60):
            while await self._redis.exists(noted):
                await asyncio.sleep(0.01)

    async def _visit_all(self, numbers: Iterator[int]) -> None:
        for number in numbers:
            if number % 4:
                await self._visit("/many", self._joins())
            else:
                await self._visit(f"/room:{self._chance.randrange(ROOMS)}", [{"action": "say", "text": "hi"}])

    def _joins(self) -> list[dict[str, Any]]:
        kinds = ("room", "room", "place")
        rooms = [f"{kind}:{self._chance.randrange(ROOMS)}" for kind in kinds]
        joins = [{"type": "join", "channel": room, "request_id": n} for n, room in enumerate(rooms)]
        return [*joins, {"type": "leave", "channel": rooms[0], "request_id": 9}]

    async def _visit(self, path: str, frames: list[dict[str, Any]]) -> None:
        """Come, send all frames, go when each was answered."""
        waiting = [{"type": "websocket.connect"}]
        waiting += [{"type": "websocket.receive", "text": json.dumps(frame)} for frame in frames]
        waiting.reverse()
        answered = asyncio.Event()
        missing = len(frames)

        async def receive() -> dict[str, Any]:
            if waiting:
                return waiting.pop()
            await answered.wait()
            return {"type": "websocket.disconnect", "code": 1000}

        async def send(message: Any) -> None:
            nonlocal missing
            if message["type"] == "websocket.send" and '"type":"event"' not in message["text"]:
                missing -= 1
                assert '"status":"error"' not in message["text"], message["text"]
            elif message["type"] == "websocket.send" and path != "/many":
                missing -= 1
            if missing == 0:
                answered.set()

        scope = {"type": "websocket", "path": path, "raw_path": path.encode(), "query_string": b""}
        scope |= {
            "headers": [],
            "scheme": "ws",
            "subprotocols": [],
            "client": ("127.0.0.1", 1),
            "root_path": "",
        }
        await self._app({**scope, "app": self._app}, receive, send)

    async def held(self) -> Held:
        own = self._namespace.encode()
        keys = [key async for key in self._redis.scan_iter(b"*%b*" % own, count=1000)]
        async with self._redis.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.pttl(key)
            ends = await pipeline.execute()
        lasting = {key for key, left in zip(keys, ends, strict=True) if not -1 < left <= EMPTY}
        channels = await self._redis.pubsub_channels(f"*{self._namespace}*")
        topics = frozenset(self.node.broker.topics)
        gc.collect()
        return Held(_objects(), _resident(), topics, len(channels), frozenset(lasting))


def _objects() -> Counter[str]:
    modules = ("fastapi_channels.", "starlette.", "asyncio.", "_asyncio.")
    kinds = (type(each) for each in gc.get_objects())
    names = (f"{kind.__module__}.{kind.__qualname__}" for kind in kinds)
    return Counter(name for name in names if name.startswith(modules))


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
