"""Commands that go on while the broker is away."""

from __future__ import annotations

import asyncio

from fastapi_channels import Channel
from tests.commands.test_over_the_broker import command, line
from tests.support.live import application, serving, unique
from tests.support.servers import RedisServer


async def test_top_goes_on_when_the_broker_is_back(mortal_redis: RedisServer):
    told = {"url": mortal_redis.url, "namespace": unique()}
    where = ("--url", told["url"], "--namespace", told["namespace"])
    async with command("top", "--every", "0.2", *where) as top:

        async def seen(what: str) -> None:
            async with asyncio.timeout(60):
                while what not in await line(top.stdout):
                    assert top.process.poll() is None

        async with serving(application(Channel(), **told)) as one:
            await seen(one.node.id)
        await asyncio.to_thread(mortal_redis.kill)
        await seen("no process can be asked: the broker is down: ")
        await asyncio.to_thread(mortal_redis.restart)
        async with serving(application(Channel(), **told)) as other:
            await seen(other.node.id)
