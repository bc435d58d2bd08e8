"""A process is told to end while its clients speak."""

from __future__ import annotations

import asyncio
import re

from tests.support.servers import RedisServer

from .recovering import served

CLIENTS = 200
TROUBLE = re.compile(r"\b(ERROR|CRITICAL)\b|Traceback|was destroyed|never awaited")


async def test_sigterm_while_200_messages_are_under_way(mortal_redis: RedisServer):
    async with served(mortal_redis.url) as server:
        async with server.site.clients(*["/forgotten/room"] * CLIENTS) as clients:
            for number, client in enumerate(clients):
                await client.send({"action": "say", "number": number})
            ending = asyncio.create_task(server.terminate())
            closes = await asyncio.gather(*(client.closed() for client in clients))
            assert await ending == 0
        assert {close.code for close in closes} == {1012}
        assert mortal_redis.channels() == set(), "it has left the broker"
        assert [line for line in server.lines if TROUBLE.search(line)] == []
