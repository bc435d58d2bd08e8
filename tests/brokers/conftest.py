"""Servers for the tests of brokers."""

from collections.abc import Iterator

import pytest

from tests.servers import RedisServer


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    """A server that no test stops."""
    if not RedisServer.installed():
        pytest.skip("redis-server is not on PATH")
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A server of the test's own, to be killed and restarted."""
    if not RedisServer.installed():
        pytest.skip("redis-server is not on PATH")
    with RedisServer() as server:
        yield server
