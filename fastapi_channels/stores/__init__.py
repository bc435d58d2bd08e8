"""State that outlives a connection and a process: who is where, what was published, which keys were used.

Stores that need a package beyond the core are imported only when they are asked for.
"""

from __future__ import annotations

import re
from typing import Final

from fastapi_channels.brokers import schemes
from fastapi_channels.exceptions import ConfigurationError

from .deadline import TIMEOUT
from .memory import MemoryStore
from .store import (
    MAX_OUTCOME,
    Addition,
    Announcement,
    Appended,
    Entered,
    Lease,
    LeaseLost,
    Left,
    Limits,
    Occupancy,
    Occupant,
    Page,
    Part,
    Record,
    Retention,
    Store,
    StoreUnavailable,
)

__all__ = [
    "MAX_OUTCOME",
    "Addition",
    "Announcement",
    "Appended",
    "Entered",
    "Lease",
    "LeaseLost",
    "Left",
    "Limits",
    "MemoryStore",
    "Occupancy",
    "Occupant",
    "Page",
    "Part",
    "Record",
    "Retention",
    "Store",
    "StoreUnavailable",
    "create_store",
    "store_beside",
]

_POSTGRES: Final = schemes.Scheme(".postgres", "PostgresStore", "postgres")
_REDIS: Final = schemes.Scheme(".redis", "RedisStore", "redis")

SCHEMES: Final = {
    "memory": schemes.Scheme(""),
    "redis": _REDIS,
    "rediss": _REDIS,
    "unix": _REDIS,
    "redis+sentinel": _REDIS,
    "rediss+sentinel": _REDIS,
    "redis+cluster": _REDIS,
    "rediss+cluster": _REDIS,
    "redis-stream": _REDIS,
    "rediss-stream": _REDIS,
    "postgres": _POSTGRES,
    "postgresql": _POSTGRES,
    "nats": None,
    "nats+tls": None,
    "amqp": None,
    "amqps": None,
    "kafka": None,
}
"""Of every broker; None where its server keeps no state."""


def store_beside(
    url: str | None,
    store_url: str | None,
    *,
    namespace: str = "",
    listens: bool = True,
    timeout: float = TIMEOUT,
) -> Store | None:
    """The store of `store_url`; without one, that of the broker's server at `url`, if it keeps state.

    Args:
        listens: whether the broker is that of `url`.
        timeout: seconds in which each call is answered.

    Raises:
        ConfigurationError: `store_url` names none; or as `create_store`.
    """
    if store_url is None:
        if url is None:
            return None
        return create_store(url, namespace=namespace, listens=listens, timeout=timeout)
    store = create_store(store_url, namespace=namespace, timeout=timeout)
    if store is None:
        kept = ", ".join(f"{name}://" for name, scheme in SCHEMES.items() if scheme is not None)
        name = store_url.partition("://")[0].lower()
        raise ConfigurationError(f"there is no store for store_url={name}://…; there is one for {kept}")
    return store


def create_store(
    url: str, *, namespace: str = "", listens: bool = False, timeout: float = TIMEOUT
) -> Store | None:
    """The store for `url`, which may be that of a broker; None where the server behind it keeps no state.

    Args:
        namespace: separates applications that share a server.
        listens: whether the application's broker is that of `url`.
        timeout: seconds in which each call is answered.

    Raises:
        ConfigurationError: the scheme is not known, the URL cannot be read, or a package is missing.
            Never contains the URL, which may hold a password.
    """
    scheme = SCHEMES[schemes.of(url, SCHEMES, "a store")]
    if scheme is None:
        return None
    if not scheme.module:
        return MemoryStore()
    plain = re.sub("^(rediss?)-stream", r"\1", url, count=1, flags=re.IGNORECASE)
    # Redis Streams are read elsewhere than where a script can publish.
    announces = {"announces": True} if listens and scheme is _REDIS and plain == url else {}
    store: Store = schemes.create(plain, scheme, __name__, namespace=namespace, timeout=timeout, **announces)
    return store
