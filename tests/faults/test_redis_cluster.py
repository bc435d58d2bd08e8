"""What becomes of sharded pub/sub when a cluster changes under it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from redis.crc import key_slot

from fastapi_channels.brokers import create_backend
from tests.support.brokers import PATIENT, Process, other_tasks, running
from tests.support.live import wait_until
from tests.support.redis_groups import RedisCluster

from .traffic import Traffic, delivered_again

SLOT = key_slot(b"room")


class Told(Process):
    """A process that remembers of which topics messages were missed."""

    def __init__(self, url: str, **options: Any) -> None:
        self.missed: list[str] = []
        super().__init__(create_backend(url), on_missed=self.missed.append, **options)


@asynccontextmanager
async def two(cluster: RedisCluster, **options: Any) -> AsyncIterator[tuple[Told, Told]]:
    one, other = Told(cluster.url, **options), Told(cluster.url, **options)
    async with running(one, other):
        for process in (one, other):
            await process.broker.subscribe("room")
        yield one, other
    assert other_tasks() == set()


async def test_a_slot_moves_and_moves_back_under_traffic(changing_cluster: RedisCluster):
    home = changing_cluster.owner(SLOT)
    away = next(node for node in changing_cluster.masters if node is not home)
    async with two(changing_cluster) as (one, other):
        traffic = Traffic(one)
        async with traffic.flowing():
            for number, target in enumerate((away, home, away)):
                await delivered_again(one, other)
                await asyncio.to_thread(changing_cluster.move, SLOT, target)
                await wait_until(lambda n=number: min(len(one.missed), len(other.missed)) > n)
                await delivered_again(one, other)
        await other.publish("room", "the end")
        for process in (one, other):
            await wait_until(lambda process=process: process.bodies[-1:] == ["the end"])
            numbers = [int(str(body).split()[1]) for body in process.bodies[:-1]]
            assert numbers == sorted(set(numbers))
            assert process.changes == [True]
            assert set(process.missed) == {"room"}
        assert traffic.refused == 0
        assert away.ask("PUBSUB", "SHARDNUMSUB", "room") == "room\n2"


async def test_a_slot_that_moves_between_subscribing_and_unsubscribing(changing_cluster: RedisCluster):
    home = changing_cluster.owner(SLOT)
    away = next(node for node in changing_cluster.masters if node is not home)
    async with two(changing_cluster) as (one, other):
        for target in (away, home):
            moving = asyncio.create_task(asyncio.to_thread(changing_cluster.move, SLOT, target))
            while not moving.done():
                await other.broker.unsubscribe("room")
                await other.broker.subscribe("room")
            await moving
            await other.broker.unsubscribe("room")
            await wait_until(lambda target=target: target.ask("PUBSUB", "SHARDNUMSUB", "room") == "room\n1")
            await other.broker.subscribe("room")
        await one.publish("room", "heard")
        await wait_until(lambda: other.bodies[-1:] == ["heard"])


async def test_many_slots_move(changing_cluster: RedisCluster):
    topics = {f"room {number}" for number in range(100)}
    away = changing_cluster.masters[2]
    async with two(changing_cluster, **PATIENT) as (one, other):
        await asyncio.gather(*(process.broker.subscribe(t) for t in topics for process in (one, other)))
        moved = {t for t in topics if changing_cluster.owner(key_slot(t.encode())) is not away}
        for topic in moved:
            await asyncio.to_thread(changing_cluster.move, key_slot(topic.encode()), away)
        await wait_until(lambda: set(one.missed) == set(other.missed) == moved)
        one.delivered.clear()
        await asyncio.gather(*(other.publish(topic, topic) for topic in topics))
        assert {str(body) for body in await one.receives(100)} == topics
        assert one.changes == other.changes == [True]


async def test_a_master_is_killed_and_its_replica_takes_over(mortal_cluster: RedisCluster):
    master, replica = mortal_cluster.masters[0], mortal_cluster.replicas[0]
    topic = next(name for name in map(str, range(100)) if key_slot(name.encode()) < 5000)
    async with two(mortal_cluster) as (one, other):
        for process in (one, other):
            await process.broker.subscribe(topic)
        await asyncio.to_thread(master.kill)
        await wait_until(lambda: not one.broker.up and not other.broker.up)
        await wait_until(lambda: one.broker.up and other.broker.up, within=30)
        await one.publish(topic, "to the replica")
        assert await other.receives(1) == ["to the replica"]
        assert replica.ask("PUBSUB", "SHARDNUMSUB", topic) == f"{topic}\n2"
        assert one.changes == other.changes == [True, False, True]
        await asyncio.to_thread(master.restart)
        await wait_until(lambda: "role:slave" in master.ask("INFO", "replication"))
        await one.publish(topic, "still to it")
        assert await other.receives(2) == ["to the replica", "still to it"]


async def test_a_master_that_hangs(mortal_cluster: RedisCluster):
    """Its slots have another master before long, and it has none when it is back."""
    master = mortal_cluster.masters[0]
    async with two(mortal_cluster) as (one, other):
        master.pause()
        await wait_until(lambda: not one.broker.up and not other.broker.up)
        await wait_until(lambda: one.broker.up and other.broker.up, within=30)
        master.resume()
        for number in range(20):
            await one.broker.subscribe(str(number))
            await other.publish(str(number), str(number))
        # Between masters no order is promised.
        await wait_until(lambda: sorted(map(int, one.bodies[-20:])) == [*range(20)])


async def test_no_node_answers(mortal_cluster: RedisCluster):
    for node in mortal_cluster.nodes:
        node.kill()
    process = Told(mortal_cluster.url)
    async with running(process):
        assert not process.broker.up
        for node in mortal_cluster.nodes:
            await asyncio.to_thread(node.restart)
        await wait_until(lambda: process.broker.up, within=30)
    assert other_tasks() == set()
