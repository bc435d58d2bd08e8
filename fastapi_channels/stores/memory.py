"""The store of an application that is one process."""

from __future__ import annotations

import heapq
import time
from collections import Counter, deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, TypeVar

from fastapi_channels.wire.messages import size_of
from fastapi_channels.wire.positions import Position

from .records import new_epoch
from .store import (
    FIRST,
    MAX_OUTCOME,
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
    Record,
    Retention,
)

REMEMBERED: Final = 86_400.0
"""Seconds that a room's epoch outlives the last of its publications."""
UNUSED: Final = 300.0
"""Seconds that the epoch of a room where nothing was published outlives the last who asked for it: anybody
may ask for any name. Processes ask again while the room has members."""

VALUE: Final = ("", "")

T = TypeVar("T")


@dataclass(slots=True)
class _Room:
    version: int = 0
    occupants: dict[str, Occupant] = field(default_factory=dict)
    seats: Counter[str] = field(default_factory=Counter)
    """How many connections are on each seat."""
    people: Counter[str | tuple[str]] = field(default_factory=Counter)
    """How many connections with data each user has; of those without a user, the id in a tuple."""

    def put(self, occupant: Occupant) -> None:
        self._count(self.occupants.get(occupant.id), -1)
        self.occupants[occupant.id] = occupant
        self._count(occupant, 1)

    def take(self, id: str) -> Occupant:
        occupant = self.occupants.pop(id)
        self._count(occupant, -1)
        return occupant

    def is_full(self, seat: str, limits: Limits, without: Sequence[Occupant]) -> bool:
        """Whether there is no place on `seat`, when those `without` have gone."""
        if limits.seats is None:
            return False
        freed = Counter(occupant.seat for occupant in without)
        free = sum(self.seats[each] == number for each, number in freed.items())
        return self.seats[seat] == freed[seat] and len(self.seats) - free >= limits.seats

    def _count(self, occupant: Occupant | None, number: int) -> None:
        if occupant is None:
            return
        _add(self.seats, occupant.seat, number)
        if occupant.data:
            _add(self.people, (occupant.id,) if occupant.user is None else occupant.user, number)


def _add(counts: Counter[T], what: T, number: int) -> None:
    counts[what] += number
    if not counts[what]:
        del counts[what]


@dataclass(slots=True)
class _History:
    epoch: str = field(default_factory=new_epoch)
    top: int = 0
    records: deque[Record] = field(default_factory=deque)
    size: int = 0
    ends: float = 0.0
    """When it is forgotten as a whole."""

    def append(self, record: Record) -> None:
        self.top = record.offset
        self.records.append(record)
        self.size += size_of(record.body)

    def trim(self, keep: Retention, now: float) -> None:
        records = self.records
        while records and (
            len(records) > keep.messages
            or records[0].at <= now - keep.seconds
            or (self.size > keep.size and len(records) > 1)
        ):
            self.size -= size_of(records.popleft().body)


