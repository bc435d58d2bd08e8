"""A thousand clients of one process lose their server, and come back."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

from fastapi_channels.client import Client, Room
from tests.support.live import process, wait_until
from tests.support.servers import RedisServer, free_port

CLIENTS = 1000


async def test_a_thousand_clients_are_back_with_every_message_once(mortal_redis: RedisServer):
    """Within ten seconds, from the moment when the server is there again."""
    port = str(free_port())
    served = ("tests.client.served:create_app", "--factory", "--port", port)
    environment = {"CHANNELS_URL": mortal_redis.url}
    heard: list[list[str]] = []
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(Client(f"http://127.0.0.1:{port}", proxy=None))
        async with process(*served, environment=environment) as server:
            rooms: list[Room] = []
            for _ in range(CLIENTS):
                room = client.room("/rooms/{channel}", channel="lobby")
                mine: list[str] = []
                heard.append(mine)
                room.on("said", lambda data, mine=mine: mine.append(data["text"]))
                rooms.append(room)
                if len(rooms) % 50 == 0:
                    await rooms[-1].ready()
            await asyncio.gather(*(room.ready() for room in rooms))
            for number in range(5):
                await rooms[0].call("say", {"text": f"before {number}"})
            await server.kill()
        await wait_until(lambda: all(room.state == "joining" for room in rooms))
        begun = time.monotonic()
        async with process(*served, environment=environment):
            served_at = time.monotonic()
            away = served_at - begun
            await asyncio.gather(*(room.ready() for room in rooms))
            back = time.monotonic() - served_at
            for number in range(5):
                await rooms[number].call("say", {"text": f"after {number}"}, timeout=30.0)
            await wait_until(lambda: all(len(mine) == 10 for mine in heard), within=30)
            told = time.monotonic() - served_at
            print(f"away {away:.1f} s; {CLIENTS} clients were back in {back:.1f} s, told in {told:.1f} s")
            expected = [f"{when} {number}" for when in ("before", "after") for number in range(5)]
            assert all(mine == expected for mine in heard)
            assert told < 40
            await client.close()
