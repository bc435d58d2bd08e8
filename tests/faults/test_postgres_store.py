"""What becomes of state when a real PostgreSQL fails, where that is not as with any store: test_stores.py."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.stores import Addition, Record, Store, StoreUnavailable
from fastapi_channels.stores.postgres import VERSION, PostgresStore
from fastapi_channels.stores.store import Limits
from tests.support.brokers import other_tasks
from tests.support.live import wait_until
from tests.support.servers import PostgresServer
from tests.support.stores import (
    KEEP,
    ROOM,
    a_node,
    answering,
    in_use,
    numbered,
    opened,
    someone,
    store_at,
)


@pytest.fixture
async def store(mortal_postgres: PostgresServer) -> AsyncIterator[Store]:
    async with opened(mortal_postgres.url) as (store,):
        yield store
    assert other_tasks() == set()


async def asked(server: PostgresServer, query: str, *arguments: Any) -> Any:
    connection = await asyncpg.connect(server.url, server_settings={"search_path": "fastapi_channels"})
    try:
        return await connection.fetchval(query, *arguments)
    finally:
        await connection.close()


async def test_a_connection_that_the_server_ends(store: Store, mortal_postgres: PostgresServer):
    await store.append(ROOM, Addition(Record(0, "a"), KEEP))
    query = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = $1"
    assert await asked(mortal_postgres, query, "fastapi-channels") == 1
    await answering(store)
    assert [record.body for record in (await store.read(ROOM, KEEP)).records] == ["a"]


async def test_processes_that_ask_about_the_same_rooms_do_not_wait_for_each_other(
    mortal_postgres: PostgresServer,
):
    """In one transaction each for many rooms: in two orders, each would hold what the other waits for."""
    rooms = [*numbered(ROOM, 60)]
    async with opened(*[mortal_postgres.url] * 3) as stores:
        leases = [await store.renew(a_node(), 0, 60) for store in stores]
        for turn in range(10):
            calls = [
                call
                for store, lease in zip(stores, leases, strict=True)
                for room in random.sample(rooms, len(rooms))
                for call in (
                    store.enter(room, [someone(lease.node, turn)], lease, Limits(seats=1000)),
                    store.append(room, Addition(Record(0, "x"), KEEP)),
                )
            ]
            await asyncio.gather(*calls)
        assert await stores[0].count(rooms[0]) == 30
    query = "SELECT deadlocks FROM pg_stat_database WHERE datname = 'postgres'"
    assert await asked(mortal_postgres, query) == 0


async def test_what_has_had_its_time_is_taken_away(store: Store, mortal_postgres: PostgresServer):
    node = a_node()
    lease = await store.renew(node, 0, 60)
    keep = KEEP._replace(seconds=0.1)
    for room in numbered(ROOM, 20):
        await store.enter(room, [someone(node, 1, user="ann")], lease)
        await store.leave(room, [f"{node}.1"])
        await store.append(room, Addition(Record(0, "x"), keep, key="k", key_seconds=0.1))
        await store.claim(room, "owner", 0.1)
    await store.resign(lease)
    # As if a minute, and a day, had gone by.
    await asked(mortal_postgres, "UPDATE histories SET stale = 1 WHERE room LIKE '%5'")
    await asked(mortal_postgres, "UPDATE histories SET ends = 1 WHERE room NOT LIKE '%5'")
    tables = ("leases", "ended", "rooms", "occupants", "records", "used", "claims", "histories")

    async def left() -> dict[str, int]:
        await asked(mortal_postgres, "SELECT prune(1000)")
        return {
            table: await asked(mortal_postgres, f"SELECT count(*) FROM {table}")  # noqa: S608
            for table in tables
        }

    async def is_taken_away() -> bool:
        return await left() == dict.fromkeys(tables, 0) | {"histories": 2}

    await wait_until(is_taken_away)
    page = await store.read(f"{ROOM} 5", KEEP)
    assert (page.top, page.first) == (1, 2)


# The schema


async def test_many_processes_at_once_make_one_schema(mortal_postgres: PostgresServer):
    async with opened(*[mortal_postgres.url] * 10) as stores:
        assert await asyncio.gather(*(store.count(ROOM) for store in stores)) == [0] * 10
    assert await asked(mortal_postgres, "SELECT array_agg(number) FROM version") == [VERSION]


async def test_a_newer_schema_is_left_alone(mortal_postgres: PostgresServer):
    async with opened(mortal_postgres.url):
        await asked(mortal_postgres, "UPDATE version SET number = number + 1")
    store = store_at(mortal_postgres.url)
    with pytest.raises(ConfigurationError, match=f"of version {VERSION + 1}, made by a newer"):
        await store.open()
    with pytest.raises(StoreUnavailable, match=f"of version {VERSION + 1}"):
        await store.count(ROOM)
    await store.close()


async def test_a_user_that_may_not_make_it_is_told(mortal_postgres: PostgresServer):
    await asked(mortal_postgres, "CREATE ROLE stranger LOGIN")
    store = store_at(mortal_postgres.url.replace("postgres@", "stranger@"))
    with pytest.raises(ConfigurationError, match="cannot be used: permission denied"):
        await store.open()
    await store.close()


async def test_a_database_that_is_not_there_is_told(mortal_postgres: PostgresServer):
    store = store_at(mortal_postgres.url + "s")
    with pytest.raises(ConfigurationError, match="does not exist"):
        await store.open()
    await store.close()


async def test_each_call_is_one_query(store: Store):
    assert isinstance(store, PostgresStore)
    node = a_node()
    lease, _ = await in_use(store, node)
    queries: list[str] = []
    session = await store._session.get()
    session._connection.add_query_logger(lambda query: queries.append(query.query))
    await store.enter(ROOM, [someone(node, 2)], lease, Limits(seats=5, per_user=2))
    await store.leave(ROOM, [f"{node}.2"])
    await store.occupancy(ROOM)
    await store.count(ROOM)
    await store.append(ROOM, Addition(Record(0, "b"), KEEP, key="b", key_seconds=60))
    await store.read(ROOM, KEEP)
    await store.claim("k", "me", 60)
    await store.settle("k", "me", "done", 60)
    await store.renew(node, lease.token, 60)
    own = [query for query in queries if query.startswith("SELECT * FROM")]
    assert len(own) == 9
