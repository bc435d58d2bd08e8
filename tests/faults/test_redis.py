"""What becomes of subscriptions and publications when a real Redis fails, in every way it can."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import pytest
from broadcaster import Broadcast

from fastapi_channels.brokers import adopt
from fastapi_channels.brokers.redis import RedisBackend
from fastapi_channels.brokers.redis.link import Link
from fastapi_channels.exceptions import BrokerUnavailable
from fastapi_channels.testing.clock import turns
from tests.support.brokers import PATIENT, Process, other_tasks, persistently, running
from tests.support.live import wait_until
from tests.support.servers import RedisServer, required

from .traffic import Traffic, delivered_again

BACK = 8.0
"""Seconds after a restart in which delivery must work again."""


@pytest.fixture
async def process(mortal_redis: RedisServer) -> AsyncIterator[Process]:
    process = Process(RedisBackend(mortal_redis.url))
    async with running(process):
        await process.broker.subscribe("room")
        yield process


async def test_killed_and_restarted_five_times_under_traffic(mortal_redis: RedisServer):
    one, two = (Process(RedisBackend(mortal_redis.url)) for _ in range(2))
    async with running(one, two):
        for process in (one, two):
            await process.broker.subscribe("room")
        tasks = len(other_tasks())
        traffic = [Traffic(one), Traffic(two)]
        async with traffic[0].flowing(), traffic[1].flowing():
            for _ in range(5):
                await delivered_again(one, two)
                await asyncio.to_thread(mortal_redis.kill)
                await wait_until(lambda: not one.broker.up and not two.broker.up)
                await asyncio.to_thread(mortal_redis.restart)
                assert await delivered_again(one, two) < BACK
        assert one.changes == two.changes == [True, *[False, True] * 5]
        assert len(one.bodies) == len(set(one.bodies))
        await wait_until(lambda: len(other_tasks()) == tasks)
        assert mortal_redis.clients("pubsub") == mortal_redis.clients("normal") == 2
        assert mortal_redis.ask("PUBSUB", "NUMSUB", "room") == "room\n2"
    assert other_tasks() == set()


async def test_what_was_taken_while_all_were_connected_is_delivered_in_order(mortal_redis: RedisServer):
    """Around an outage messages are lost, but never doubled, and never out of order."""
    one, two = (Process(RedisBackend(mortal_redis.url)) for _ in range(2))
    async with running(one, two):
        for process in (one, two):
            await process.broker.subscribe("room")
        traffic = Traffic(one)
        async with traffic.flowing():
            for _ in range(3):
                await delivered_again(two)
                await asyncio.to_thread(mortal_redis.kill)
                await asyncio.to_thread(mortal_redis.restart)
                await delivered_again(two)
        await one.publish("room", "the end")
        await wait_until(lambda: two.bodies[-1] == "the end")
        received = [int(str(body).split()[1]) for body in two.bodies[:-1]]
        assert received == sorted(set(received))


async def test_flapping(process: Process, mortal_redis: RedisServer):
    tasks = len(other_tasks())
    for _ in range(10):
        await asyncio.to_thread(mortal_redis.kill)
        await asyncio.to_thread(mortal_redis.restart)
    await wait_until(lambda: process.broker.up)
    await process.publish("room", "still here")
    await wait_until(lambda: "still here" in process.bodies)
    assert (mortal_redis.clients("pubsub"), mortal_redis.clients("normal")) == (1, 1)
    assert len(other_tasks()) == tasks


async def test_connections_that_the_server_kills(
    process: Process, mortal_redis: RedisServer, caplog: pytest.LogCaptureFixture
):
    for kind in ("pubsub", "normal"):
        process.changes.clear()
        mortal_redis.ask("CLIENT", "KILL", "TYPE", kind)
        await wait_until(lambda: process.changes == [False, True])
        await process.publish("room", kind)
        await wait_until(lambda kind=kind: process.bodies[-1:] == [kind])
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [text.split(",")[0][:22] for text in warnings] == [
        "the broker is lost",
        "the broker is back aft",
    ] * 2


@pytest.mark.parametrize("number", range(5))
async def test_a_publish_right_after_a_restart_is_not_lost(
    process: Process, mortal_redis: RedisServer, number: int
):
    """The event loop has had no chance to notice that the connection is a dead one."""
    await asyncio.sleep(0.01 * number)
    mortal_redis.kill()
    mortal_redis.restart()
    await process.publish("room", "not lost")
    assert await process.receives(1) == ["not lost"]


async def test_a_server_that_hangs(mortal_redis: RedisServer, caplog: pytest.LogCaptureFixture):
    process = Process(RedisBackend(mortal_redis.url), publish_timeout=0.5)
    async with running(process):
        await process.broker.subscribe("room")
        mortal_redis.pause()
        began = time.monotonic()
        with pytest.raises(BrokerUnavailable, match="did not answer"):
            await process.publish("room", "in the buffers")
        with pytest.raises(BrokerUnavailable, match="did not answer"):
            await process.broker.subscribe("other")
        await wait_until(lambda: not process.broker.up)
        assert time.monotonic() - began < 30, "a connection that is half open is noticed too late"
        with pytest.raises(BrokerUnavailable, match="is down"):
            await process.publish("room", "while it hangs")
        mortal_redis.resume()
        await wait_until(lambda: process.broker.up)
        await persistently(lambda: process.publish("room", "afterwards"))
        await wait_until(lambda: process.bodies[-1:] == ["afterwards"])
        assert process.broker.topics == {"room"}
        await wait_until(lambda: mortal_redis.channels() == {"room"})
    assert "no sign of life" in caplog.text


async def test_a_hung_server_does_not_hold_up_the_end(mortal_redis: RedisServer):
    backend = RedisBackend(f"unix://{mortal_redis.socket_path}")  # its buffers are small
    process = Process(backend, publish_timeout=0.3)
    async with running(process):
        await process.broker.subscribe("room")
        assert backend._publisher is not None
        transport = backend._publisher._connection._writer.transport
        mortal_redis.pause()
        sending = [asyncio.create_task(process.publish("room", "x" * 1_000_000)) for _ in range(10)]
        outcomes = await asyncio.gather(*sending, return_exceptions=True)
        assert all(isinstance(outcome, BrokerUnavailable) for outcome in outcomes)
        assert transport.get_write_buffer_size() > 0
        began = time.monotonic()
    assert time.monotonic() - began < 30
    assert transport.get_write_buffer_size() == 0, "the socket stays open until the server has read all"
    assert other_tasks() == set()
    mortal_redis.resume()
    await wait_until(lambda: mortal_redis.clients("normal") == 0)


async def test_a_loop_that_was_blocked_is_not_a_dead_server(
    mortal_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
):
    """Blocked at the worst moment: between asking for a sign of life and sending the question."""
    blocks = deque([1.0, 1.0])
    send = Link._send

    def send_and_block(link: Link, words: tuple[bytes, ...], answer: asyncio.Future[Any] | None) -> None:
        send(link, words, answer)
        if answer is None and blocks:
            asyncio.get_running_loop().call_soon(time.sleep, blocks.popleft())

    monkeypatch.setattr("fastapi_channels.brokers.redis.link.PING_INTERVAL", 0.3)
    monkeypatch.setattr(Link, "_send", send_and_block)
    process = Process(RedisBackend(mortal_redis.url))
    async with running(process):
        await wait_until(lambda: not blocks)
        await asyncio.sleep(1)  # more than two silent intervals
        assert process.changes == [True]


async def test_a_join_that_is_not_answered_is_repeated(mortal_redis: RedisServer):
    process = Process(RedisBackend(mortal_redis.url), **PATIENT)
    async with running(process):
        mortal_redis.pause()
        joining = asyncio.create_task(process.broker.subscribe("room"))
        await turns(100)
        await asyncio.to_thread(mortal_redis.kill)
        await asyncio.to_thread(mortal_redis.restart)
        await joining
        await process.publish("room", "x")
        assert await process.receives(1) == ["x"]


async def test_a_publish_that_is_not_answered_is_not_repeated(mortal_redis: RedisServer):
    process = Process(RedisBackend(mortal_redis.url), **PATIENT)
    async with running(process):
        await process.broker.subscribe("room")
        await process.publish("room", "answered")  # now no sign of life is under way, behind which it waited
        mortal_redis.pause()
        publishing = asyncio.create_task(process.publish("room", "x"))
        await turns(100)
        await asyncio.to_thread(mortal_redis.kill)
        with pytest.raises(BrokerUnavailable, match="broke before the answer"):
            await publishing
        await asyncio.to_thread(mortal_redis.restart)
        await process.drained("room")
        assert process.bodies == ["answered", "the last one"]


async def test_a_client_that_retries_does_not_hide_an_outage(mortal_redis: RedisServer):
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import ConstantBackoff

    patient = Retry(ConstantBackoff(60), 1000)
    client = Redis.from_url(
        mortal_redis.url, retry=patient, retry_on_timeout=True, retry_on_error=[Exception]
    )
    mortal_redis.kill()
    async with asyncio.timeout(30):
        with pytest.raises(Exception, match="Connect"):
            await RedisBackend(client=client).connect()


async def test_no_server_at_start(mortal_redis: RedisServer, caplog: pytest.LogCaptureFixture):
    mortal_redis.kill()
    process = Process(RedisBackend(mortal_redis.url), publish_timeout=0.2)
    async with running(process):
        assert not process.broker.up
        with pytest.raises(BrokerUnavailable, match="is down"):
            await process.broker.subscribe("room")
        await asyncio.to_thread(mortal_redis.restart)
        await wait_until(lambda: process.broker.up)
        await process.broker.subscribe("room")
        await process.publish("room", "x")
        assert await process.receives(1) == ["x"]
    assert "the broker cannot be reached" in caplog.text


async def test_a_join_during_an_outage_waits_for_its_end(process: Process, mortal_redis: RedisServer):
    await asyncio.to_thread(mortal_redis.kill)
    await wait_until(lambda: not process.broker.up)
    joining = asyncio.create_task(process.broker.subscribe("new"))
    await process.broker.unsubscribe("room")
    await asyncio.to_thread(mortal_redis.restart)
    await joining
    await process.publish("new", "x")
    assert await process.receives(1) == ["x"]
    assert mortal_redis.channels() == {"new"}


async def test_ten_thousand_topics_come_back(mortal_redis: RedisServer):
    process = Process(RedisBackend(mortal_redis.url))
    topics = [f"room {number}" for number in range(10_000)]
    async with running(process):
        for start in range(0, len(topics), 100):
            await asyncio.gather(*map(process.broker.subscribe, topics[start : start + 100]))
        await asyncio.to_thread(mortal_redis.kill)
        await wait_until(lambda: not process.broker.up)
        await asyncio.to_thread(mortal_redis.restart)
        await wait_until(lambda: process.broker.up)
        assert mortal_redis.channels() == set(topics)
        assert process.changes == [True, False, True]


async def test_a_refused_command_harms_no_other(mortal_redis: RedisServer):
    mortal_redis.ask("ACL", "SETUSER", "some", "on", "nopass", "+@all", "resetchannels", "&room")
    url = mortal_redis.url.replace("//", "//some:any@")
    process = Process(RedisBackend(url))
    async with running(process):
        await process.broker.subscribe("room")
        outcomes = await asyncio.gather(
            process.publish("room", "first"),
            process.publish("secret", "refused"),
            process.broker.subscribe("secret"),
            process.publish("room", "second"),
            return_exceptions=True,
        )
        assert [isinstance(outcome, BrokerUnavailable) for outcome in outcomes] == [False, True, True, False]
        assert "NoPermissionError" in str(outcomes[1])
        assert await process.receives(2) == ["first", "second"]
        assert process.changes == [True]
        assert process.broker.topics == {"room"}


@required(RedisServer)
async def test_passwords_are_used_and_not_told(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    with RedisServer(password="p@ss/word") as server:  # noqa: S106 - it lives for a second
        process = Process(RedisBackend(server.url))
        async with running(process):
            assert process.broker.up
        stranger = Process(RedisBackend(server.url.replace("word", "wort")))
        async with running(stranger):
            with pytest.raises(BrokerUnavailable, match="AuthenticationError") as caught:
                await stranger.publish("room", "x")
    assert "wor" not in str(caught.value).replace("password", "")
    assert "ss/wor" not in caplog.text
    assert "ss%2Fwor" not in caplog.text


async def test_a_broadcast_of_a_user_keeps_publishing(mortal_redis: RedisServer):
    """The stock Redis backend delivers nothing on redis-py 8; adopted, its messages arrive."""
    broadcast = Broadcast(mortal_redis.url)
    process = Process(adopt(broadcast))
    async with running(process):
        await process.broker.subscribe("room")
        await broadcast.publish("room", "by the user")
        assert await process.receives(1) == ["by the user"]
    await broadcast._backend._conn.aclose()  # type: ignore[attr-defined]  # only the stock backend has it


async def test_a_stock_backend_is_kept_alive_too(mortal_redis: RedisServer):
    """Redis streams, of broadcaster: its reader dies with the server, and for good without a broker."""
    mortal_redis.ask("XADD", "room", "*", "message", "old")
    process = Process(adopt(Broadcast(mortal_redis.url.replace("redis:", "redis-stream:"))))
    async with running(process):
        await process.broker.subscribe("room")
        await process.publish("room", "before")
        await wait_until(lambda: process.bodies[-1:] == ["before"])
        await asyncio.to_thread(mortal_redis.kill)
        await wait_until(lambda: not process.broker.up)
        await asyncio.to_thread(mortal_redis.restart)
        await wait_until(lambda: process.broker.up)
        await process.publish("room", "after")
        await wait_until(lambda: process.bodies[-1:] == ["after"])


async def test_a_plain_broadcast_without_a_broker(mortal_redis: RedisServer):
    backend = RedisBackend(mortal_redis.url)
    async with (
        asyncio.timeout(30),
        Broadcast(backend=backend) as broadcast,
        broadcast.subscribe("room") as subscriber,
    ):
        await broadcast.publish("room", "text")
        await broadcast.publish("room", b"\xff\xfe")
        assert [(await subscriber.get()).message for _ in range(2)] == ["text", b"\xff\xfe"]
    assert backend.dropped == 0
    assert other_tasks() == set()


async def test_a_plain_broadcast_is_bounded(mortal_redis: RedisServer):
    backend = RedisBackend(mortal_redis.url, limit=1000)
    await backend.connect()
    await backend.subscribe("room")
    for _ in range(20):
        await backend.publish("room", "x" * 100)
    await wait_until(lambda: backend.dropped >= 16)
    await backend.disconnect()
