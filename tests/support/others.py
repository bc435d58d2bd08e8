"""PostgreSQL, NATS and RabbitMQ servers as fixtures: one that no test stops, and one of the test's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .servers import NatsServer, PostgresServer, RabbitServer, running, shared


@pytest.fixture(scope="session")
def shared_postgres() -> Iterator[PostgresServer]:
    yield from running(PostgresServer)


@pytest.fixture
def mortal_postgres() -> Iterator[PostgresServer]:
    yield from running(PostgresServer)


@pytest.fixture(scope="session")
def shared_nats() -> Iterator[NatsServer]:
    yield from running(NatsServer)


@pytest.fixture
def mortal_nats() -> Iterator[NatsServer]:
    yield from running(NatsServer)


@pytest.fixture(scope="session")
def shared_rabbit(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RabbitServer]:
    """One for all workers of a test run: each would wait half a minute for its own."""
    if not RabbitServer.installed():
        pytest.skip(f"{RabbitServer.binary} is not on PATH")
    folder = tmp_path_factory.getbasetemp()
    is_worker = hasattr(request.config, "workerinput")
    with shared(RabbitServer, folder.parent if is_worker else folder) as server:
        yield server


@pytest.fixture
def mortal_rabbit() -> Iterator[RabbitServer]:
    yield from running(RabbitServer)
