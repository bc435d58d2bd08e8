"""What carries messages between processes.

A backend moves messages (broadcaster's `BroadcastBackend`); the `Broker` drives one and keeps it alive.
Backends that need a package beyond the core are imported only when they are asked for.
"""

from __future__ import annotations

from typing import Any, Final

from broadcaster import Broadcast, BroadcastBackend

from fastapi_channels.exceptions import ConfigurationError

from . import schemes
from .backend import MISSED, Listening, NotSent, Resuming
from .memory import MemoryBackend
from .supervisor import Broker

__all__ = [
    "MISSED",
    "Broker",
    "Listening",
    "MemoryBackend",
    "NotSent",
    "Resuming",
    "adopt",
    "create_backend",
    "the_backend",
]


_REDIS: Final = schemes.Scheme(".redis", "RedisBackend", "redis")
_CLUSTER: Final = schemes.Scheme(".redis", "ClusterBackend", "redis")
_STREAM: Final = schemes.Scheme(".redis", "StreamBackend", "redis")
_POSTGRES: Final = schemes.Scheme(".postgres", "PostgresBackend", "postgres")
_NATS: Final = schemes.Scheme(".nats", "NatsBackend", "nats")
_RABBITMQ: Final = schemes.Scheme(".rabbitmq", "RabbitBackend", "rabbitmq")

SCHEMES: Final = {
    "memory": schemes.Scheme(".memory", "MemoryBackend"),
    "redis": _REDIS,
    "rediss": _REDIS,
    "unix": _REDIS,
    "redis+sentinel": _REDIS,
    "rediss+sentinel": _REDIS,
    "redis+cluster": _CLUSTER,
    "rediss+cluster": _CLUSTER,
    "redis-stream": _STREAM,
    "rediss-stream": _STREAM,
    "postgres": _POSTGRES,
    "postgresql": _POSTGRES,
    "nats": _NATS,
    "nats+tls": _NATS,
    "amqp": _RABBITMQ,
    "amqps": _RABBITMQ,
    "kafka": schemes.Scheme("", extra="kafka", package="broadcaster"),
}


def create_backend(url: str) -> BroadcastBackend:
    """The backend for `url`.

    Raises:
        ConfigurationError: the scheme is not known, the URL cannot be read, or a package is missing.
            Never contains the URL, which may hold a password.
    """
    scheme = SCHEMES[schemes.of(url, SCHEMES, "a broker")]
    if scheme.module:
        backend: BroadcastBackend = schemes.create(url, scheme, __name__)
        return backend
    return adopt(schemes.read(url, scheme, Broadcast))


def adopt(broadcast: Broadcast) -> BroadcastBackend:
    """The backend to use for a `Broadcast` that a user made.

    A stock backend for Redis or PostgreSQL is replaced by ours for the same server, and stays usable for
    publishing. Any other is used itself: from then on the `Broadcast` must not be connected, or each would
    take a part of the messages away from the other.

    Raises:
        ConfigurationError: it cannot be used; says what to give instead.
    """
    backend: Any = getattr(broadcast, "_backend", None)
    if not isinstance(backend, BroadcastBackend):
        raise ConfigurationError(
            f"broadcast= takes a broadcaster.Broadcast, got {type(broadcast).__name__}; "
            "give a backend as backend=, or a URL as url="
        )
    replaced = (
        _STOCK.get(type(backend).__name__) if type(backend).__module__.startswith("broadcaster.") else None
    )
    if replaced is not None:
        return replaced(backend)
    if hasattr(broadcast, "_listener_task"):
        raise ConfigurationError(
            "the Broadcast is connected already, and would take messages away from the channels: hand it "
            "over before connecting it, or give its URL as url="
        )
    return backend


def the_backend(
    url: str | None, backend: BroadcastBackend | None = None, broadcast: Broadcast | None = None
) -> BroadcastBackend:
    """The one that a user means, who may give it, or a `Broadcast`, in place of a URL; in memory where
    nothing is said.

    Raises:
        ConfigurationError: it cannot be used.
    """
    if backend is not None and broadcast is not None:
        raise ConfigurationError("give one of url, backend and broadcast, got backend and broadcast")
    if broadcast is not None:
        return adopt(broadcast)
    if backend is not None:
        if not isinstance(backend, BroadcastBackend):
            raise ConfigurationError(f"backend= takes a broadcaster BroadcastBackend, got {backend!r}")
        return backend
    return create_backend("memory://" if url is None else url)


def _redis(backend: Any) -> BroadcastBackend:
    """Ours, for the server of a stock Redis backend, which delivers nothing on redis-py 8."""
    from redis.asyncio import Redis

    from .redis import RedisBackend

    client = getattr(backend, "_conn", None)
    if not isinstance(client, Redis):
        raise ConfigurationError(
            "this version of broadcaster keeps its Redis client elsewhere: give the Broadcast's URL as url="
        )
    return RedisBackend(client=client)


def _postgres(backend: Any) -> BroadcastBackend:
    """Ours, for the server of a stock PostgreSQL backend, which is deaf once it has lost its connection."""
    url = getattr(backend, "_url", None)
    if not isinstance(url, str):
        raise ConfigurationError(
            "this version of broadcaster keeps its URL elsewhere: give the Broadcast's URL as url="
        )
    return create_backend(url)


_STOCK: Final = {"RedisBackend": _redis, "PostgresBackend": _postgres}
"""Backends of broadcaster that are replaced."""
