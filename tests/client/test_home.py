"""A client is for one event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from fastapi_channels.client import Client, ClientError, Room, Socket

from .fake import World


async def in_another_loop(work: Callable[[], Any]) -> str:
    """What it says there."""

    async def there() -> str:
        try:
            found = work()
            if isinstance(found, Awaitable):
                await asyncio.wait_for(found, 60)
        except ClientError as exc:
            return str(exc)
        return ""

    return await asyncio.to_thread(asyncio.run, there())


@pytest.mark.parametrize(
    "work",
    [
        lambda client, room, socket: room.call("say"),
        lambda client, room, socket: room.stream("count"),
        lambda client, room, socket: room.history().__anext__(),
        lambda client, room, socket: room.events("said"),
        lambda client, room, socket: room.ready(),
        lambda client, room, socket: room.retry(),
        lambda client, room, socket: room.leave(),
        lambda client, room, socket: room.__aenter__(),
        lambda client, room, socket: socket.room("lobby"),
        lambda client, room, socket: socket.own.leave(),
        lambda client, room, socket: socket.close(),
        lambda client, room, socket: client.room("/rooms/lobby"),
        lambda client, room, socket: client.socket("/desk"),
        lambda client, room, socket: client.__aenter__(),
        lambda client, room, socket: client.close(),
    ],
)
async def test_another_one_is_told_of_at_once(work: Callable[[Client, Room, Socket], Any]):
    async with World().client() as client:
        room, socket = await client.room("/rooms/lobby").ready(), client.socket("/desk")
        said = await in_another_loop(lambda: work(client, room, socket))
        assert f"belongs to the event loop of the thread {threading.current_thread().name!r}" in said
        assert "SyncClient" in said
        assert room.state == "joined"


async def test_what_was_begun_here_is_not_read_there():
    async with World().client() as client:
        room = await client.room("/rooms/lobby").ready()
        for feed in (room.events("said"), room.stream("count")):
            for read in (feed.__anext__, feed.aclose):
                assert "belongs to the event loop" in await in_another_loop(read)


def test_a_client_outlives_its_loop_and_its_rooms_do_not():
    world = World()
    client = world.client()

    async def first() -> Room:
        return await client.room("/rooms/lobby").ready()

    async def second(old: Room) -> None:
        with pytest.raises(ClientError, match="closed=True"):
            await old.call("say")
        async with client:
            assert (await client.room("/rooms/lobby").ready()).state == "joined"

    room = asyncio.run(first())
    asyncio.run(second(room))
    assert len(world.wires) == 2
