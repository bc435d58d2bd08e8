"""What is peculiar to the store on Redis."""

from __future__ import annotations

import asyncio
import logging

import pytest

from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.stores import Addition, LeaseLost, Limits, Record, StoreUnavailable
from fastapi_channels.stores.redis import RedisStore
from tests.support.servers import RedisServer, required
from tests.support.stores import KEEP, a_node, enter, ids, opened, someone, store_at


@required(RedisServer)
async def test_wrong_credentials_are_told_at_the_start_and_not_what_they_are():
    with RedisServer(password="p@ss/word") as server:  # noqa: S106 - it lives for a second
        async with opened(server.url) as (store,):
            assert await store.count("room") == 0
        stranger = store_at(server.url.replace("word", "wort"))
        with pytest.raises(ConfigurationError, match=r"refuses it: .*password") as caught:
            await stranger.open()
        await stranger.close()
    assert "wort" not in str(caught.value)


async def test_a_cluster_wants_another_url(redis_cluster_node: RedisServer):
    store = store_at(redis_cluster_node.url)
    with pytest.raises(ConfigurationError, match=r"begins with redis\+cluster://"):
        await store.open()
    await store.close()


async def test_a_server_that_forgets_what_it_was_told_is_warned_of(
    mortal_redis: RedisServer, caplog: pytest.LogCaptureFixture
):
    async with opened(mortal_redis.url):
        assert caplog.records == []
    mortal_redis.ask("CONFIG", "SET", "maxmemory", "100mb")
    mortal_redis.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    async with opened(mortal_redis.url):
        (record,) = caplog.records
    assert (record.levelno, "noeviction" in record.getMessage()) == (logging.WARNING, True)


async def test_a_refused_command_is_told(mortal_redis: RedisServer):
    async with opened(mortal_redis.url) as (store,):
        mortal_redis.ask("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(StoreUnavailable, match="OutOfMemoryError"):
            await store.append("room", Addition(Record(0, "x"), KEEP))


async def test_two_namespaces_have_nothing_in_common(shared_redis: RedisServer):
    stores = [store_at(shared_redis.url, namespace) for namespace in ("one", "one:two", "{one}")]
    for store in stores:
        await store.open()
    node = a_node()
    await enter(stores[0], "room", someone(node, 1))
    assert [await store.count("room") for store in stores] == [1, 0, 0]
    assert ids(await stores[0].leave("room", [f"{node}.1"])) == [f"{node}.1"]
    for store in stores:
        await store.close()


async def test_a_lease_that_ends_while_it_is_renewed_is_found_to_have_ended_by_its_holder(
    shared_redis: RedisServer,
):
    async with opened(shared_redis.url) as (store,):
        node = a_node()
        lease = await store.renew(node, 0, 10)
        await store.enter("room", [someone(node, 1)], lease)
        shared_redis.ask("DEL", "fastapi-channels:rooms:{leases}")  # as if it was made the master just now
        lease = await store.renew(node, lease.token, 1e-6)
        with pytest.raises(LeaseLost):
            await store.enter("another", [someone(node, 1)], lease)


async def test_a_renewal_that_fails_forgets_no_room_too_early(lasting_redis: RedisServer):
    store, node = RedisStore(lasting_redis.url, timeout=2.0), a_node()
    await store.open()
    lease = await store.renew(node, 0, 60)
    await store.enter("room", [someone(node, 1)], lease)
    await store.leave("room", [f"{node}.1"])
    lasting_redis.kill()
    with pytest.raises(StoreUnavailable):
        await store.renew(node, lease.token, 60)
    lasting_redis.restart()
    assert (await store.renew(node, lease.token, 60)).token == lease.token
    assert lasting_redis.ask("KEYS", "*:rooms:{leases}").strip() == ""
    await store.close()


def test_another_event_loop_gets_a_connection_of_its_own(shared_redis: RedisServer):
    """As Starlette's TestClient has one for each connection; nobody could close the first."""
    store = RedisStore(shared_redis.url)
    for _ in range(2):
        assert asyncio.run(store.count("nobody is here")) == 0


async def test_calls_of_one_turn_share_a_write(mortal_redis: RedisServer):
    async with opened(mortal_redis.url) as (store,):
        reads = int(_stat(mortal_redis, "total_reads_processed"))
        await asyncio.gather(
            *(store.append(f"room {number}", Addition(Record(0, "x"), KEEP)) for number in range(50))
        )
        assert int(_stat(mortal_redis, "total_reads_processed")) - reads < 10


async def test_a_join_to_a_room_with_places_carries_as_much_whoever_is_in_it(shared_redis: RedisServer):
    carried, node, here = [], a_node(), Limits(seats=10_000)
    async with opened(shared_redis.url) as (store,):
        lease = await store.renew(node, 0, 60)
        for first, last in ((0, 10), (10, 4000)):
            crowd = [someone(node, number) for number in range(first, last)]
            for start in range(0, len(crowd), 500):
                await store.enter(node, crowd[start : start + 500], lease, here)
            unasked, before = _carried(shared_redis), _carried(shared_redis)
            await store.enter(node, [someone(node, 4000)], lease, here)
            carried.append(_carried(shared_redis) - before - (before - unasked))
            await store.leave(node, [f"{node}.4000"])
        await store.resign(lease)
    assert max(carried) < 1000, "bytes to and from the server"
    assert abs(carried[0] - carried[1]) < 100


def _carried(server: RedisServer) -> int:
    found = server.ask("INFO", "stats").splitlines()
    return sum(int(line.partition(":")[2]) for line in found if line.startswith("total_net_"))


def _stat(server: RedisServer, name: str) -> str:
    lines = server.ask("INFO", "stats").splitlines()
    return next(line for line in lines if line.startswith(name)).partition(":")[2]


async def test_what_the_server_refuses_takes_no_time_and_is_told_in_its_words(shared_redis: RedisServer):
    for url, words in (
        (shared_redis.url.replace("//", "//:hunter2@"), "without any password configured"),
        (shared_redis.url.removesuffix("/0") + "/9999", "DB index is out of range"),
    ):
        store = RedisStore(url, timeout=3600)
        async with asyncio.timeout(60):
            with pytest.raises(StoreUnavailable, match=f"^Redis refuses it: .*{words}") as caught:
                await store.count("room")
        assert "hunter2" not in str(caught.value)
        await store.close()


async def test_why_there_is_no_connection(shared_redis: RedisServer):
    nobody, tls = "redis://127.0.0.1:1/0", shared_redis.url.replace("redis:", "rediss:")
    for url, why in (
        (nobody, r"ConnectionError: .*127\.0\.0\.1"),
        (tls, r".* no connection within .*rediss://"),
    ):
        store = RedisStore(url, timeout=2.0)  # a tenth of it is for saying why
        told = rf"^Redis did not answer within 2 s: there is no connection: {why}"
        with pytest.raises(StoreUnavailable, match=told):
            await store.count("room")
        await store.close()
