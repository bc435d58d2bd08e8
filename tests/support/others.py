"""PostgreSQL, NATS and RabbitMQ servers as fixtures: one that no test stops, and one of the test's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .servers import NatsServer, PostgresServer, RabbitServer, running


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
def shared_rabbit() -> Iterator[RabbitServer]:
    yield from running(RabbitServer)


@pytest.fixture
def mortal_rabbit() -> Iterator[RabbitServer]:
    yield from running(RabbitServer)
