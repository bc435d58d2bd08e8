"""What becomes of state when a real Redis fails, in every way it can."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from fastapi_channels.stores import LeaseLost, Store, StoreUnavailable
from fastapi_channels.stores.redis import RedisStore
from fastapi_channels.stores.store import Lease, Record
from fastapi_channels.wire.positions import Position
from tests.support.brokers import other_tasks, until
from tests.support.redis_groups import RedisCluster, RedisFailover, together
from tests.support.servers import RedisServer, running
from tests.support.stores import (
    KEEP,
    ROOM,
    a_node,
    answering,
    enter,
    evicted,
    ids,
    in_use,
    numbered,
    opened,
    restarted,
    someone,
)


@pytest.fixture
def lasting_redis() -> Iterator[RedisServer]:
    """A server that has written down what it has confirmed."""
    yield from running(RedisServer, "--appendonly", "yes", "--appendfsync", "always")


@pytest.fixture
def mortal_failover() -> Iterator[RedisFailover]:
    yield from together(RedisFailover(3))


@pytest.fixture
def mortal_cluster() -> Iterator[RedisCluster]:
    yield from together(RedisCluster(3, replicas=1))


@pytest.fixture
async def store(mortal_redis: RedisServer) -> AsyncIterator[Store]:
    async with opened(mortal_redis.url) as (store,):
        yield store
    assert other_tasks() == set()


async def lost_all(store: Store, node: str, lease: Lease, position: Position) -> None:
    """Everything is gone, and each who asks is told."""
    for room in (ROOM, ROOM + " 2"):
        with pytest.raises(LeaseLost):
            await store.enter(room, [someone(node, 2)], lease)
    again = await store.renew(node, lease.token, 60)
    assert again.token > lease.token
    assert await store.count(ROOM) == 0
    tops = await store.tops({ROOM: position})
    assert (tops[ROOM].epoch != position.epoch, tops[ROOM].offset) == (True, 0)
    await store.enter(ROOM, [someone(node, 1)], again)
    assert ids(await store.occupancy(ROOM)) == [f"{node}.1"]


async def test_a_server_that_begins_anew(store: Store, mortal_redis: RedisServer):
    node = a_node()
    lease, position = await in_use(store, node)
    await restarted(mortal_redis)
    await lost_all(store, node, lease, position)


async def test_a_server_that_is_emptied(store: Store, mortal_redis: RedisServer):
    node = a_node()
    lease, position = await in_use(store, node)
    mortal_redis.ask("FLUSHALL")
    await lost_all(store, node, lease, position)


async def test_a_server_that_has_written_all_down(lasting_redis: RedisServer):
    node = a_node()
    async with opened(lasting_redis.url) as (store,):
        lease, position = await in_use(store, node)
        await restarted(lasting_redis)
        assert (await store.renew(node, lease.token, 60)).token == lease.token
        assert ids(await store.occupancy(ROOM)) == [f"{node}.1"]
        again = await store.append(ROOM, Record(0, "b"), KEEP, key="k", key_seconds=60)
        assert again == (position, False)
        assert [record.body for record in (await store.read(ROOM, KEEP)).records] == ["a"]


async def test_a_server_that_is_gone(store: Store, mortal_redis: RedisServer):
    await asyncio.to_thread(mortal_redis.kill)
    began = time.monotonic()
    calls = (store.count(ROOM), store.renew("n", 0, 60), store.tops({ROOM: None}), store.evict())
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(one) for one in found] == [StoreUnavailable] * 4
    assert time.monotonic() - began < 3
    await asyncio.to_thread(mortal_redis.restart)
    assert await store.count(ROOM) == 0


async def test_a_call_during_a_short_outage_waits_for_its_end(store: Store, mortal_redis: RedisServer):
    await asyncio.to_thread(mortal_redis.kill)
    calling = asyncio.create_task(store.append(ROOM, Record(0, "a"), KEEP))
    await asyncio.to_thread(mortal_redis.restart)
    assert (await calling).is_new


async def test_a_server_that_was_not_there_at_the_start(mortal_redis: RedisServer):
    await asyncio.to_thread(mortal_redis.kill)
    async with opened(mortal_redis.url) as (store,):
        await asyncio.to_thread(mortal_redis.restart)
        assert await store.count(ROOM) == 0


async def test_a_server_that_hangs(mortal_redis: RedisServer):
    store = RedisStore(mortal_redis.url, timeout=0.3)
    await store.open()
    node = a_node()
    lease = await store.renew(node, 0, 1.0)
    await store.enter(ROOM, [someone(node, 1)], lease)
    mortal_redis.pause()
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match="did not answer within"):
        await store.append(ROOM, Record(0, "a"), KEEP, key="k", key_seconds=60)
    with pytest.raises(StoreUnavailable):  # it is in the server's buffers, and finds the lease ended
        await store.enter(ROOM, [someone(node, 2)], lease)
    assert time.monotonic() - began < 1
    await asyncio.sleep(max(0, lease.until - time.time()))
    mortal_redis.resume()
    await answering(store)
    assert ids(await evicted(store, ROOM)) == [f"{node}.1"]
    assert await store.count(ROOM) == 0
    # What was not answered has arrived, and does not act twice.
    assert not (await store.append(ROOM, Record(0, "a"), KEEP, key="k", key_seconds=60)).is_new
    await store.close()


async def test_a_connection_that_hangs_for_long_is_given_up(mortal_redis: RedisServer):
    store = RedisStore(mortal_redis.url, timeout=0.3)
    await store.open()
    mortal_redis.pause()
    links = store._server._connections._link  # type: ignore[attr-defined]  # that of one server
    await until(lambda: links._making is not None and links._making.result()._error is not None)
    mortal_redis.resume()
    await answering(store)
    await store.close()
    assert other_tasks() == set()


async def test_scripts_that_are_flushed_are_loaded_again(store: Store, mortal_redis: RedisServer):
    mortal_redis.ask("SCRIPT", "FLUSH")
    appended = await asyncio.gather(*(store.append(ROOM, Record(0, "x"), KEEP) for _ in range(10)))
    assert sorted(one.position.offset for one in appended) == [*range(1, 11)]


async def test_a_process_that_dies_while_it_takes_others_out(mortal_redis: RedisServer):
    async with opened(*[mortal_redis.url] * 2) as (dying, store):
        node = a_node()
        lease = await store.renew(node, 0, 0.1)
        for room in numbered(ROOM, 5):
            await store.enter(room, [someone(node, 1)], lease)
        await asyncio.sleep(0.2)
        assert isinstance(dying, RedisStore)
        ended = await dying._leases.ended()
        assert ended is not None
        await dying._rooms.oust(ended.rooms[0], ended.node, ended.token)
        assert await store.evict() == []
        taken = await evicted(store, ended.rooms[1])
        assert ids(taken) == [f"{node}.1"]
        assert [await store.count(room) for room in numbered(ROOM, 5)] == [0] * 5


async def test_many_rooms_of_a_dead_process(mortal_redis: RedisServer):
    async with opened(*[mortal_redis.url] * 3) as (dead, *stores):
        node = a_node()
        lease = await dead.renew(node, 0, 5)
        rooms = [*numbered(ROOM, 3000)]
        for start in range(0, len(rooms), 100):
            await asyncio.gather(
                *(dead.enter(room, [someone(node, 1)], lease) for room in rooms[start : start + 100])
            )
        taken: list[str] = []
        async with asyncio.timeout(20):
            while len(taken) < len(rooms):
                for lefts in await asyncio.gather(*(store.evict() for store in stores)):
                    taken += [left.room for left in lefts]
                await asyncio.sleep(0.05)
        assert sorted(taken) == sorted(rooms)


async def test_what_a_server_holds_is_gone_when_all_have_left(store: Store, mortal_redis: RedisServer):
    node = a_node()
    lease = await store.renew(node, 0, 60)
    for room in numbered(ROOM, 20):
        await store.enter(room, [someone(node, 1, user="ann"), someone(node, 2)], lease)
        await store.leave(room, [f"{node}.1", f"{node}.2"])
    await store.renew(node, lease.token, 60)
    await store.resign(lease)
    keys = mortal_redis.ask("KEYS", "*").splitlines()
    lasting = [key for key in keys if mortal_redis.ask("PTTL", key) == "-1"]
    assert lasting == []


async def test_rooms_that_a_new_master_has_not_heard_of_are_noted_again(
    store: Store, mortal_redis: RedisServer
):
    node = a_node()
    lease = await store.renew(node, 0, 60)
    await store.enter(ROOM, [someone(node, 1)], lease)
    mortal_redis.ask("DEL", "fastapi-channels:rooms:{leases}")
    await store.renew(node, lease.token, 0.1)
    assert ids(await evicted(store, ROOM)) == [f"{node}.1"]


# Sentinels


async def test_the_master_is_killed(mortal_failover: RedisFailover):
    node = a_node()
    async with opened(mortal_failover.url) as (store,):
        lease, position = await in_use(store, node)
        mortal_failover.master.ask("WAIT", "1", "5000")
        await asyncio.to_thread(mortal_failover.master.kill)
        await answering(store)
        assert await store.tops({ROOM: position}) == {ROOM: position}
        assert (await store.renew(node, lease.token, 60)).token == lease.token
        assert ids(await store.occupancy(ROOM)) == [f"{node}.1"]
        assert "role:master" in mortal_failover.replica.ask("INFO", "replication")


async def test_a_master_that_comes_back_as_a_replica_is_not_written_to(mortal_failover: RedisFailover):
    async with opened(mortal_failover.url) as (store,):
        await store.append(ROOM, Record(0, "a"), KEEP)
        mortal_failover.sentinels[0].ask("SENTINEL", "FAILOVER", "main")
        await until(lambda: "role:slave" in mortal_failover.master.ask("INFO", "replication"), 30)
        await answering(store)
        top = (await store.append(ROOM, Record(0, "b"), KEEP)).position
        async with opened(mortal_failover.url) as (other,):
            assert await other.tops({ROOM: top}) == {ROOM: top}


# A cluster


async def test_a_master_of_a_cluster_is_killed(mortal_cluster: RedisCluster):
    rooms = [*numbered(ROOM, 30)]
    async with opened(mortal_cluster.url) as (store,):
        node = a_node()
        lease = await store.renew(node, 0, 60)
        for room in rooms:
            await store.enter(room, [someone(node, 1)], lease)
        mortal_cluster.masters[0].ask("WAIT", "1", "5000")
        await asyncio.to_thread(mortal_cluster.masters[0].kill)
        found = await asyncio.gather(*map(store.count, rooms), return_exceptions=True)
        assert found.count(1) >= 10, "rooms at other masters are not concerned"
        async with asyncio.timeout(30):
            while found != [1] * len(rooms):
                found = await asyncio.gather(*map(store.count, rooms), return_exceptions=True)


async def test_a_slot_that_moves_takes_its_rooms_along(mortal_cluster: RedisCluster):
    async with opened(mortal_cluster.url) as (store,):
        await enter(store, ROOM, someone(a_node(), 1))
        slot = int(mortal_cluster.masters[0].ask("CLUSTER", "KEYSLOT", f"{{{ROOM}}}"))
        source = mortal_cluster.owner(slot)
        target = next(master for master in mortal_cluster.masters if master is not source)
        target.ask("CLUSTER", "SETSLOT", str(slot), "IMPORTING", source.ask("CLUSTER", "MYID"))
        source.ask("CLUSTER", "SETSLOT", str(slot), "MIGRATING", target.ask("CLUSTER", "MYID"))
        keys = source.ask("CLUSTER", "GETKEYSINSLOT", str(slot), "10").splitlines()
        assert len(keys) == 4
        for key in keys:
            source.ask("MIGRATE", "127.0.0.1", str(target.port), key, "0", "5000")
        assert await store.count(ROOM) == 1  # the source says where to ask
        for master in (target, *mortal_cluster.masters):
            master.ask("CLUSTER", "SETSLOT", str(slot), "NODE", target.ask("CLUSTER", "MYID"))
        assert len(ids(await store.occupancy(ROOM))) == 1
