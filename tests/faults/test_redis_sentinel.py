"""What becomes of pub/sub when the sentinels name another master."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from fastapi_channels.brokers import create_backend
from tests.support.brokers import Process, other_tasks, running
from tests.support.live import wait_until
from tests.support.redis_groups import RedisFailover

from .traffic import Traffic, delivered_again


@pytest.fixture
async def processes(mortal_failover: RedisFailover) -> AsyncIterator[list[Process]]:
    processes = [Process(create_backend(mortal_failover.url)) for _ in range(2)]
    async with running(*processes):
        for process in processes:
            await process.broker.subscribe("room")
        yield processes
    assert other_tasks() == set()


async def at_the_replica(processes: list[Process], failover: RedisFailover) -> None:
    await wait_until(lambda: failover.replica.ask("PUBSUB", "NUMSUB", "room") == "room\n2", within=30)
    await wait_until(lambda: all(process.broker.up for process in processes))


async def test_the_master_is_killed_under_traffic(processes: list[Process], mortal_failover: RedisFailover):
    async with Traffic(processes[0]).flowing():
        await delivered_again(*processes)
        await asyncio.to_thread(mortal_failover.master.kill)
        await at_the_replica(processes, mortal_failover)
        await delivered_again(*processes)
        await asyncio.to_thread(mortal_failover.master.restart)
        await wait_until(lambda: "role:slave" in mortal_failover.master.ask("INFO", "replication"), within=60)
        await delivered_again(*processes)
    for process in processes:
        numbers = [int(str(body).split()[1]) for body in process.bodies]
        assert numbers == sorted(set(numbers))


async def test_the_master_hangs_and_comes_back(processes: list[Process], mortal_failover: RedisFailover):
    mortal_failover.master.pause()
    await at_the_replica(processes, mortal_failover)
    mortal_failover.master.resume()
    await wait_until(lambda: "role:slave" in mortal_failover.master.ask("INFO", "replication"), within=60)
    await processes[0].publish("room", "heard")
    await wait_until(lambda: processes[1].bodies[-1:] == ["heard"])
    assert mortal_failover.master.channels() == set()


async def test_a_failover_that_somebody_asks_for(processes: list[Process], mortal_failover: RedisFailover):
    mortal_failover.sentinels[0].ask("SENTINEL", "FAILOVER", "main")
    await at_the_replica(processes, mortal_failover)
    await processes[0].publish("room", "heard")
    await wait_until(lambda: processes[1].bodies[-1:] == ["heard"])


async def test_a_server_that_became_a_replica_does_not_keep_us(
    mortal_failover: RedisFailover, caplog: pytest.LogCaptureFixture
):
    """It closes no connection, and takes what is published: only its role tells."""
    process = Process(create_backend(mortal_failover.url))
    async with running(process):
        for sentinel in mortal_failover.sentinels:
            sentinel.pause()
        mortal_failover.master.ask("REPLICAOF", "127.0.0.1", str(mortal_failover.replica.port))
        await wait_until(lambda: not process.broker.up)
        assert "the server is a replica" in caplog.text
        for sentinel in mortal_failover.sentinels:
            sentinel.resume()


async def test_a_sentinel_that_hangs_and_one_that_is_gone(
    processes: list[Process], mortal_failover: RedisFailover
):
    mortal_failover.sentinels[0].pause()
    await asyncio.to_thread(mortal_failover.sentinels[1].kill)
    for process in processes:
        process.broker.suspect("a test says so")
    await wait_until(lambda: all(process.broker.up for process in processes))
    await processes[0].publish("room", "heard")
    await wait_until(lambda: processes[1].bodies == ["heard"])
