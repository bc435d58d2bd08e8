"""Sentinels, by a URL."""

from __future__ import annotations

from typing import Any, Final

from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff

from fastapi_channels.exceptions import ConfigurationError

from .addresses import Several, check_database

# redis-py gives them no types.
_Sentinel: Any = Sentinel
_Pool: Any = SentinelConnectionPool

PORT: Final = 26379
TIMEOUT: Final = 0.5
"""Seconds that one sentinel has to answer, before the next one is asked."""
PREFIX: Final = "sentinel_"
"""Of the options that are for the sentinels, and not for the server that they name."""


def sentinels(url: Several) -> SentinelConnectionPool:
    """A pool whose connections ask the sentinels of `url` where the master is, each time.

    Raises:
        ConfigurationError: the URL does not name a master, or a database that is none.
    """
    if not url.path:
        raise ConfigurationError(
            "the URL of sentinels ends with the name of a master: redis+sentinel://host:26379/mymaster"
        )
    name, *database = url.path
    options = {key: value for key, value in url.options.items() if not key.startswith(PREFIX)}
    options["db"] = check_database("/".join(database)) if database else options.get("db", 0)
    addresses = [(host, port or PORT) for host, port in url.addresses]
    manager: Any = _Sentinel(addresses, sentinel_kwargs=_for_sentinels(url))
    pool: SentinelConnectionPool = _Pool(name, manager, ssl=url.tls, **options)
    return pool


def _for_sentinels(url: Several) -> dict[str, Any]:
    """Credentials of their own; TLS as to the server; patience so that one that hangs is passed over."""
    tls = {key: value for key, value in url.options.items() if key.startswith("ssl_")}
    own = {key.removeprefix(PREFIX): value for key, value in url.options.items() if key.startswith(PREFIX)}
    bounds = {"socket_timeout": TIMEOUT, "socket_connect_timeout": TIMEOUT, "retry": Retry(NoBackoff(), 0)}
    return {**bounds, **({"ssl": True} if url.tls else {}), **tls, **own}
