"""What becomes of state when a real Redis fails, where that is not as with any store: test_stores.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from fastapi_channels.stores import Addition, LeaseLost, Store
from fastapi_channels.stores.redis import RedisStore
from fastapi_channels.stores.redis.leases import Ended
from fastapi_channels.stores.store import Lease, Record
from fastapi_channels.wire.positions import Position
from tests.support.brokers import other_tasks
from tests.support.live import wait_until
from tests.support.redis_groups import RedisCluster, RedisFailover
from tests.support.servers import RedisServer
from tests.support.stores import (
    KEEP,
    ROOM,
    a_node,
    answering,
    enter,
    evicted,
    ids,
    in_use,
    let_end,
    numbered,
    opened,
    restarted,
    someone,
)


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


async def test_scripts_that_are_flushed_are_loaded_again(store: Store, mortal_redis: RedisServer):
    mortal_redis.ask("SCRIPT", "FLUSH")
    appended = await asyncio.gather(*(store.append(ROOM, Addition(Record(0, "x"), KEEP)) for _ in range(10)))
    assert sorted(one.position.offset for one in appended) == [*range(1, 11)]


async def test_a_process_that_dies_while_it_takes_others_out(mortal_redis: RedisServer):
    async with opened(*[mortal_redis.url] * 2) as (dying, store):
        node = a_node()
        lease = await store.renew(node, 0, 60)
        for room in numbered(ROOM, 5):
            await store.enter(room, [someone(node, 1)], lease)
        await let_end(store, lease)
        assert isinstance(dying, RedisStore)
        found: list[Ended] = []

        async def has_ended() -> bool:
            found.extend(filter(None, [await dying._leases.ended()]))
            return bool(found)

        await wait_until(has_ended)
        (ended,) = found
        await dying._rooms.oust(ended.rooms[0], ended.node, ended.token)
        assert await store.evict() == []
        taken = await evicted(store, ended.rooms[1])
        assert ids(taken) == [f"{node}.1"]
        assert [await store.count(room) for room in numbered(ROOM, 5)] == [0] * 5


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
    await let_end(store, lease)
    assert ids(await evicted(store, ROOM)) == [f"{node}.1"]


# Sentinels


async def test_the_master_is_killed(mortal_failover: RedisFailover):
    node = a_node()
    async with opened(mortal_failover.url) as (store,):
        lease, position = await in_use(store, node)
        mortal_failover.master.replicate()
        await asyncio.to_thread(mortal_failover.master.kill)
        await answering(store)
        assert await store.tops({ROOM: position}) == {ROOM: position}
        assert (await store.renew(node, lease.token, 60)).token == lease.token
        assert ids(await store.occupancy(ROOM)) == [f"{node}.1"]
        assert "role:master" in mortal_failover.replica.ask("INFO", "replication")


async def test_a_master_that_comes_back_as_a_replica_is_not_written_to(mortal_failover: RedisFailover):
    async with opened(mortal_failover.url) as (store,):
        await store.append(ROOM, Addition(Record(0, "a"), KEEP))
        mortal_failover.sentinels[0].ask("SENTINEL", "FAILOVER", "main")
        await wait_until(lambda: "role:slave" in mortal_failover.master.ask("INFO", "replication"), within=30)
        await answering(store)
        top = (await store.append(ROOM, Addition(Record(0, "b"), KEEP))).position
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
        mortal_cluster.masters[0].replicate()
        await asyncio.to_thread(mortal_cluster.masters[0].kill)
        found = await asyncio.gather(*map(store.count, rooms), return_exceptions=True)
        assert found.count(1) >= 10, "rooms at other masters are not concerned"
        async with asyncio.timeout(30):
            while found != [1] * len(rooms):
                found = await asyncio.gather(*map(store.count, rooms), return_exceptions=True)


async def test_a_slot_that_moves_takes_its_rooms_along(changing_cluster: RedisCluster):
    async with opened(changing_cluster.url) as (store,):
        await enter(store, ROOM, someone(a_node(), 1))
        slot = int(changing_cluster.masters[0].ask("CLUSTER", "KEYSLOT", f"{{{ROOM}}}"))
        source = changing_cluster.owner(slot)
        target = next(master for master in changing_cluster.masters if master is not source)
        target.ask("CLUSTER", "SETSLOT", str(slot), "IMPORTING", source.ask("CLUSTER", "MYID"))
        source.ask("CLUSTER", "SETSLOT", str(slot), "MIGRATING", target.ask("CLUSTER", "MYID"))
        keys = source.ask("CLUSTER", "GETKEYSINSLOT", str(slot), "10").splitlines()
        assert len(keys) == 4
        for key in keys:
            source.ask("MIGRATE", "127.0.0.1", str(target.port), key, "0", "5000")
        assert await store.count(ROOM) == 1  # the source says where to ask
        for master in (target, *changing_cluster.masters):
            master.ask("CLUSTER", "SETSLOT", str(slot), "NODE", target.ask("CLUSTER", "MYID"))
        assert len(ids(await store.occupancy(ROOM))) == 1
