"""A real Redis for the tests of what is shared through it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis

from tests.servers import RedisServer


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A server for tests that leave it running."""
    yield from _running()


@pytest.fixture
def mortal_redis() -> Iterator[RedisServer]:
    """A server of the test's own, to kill and start again."""
    yield from _running()


@pytest.fixture(scope="session")
def redis_cluster_node() -> Iterator[RedisServer]:
    """A cluster of one node, which refuses commands whose keys are in different slots."""
    yield from _running("--cluster-enabled", "yes")


@pytest.fixture
async def redis_client(redis_server: RedisServer) -> AsyncIterator[Redis]:
    """A client of an emptied server."""
    async with Redis.from_url(redis_server.url) as client:
        await client.flushall()
        yield client


def _running(*options: str) -> Iterator[RedisServer]:
    if not RedisServer.installed():
        pytest.skip("redis-server is not on PATH")
    with RedisServer(*options) as server:
        yield server
