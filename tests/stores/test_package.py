"""Choosing a store by URL."""

from __future__ import annotations

import pytest

from fastapi_channels.brokers import SCHEMES as OF_BROKERS
from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.stores import SCHEMES, MemoryStore, create_store
from fastapi_channels.stores.postgres import PostgresStore
from fastapi_channels.stores.redis import RedisStore
from tests.support.environments import without


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("memory://", MemoryStore),
        ("MEMORY://", MemoryStore),
        ("redis://user:hunter2@host:1234/5?client_name=x", RedisStore),
        ("rediss://host?ssl_cert_reqs=none", RedisStore),
        ("unix:///run/redis.sock?db=2", RedisStore),
        ("redis+sentinel://user:hunter2@one,two:26380/main/5", RedisStore),
        ("rediss+cluster://user:hunter2@one:7000,two:7001", RedisStore),
        ("Redis-Stream://user:hunter2@host:1234/5", RedisStore),
        ("postgresql://user:hunter2@host/db", PostgresStore),
        ("postgres://host", PostgresStore),
        ("nats://host", type(None)),
        ("amqp://host", type(None)),
        ("kafka://host", type(None)),
    ],
)
def test_the_store_of_a_url(url: str, kind: type):
    assert type(create_store(url, namespace="x")) is kind


def test_every_scheme_of_a_broker_is_known():
    assert set(SCHEMES) == set(OF_BROKERS)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("mqtt://me:hunter2@host", r"'mqtt' is not a scheme that a store is known for; .*, postgresql://$"),
        ("hunter2", "no scheme that a store is known for"),
        ("postgres://me:hunter2@host:port/db", "the postgres:// URL cannot be read"),
        ("redis://:pass@host:hunter2", "the redis:// URL cannot be read"),
        ("redis+cluster://:hunter2@one:1,two:hunter2", r"the redis\+cluster:// URL cannot be read"),
        ("redis+sentinel://:hunter2@one:26379", "ends with the name of a master"),
    ],
)
def test_what_is_wrong_with_a_url(url: str, problem: str):
    with pytest.raises(ConfigurationError, match=problem) as caught:
        create_store(url)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("scheme", "package", "extra"), [("redis", "redis", "redis"), ("postgres", "asyncpg", "postgres")]
)
def test_a_missing_package_is_named(scheme: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch):
    without(package, f"stores.{scheme}", monkeypatch)
    told = rf"{scheme}:// needs the package '{package}': pip install fastapi-channels\[{extra}\]"
    with pytest.raises(ConfigurationError, match=f"^{told}$"):
        create_store(f"{scheme}://host")
