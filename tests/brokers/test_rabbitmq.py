"""What RabbitMQ alone asks for: one exchange, a queue of one's own, confirmations."""

from __future__ import annotations

import asyncio

import aiormq
import pytest

from fastapi_channels.brokers import Listening, NotSent, create_backend
from fastapi_channels.brokers.rabbitmq import EXCHANGE, RabbitBackend
from tests.support.brokers import Process, running
from tests.support.live import wait_until
from tests.support.proxy import Proxy
from tests.support.servers import RabbitServer


async def test_before_it_is_connected():
    backend = RabbitBackend("amqp://127.0.0.1:1/")
    assert isinstance(backend, Listening)
    for call in (backend.publish("room", "x"), backend.subscribe("room"), backend.unsubscribe("room")):
        with pytest.raises(NotSent):
            await call
    await backend.disconnect()


@pytest.mark.parametrize(
    ("url", "used"),
    [
        ("amqp://host/v", "amqp://host/v?heartbeat=10"),
        ("amqp://host/v?name=x", "amqp://host/v?name=x&heartbeat=10"),
        ("amqp://host/v?heartbeat=3", "amqp://host/v?heartbeat=3"),
    ],
)
def test_the_heartbeat(url: str, used: str):
    assert RabbitBackend(url)._url == used


async def test_a_stranger_listens_and_publishes(shared_rabbit: RabbitServer):
    heard: list[bytes] = []

    async def hear(message: aiormq.abc.DeliveredMessage) -> None:
        heard.append(message.body)

    process = Process(create_backend(shared_rabbit.url))
    connection = await aiormq.connect(shared_rabbit.url)
    async with running(process):
        await process.broker.subscribe("room")
        channel = await connection.channel()
        queue = (await channel.queue_declare(exclusive=True)).queue or ""
        await channel.queue_bind(queue, EXCHANGE, "room")
        await channel.basic_consume(queue, hear, no_ack=True)
        await channel.basic_publish(b"from outside", exchange=EXCHANGE, routing_key="room")
        await process.receives(1)
        await process.publish("room", "from inside")
        assert await process.receives(2) == ["from outside", "from inside"]
        await wait_until(lambda: heard == [b"from outside", b"from inside"])
    await connection.close()


async def test_what_is_published_at_once_goes_out_in_one_write(shared_rabbit: RabbitServer):
    backend = RabbitBackend(shared_rabbit.url)
    await backend.connect()
    publisher = backend._publisher
    assert publisher is not None
    assert publisher._channel is not None
    queue, puts = publisher._channel.write_queue, list[int]()
    put = queue.put

    async def count(frame: aiormq.abc.ChannelFrame) -> None:
        puts.append(len(frame.payload))
        await put(frame)

    await backend.publish("room", "x")  # and the first sign of life
    queue.put = count  # type: ignore[method-assign]  # counts on the way
    await asyncio.gather(*(backend.publish("room", str(number)) for number in range(100)))
    assert len(puts) == 1
    await backend.disconnect()


async def test_a_queue_that_somebody_deleted_is_a_gap(
    shared_rabbit: RabbitServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("fastapi_channels.brokers.link.PING_INTERVAL", 0.5)
    backend = RabbitBackend(shared_rabbit.url)
    process = Process(backend)
    async with running(process):
        await process.broker.subscribe("room")
        assert backend._consumer is not None
        consumer = backend._consumer
        assert consumer._channel is not None
        await consumer._channel.queue_delete(consumer._queue)  # others may not: it is exclusive
        await wait_until(lambda: process.changes == [True, False, True])
        await process.publish("room", "again")
        assert await process.receives(1) == ["again"]


async def test_of_an_outage_its_driver_logs_nothing(
    shared_rabbit: RabbitServer, caplog: pytest.LogCaptureFixture
):
    async with Proxy(shared_rabbit.port) as proxy:
        url = shared_rabbit.url.replace(str(shared_rabbit.port), str(proxy.port))
        process = Process(create_backend(url))
        async with running(process):
            await wait_until(lambda: process.changes == [True])
            proxy.cut()
            await wait_until(lambda: process.changes == [True, False, True])
    assert [record.name for record in caplog.records] == ["fastapi_channels"] * 2


async def test_of_attempts_its_driver_logs_nothing_and_what_others_do_with_it_it_does(
    caplog: pytest.LogCaptureFixture,
):
    process = Process(create_backend("amqp://127.0.0.1:1/"), backoff=(0.001, 0.001))
    async with running(process):
        await wait_until(lambda: (now := process.broker._outages._current) is not None and now.attempts > 3)
    assert [record.name for record in caplog.records] == ["fastapi_channels"]
    with pytest.raises(aiormq.exceptions.AMQPConnectionError):
        await aiormq.connect("amqp://127.0.0.1:1/")
    assert [record.name for record in caplog.records] == ["fastapi_channels", "aiormq.connection"]
