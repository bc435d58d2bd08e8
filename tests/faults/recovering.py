"""An application with history, as a process of its own, and clients that count what they get."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from fastapi_channels import Channel, Connection, PersonChannel, action, add_channel
from fastapi_channels.wire.positions import Position
from tests.support.live import Client, ServerProcess, Site, process

FACTORY = "tests.faults.recovering:create_app"


class Kept(Channel):
    scope = "kept"
    history = 100_000
    history_ttl = 600.0
    history_size = 64 * 1024 * 1024
    recovery_limit = 100_000

    @action()
    async def say(self, connection: Connection, number: int) -> str | None:
        return (await self.broadcast(connection.room, "said", number)).position

    @action()
    async def count(self, connection: Connection) -> int:
        return await self.get_connection_count(connection.room)


class Forgotten(Channel):
    scope = "forgotten"

    @action()
    async def say(self, connection: Connection, number: int) -> str:
        await self.broadcast(connection.room, "said", number)
        return "said"


class Pair(PersonChannel):
    scope = "pair"

    @action()
    async def say(self, connection: Connection, text: str) -> None:
        await self.broadcast(connection.room, "said", text)


def create_app() -> FastAPI:
    app = FastAPI()
    add_channel(app, url=os.environ["BROKER"], store_url=os.environ.get("STORE"), asyncapi_url=None)
    Kept().mount(app, "/kept/{channel}")
    Forgotten().mount(app, "/forgotten/{channel}")
    Pair().mount(app, "/pair/{channel}")
    return app


@asynccontextmanager
async def served(broker: str, store: str | None = None) -> AsyncIterator[ServerProcess]:
    environment = {**os.environ, "BROKER": broker}
    if store is not None:
        environment["STORE"] = store
    async with process(FACTORY, "--factory", environment=environment) as server:
        yield server


class Reader:
    """A client that stays, and comes back with its position when it is cut off.

    Attributes:
        numbers: what it was sent, in order.
        joins: the `joined` frames.
        resyncs: the positions from which it has had to go on without having all.
        dropped: how often its WebSocket has ended.
    """

    def __init__(self, *sites: Site, path: str = "/kept/room") -> None:
        self.numbers: list[int] = []
        self.joins: list[Any] = []
        self.resyncs: list[str] = []
        self.dropped = 0
        self.position = ""
        self.connected = asyncio.Event()
        self._sites = sites
        self._path = path

    async def run(self) -> None:
        turn = 0
        while True:
            site = self._sites[turn % len(self._sites)]
            turn += 1
            try:
                async with site.connect(f"{self._path}?since={self.position}") as client:
                    await self._read(client)
            except (ConnectionClosed, InvalidHandshake, OSError, TimeoutError):
                self.dropped += self.connected.is_set()
                self.connected.clear()
                await asyncio.sleep(0.05)

    async def _read(self, client: Client) -> None:
        while True:
            frame = await client.receive(within=120)
            if frame["type"] == "joined":
                self.joins.append(frame)
                self.connected.set()
                if frame.get("recovered") is False:
                    self.resyncs.append(frame["position"])
            elif frame["type"] == "resync":
                self.resyncs.append(frame.get("position", ""))
            elif frame["type"] == "event":
                self.numbers.append(frame["data"])
                at = Position.parse(frame["position"])
                if self.position and (was := Position.parse(self.position)).epoch == at.epoch:
                    assert at.offset > was.offset, "it came twice, or too late"
            self.position = frame.get("position", self.position)


class Speaker:
    """A client that says one number after the other, and remembers which were accepted."""

    def __init__(self, site: Site, start: int = 0) -> None:
        self.accepted: list[int] = []
        self.refused: list[int] = []
        self._site = site
        self._number = start

    async def run(self) -> None:
        async with self._site.connect("/kept/room") as client:
            while True:
                self._number += 1
                await client.send({"action": "say", "number": self._number, "request_id": self._number})
                reply = await client.receive_until(
                    lambda frame: frame["type"] == "response" and frame["request_id"] == self._number, 60
                )
                (self.accepted if reply["status"] == "ok" else self.refused).append(self._number)
                await asyncio.sleep(0.005)


@asynccontextmanager
async def running(*works: Any) -> AsyncIterator[None]:
    """Let readers and speakers run; what one of them raises is raised."""
    tasks = [asyncio.create_task(work.run()) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        for found in done:
            if isinstance(found, Exception):
                raise found
