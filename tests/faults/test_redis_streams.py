"""What a stream heals, when a real Redis with its log on the disk fails, and what it cannot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from fastapi_channels.brokers.redis import StreamBackend
from tests.support.brokers import Process, other_tasks
from tests.support.brokers import running as running_processes
from tests.support.live import wait_until
from tests.support.servers import RedisServer

from .traffic import Traffic, delivered_again


class Told(Process):
    """A process that remembers of which topics messages were missed."""

    def __init__(self, server: RedisServer) -> None:
        self.missed: list[str] = []
        super().__init__(StreamBackend(server.url), on_missed=self.missed.append)


@pytest.fixture
async def two(lasting_redis: RedisServer) -> AsyncIterator[tuple[Told, Told]]:
    one, other = Told(lasting_redis), Told(lasting_redis)
    async with running_processes(one, other):
        for process in (one, other):
            await process.broker.subscribe("room")
        yield one, other
    assert other_tasks() == set()


async def everything(traffic: Traffic, *processes: Told) -> None:
    """Wait until all that was taken was delivered to all, and see that it was once, and in order."""
    for process in processes:
        await wait_until(lambda process=process: traffic.taken[-1] in process.bodies)
        assert set(traffic.taken) <= set(process.bodies)
        numbers = [int(str(body).split()[1]) for body in process.bodies]
        assert numbers == sorted(set(numbers))
        assert process.missed == []


async def test_killed_and_restarted_under_traffic(two: tuple[Told, Told], lasting_redis: RedisServer):
    traffic = Traffic(two[0])
    async with traffic.flowing():
        for _ in range(5):
            await delivered_again(*two)
            await asyncio.to_thread(lasting_redis.kill)
            await asyncio.to_thread(lasting_redis.restart)
            await delivered_again(*two)
    await everything(traffic, *two)


async def test_one_is_cut_off_while_the_other_goes_on(two: tuple[Told, Told], lasting_redis: RedisServer):
    one, other = two
    traffic = Traffic(one)
    async with traffic.flowing():
        for _ in range(10):
            await delivered_again(one, other)
            other.broker.suspect("a test says so")
            await delivered_again(one)
            await wait_until(lambda: other.broker.up)
    await everything(traffic, one, other)
    assert other.changes == [True, *[False, True] * 10]


async def test_a_server_that_hangs(two: tuple[Told, Told], lasting_redis: RedisServer):
    traffic = Traffic(two[0])
    async with traffic.flowing():
        await delivered_again(*two)
        lasting_redis.pause()
        await wait_until(lambda: not two[0].broker.up and not two[1].broker.up)
        lasting_redis.resume()
        await delivered_again(*two)
    await everything(traffic, *two)


async def test_flapping(two: tuple[Told, Told], lasting_redis: RedisServer):
    traffic = Traffic(two[0])
    async with traffic.flowing():
        for _ in range(10):
            await asyncio.to_thread(lasting_redis.kill)
            await asyncio.to_thread(lasting_redis.restart)
        await delivered_again(*two)
        await wait_until(lambda: bool(traffic.taken))
    await everything(traffic, *two)


async def test_what_was_given_up_while_it_was_down_is_begun_anew(
    two: tuple[Told, Told], lasting_redis: RedisServer
):
    one, other = two
    await asyncio.to_thread(lasting_redis.kill)
    await wait_until(lambda: not one.broker.up and not other.broker.up)
    await other.broker.unsubscribe("room")
    await asyncio.to_thread(lasting_redis.restart)
    await one.publish("room", "before it came back")
    await other.broker.subscribe("room")
    await one.publish("room", "afterwards")
    await wait_until(lambda: one.bodies[-1:] == ["afterwards"])
    await wait_until(lambda: other.bodies[-1:] == ["afterwards"])
    assert other.bodies == ["afterwards"]


async def test_a_server_that_lost_everything_says_so(mortal_redis: RedisServer):
    process = Told(mortal_redis)
    async with running_processes(process):
        await process.broker.subscribe("room")
        await process.publish("room", "before")
        await process.receives(1)
        await asyncio.to_thread(mortal_redis.kill)
        await asyncio.to_thread(mortal_redis.restart)
        await process.publish("room", "afterwards")
        assert await process.receives(2) == ["before", "afterwards"]
        assert process.missed == ["room"]


async def test_what_a_stream_no_longer_has_is_told(mortal_redis: RedisServer):
    process = Told(mortal_redis)
    async with running_processes(process):
        await process.broker.subscribe("room")
        await process.publish("room", "before")
        await process.receives(1)
        process.broker.suspect("a test says so")
        mortal_redis.ask("XADD", "room", "MAXLEN", "1", "*", "message", "the last of many")
        assert await process.receives(2) == ["before", "the last of many"]
        assert process.missed == ["room"]
