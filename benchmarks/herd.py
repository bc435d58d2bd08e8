"""5,000 clients come back at once after a restart, and recover what they have missed.

    python -m benchmarks.herd [clients]

They are in ten rooms with history, and have missed 20 publications of 128 bytes each. They come to a process
that has just started, over ASGI in one process, with a Redis of its own as broker and store. What is told:
the seconds until the last has all that it missed, how often the store was asked, and the memory that it took,
at most and when all have it.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from fastapi_channels import Channel, add_channel
from fastapi_channels.cluster.node import Node
from tests.support.servers import RedisServer

ROOMS = 10
MISSED = 20
BODY = "x" * 128
ARRIVE = 100
"""Clients that a server accepts in one turn of the event loop."""
MB = 1024 * 1024


class Room(Channel):
    history = 100


def application(url: str) -> tuple[FastAPI, Room, Node]:
    app, room = FastAPI(), Room()
    add_channel(app, url=url, asyncapi_url=None)
    room.mount(app, "/{channel}")
    room.bind(app)
    node = Node.attached(app)
    assert node is not None
    return app, room, node


class Client:
    """Comes back with a position, and stays."""

    def __init__(self, app: FastAPI, room: str, since: str) -> None:
        self._app = app
        self._scope: dict[str, Any] = {
            "type": "websocket",
            "scheme": "ws",
            "path": f"/{room}",
            "root_path": "",
        }
        self._scope |= {"query_string": f"since={since}".encode(), "headers": []}
        self._scope |= {"subprotocols": [], "client": ("127.0.0.1", 1)}
        self._missing = MISSED
        self.recovered = asyncio.Event()
        self.leave = asyncio.Event()

    async def run(self) -> None:
        began = False

        async def receive() -> dict[str, Any]:
            nonlocal began
            if not began:
                began = True
                return {"type": "websocket.connect"}
            await self.leave.wait()
            return {"type": "websocket.disconnect", "code": 1000}

        async def send(message: Any) -> None:
            if message["type"] == "websocket.send":
                self._missing -= message["text"].count('"type":"event"')
                assert '"recovered":false' not in message["text"]
                if self._missing == 0:
                    self.recovered.set()

        await self._app(self._scope, receive, send)


async def publish(url: str) -> dict[str, str]:
    """Publish in every room what will be missed; where each was before."""
    app, room, _ = application(url)
    async with app.router.lifespan_context(app):
        since: dict[str, str] = {}
        for number in range(ROOMS):
            name = f"room{number}"
            since[name] = str((await room.broadcast(name, "said", "before")).position)
            for _ in range(MISSED):
                await room.broadcast(name, "said", BODY)
        return since


async def come_back(url: str, since: dict[str, str], clients: int) -> None:
    app, _, node = application(url)
    async with app.router.lifespan_context(app):
        asked: Counter[str] = Counter()
        store: Any = node.store
        for name in ("read", "tops"):
            setattr(store, name, counted(asked, name, getattr(store, name)))
        names = list(since)
        herd = [Client(app, names[n % ROOMS], since[names[n % ROOMS]]) for n in range(clients)]
        before, began = resident(), time.perf_counter()
        tasks: list[asyncio.Task[None]] = []
        for number, client in enumerate(herd):
            tasks.append(asyncio.create_task(client.run()))
            if number % ARRIVE == 0:
                await asyncio.sleep(0)
        async with asyncio.timeout(120):  # who is refused has nothing
            await asyncio.gather(*(client.recovered.wait() for client in herd))
        took = time.perf_counter() - began
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(
            f"{clients:,} clients in {ROOMS} rooms, {MISSED} publications each: {took:.1f} s; "
            f"the store was asked {dict(asked)}; memory {(most - before) / MB:.0f} MB more at most, "
            f"{(resident() - before) / MB:.0f} MB when all had it"
        )
        for client in herd:
            client.leave.set()
        await asyncio.gather(*tasks)


def counted(asked: Counter[str], name: str, method: Any) -> Any:
    async def call(*args: Any, **kwargs: Any) -> Any:
        asked[name] += 1
        return await method(*args, **kwargs)

    return call


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def main() -> None:
    clients = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000
    with RedisServer() as server:
        since = asyncio.run(publish(server.url))
        asyncio.run(come_back(server.url, since, clients))


if __name__ == "__main__":
    main()
