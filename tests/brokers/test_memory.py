import asyncio

import pytest
from broadcaster import Broadcast, Event

from fastapi_channels.brokers import Listening, MemoryBackend
from fastapi_channels.brokers.backlog import OVERHEAD
from fastapi_channels.wire.messages import Publication
from tests.support.brokers import Process, running


def test_it_listens_and_is_local():
    assert isinstance(MemoryBackend(), Listening)
    assert Process(MemoryBackend("memory://")).broker.local


async def test_a_publication_is_delivered_as_it_is_before_publish_returns():
    process = Process(MemoryBackend())
    async with running(process):
        await process.broker.subscribe("room")
        publication = Publication("room", b"\xff", frozenset({"a.1"}), "kind")
        sending = process.broker.publish(publication)
        with pytest.raises(StopIteration):
            sending.send(None)  # ends without ever giving way to another task
        assert process.delivered[0] is publication


async def test_what_nobody_wants_is_not_kept():
    backend = MemoryBackend()
    await backend.connect()
    await backend.publish("room", "unheard")
    await backend.subscribe("room")
    await backend.publish("room", "heard")
    await backend.unsubscribe("room")
    await backend.unsubscribe("room")
    await backend.publish("room", "unheard")
    await backend.subscribe("room")
    await backend.publish("room", "the last")
    assert await backend.next_published() == Event("room", "heard")
    assert await backend.next_published() == Event("room", "the last")


async def test_a_new_connection_begins_empty():
    backend = MemoryBackend()
    await backend.connect()
    await backend.subscribe("room")
    await backend.publish("room", "old")
    await backend.disconnect()
    await backend.connect()
    await backend.publish("room", "unheard")
    await backend.subscribe("room")
    await backend.publish("room", "new")
    assert await backend.next_published() == Event("room", "new")


async def test_a_plain_broadcast():
    async with Broadcast(backend=MemoryBackend()) as broadcast, broadcast.subscribe("room") as subscriber:
        for body in ("first", "second"):
            await broadcast.publish("room", body)
        async with asyncio.timeout(30):
            assert [await subscriber.get(), await subscriber.get()] == [
                Event("room", "first"),
                Event("room", "second"),
            ]


async def test_what_waits_is_bounded():
    backend = MemoryBackend(limit=10 * (OVERHEAD + 1))
    await backend.connect()
    await backend.subscribe("room")
    for number in range(30):
        await backend.publish("room", str(number % 10))
    assert backend.dropped == 20


async def test_a_user_publishes_beside_the_broker():
    backend = MemoryBackend()
    process = Process(backend)
    async with running(process):
        await process.broker.subscribe("room")
        await Broadcast(backend=backend).publish("room", "from elsewhere")
        assert process.delivered == [Publication("room", "from elsewhere")]
