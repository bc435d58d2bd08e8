"""Clients that come and go for long leave nothing behind. `python -m benchmarks.soak` has 100,000 of them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from tests.support.live import unique
from tests.support.servers import RedisServer
from tests.support.soak import Soak, application

VISITS = 3_000
UNDER_WAY = 20
"""Objects of one type that pings and leases may have at any moment."""
MB = 1024 * 1024


@pytest.fixture
async def soak(shared_redis: RedisServer) -> AsyncIterator[Soak]:
    namespace = unique("soak")
    app = application(shared_redis.url, namespace)
    async with app.router.lifespan_context(app), Redis.from_url(shared_redis.url) as redis:
        yield Soak(app, redis, namespace)


async def test_nothing_is_left_of_clients_that_came_and_went(soak: Soak):
    await soak.run(500)
    before = await soak.held()
    await soak.run(VISITS)
    after = await soak.held()
    more = after.objects - before.objects
    assert {name: count for name, count in more.items() if count > UNDER_WAY} == {}
    assert after.topics == before.topics == set(soak.node.rooms.topics)
    assert after.channels == before.channels == len(before.topics)
    assert after.keys == before.keys
    assert after.resident - before.resident < 10 * MB
    assert len(soak.node.rooms.roster or ()) == 0
