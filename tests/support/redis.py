"""Redis servers as fixtures, for whatever is tested over one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis

from .redis_groups import RedisCluster, RedisFailover, together
from .servers import RedisServer, free_port, running


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    """A server that no test stops."""
    yield from running(RedisServer)


@pytest.fixture
def mortal_redis() -> Iterator[RedisServer]:
    """A server of the test's own, to be killed and started again."""
    yield from running(RedisServer)


@pytest.fixture
def lasting_redis() -> Iterator[RedisServer]:
    """One that has written down what it has confirmed: it loses nothing by being killed."""
    yield from running(RedisServer, "--appendonly", "yes", "--appendfsync", "always")


@pytest.fixture
def mortal_failover() -> Iterator[RedisFailover]:
    """A master with its replica and three sentinels, to be killed."""
    yield from together(RedisFailover(3, patience=0.5))


@pytest.fixture
def mortal_cluster() -> Iterator[RedisCluster]:
    """Three masters, the first with a replica, to be killed."""
    yield from together(RedisCluster(3, replicas=1, patience=1.0))


@pytest.fixture
def changing_cluster() -> Iterator[RedisCluster]:
    """Three masters whose slots may be moved."""
    yield from together(RedisCluster(3))


@pytest.fixture(scope="session")
def redis_cluster_node() -> Iterator[RedisServer]:
    """A cluster of one node, which refuses commands whose keys are in different slots."""
    yield from running(RedisServer, "--cluster-enabled", "yes", "--cluster-port", str(free_port()))


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
