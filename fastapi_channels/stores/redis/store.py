"""State that processes share by way of Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from fastapi_channels.stores.deadline import TIMEOUT
from fastapi_channels.stores.store import (
    FIRST,
    NO_LIMITS,
    Addition,
    Appended,
    Claim,
    Entered,
    Lease,
    Left,
    Limits,
    Occupancy,
    Occupant,
    Page,
    Part,
    Retention,
    StoreUnavailable,
)
from fastapi_channels.wire.positions import Position

from . import claims, history, leases, rooms, values
from .claims import Claims
from .history import Histories
from .leases import Ended, Leases
from .rooms import Rooms
from .server import Server
from .values import Values


class RedisStore:
    """State on Redis 6.2 or newer: one server, the one that sentinels name, or a cluster.

    Each change of a room is one script, over keys of one slot. What is asked in one turn of the event loop
    goes out in one write. A connection that is lost is made again within the call that needs it. What was
    sent and not answered is not sent again.

    What Redis loses, the store loses: all, where Redis starts anew without a log on its disk; the last
    second, where it has one that is written each second; what a replica had not heard of when it became the
    master. A lease that is lost with it gets another token, a history that is lost another epoch.

    Args:
        url: as the broker takes it: `redis://`, `rediss://` or `unix://`; `redis+sentinel://`,
            `redis+cluster://`, and `rediss+…` of both for TLS.
        namespace: separates applications that share a server.
        timeout: seconds in which each call is answered.
        announces: whether the application's broker listens to PUBLISH on this server.
    """

    shared = True

    def __init__(
        self, url: str, *, namespace: str = "", timeout: float = TIMEOUT, announces: bool = False
    ) -> None:
        scripts = (*leases.SCRIPTS, *rooms.SCRIPTS, *history.SCRIPTS, *claims.SCRIPTS, *values.SCRIPTS)
        self._server = Server(url, namespace, scripts, timeout)
        self._leases = Leases(self._server)
        self._rooms = Rooms(self._server)
        self._histories = Histories(self._server)
        self._claims = Claims(self._server)
        self._values = Values(self._server)
        # What is published on one server of a cluster is sharded by the broker, and not by the room's key.
        self.announces = announces and not self._server.is_cluster

    @property
    def connects(self) -> int:
        return self._server.connects

    async def open(self) -> None:
        await self._server.open()

    async def close(self) -> None:
        await self._server.close()

    # Leases

    async def renew(self, node: str, token: int, seconds: float) -> Lease:
        return await self._leases.renew(node, token, seconds)

    async def resign(self, lease: Lease) -> list[Left]:
        return await self._clear(lambda: self._leases.end(lease))

    async def evict(self) -> list[Left]:
        return await self._clear(self._leases.ended)

    async def _clear(self, more: Callable[[], Awaitable[Ended | None]]) -> list[Left]:
        """Take out what was entered under leases that have ended. What is left undone is found again."""
        taken: list[Left] = []
        try:
            while ended := await more():
                found = await asyncio.gather(
                    *(self._rooms.oust(room, ended.node, ended.token) for room in ended.rooms),
                    return_exceptions=True,
                )
                cleared = [left for left in found if isinstance(left, Left)]
                taken += [left for left in cleared if left.occupants]
                await self._leases.cleared(ended, [left.room for left in cleared])
                for problem in found:
                    if isinstance(problem, BaseException):
                        raise problem
        except StoreUnavailable:
            if not taken:  # else nobody would be told of them
                raise
        return taken

    # Who is in a room

    async def enter(
        self, room: str, occupants: Sequence[Occupant], lease: Lease, limits: Limits = NO_LIMITS
    ) -> Entered:
        known = self._leases.knows(lease, room)
        number = self._leases.entering(lease, room)
        outcome = await self._rooms.enter(room, occupants, lease, limits, noted=False) if known else None
        if outcome is None:
            await self._leases.note(lease, room)
            outcome = await self._rooms.enter(room, occupants, lease, limits, noted=True)
        assert outcome is not None
        if not outcome.is_present:
            self._leases.left(lease.node, room, number)
        return outcome.entered

    async def leave(self, room: str, ids: Collection[str]) -> Left:
        nodes = {id.partition(".")[0] for id in ids}
        before = {node: self._leases.entered(node, room) for node in nodes}
        departure = await self._rooms.leave(room, ids)
        for node in departure.absent:
            self._leases.left(node, room, before[node])
        return departure.left

    async def count(self, room: str) -> int:
        return await self._rooms.count(room)

    async def count_people(self, room: str) -> int:
        return await self._rooms.count_people(room)

    async def occupancy(self, room: str, first: int = 0, limit: int | None = None) -> Occupancy:
        return await self._rooms.occupancy(room, first, limit)

    # What was published

    async def append(self, room: str, addition: Addition) -> Appended:
        return await self._histories.append(room, addition)

    async def read(self, room: str, keep: Retention, part: Part = FIRST) -> Page:
        return await self._histories.read(room, keep, part)

    async def tops(self, known: Mapping[str, Position | None]) -> dict[str, Position]:
        found = await asyncio.gather(*(self._histories.top(room, seen) for room, seen in known.items()))
        return dict(zip(known, found, strict=True))

    # Keys that were used

    async def claim(self, key: str, owner: str, seconds: float) -> Claim:
        return await self._claims.claim(key, owner, seconds)

    async def settle(self, key: str, owner: str, outcome: str | None, seconds: float) -> None:
        await self._claims.settle(key, owner, outcome, seconds)

    # Values that end

    async def put(self, key: str, value: str, seconds: float) -> None:
        await self._values.put(key, value, seconds)

    async def get(self, key: str) -> str | None:
        return await self._values.get(key)

    async def take(self, key: str) -> str | None:
        return await self._values.take(key)
