"""PostgreSQL, NATS and RabbitMQ servers as fixtures: one that no test stops, and one of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

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
def run_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that all workers of a test run share."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if hasattr(request.config, "workerinput") else folder


@pytest.fixture(scope="session")
def shared_rabbit(run_folder: Path) -> Iterator[RabbitServer]:
    """One for all workers of a test run: each would wait half a minute for its own."""
    if not RabbitServer.installed():
        pytest.skip(f"{RabbitServer.binary} is not on PATH")
    with shared(RabbitServer, RabbitServer.__name__, run_folder) as server:
        yield server


@pytest.fixture
def mortal_rabbit() -> Iterator[RabbitServer]:
    yield from running(RabbitServer)
