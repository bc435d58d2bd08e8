"""What carries messages between processes.

A backend moves messages (broadcaster's `BroadcastBackend`); the `Broker` drives one and keeps it alive.
Backends that need a package beyond the core are imported only when they are asked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from broadcaster import Broadcast, BroadcastBackend

from fastapi_channels.exceptions import ConfigurationError

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
]

EXTRAS: Final = {
    "memory": "",
    "redis": "redis",
    "rediss": "redis",
    "unix": "redis",
    "redis+sentinel": "redis",
    "rediss+sentinel": "redis",
    "redis+cluster": "redis",
    "rediss+cluster": "redis",
    "redis-stream": "redis",
    "rediss-stream": "redis",
    "postgres": "postgres",
    "postgresql": "postgres",
    "kafka": "kafka",
}
"""The schemes of URLs, and the extra of this package that each needs."""


def create_backend(url: str) -> BroadcastBackend:
    """The backend for `url`.

    Raises:
        ConfigurationError: the scheme is not known, the URL cannot be read, or a package is missing.
            Never contains the URL, which may hold a password.
    """
    scheme = _scheme(url)
    try:
        if scheme == "memory":
            return MemoryBackend(url)
        if EXTRAS[scheme] == "redis":
            return _on_redis(scheme)(url)
        return adopt(Broadcast(url))
    except ImportError as exc:
        extra = EXTRAS[scheme]
        raise ConfigurationError(
            f"{scheme}:// needs the package {exc.name!r}: pip install fastapi-channels[{extra}]"
        ) from exc
    except ConfigurationError:
        raise
    except Exception as exc:
        # Its text, and its traceback, may quote parts of the URL.
        raise ConfigurationError(f"the {scheme}:// URL cannot be read ({type(exc).__name__})") from None


def _on_redis(scheme: str) -> Callable[[str], BroadcastBackend]:
    from . import redis

    if scheme.endswith("+cluster"):
        return redis.ClusterBackend
    return redis.StreamBackend if scheme.endswith("-stream") else redis.RedisBackend


def adopt(broadcast: Broadcast) -> BroadcastBackend:
    """The backend to use for a `Broadcast` that a user made.

    A stock Redis backend is replaced by ours for the same server, and stays usable for publishing. Any
    other is used itself: from then on the `Broadcast` must not be connected, or each would take a part
    of the messages away from the other.

    Raises:
        ConfigurationError: it cannot be used; says what to give instead.
    """
    backend: Any = getattr(broadcast, "_backend", None)
    if not isinstance(backend, BroadcastBackend):
        raise ConfigurationError(
            f"broadcast= takes a broadcaster.Broadcast, got {type(broadcast).__name__}; "
            "give a backend as backend=, or a URL as url="
        )
    if _is_stock_redis(backend):
        return _replace(backend)
    if hasattr(broadcast, "_listener_task"):
        raise ConfigurationError(
            "the Broadcast is connected already, and would take messages away from the channels: hand it "
            "over before connecting it, or give its URL as url="
        )
    return backend


def _scheme(url: str) -> str:
    scheme, separator, _ = url.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in EXTRAS:
        known = ", ".join(f"{known}://" for known in EXTRAS)
        given = f"{scheme!r} is not a scheme that" if separator and _is_scheme(scheme) else "no scheme that"
        raise ConfigurationError(f"{given} a broker is known for; known are {known}")
    return scheme


def _is_scheme(text: str) -> bool:
    """Whether `text` can be shown: a scheme by its form (RFC 3986 section 3.1), and not a secret."""
    return re.fullmatch(r"[a-z][a-z0-9+.-]{0,31}", text) is not None


def _is_stock_redis(backend: BroadcastBackend) -> bool:
    kind = type(backend)
    return kind.__module__.startswith("broadcaster.") and kind.__name__ == "RedisBackend"


def _replace(backend: Any) -> BroadcastBackend:
    """Ours, for the server of a stock Redis backend, which delivers nothing on redis-py 8."""
    from redis.asyncio import Redis

    from .redis import RedisBackend

    client = getattr(backend, "_conn", None)
    if not isinstance(client, Redis):
        raise ConfigurationError(
            "this version of broadcaster keeps its Redis client elsewhere: give the Broadcast's URL as url="
        )
    return RedisBackend(client=client)
