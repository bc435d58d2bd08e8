"""Sharded pub/sub: which node has what, and what is no cluster."""

from __future__ import annotations

import pytest
from broadcaster import Broadcast
from redis.crc import key_slot

from fastapi_channels.brokers import Listening, NotSent, create_backend
from fastapi_channels.brokers.redis import ClusterBackend
from fastapi_channels.exceptions import BrokerUnavailable
from tests.support.brokers import Process, other_tasks, running
from tests.support.redis_groups import RedisCluster
from tests.support.servers import RedisServer, free_port, required


def test_it_listens():
    assert isinstance(ClusterBackend("redis+cluster://host"), Listening)


async def test_before_it_is_connected_and_after(shared_cluster: RedisCluster):
    backend = ClusterBackend(shared_cluster.url)
    for _ in range(2):
        with pytest.raises(NotSent):
            await backend.publish("room", "x")
        with pytest.raises(NotSent):
            await backend.subscribe("room")
        await backend.unsubscribe("room")
        await backend.connect()
        await backend.disconnect()
    assert other_tasks() == set()


async def test_a_topic_costs_its_own_master_only(shared_cluster: RedisCluster):
    process = Process(create_backend(shared_cluster.url))
    async with running(process):
        for topic in map(str, range(30)):
            await process.broker.subscribe(topic)
            await process.publish(topic, topic)
            held = [node for node in shared_cluster.masters if node.ask("PUBSUB", "SHARDCHANNELS", topic)]
            assert held == [shared_cluster.owner(key_slot(topic.encode()))]
        assert await process.receives(30) == [str(number) for number in range(30)]
        assert [node.clients("normal") for node in shared_cluster.masters] == [1, 1, 1]
        assert [node.clients("pubsub") for node in shared_cluster.masters] == [1, 1, 1]


async def test_one_node_is_enough_to_find_the_others(shared_cluster: RedisCluster):
    node = shared_cluster.masters[2]
    process = Process(create_backend(f"redis+cluster://127.0.0.1:1,127.0.0.1:{node.port}"))
    async with running(process):
        for topic in "abcdef":
            await process.broker.subscribe(topic)
            await process.publish(topic, topic)
        assert await process.receives(6) == [*"abcdef"]


async def test_in_a_plain_broadcast(shared_cluster: RedisCluster):
    broadcast = Broadcast(backend=create_backend(shared_cluster.url))
    async with broadcast, broadcast.subscribe("room") as subscriber:
        await broadcast.publish("room", "text")
        event = await subscriber.get()
        assert event is not None
        assert (event.channel, event.message) == ("room", "text")


async def test_a_server_that_is_no_cluster(shared_redis: RedisServer):
    url = shared_redis.url.replace("redis://", "redis+cluster://")
    process = Process(create_backend(url), publish_timeout=0.3)
    async with running(process):
        with pytest.raises(BrokerUnavailable, match="cluster support disabled"):
            await process.publish("room", "x")


@required(RedisServer)
async def test_slots_that_nobody_serves():
    with (
        RedisServer("--cluster-enabled", "yes", "--cluster-port", str(free_port())) as node,
        pytest.raises(ConnectionError, match="16384 of 16384 slots have no master"),
    ):
        await ClusterBackend(f"redis+cluster://127.0.0.1:{node.port}").connect()
    assert other_tasks() == set()


async def test_a_node_that_says_nothing(shared_redis: RedisServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("fastapi_channels.brokers.redis.slots.PATIENCE", 0.05)
    backend = create_backend(shared_redis.url.replace("redis:", "rediss+cluster:"))
    with pytest.raises(ConnectionError, match=r"no connection within 0\.05 s; .* rediss://"):
        await backend.connect()
    await backend.disconnect()
