"""Redis servers as fixtures, for whatever is tested over one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis

from .redis_groups import RedisCluster, RedisFailover, together
from .servers import RedisServer, running


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    """A server that no test stops."""
    yield from running(RedisServer)


@pytest.fixture
def mortal_redis() -> Iterator[RedisServer]:
    """A server of the test's own, to be killed and started again."""
    yield from running(RedisServer)


@pytest.fixture(scope="session")
def redis_cluster_node() -> Iterator[RedisServer]:
    """A cluster of one node, which refuses commands whose keys are in different slots."""
    yield from running(RedisServer, "--cluster-enabled", "yes")


@pytest.fixture
async def redis_client(shared_redis: RedisServer) -> AsyncIterator[Redis]:
    """A client of an emptied server."""
    async with Redis.from_url(shared_redis.url) as client:
        await client.flushall()
        yield client


@pytest.fixture(scope="session")
def shared_cluster() -> Iterator[RedisCluster]:
    """Three masters that no test stops."""
    yield from together(RedisCluster(3))


@pytest.fixture(scope="session")
def shared_failover() -> Iterator[RedisFailover]:
    """A master with its replica and a sentinel that no test stops."""
    yield from together(RedisFailover(1))
