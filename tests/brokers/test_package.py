"""Choosing a backend: by URL, or by a Broadcast that exists."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from broadcaster import Broadcast, BroadcastBackend, Event

from fastapi_channels.brokers import SCHEMES, MemoryBackend, adopt, create_backend
from fastapi_channels.brokers.redis import ClusterBackend, RedisBackend, StreamBackend
from fastapi_channels.exceptions import ConfigurationError

SECRET = "hunter2"  # noqa: S105 - of nobody


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("memory://", MemoryBackend),
        ("MEMORY://", MemoryBackend),
        ("redis://", RedisBackend),
        ("redis://user:hunter2@host:1234/5?client_name=x", RedisBackend),
        ("rediss://host?ssl_cert_reqs=none", RedisBackend),
        ("unix:///run/redis.sock?db=2", RedisBackend),
        ("redis+sentinel://user:hunter2@one,two:26380,[::1]:26381/main/5?client_name=x", RedisBackend),
        ("rediss+sentinel://one/main?sentinel_password=hunter2&ssl_cert_reqs=none", RedisBackend),
        ("redis+cluster://user:hunter2@one:7000,two:7001?client_name=x", ClusterBackend),
        ("rediss+cluster://one?ssl_cert_reqs=none", ClusterBackend),
        ("redis-stream://user:hunter2@host:1234/5", StreamBackend),
        ("rediss-stream://host", StreamBackend),
    ],
)
def test_ours(url: str, kind: type[BroadcastBackend]):
    assert type(create_backend(url)) is kind


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("mqtt://me:hunter2@host", "'mqtt' is not a scheme that a broker is known for"),
        ("postgres://me:hunter2@host:port/db", "the postgres:// URL cannot be read"),
        ("nats://me:hunter2@one:1,two:b", "the nats:// URL cannot be read"),
        ("amqps://me:hunter2@host:99999999", "the amqps:// URL cannot be read"),
        ("hunter2", "no scheme that"),
        ("hunter2 with spaces://host", "no scheme that"),
        ("", "the URL of a broker is empty"),
        ("redis://:hunter2/host:1", "the redis:// URL cannot be read"),
        ("redis://:pass@host:hunter2", "the redis:// URL cannot be read"),
        ("rediss://[hunter2", "the rediss:// URL cannot be read"),
        ("redis-stream://:hunter2/host:1", "the redis-stream:// URL cannot be read"),
        ("redis+cluster://:hunter2@one:1,two:hunter2", "the redis\\+cluster:// URL cannot be read"),
        ("redis+sentinel://:hunter2@one:26379", "ends with the name of a master"),
        ("redis+sentinel://:hunter2@one:26379/main/hunter2", "the number of a database, and nothing else"),
    ],
)
def test_what_is_wrong_with_a_url(url: str, problem: str):
    with pytest.raises(ConfigurationError, match=problem) as caught:
        create_backend(url)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_the_known_schemes_are_listed():
    with pytest.raises(ConfigurationError) as caught:
        create_backend("x://")
    assert all(f"{scheme}://" in str(caught.value) for scheme in SCHEMES)


def test_a_missing_package_is_named_with_its_extra():
    """In an interpreter of its own: what is imported here stays imported."""
    needed = {
        "redis": ("redis", "fastapi-channels[redis]"),
        "redis-stream": ("redis", "fastapi-channels[redis]"),
        "postgres": ("asyncpg", "fastapi-channels[postgres]"),
        "postgresql": ("asyncpg", "fastapi-channels[postgres]"),
        "nats": ("nats", "fastapi-channels[nats]"),
        "amqp": ("aiormq", "fastapi-channels[rabbitmq]"),
        "kafka": ("aiokafka", "broadcaster[kafka]"),
    }
    script = f"""
import sys
from fastapi_channels.brokers import create_backend
from fastapi_channels.exceptions import ConfigurationError
create_backend("memory://")
packages = {[package for package, _ in needed.values()]}
print("imported", set(packages) & set(sys.modules))
sys.modules.update(dict.fromkeys(packages))
for scheme in {[*needed]}:
    try:
        create_backend(f"{{scheme}}://me:{SECRET}@host")
    except ConfigurationError as exc:
        print(scheme, str(exc).replace("\\n", " "))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=True
    )
    told = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert told.pop("imported") == "set()"
    assert told.keys() == needed.keys()
    for scheme, (package, extra) in needed.items():
        assert f"pip install {extra}" in told[scheme]
        assert package in told[scheme]
    assert SECRET not in done.stdout + done.stderr


# A Broadcast that a user made


def test_a_backend_of_the_users_own_is_used():
    class Own(BroadcastBackend):
        def __init__(self) -> None:
            pass

    own = Own()
    assert adopt(Broadcast(backend=own)) is own


def test_ours_in_a_broadcast_is_used():
    backend = MemoryBackend()
    assert adopt(Broadcast(backend=backend)) is backend


async def test_the_stock_redis_is_replaced():
    broadcast = Broadcast("redis://host:1234/5")
    adopted = adopt(broadcast)
    assert isinstance(adopted, RedisBackend)
    assert type(broadcast._backend) is not RedisBackend


async def test_the_stock_postgres_is_replaced():
    """It is deaf after its first outage, and every publish of it fails from then on."""
    from fastapi_channels.brokers.postgres import PostgresBackend

    broadcast: Any = Broadcast("postgres://host/db")
    assert isinstance(adopt(broadcast), PostgresBackend)
    del broadcast._backend._url
    with pytest.raises(ConfigurationError, match="url="):
        adopt(broadcast)


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("postgres://me@one:1,two:2/db", "PostgresBackend"),
        ("postgresql:///db?host=/run", "PostgresBackend"),
        ("nats://one:4222,two", "NatsBackend"),
        ("nats+tls://host", "NatsBackend"),
        ("amqp://me:p%40ss@host/vhost", "RabbitBackend"),
        ("amqps://host", "RabbitBackend"),
    ],
)
async def test_servers_of_each_scheme(url: str, kind: str):
    assert type(create_backend(url)).__name__ == kind


async def test_a_connected_broadcast_is_refused():
    async with Broadcast("memory://") as broadcast:
        with pytest.raises(ConfigurationError, match="connected already"):
            adopt(broadcast)


@pytest.mark.parametrize("thing", ["redis://host", None, MemoryBackend(), Event("room", "x")])
def test_what_is_not_a_broadcast_is_refused(thing: Any):
    with pytest.raises(ConfigurationError, match=f"got {type(thing).__name__}; give a backend as backend="):
        adopt(thing)


async def test_a_broadcaster_that_keeps_its_client_elsewhere():
    broadcast: Any = Broadcast("redis://host")
    del broadcast._backend._conn
    with pytest.raises(ConfigurationError, match="url="):
        adopt(broadcast)


@pytest.mark.parametrize("arguments", [{}, {"url": "redis://a", "client": object()}, {"client": object()}])
def test_redis_takes_one_server(arguments: dict[str, Any]):
    with pytest.raises(ConfigurationError, match="either a url or a"):
        RedisBackend(**arguments)
