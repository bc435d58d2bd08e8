"""A store that is given ciphertext: what was published, what is said of members, and outcomes."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Final

from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.stores import (
    MAX_OUTCOME,
    Addition,
    Appended,
    Entered,
    Lease,
    Left,
    Page,
    Part,
    Record,
    Retention,
    Store,
    StoreUnavailable,
)
from fastapi_channels.stores.records import packed, unpacked
from fastapi_channels.stores.store import FIRST, NO_LIMITS, Claim, Limits, Occupancy, Occupant
from fastapi_channels.wire.log import Seldom
from fastapi_channels.wire.packing import Unreadable
from fastapi_channels.wire.positions import Position
from fastapi_channels.wire.rooms import RESERVED

from .cipher import Cipher

REMEMBERED: Final = 10_000
"""Members whose data is known to be in the store already."""
logger = logging.getLogger("fastapi_channels")


class SealedStore:
    """
    Histories have names of their own there. So a process without keys, as there are while encryption is being
    switched on or off, has histories that are apart from these.

    Args:
        store: keeps it.
        cipher: has the keys.
        strict: who asks for `occupancy` is told that it cannot be read, and not that nothing is said.
    """

    def __init__(self, store: Store, cipher: Cipher, strict: bool = False) -> None:
        self.shared = store.shared
        self.announces = store.announces
        self.open = store.open
        self.close = store.close
        self.renew = store.renew
        self.count = store.count
        self.count_people = store.count_people
        self._store = store
        self._cipher = cipher
        self._strict = strict
        self._losses = Seldom(logger)
        # Who is entered again, unchanged, is no change of the room.
        self._seal = lru_cache(REMEMBERED)(lambda what, id, data: cipher.seal(what, data.encode()))

    @property
    def connects(self) -> int:
        return self._store.connects

    # Leases

    async def resign(self, lease: Lease) -> list[Left]:
        return [self._of_left(left) for left in await self._store.resign(lease)]

    async def evict(self) -> list[Left]:
        return [self._of_left(left) for left in await self._store.evict()]

    # Who is in a room

    async def enter(
        self, room: str, occupants: Sequence[Occupant], lease: Lease, limits: Limits = NO_LIMITS
    ) -> Entered:
        sealed = [
            each._replace(data=self._seal(f"data {room}", each.id, each.data)) if each.data else each
            for each in occupants
        ]
        found = await self._store.enter(room, sealed, lease, limits)
        return found._replace(
            occupants=self._opened(room, found.occupants), displaced=self._opened(room, found.displaced)
        )

    async def leave(self, room: str, ids: Collection[str]) -> Left:
        return self._of_left(await self._store.leave(room, ids))

    async def occupancy(self, room: str, first: int = 0, limit: int | None = None) -> Occupancy:
        """
        Raises:
            ConfigurationError: where this is strict: what is said of somebody cannot be read.
        """
        found = await self._store.occupancy(room, first, limit)
        opened = self._opened(room, found.occupants)
        lost = sum(bool(each.data) for each in found.occupants) - sum(bool(each.data) for each in opened)
        if self._strict and lost:
            raise ConfigurationError(
                f"{lost} of {len(opened)} in the room cannot be read: the application has encrypted what "
                "it says of them with none of these encryption_keys=, or not at all; give all that it has"
            )
        return found._replace(occupants=opened)

    def _of_left(self, left: Left) -> Left:
        return left._replace(occupants=self._opened(left.room, left.occupants))

    def _opened(self, room: str, occupants: Sequence[Occupant]) -> list[Occupant]:
        return [
            each._replace(data=self._text(f"data {room}", each.data)) if each.data else each
            for each in occupants
        ]

    # What was published

    async def append(self, room: str, addition: Addition) -> Appended:
        body = self._cipher.seal(f"record {room}", packed(addition.record))
        return await self._store.append(_name(room), addition._replace(record=Record(0, body)))

    async def read(self, room: str, keep: Retention, part: Part = FIRST) -> Page:
        """What cannot be read is as if it were not kept any more, and all before it."""
        page = await self._store.read(_name(room), keep, part)
        records: list[Record] = []
        first = page.first
        for record in page.records if part.reverse else reversed(page.records):  # the newest first
            try:
                text = self._cipher.open(f"record {room}", record.body)
            except Unreadable as exc:
                self._losses.warn(f"the history of {room!r} cannot be read: {exc}")
                first = record.offset + 1
                break
            records.append(unpacked(record.offset, 0, text)._replace(at=record.at))
        return page._replace(first=first, records=records if part.reverse else records[::-1])

    async def tops(self, known: Mapping[str, Position | None]) -> dict[str, Position]:
        found = await self._store.tops({_name(room): position for room, position in known.items()})
        return {room: found[_name(room)] for room in known}

    # Keys that were used

    async def claim(self, key: str, owner: str, seconds: float) -> Claim:
        """An outcome that cannot be read is as if it had been too large to be kept."""
        claim = await self._store.claim(key, owner, seconds)
        return claim._replace(outcome=self._text(f"outcome {key}", claim.outcome)) if claim.outcome else claim

    async def settle(self, key: str, owner: str, outcome: str | None, seconds: float) -> None:
        sealed = self._cipher.seal(f"outcome {key}", outcome.encode()) if outcome else outcome
        if sealed and len(sealed) > MAX_OUTCOME:
            sealed = ""
        await self._store.settle(key, owner, sealed, seconds)

    # Values that end

    async def put(self, key: str, value: str, seconds: float) -> None:
        await self._store.put(key, self._cipher.seal(f"value {key}", value.encode()), seconds)

    async def get(self, key: str) -> str | None:
        """Raises StoreUnavailable for a value that cannot be read: it may say who is let in no more."""
        return self._value(key, await self._store.get(key))

    async def take(self, key: str) -> str | None:
        """Raises as `get`."""
        return self._value(key, await self._store.take(key))

    def _value(self, key: str, token: str | None) -> str | None:
        try:
            return None if token is None else self._cipher.open(f"value {key}", token).decode()
        except Unreadable as exc:
            raise StoreUnavailable(f"a value that is kept cannot be read: {exc}") from exc

    def _text(self, what: str, token: str) -> str:
        try:
            return self._cipher.open(what, token).decode()
        except Unreadable as exc:
            self._losses.warn(f"what the store has cannot be read: {exc}")
            return ""


def _name(room: str) -> str:
    return f"{RESERVED}sealed:{room}"
