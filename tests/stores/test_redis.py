"""What is peculiar to the store on Redis."""

from __future__ import annotations

import asyncio
import logging

import pytest

from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.stores import Record, StoreUnavailable
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
            await store.append("room", Record(0, "x"), KEEP)


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


def test_another_event_loop_gets_a_connection_of_its_own(shared_redis: RedisServer):
    """As Starlette's TestClient has one for each connection; nobody could close the first."""
    store = RedisStore(shared_redis.url)
    for _ in range(2):
        assert asyncio.run(store.count("nobody is here")) == 0


async def test_calls_of_one_turn_share_a_write(mortal_redis: RedisServer):
    async with opened(mortal_redis.url) as (store,):
        reads = int(_stat(mortal_redis, "total_reads_processed"))
        await asyncio.gather(*(store.append(f"room {number}", Record(0, "x"), KEEP) for number in range(50)))
        assert int(_stat(mortal_redis, "total_reads_processed")) - reads < 10


def _stat(server: RedisServer, name: str) -> str:
    lines = server.ask("INFO", "stats").splitlines()
    return next(line for line in lines if line.startswith(name)).partition(":")[2]
