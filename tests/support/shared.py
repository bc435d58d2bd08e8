"""A store that the applications of one event loop share, as those of several processes share a server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, cast

from fastapi_channels.stores import (
    Entered,
    Lease,
    LeaseLost,
    Left,
    Limits,
    MemoryStore,
    Occupant,
    Page,
    Store,
    StoreUnavailable,
)
from fastapi_channels.stores.store import NO_LIMITS, Claim, Occupancy
from fastapi_channels.wire.positions import Position

LATENCY = 0.002
"""Seconds that a call takes."""


class SharedStore(MemoryStore):
    """Its clock is that of the event loop.

    Attributes:
        down: it does not answer.
        calls: the names of its methods, as they were called.
    """

    shared = True

    def __init__(self) -> None:
        super().__init__()
        self.down = False
        self.calls: list[str] = []
        self._leases: dict[str, Lease] = {}
        self._token = 0

    async def _called(self, name: str) -> None:
        self.calls.append(name)
        await asyncio.sleep(LATENCY)
        if self.down:
            raise StoreUnavailable("the store is down")

    async def renew(self, node: str, token: int, seconds: float) -> Lease:
        await self._called("renew")
        await self._expire()
        now, held = asyncio.get_running_loop().time(), self._leases.get(node)
        if held is None or held.token != token:
            self._token += 1
            token = self._token
            await self._take_out(node)
        lease = self._leases[node] = Lease(node, token, now + seconds)
        return lease

    async def resign(self, lease: Lease) -> list[Left]:
        await self._called("resign")
        self._leases.pop(lease.node, None)
        return await self._take_out(lease.node)

    async def evict(self) -> list[Left]:
        await self._called("evict")
        return await self._expire()

    async def _expire(self) -> list[Left]:
        now, left = asyncio.get_running_loop().time(), []
        for node in [node for node, lease in self._leases.items() if lease.until <= now]:
            del self._leases[node]
            left += await self._take_out(node)
        return left

    async def _take_out(self, node: str) -> list[Left]:
        return await super().resign(Lease(node, 0, 0.0))

    async def enter(
        self, room: str, occupants: Sequence[Occupant], lease: Lease, limits: Limits = NO_LIMITS
    ) -> Entered:
        await self._called("enter")
        await self._expire()
        held = self._leases.get(lease.node)
        if held is None or held.token != lease.token:
            raise LeaseLost(f"the lease {lease.token} of {lease.node} has ended")
        return await super().enter(room, occupants, lease, limits)

    async def leave(self, room: str, ids: Collection[str]) -> Left:
        await self._called("leave")
        return await super().leave(room, ids)

    async def count(self, room: str) -> int:
        await self._called("count")
        return await super().count(room)

    async def occupancy(self, room: str) -> Occupancy:
        await self._called("occupancy")
        return await super().occupancy(room)

    async def append(self, *args: Any, **options: Any) -> Any:
        await self._called("append")
        return await super().append(*args, **options)

    async def read(self, *args: Any, **options: Any) -> Page:
        await self._called("read")
        return await super().read(*args, **options)

    async def tops(self, known: Mapping[str, Position | None]) -> dict[str, Position]:
        await self._called("tops")
        return await super().tops(known)

    async def claim(self, key: str, owner: str, seconds: float) -> Claim:
        await self._called("claim")
        return await super().claim(key, owner, seconds)

    async def settle(self, key: str, owner: str, outcome: str | None, seconds: float) -> None:
        await self._called("settle")
        await super().settle(key, owner, outcome, seconds)

    def view(self) -> View:
        """The store as one more process reaches it."""
        return View(self)


class View:
    """One process's connection.

    Attributes:
        down: nothing of this process reaches the store.
        delay: seconds more that a call takes.
    """

    def __init__(self, store: SharedStore) -> None:
        self.down = False
        self.delay = 0.0
        self._store = store

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        return self._reached(cast("Callable[..., Awaitable[Any]]", found)) if callable(found) else found

    def _reached(self, method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def call(*args: Any, **options: Any) -> Any:
            await asyncio.sleep(self.delay)
            if self.down and method.__name__ not in ("open", "close"):
                raise StoreUnavailable("the store is not reached")
            return await method(*args, **options)

        return call

    @property
    def as_store(self) -> Store:
        return cast("Store", self)
