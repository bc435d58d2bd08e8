"""What becomes of subscriptions and publications when a real PostgreSQL, NATS or RabbitMQ fails."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
from broadcaster import BroadcastBackend

from fastapi_channels.brokers import create_backend
from fastapi_channels.exceptions import BrokerUnavailable
from fastapi_channels.testing.clock import turns
from tests.support.brokers import PATIENT, Process, other_tasks, persistently, running
from tests.support.live import wait_until
from tests.support.proxy import Proxy
from tests.support.servers import NatsServer, PostgresServer, RabbitServer

from .traffic import Traffic, delivered_again

Server = PostgresServer | NatsServer | RabbitServer

BACK = 12.0
"""Seconds after a restart in which delivery must work again."""
NOTICED = 20.0
"""Seconds in which a server that hangs must have been given up."""
CONNECTIONS = {PostgresServer: 2, NatsServer: 1, RabbitServer: 2}
"""That one process holds."""


@pytest.fixture(params=["mortal_postgres", "mortal_nats", "mortal_rabbit"])
def server(request: pytest.FixtureRequest) -> Server:
    server: Server = request.getfixturevalue(request.param)
    return server


@pytest.fixture
async def process(server: Server) -> AsyncIterator[Process]:
    process = Process(create_backend(server.url), **PATIENT)
    async with running(process):
        await process.broker.subscribe("room")
        yield process


async def restart(server: Server) -> None:
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.restart)


def through(proxy: Proxy, server: Server) -> BroadcastBackend:
    return create_backend(server.url.replace(f":{server.port}", f":{proxy.port}"))


async def test_killed_and_restarted_under_traffic(server: Server):
    """Messages are lost around an outage, and never doubled, and never out of order."""
    one, two = (Process(create_backend(server.url)) for _ in range(2))
    async with running(one, two):
        for process in (one, two):
            await process.broker.subscribe("room")
        tasks = len(other_tasks())
        traffic = [Traffic(one), Traffic(two)]
        async with traffic[0].flowing(), traffic[1].flowing():
            for _ in range(3):
                await delivered_again(one, two)
                await asyncio.to_thread(server.kill)
                await wait_until(lambda: not one.broker.up and not two.broker.up)
                await asyncio.to_thread(server.restart)
                assert await delivered_again(one, two) < BACK
        assert one.changes == two.changes == [True, *[False, True] * 3]
        for process in (one, two):
            for sender in traffic:
                numbers = [int(n) for who, n in map(_split, process.bodies) if who == str(id(sender))]
                assert numbers == sorted(set(numbers))
        await wait_until(lambda: len(other_tasks()) <= tasks)
    assert other_tasks() == set()


def _split(body: str | bytes) -> list[str]:
    return str(body).split()


async def test_flapping(process: Process, server: Server):
    tasks = len(other_tasks())
    for _ in range(3):
        await restart(server)
    await wait_until(lambda: process.broker.up)
    await process.publish("room", "still here")
    await wait_until(lambda: "still here" in process.bodies)
    await wait_until(lambda: len(other_tasks()) <= tasks)


async def test_a_publish_right_after_a_restart_is_not_lost(process: Process, server: Server):
    """The event loop has had no chance to notice that the connection is a dead one."""
    await asyncio.sleep(0.05)
    server.kill()
    server.restart()
    await process.publish("room", "not lost")
    assert await process.receives(1) == ["not lost"]


async def test_a_server_that_hangs(server: Server, caplog: pytest.LogCaptureFixture):
    process = Process(create_backend(server.url), publish_timeout=0.5)
    async with running(process):
        await process.broker.subscribe("room")
        server.pause()
        began = time.monotonic()
        with pytest.raises(BrokerUnavailable, match="did not answer"):
            await process.publish("room", "in the buffers")
        with pytest.raises(BrokerUnavailable, match="did not answer"):
            await process.broker.subscribe("other")
        await wait_until(lambda: not process.broker.up)
        assert time.monotonic() - began < NOTICED
        with pytest.raises(BrokerUnavailable, match="is down"):
            await process.publish("room", "while it hangs")
        server.resume()
        await wait_until(lambda: process.broker.up)
        await persistently(lambda: process.publish("room", "afterwards"))
        await wait_until(lambda: process.bodies[-1:] == ["afterwards"])
        assert process.broker.topics == {"room"}
    assert "no sign of life" in caplog.text
    assert other_tasks() == set()


async def test_a_hung_server_does_not_hold_up_the_end(server: Server):
    process = Process(create_backend(server.url), publish_timeout=0.5)
    async with running(process):
        await process.broker.subscribe("room")
        server.pause()
        sending = [asyncio.create_task(process.publish("room", "x" * 4_000_000)) for _ in range(3)]
        outcomes = await asyncio.gather(*sending, return_exceptions=True)
        assert all(isinstance(outcome, BrokerUnavailable) for outcome in outcomes)
        began = time.monotonic()
    assert time.monotonic() - began < 30
    assert other_tasks() == set()
    server.resume()


async def test_a_loop_that_was_blocked_is_not_a_dead_server(process: Process):
    for _ in range(2):
        await asyncio.sleep(0.1)
        await _blocked(5.0)
    await asyncio.sleep(0.5)
    await process.publish("room", "x")
    assert await process.receives(1) == ["x"]
    assert process.changes == [True]


async def _blocked(seconds: float) -> None:
    time.sleep(seconds)  # noqa: ASYNC251 - what is tested


async def test_a_join_that_is_not_answered_is_repeated(server: Server):
    process = Process(create_backend(server.url), **PATIENT)
    async with running(process):
        server.pause()
        joining = asyncio.create_task(process.broker.subscribe("room"))
        await turns(100)
        await restart(server)
        await joining
        await process.publish("room", "x")
        assert await process.receives(1) == ["x"]


async def test_a_publish_that_is_not_answered_is_not_repeated(server: Server):
    process = Process(create_backend(server.url), **PATIENT)
    async with running(process):
        await process.broker.subscribe("room")
        await process.publish("room", "answered")  # now no sign of life is under way, behind which it waited
        server.pause()
        publishing = asyncio.create_task(process.publish("room", "x"))
        await turns(100)
        await asyncio.to_thread(server.kill)
        with pytest.raises(BrokerUnavailable, match="broke before the answer"):
            await publishing
        await asyncio.to_thread(server.restart)
        await process.drained("room")
        assert process.bodies == ["answered", "the last one"]


async def test_no_server_at_start(server: Server, caplog: pytest.LogCaptureFixture):
    server.kill()
    process = Process(create_backend(server.url), publish_timeout=0.3)
    async with running(process):
        assert not process.broker.up
        with pytest.raises(BrokerUnavailable, match="is down"):
            await process.broker.subscribe("room")
        await asyncio.to_thread(server.restart)
        await wait_until(lambda: process.broker.up)
        await persistently(lambda: process.broker.subscribe("room"))
        await persistently(lambda: process.publish("room", "x"))
        assert await process.receives(1) == ["x"]
    assert "the broker cannot be reached" in caplog.text


async def test_two_thousand_topics_come_back(server: Server):
    process = Process(create_backend(server.url), **PATIENT)
    topics = [f"room {number}" for number in range(2000)]
    async with running(process):
        for start in range(0, len(topics), 100):
            await asyncio.gather(*map(process.broker.subscribe, topics[start : start + 100]))
        await asyncio.to_thread(server.kill)
        await wait_until(lambda: not process.broker.up)
        await asyncio.to_thread(server.restart)
        await wait_until(lambda: process.broker.up)
        for start in range(0, len(topics), 100):
            await asyncio.gather(*(process.publish(topic, topic) for topic in topics[start : start + 100]))
        assert sorted(map(str, await process.receives(2000))) == sorted(topics)
        assert process.changes == [True, False, True]


async def test_connections_that_are_cut(server: Server):
    async with Proxy(server.port) as proxy:
        process = Process(through(proxy, server))
        async with running(process):
            await process.broker.subscribe("room")
            for number in range(10):
                process.changes.clear()
                proxy.cut()
                await wait_until(lambda: process.changes == [False, True])
                await process.publish("room", str(number))
                assert (await process.receives(number + 1))[-1] == str(number)
                await wait_until(lambda: proxy.connections == CONNECTIONS[type(server)])
        await wait_until(lambda: proxy.connections == 0)


async def test_a_cable_that_is_pulled(server: Server):
    """Nothing comes, and nothing is refused; nor are new connections."""
    async with Proxy(server.port) as proxy:
        process = Process(through(proxy, server), publish_timeout=0.5)
        async with running(process):
            await process.broker.subscribe("room")
            proxy.freeze()
            began = time.monotonic()
            await wait_until(lambda: not process.broker.up)
            assert time.monotonic() - began < NOTICED
            proxy.thaw()
            await wait_until(lambda: process.broker.up)
            await process.publish("room", "x")
            assert await process.receives(1) == ["x"]
            await wait_until(lambda: proxy.connections == CONNECTIONS[type(server)])
    assert other_tasks() == set()


async def test_cut_amid_a_large_message(server: Server):
    """It arrives whole, or not at all."""
    bodies = {number: str(number) * 5_000_000 for number in range(8)}
    async with Proxy(server.port) as proxy:
        process = Process(through(proxy, server), **PATIENT)
        async with running(process):
            await process.broker.subscribe("room")
            for number, body in bodies.items():
                publishing = asyncio.create_task(process.publish("room", body))
                await asyncio.sleep(0.005 * number)
                proxy.cut()
                await asyncio.wait((publishing,))
                publishing.exception()
            # That the connection was cut may not be known yet: the first of these may be lost, or come twice.
            await persistently(lambda: process.drained("room"))
    arrived = [str(body) for body in process.bodies if body != "the last one"]
    assert len(arrived) == len(set(arrived))
    assert set(arrived) <= set(bodies.values())


async def test_passwords_are_not_told(server: Server, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    address = urlsplit(server.url)
    server.kill()
    process = Process(create_backend(f"{address.scheme}://me:hunter2@{address.netloc.split('@')[-1]}"))
    async with running(process):
        with pytest.raises(BrokerUnavailable) as caught:
            await process.publish("room", "x")
    assert "hunter2" not in caplog.text + str(caught.value)
