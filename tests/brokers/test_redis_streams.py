"""Streams: where a subscription begins and goes on, and what stays behind on the server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from broadcaster import Broadcast

from fastapi_channels.brokers import NotSent, Resuming
from fastapi_channels.brokers.redis import StreamBackend
from tests.support.brokers import Process, other_tasks, running
from tests.support.live import wait_until
from tests.support.names import stable
from tests.support.servers import RedisServer


def backend(server: RedisServer, **options: Any) -> StreamBackend:
    server.ask("FLUSHALL")
    return StreamBackend(server.url.replace("redis://", "redis-stream://"), **options)


def test_it_resumes():
    assert isinstance(StreamBackend("redis-stream://"), Resuming)
    assert Process(StreamBackend("redis-stream://")).broker.resumes
    assert stable(StreamBackend("rediss-stream://host")._server._pool.connection_class).count("SSL")


async def test_before_it_is_connected_and_after(shared_redis: RedisServer):
    stream = backend(shared_redis)
    for _ in range(2):
        with pytest.raises(NotSent):
            await stream.publish("room", "x")
        with pytest.raises(NotSent):
            await stream.subscribe("room")
        with pytest.raises(NotSent):
            await stream.next_published()
        await stream.connect()
        await stream.disconnect()
    assert other_tasks() == set()


async def test_what_was_there_before_is_not_delivered(shared_redis: RedisServer):
    process = Process(backend(shared_redis))
    async with running(process):
        await process.publish("room", "before")
        await process.broker.subscribe("room")
        await process.publish("room", "after")
        await process.broker.unsubscribe("room")
        await process.publish("room", "meanwhile")
        await process.broker.subscribe("room")
        await process.drained("room")
        assert [body for body in process.bodies if body != "after"] == ["the last one"]


async def test_a_new_topic_does_not_wait_for_a_read_that_waits(shared_redis: RedisServer):
    process = Process(backend(shared_redis))
    loop = asyncio.get_running_loop()
    async with running(process):
        began = loop.time()
        for number in range(20):
            await process.broker.subscribe(str(number))
            await process.publish(str(number), "x")
            await process.receives(number + 1)
        assert loop.time() - began < 7.5, "each read ends by itself after 0.75 s"


async def test_what_others_write(shared_redis: RedisServer):
    process = Process(backend(shared_redis))
    async with running(process):
        await process.broker.subscribe("room")
        shared_redis.ask("XADD", "room", "*", "message", "as broadcaster does")
        shared_redis.ask("XADD", "room", "*", "what", "is no message", "level", "message")
        shared_redis.ask("XADD", "room", "*", "level", "3", "message", "among other fields")
        assert await process.receives(2) == ["as broadcaster does", "among other fields"]


async def test_streams_are_bounded_and_expire(shared_redis: RedisServer):
    process = Process(backend(shared_redis, kept=100, ttl=60))
    async with running(process):
        await asyncio.gather(*(process.publish("room", str(number)) for number in range(1000)))
        assert 100 <= int(shared_redis.ask("XLEN", "room")) <= 300
        await wait_until(lambda: 60 <= int(shared_redis.ask("TTL", "room")) <= 80)
        shared_redis.ask("PERSIST", "room")
        process.broker.suspect("a test says so")
        await process.publish("room", "on a new connection it is set again")
        await wait_until(lambda: int(shared_redis.ask("TTL", "room")) >= 60)
        await process.broker.subscribe("room")
    keys = shared_redis.ask("KEYS", "*").splitlines()
    assert all(int(shared_redis.ask("TTL", key)) > 0 for key in keys)


async def test_a_stream_that_expires_while_it_is_subscribed(shared_redis: RedisServer):
    process = Process(backend(shared_redis, ttl=1))
    async with running(process):
        await process.broker.subscribe("room")
        await process.publish("room", "one")
        await wait_until(lambda: shared_redis.ask("EXISTS", "room") == "0")
        await process.publish("room", "two")
        assert await process.receives(2) == ["one", "two"]


async def test_it_goes_on_where_it_was(shared_redis: RedisServer):
    process = Process(backend(shared_redis))
    async with running(process):
        await process.broker.subscribe("room")
        await process.broker.subscribe("never used")
        await process.publish("room", "1")
        await process.receives(1)
        process.broker.suspect("a test says so")
        for number in range(2, 1200):
            shared_redis.ask("XADD", "room", "*", "message", str(number))
        shared_redis.ask("XADD", "never used", "*", "message", "used")
        await process.receives(1200)
        assert [body for body in process.bodies if body != "used"] == [str(n) for n in range(1, 1200)]


async def test_in_a_plain_broadcast(shared_redis: RedisServer):
    """Which knows nothing of resuming, and begins anew each time."""
    broadcast = Broadcast(backend=backend(shared_redis))
    for turn in ("first", "second"):
        async with broadcast, broadcast.subscribe("room") as subscriber:
            await broadcast.publish("room", turn)
            event = await subscriber.get()
            assert event is not None
            assert (event.channel, event.message) == ("room", turn)
        shared_redis.ask("XADD", "room", "*", "message", "in between")


async def test_a_key_that_is_no_stream_harms_no_other(shared_redis: RedisServer):
    process = Process(backend(shared_redis))
    async with running(process):
        shared_redis.ask("SET", "taken", "x")
        await process.broker.subscribe("room")
        with pytest.raises(Exception, match="WRONGTYPE"):
            await process.broker.subscribe("taken")
        with pytest.raises(Exception, match="WRONGTYPE"):
            await process.publish("taken", "x")
        await process.drained("room")
        assert process.changes == [True]
