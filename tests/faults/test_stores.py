"""What becomes of state when the server of a store fails. Each has written down what it has confirmed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fastapi_channels.stores import Addition, Record, Store, StoreUnavailable
from fastapi_channels.stores.postgres import PostgresStore
from fastapi_channels.stores.redis import RedisStore
from tests.support.brokers import other_tasks
from tests.support.live import wait_until
from tests.support.servers import PostgresServer, RedisServer
from tests.support.stores import (
    KEEP,
    ROOM,
    a_node,
    answering,
    evicted,
    ids,
    in_use,
    let_end,
    numbered,
    opened,
    restarted,
    someone,
)

Server = RedisServer | PostgresServer


@pytest.fixture(params=["lasting_redis", "mortal_postgres"])
def server(request: pytest.FixtureRequest) -> Server:
    server: Server = request.getfixturevalue(request.param)
    return server


@asynccontextmanager
async def patient(server: Server, timeout: float) -> AsyncIterator[Store]:
    """A store that waits so many seconds for an answer."""
    kind: Any = RedisStore if isinstance(server, RedisServer) else PostgresStore
    store: Store = kind(server.url, timeout=timeout)
    await store.open()
    yield store
    await store.close()
    assert other_tasks() == set()


async def test_a_server_that_is_killed_has_all_afterwards(server: Server):
    node = a_node()
    async with opened(server.url) as (store,):
        lease, position = await in_use(store, node)
        await restarted(server)
        assert (await store.renew(node, lease.token, 60)).token == lease.token
        assert ids(await store.occupancy(ROOM)) == [f"{node}.1"]
        again = await store.append(ROOM, Addition(Record(0, "b"), KEEP, key="k", key_seconds=60))
        assert again == (position, False)
        assert [record.body for record in (await store.read(ROOM, KEEP)).records] == ["a"]
    assert other_tasks() == set()


async def test_a_server_that_is_gone(server: Server):
    async with opened(server.url) as (store,):
        await asyncio.to_thread(server.kill)
        began = time.monotonic()
        calls = (store.count(ROOM), store.renew("n", 0, 60), store.tops({ROOM: None}), store.evict())
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(one) for one in found] == [StoreUnavailable] * 4
        assert time.monotonic() - began < 30
        await asyncio.to_thread(server.restart)
        assert await store.count(ROOM) == 0


async def test_a_call_during_a_short_outage_waits_for_its_end(server: Server):
    async with patient(server, 20) as store:
        await asyncio.to_thread(server.kill)
        calling = asyncio.create_task(store.append(ROOM, Addition(Record(0, "a"), KEEP)))
        await asyncio.to_thread(server.restart)
        assert (await calling).is_new


async def test_a_server_that_was_not_there_at_the_start(server: Server):
    await asyncio.to_thread(server.kill)
    async with opened(server.url) as (store,):
        await asyncio.to_thread(server.restart)
        assert await store.count(ROOM) == 0


async def test_a_server_that_hangs(server: Server):
    async with patient(server, 1.0) as store:
        node = a_node()
        lease = await store.renew(node, 0, 60)
        await store.enter(ROOM, [someone(node, 1)], lease)
        lease = await store.renew(node, lease.token, 1.0)
        server.pause()
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="did not answer within"):
            await store.append(ROOM, Addition(Record(0, "a"), KEEP, key="k", key_seconds=60))
        with pytest.raises(StoreUnavailable):  # it is in the server's buffers, and finds the lease ended
            await store.enter(ROOM, [someone(node, 2)], lease)
        assert time.monotonic() - began < 30
        await asyncio.sleep(max(0, lease.until - time.time()))
        server.resume()
        await answering(store)
        assert ids(await evicted(store, ROOM)) == [f"{node}.1"]
        assert await store.count(ROOM) == 0
        # What was not answered has arrived, and does not act twice.
        assert not (await store.append(ROOM, Addition(Record(0, "a"), KEEP, key="k", key_seconds=60))).is_new


async def test_a_connection_that_hangs_for_long_is_given_up(server: Server):
    async with patient(server, 1.0) as store:
        given_up = await _connection(store)
        server.pause()
        await wait_until(given_up)
        server.resume()
        await answering(store)


async def _connection(store: Store) -> Callable[[], bool]:
    """Whether the connection that the store has now was given up."""
    if isinstance(store, PostgresStore):
        session = await store._session.get()
        return lambda: session.link.lost
    assert isinstance(store, RedisStore)
    link = await store._server._connections._link.get()  # type: ignore[attr-defined]  # that of one server
    return lambda: link._error is not None


async def test_many_rooms_of_a_dead_process_are_taken_out_once(server: Server):
    async with opened(*[server.url] * 3) as (dead, *stores):
        node = a_node()
        lease = await dead.renew(node, 0, 60)
        rooms = [*numbered(ROOM, 1200)]
        for start in range(0, len(rooms), 100):
            await asyncio.gather(
                *(dead.enter(room, [someone(node, 1)], lease) for room in rooms[start : start + 100])
            )
        await let_end(dead, lease)
        taken: list[str] = []
        async with asyncio.timeout(30):
            while len(taken) < len(rooms):
                for lefts in await asyncio.gather(*(store.evict() for store in stores)):
                    taken += [left.room for left in lefts]
                await asyncio.sleep(0.05)
        assert sorted(taken) == sorted(rooms)
