"""A client that has gone leaves its room in time, whatever of it still runs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI

from fastapi_channels import Channel, Connection, Socket, action, add_channel
from tests.support.live import application, serving, wait_until

hanging = threading.Event()


def hangs_in_its_cleanup() -> Iterator[None]:
    yield
    hanging.wait(30)


class Room(Channel):
    finish_timeout = 0.2
    max_connection = 1

    def __init__(self) -> None:
        super().__init__()
        self.left: list[str] = []
        self.go_on = asyncio.Event()
        self.runs = asyncio.Event()
        self.add_event_handler("leave", self.remember)

    async def remember(self, connection: Connection) -> None:
        self.left.append(connection.id)

    @action()
    async def swallow(self) -> None:
        """Ignores that it is cancelled."""
        self.runs.set()
        while not self.go_on.is_set():
            with suppress(asyncio.CancelledError):
                await self.go_on.wait()

    @action(detached=True)
    async def swallow_beside(self) -> None:
        await Room.swallow(self)

    @action()
    async def hang(self, nothing: Annotated[Any, Depends(hangs_in_its_cleanup)]) -> None:
        self.runs.set()


@pytest.mark.parametrize("name", ["swallow", "swallow_beside", "hang"])
async def test_its_place_is_free_when_the_time_is_over(name: str):
    hanging.clear()
    room = Room()
    async with serving(application(room)) as site:
        async with site.connect("/lobby") as ada:
            await ada.send({"action": name})
            await asyncio.wait_for(room.runs.wait(), 30)
        await wait_until(lambda: site.node.hub.count("lobby") == 0)
        assert room.left == [], "the leave handlers wait for what still runs"
        async with site.connect("/lobby"):
            assert site.node.hub.count("lobby") == 1
            room.go_on.set()
            hanging.set()
            await wait_until(lambda: len(room.left) == 1)
            assert site.node.hub.count("lobby") == 1, "whoever came meanwhile stays"


@pytest.mark.parametrize("name", ["swallow", "swallow_beside", "hang"])
async def test_so_it_is_on_a_websocket_for_many_rooms(name: str):
    hanging.clear()
    app, room = FastAPI(), Room()
    add_channel(app)
    socket = Socket(room)
    socket.finish_timeout = Room.finish_timeout
    socket.mount(app, "/")
    async with serving(app) as site:
        async with site.connect("/") as ada:
            for place in ("lobby", "kitchen"):
                await ada.send({"type": "join", "channel": place})
                assert (await ada.receive())["type"] == "joined"
            await ada.send({"action": name, "channel": "lobby"})
            await asyncio.wait_for(room.runs.wait(), 30)
        await wait_until(lambda: not site.node.hub.rooms)
        room.go_on.set()
        hanging.set()
        await wait_until(lambda: len(room.left) == 2)
