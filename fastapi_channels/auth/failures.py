"""Addresses that bring what does not hold, again and again."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final
from weakref import WeakValueDictionary

from starlette.requests import HTTPConnection

from fastapi_channels.cluster.node import Node
from fastapi_channels.exceptions import RateLimitExceeded, TokenExpired, Unauthenticated
from fastapi_channels.signatures.callables import awaited
from fastapi_channels.throttling import Rate, RateLimiter, address_group, client_address, limit_key

PATIENCE: Final = 5.0
"""Seconds that an attempt waits for those of its address that are looked at."""


class Failures:
    """Counts what has failed alone, where the application counts its rates: who signs in well is never in
    anybody's way but behind such an address.

    Args:
        limit: how often an address may fail.
    """

    def __init__(self, limit: Rate) -> None:
        self._limit = limit
        self._queues: WeakValueDictionary[str, _Queue] = WeakValueDictionary()

    @asynccontextmanager
    async def attempt(self, connection: HTTPConnection) -> AsyncIterator[None]:
        """What `connection` brings is looked at; Unauthenticated says that it does not hold.

        Raises:
            RateLimitExceeded: its address has failed too often, or has too much looked at.
        """
        node = Node.of(connection.scope)
        address = address_group(client_address(connection, node.settings.trusted_proxies))
        key = limit_key("address", address, "", "sign-in", "", str(self._limit))
        queue = self._queues.get(address)
        if queue is None:
            queue = self._queues[address] = _Queue()
        await queue.enter(node.limiter, key, self._limit)
        try:
            yield
        except TokenExpired:
            raise  # it did hold, once
        except Unauthenticated:
            await awaited(node.limiter.hit([(key, self._limit)]))
            raise
        finally:
            queue.leave()


class _Queue:
    """The attempts of one address in this process. At most as many are looked at at a time as may still fail:
    a herd of guesses does not come before the first of them is counted."""

    def __init__(self) -> None:
        self._looked_at = 0
        self._turn = asyncio.Lock()
        self._has_left = asyncio.Event()

    async def enter(self, limiter: RateLimiter, key: str, limit: Rate) -> None:
        """Wait for a place, as long as one of those before may still leave it.

        Raises:
            RateLimitExceeded: there is none, or none in time.
        """
        try:
            async with asyncio.timeout(PATIENCE), self._turn:
                while True:
                    self._has_left.clear()
                    before = self._looked_at
                    cost = (before + 1) * limit.cost
                    if not before or cost <= limit.times:
                        # All of those before may fail yet.
                        wait = await awaited(limiter.wait([(key, replace(limit, cost=cost))]))
                        if not wait:
                            break
                        if not before:
                            raise RateLimitExceeded(retry_after=None if math.isinf(wait) else wait)
                    await self._has_left.wait()
                self._looked_at += 1
        except TimeoutError:
            raise RateLimitExceeded(retry_after=PATIENCE) from None

    def leave(self) -> None:
        self._looked_at -= 1
        self._has_left.set()
