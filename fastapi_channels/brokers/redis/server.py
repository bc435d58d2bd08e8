"""The server that links go to: one Redis, or the one that sentinels name."""

from __future__ import annotations

import asyncio
from typing import Any

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import RedisError

from fastapi_channels.exceptions import ConfigurationError

from . import link as links
from .addresses import Several, check_one
from .link import Link
from .sentinel import sentinels


class Server:
    """One Redis, whichever node of a Sentinel's group that is.

    Args:
        url: of redis-py, or `redis+sentinel://` and `rediss+sentinel://`, which redis-py does not have.
        client: instead of a URL; its connections are not used, and it is not closed.

    Raises:
        ConfigurationError: a part of the URL cannot be what it is.
    """

    def __init__(self, url: str | None, client: Redis | None) -> None:
        self._own = client is None
        if isinstance(client, Redis) and url is None:
            self._pool = client.connection_pool
        elif url is not None and client is None:
            several = "+sentinel://" in url.lower()
            self._pool = sentinels(Several.of(url)) if several else ConnectionPool.from_url(check_one(url))
        else:
            raise ConfigurationError("a Redis backend takes either a url or a redis.asyncio.Redis as client")

    def connection(self) -> Any:
        return links.connection(self._pool.connection_class, self._pool.connection_kwargs)

    async def open(self, *opened: Link) -> None:
        """Connect all, to one server, which is a master.

        Raises:
            ConnectionError: they cannot be, or are not. redis-py's errors are no `ConnectionError`.
        """
        for link in opened:
            await link.open()
        if isinstance(self._pool, SentinelConnectionPool):
            first = opened[0]
            await self._check(first)
            if any(link.address != first.address for link in opened):
                raise ConnectionError("the sentinels name another master now")
            first.run(self._stay(first, self._pool))

    async def close(self) -> None:
        """Hang up on the sentinels."""
        if self._own and isinstance(self._pool, SentinelConnectionPool):
            for sentinel in self._pool.sentinel_manager.sentinels:
                await sentinel.aclose()

    async def _stay(self, link: Link, pool: SentinelConnectionPool) -> None:
        """Return never; raises when the master is no longer the one that `link` leads to."""
        while True:
            await asyncio.sleep(links.PING_INTERVAL)
            await self._check(link)
            try:
                address = await pool.sentinel_manager.discover_master(pool.service_name)
            except (RedisError, OSError):
                continue  # no sentinel can be asked, or none knows: what works is kept
            if tuple(address) != link.address:
                raise ConnectionError("the sentinels name another master now")

    async def _check(self, link: Link) -> None:
        """Publishing is no write: a replica takes it, and those at the master never hear of it."""
        role = await link.ask(b"ROLE")
        if role[0] != b"master":
            raise ConnectionError("the server is a replica")