class MemoryStore:
    """State that ends with this process. One application is all that sees it."""

    shared = False
    announces = False
    connects = 0

    def __init__(self) -> None:
        self._rooms: dict[str, _Room] = {}
        self._versions = 0
        self._histories: dict[str, _History] = {}
        self._ends: list[tuple[float, str]] = []
        """When to look whether a history is to be forgotten."""
        self._keys: dict[tuple[str, str], tuple[float, Position]] = {}
        self._claims: dict[str, tuple[float, str, str | None]] = {}
        self._values: dict[str, tuple[float, str]] = {}
        self._deadlines: list[tuple[float, str, tuple[str, str] | None]] = []
        """When to look whether a claim, a key of a room, or a `VALUE` has ended."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    # Leases: those of one process, which end with all that they hold

    async def renew(self, node: str, token: int, seconds: float) -> Lease:
        return Lease(node, token or 1, float("inf"))

    async def resign(self, lease: Lease) -> list[Left]:
        begins = lease.node + "."
        held = {
            key: [id for id in room.occupants if id.startswith(begins)] for key, room in self._rooms.items()
        }
        return [await self.leave(room, ids) for room, ids in held.items() if ids]

    async def evict(self) -> list[Left]:
        return []

    # Who is in a room

    async def enter(
        self, room: str, occupants: Sequence[Occupant], lease: Lease, limits: Limits = NO_LIMITS
    ) -> Entered:
        found = self._rooms.get(room) or _Room(self._versions)
        now, differs = time.time(), False
        entered, full, over, displaced = [], [], [], []
        for occupant in occupants:
            known = found.occupants.get(occupant.id)
            if known is None:
                excess = self._excess(found, occupant, limits)
                if excess is None:
                    over.append(occupant.id)
                    continue
                if found.is_full(occupant.seat, limits, excess):
                    full.append(occupant.id)
                    continue
                displaced += [found.take(other.id) for other in excess]
            now_in = occupant._replace(since=now if known is None else known.since)
            differs = differs or now_in != known
            found.put(now_in)
            entered.append(now_in)
        if differs:
            self._changed(room, found)
        return Entered(found.version, differs, entered, full, over, displaced)

    def _excess(self, room: _Room, occupant: Occupant, limits: Limits) -> list[Occupant] | None:
        """Who must go so that the user of `occupant` is not over the limit; None: the occupant itself."""
        if limits.per_user is None or occupant.user is None:
            return []
        own = [other for other in room.occupants.values() if other.user == occupant.user]
        excess = own[: max(0, len(own) - limits.per_user + 1)]
        return None if excess and limits.when_over == "refuse" else excess

    async def leave(self, room: str, ids: Collection[str]) -> Left:
        found = self._rooms.get(room)
        if found is None:
            return Left(room, self._versions, [])
        gone = [found.take(id) for id in ids if id in found.occupants]
        if gone:
            self._changed(room, found)
        return Left(room, found.version, gone)

    async def count(self, room: str) -> int:
        return len(self._rooms[room].occupants) if room in self._rooms else 0

    async def count_people(self, room: str) -> int:
        return len(self._rooms[room].people) if room in self._rooms else 0

    async def occupancy(self, room: str, first: int = 0, limit: int | None = None) -> Occupancy:
        found = self._rooms.get(room)
        if found is None:
            return Occupancy(self._versions, [], 0)
        occupants = found.occupants.values()
        part = islice(occupants, first, None if limit is None else first + limit)
        return Occupancy(found.version, list(part), len(occupants))

    def _changed(self, room: str, found: _Room) -> None:
        found.version += 1
        if found.occupants:
            self._rooms[room] = found
        else:
            # Whoever comes next goes on above it, so that no version stands for two states of a room.
            self._versions = max(self._versions, found.version)
            self._rooms.pop(room, None)

    # What was published

    async def append(self, room: str, addition: Addition) -> Appended:
        record, keep, key, key_seconds, known, _ = addition
        now = time.time()
        if key is not None:
            self._forget(now)
            used = self._keys.get((room, key))
            if used is not None and used[0] > now:
                return Appended(used[1], False)
        history = self._history(room, known, now)
        history.append(record._replace(offset=history.top + 1, at=now))
        history.trim(keep, now)
        self._remember_history(room, history, keep.seconds, now)
        position = Position(history.epoch, history.top)
        if key is not None:
            self._keys[room, key] = (now + key_seconds, position)
            heapq.heappush(self._deadlines, (now + key_seconds, "", (room, key)))
        return Appended(position, True)

    async def read(self, room: str, keep: Retention, part: Part = FIRST) -> Page:
        now = time.time()
        history = self._history(room, None, now)
        history.trim(keep, now)
        self._remember_history(room, history, keep.seconds, now)
        first = history.records[0].offset if history.records else history.top + 1
        return Page(history.epoch, history.top, first, _records(history, first, part))

    async def tops(self, known: Mapping[str, Position | None]) -> dict[str, Position]:
        now = time.time()
        found = {room: self._history(room, seen, now) for room, seen in known.items()}
        for room, history in found.items():
            self._remember_history(room, history, 0, now)
        return {room: Position(history.epoch, history.top) for room, history in found.items()}

    def _history(self, room: str, known: Position | None, now: float) -> _History:
        self._forget_histories(now)
        history = self._histories.get(room)
        if history is None or (
            known is not None and known.epoch == history.epoch and known.offset > history.top
        ):
            history = self._histories[room] = _History()
        return history

    def _remember_history(self, room: str, history: _History, seconds: float, now: float) -> None:
        ends = now + (REMEMBERED + seconds if history.top else UNUSED)
        if ends > history.ends + 1:
            if not history.ends:
                heapq.heappush(self._ends, (ends, room))
            history.ends = ends

    def _forget_histories(self, now: float) -> None:
        while self._ends and self._ends[0][0] <= now:
            _, room = heapq.heappop(self._ends)
            history = self._histories.get(room)
            if history is None:
                continue  # it was noted twice, as one epoch followed another
            if history.ends <= now:
                del self._histories[room]
            else:
                heapq.heappush(self._ends, (history.ends, room))

    # Keys that were used

    async def claim(self, key: str, owner: str, seconds: float) -> Claim:
        now = time.time()
        self._forget(now)
        held = self._claims.get(key)
        if held is None or held[0] <= now or (held[1] == owner and held[2] is None):
            self._remember(key, owner, None, now + seconds)
            return Claim("new")
        return Claim("running") if held[2] is None else Claim("done", held[2])

    async def settle(self, key: str, owner: str, outcome: str | None, seconds: float) -> None:
        held = self._claims.get(key)
        if held is None or held[1] != owner:
            return
        if outcome is None:
            del self._claims[key]
        else:
            self._remember(key, owner, outcome[:MAX_OUTCOME], time.time() + seconds)

    # Values that end

    async def put(self, key: str, value: str, seconds: float) -> None:
        now = time.time()
        self._forget(now)
        self._values[key] = now + seconds, value
        heapq.heappush(self._deadlines, (now + seconds, key, VALUE))

    async def get(self, key: str) -> str | None:
        ends, value = self._values.get(key, (0.0, ""))
        return value if ends > time.time() else None

    async def take(self, key: str) -> str | None:
        found = await self.get(key)
        self._values.pop(key, None)
        return found

    def _remember(self, key: str, owner: str, outcome: str | None, ends: float) -> None:
        self._claims[key] = (ends, owner, outcome)
        heapq.heappush(self._deadlines, (ends, key, None))

    def _forget(self, now: float) -> None:
        while self._deadlines and self._deadlines[0][0] <= now:
            _, claim, used = heapq.heappop(self._deadlines)
            if used is VALUE:
                if self._values.get(claim, (now + 1,))[0] <= now:
                    del self._values[claim]
            elif used is not None:
                if self._keys.get(used, (now + 1,))[0] <= now:
                    del self._keys[used]
            elif self._claims.get(claim, (now + 1,))[0] <= now:
                del self._claims[claim]


def _records(history: _History, first: int, part: Part) -> list[Record]:
    """Offsets in a history have no gaps: the place of each is known."""
    after, before, limit, reverse = part
    lowest = max(after + 1, first)
    highest = history.top if before is None else min(before - 1, history.top)
    if reverse:
        lowest = max(lowest, highest - limit + 1)
    else:
        highest = min(highest, lowest + limit - 1)
    found = [history.records[offset - first] for offset in range(lowest, highest + 1)]
    return found[::-1] if reverse else found
