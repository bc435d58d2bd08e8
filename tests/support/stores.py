"""Stores as processes have them, and what the tests of all of them ask for."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi_channels.stores import Addition, Store, StoreUnavailable, create_store
from fastapi_channels.stores.store import (
    NO_LIMITS,
    Entered,
    Lease,
    Left,
    Limits,
    Occupancy,
    Occupant,
    Record,
    Retention,
)
from fastapi_channels.wire.positions import Position

from .servers import Server

KEEP = Retention(messages=100, size=1_000_000, seconds=60)
ROOM = "room"


def store_at(url: str, namespace: str = "") -> Store:
    store = create_store(url, namespace=namespace, listens=True)
    assert store is not None
    return store


@asynccontextmanager
async def opened(*urls: str) -> AsyncIterator[list[Store]]:
    """A store for each URL, while they are used."""
    async with AsyncExitStack() as stack:
        stores = [store_at(url) for url in urls]
        for store in stores:
            stack.push_async_callback(store.close)
            await store.open()
        yield stores


def a_node() -> str:
    return secrets.token_hex(6)


def someone(node: str, number: int, *, user: str | None = None, seat: str = "", data: str = "") -> Occupant:
    id = f"{node}.{number}"
    return Occupant(id, user, seat or id, data)


async def enter(store: Store, room: str, *occupants: Occupant, limits: Limits = NO_LIMITS) -> Entered:
    """Under a lease that lasts."""
    lease = await store.renew(occupants[0].id.partition(".")[0], 0, 60)
    return await store.enter(room, occupants, lease, limits)


async def let_end(store: Store, lease: Lease) -> None:
    """Have little left of `lease`: whoever gives it so little at once may be too late to enter anything."""
    await store.renew(lease.node, lease.token, 0.05)


def ids(found: Occupancy | Left | Entered) -> list[str]:
    return [occupant.id for occupant in found.occupants]


async def evicted(store: Store, room: str) -> Left:
    """What is taken out of `room`, whose process is gone."""
    async with asyncio.timeout(30):
        while True:
            for left in await store.evict():
                if left.room == room:
                    return left
            await asyncio.sleep(0.02)


def numbered(room: str, count: int) -> Iterator[str]:
    return (f"{room} {number}" for number in range(count))


# Servers that fail


async def restarted(server: Server) -> None:
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.restart)


async def answering(store: Store, deadline: float = 30.0) -> None:
    async with asyncio.timeout(deadline):
        while True:
            try:
                await store.append("any", Addition(Record(0, "x"), KEEP))
                return
            except StoreUnavailable:
                await asyncio.sleep(0.02)


async def in_use(store: Store, node: str) -> tuple[Lease, Position]:
    """Somebody of `node` in a room, with a history."""
    lease = await store.renew(node, 0, 60)
    await store.enter(ROOM, [someone(node, 1)], lease)
    appended = await store.append(ROOM, Addition(Record(0, "a"), KEEP, key="k", key_seconds=60))
    return lease, appended.position
