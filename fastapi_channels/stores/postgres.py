"""The store on PostgreSQL: a function of the database for each call, over one connection of asyncpg.

What is asked while a round trip is under way goes out with the next, in one transaction for each function.
The functions and their tables are in `postgres.sql`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Final

import asyncpg  # type: ignore[import-untyped]  # it has annotations here and there

from fastapi_channels.brokers.backend import NotSent, describe
from fastapi_channels.brokers.link import Errand, Link
from fastapi_channels.brokers.postgres import Connection, check, connect, watched
from fastapi_channels.brokers.shared import Shared
from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.wire.messages import size_of
from fastapi_channels.wire.positions import Position

from .deadline import TIMEOUT, Deadline
from .memory import REMEMBERED
from .records import microseconds, new_epoch, packed, unpacked
from .store import (
    FIRST,
    MAX_OUTCOME,
    NO_LIMITS,
    Addition,
    Appended,
    Claim,
    Entered,
    Lease,
    LeaseLost,
    Left,
    Limits,
    Occupancy,
    Occupant,
    Page,
    Part,
    Retention,
    StoreUnavailable,
)

logger = logging.getLogger("fastapi_channels")

_REFUSALS: Final[tuple[type[Exception], ...]] = (asyncpg.PostgresError, asyncpg.InterfaceError)
_PROBLEMS: Final[tuple[type[Exception], ...]] = (ConfigurationError, OSError, *_REFUSALS)
"""Why there is no connection."""
SCHEMA: Final = "fastapi_channels"
VERSION: Final = 5
"""Of what is in `postgres.sql`. It is installed where an older one is; a newer one is left alone."""
AT_ONCE: Final = 100
"""Calls of one function in one transaction: each may lock a room, and a server has so many locks."""
BATCH: Final = 200
"""Rooms that are cleared in one call."""
PRUNE_INTERVAL: Final = 30.0
"""Seconds between two looks for what has had its time."""
PRUNED: Final = 1000
"""Rows of each table that one look takes away."""
_SQL: Final = files("fastapi_channels.stores") / "postgres.sql"
_MOST: Final = 2**62


@dataclass(slots=True)
class _Call:
    query: str
    arguments: tuple[Any, ...]
    """The second is the room, by which calls that go together are sorted: so no two wait for each other."""
    row: Any = field(default=None)


class PostgresStore:
    """State in a PostgreSQL database, in a schema of its own that is made when it is not there.

    Each call is one function of the database, and so one step. What is confirmed is on the disk. A
    connection that is lost is made again within the call that needs it. What was sent and not answered is
    not sent again.

    Args:
        url: as `asyncpg.connect` takes it. Not that of a pooler that changes sessions under its clients.
        namespace: separates applications that share a database.
        timeout: seconds in which each call is answered.
    """

    shared = True
    announces = False

    def __init__(self, url: str, *, namespace: str = "", timeout: float = TIMEOUT) -> None:
        self._url = url
        self._namespace = namespace.encode()
        self._timeout = timeout
        self._deadline = Deadline("PostgreSQL", timeout, _REFUSALS, _refusal)
        self._session = Shared(self._connect)
        self.connects = 0

    async def open(self) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                await self._session.get()
        except _PROBLEMS as exc:
            if isinstance(exc, ConfigurationError):
                raise
            if _refusal(exc) is not None:
                raise ConfigurationError(f"the PostgreSQL of the store cannot be used: {exc}") from exc
            logger.warning("the store's PostgreSQL cannot be reached, and is tried at each call: %s", exc)

    async def close(self) -> None:
        session = await self._session.take()
        if session is not None:
            await session.close()

    # Leases

    async def renew(self, node: str, token: int, seconds: float) -> Lease:
        row = await self._call("renew", node.encode(), token, microseconds(seconds))
        return Lease(node, row["_token"], row["_until"] / 1_000_000)

    async def resign(self, lease: Lease) -> list[Left]:
        return await self._clear(lease.node.encode(), lease.token)

    async def evict(self) -> list[Left]:
        return await self._clear(None, None)

    async def _clear(self, node: bytes | None, token: int | None) -> list[Left]:
        taken: list[Left] = []
        try:
            while (row := await self._call("clear", node, token, BATCH))["_more"]:
                taken += _lefts(row)
        except StoreUnavailable:
            if not taken:  # else nobody would be told of them
                raise
        return taken

    # Who is in a room

    async def enter(
        self, room: str, occupants: Sequence[Occupant], lease: Lease, limits: Limits = NO_LIMITS
    ) -> Entered:
        row = await self._call(
            "enter",
            *(room.encode(), lease.node.encode(), lease.token, round(lease.until * 1_000_000)),
            [one.id.encode() for one in occupants],
            [None if one.user is None else one.user.encode() for one in occupants],
            [one.seat.encode() for one in occupants],
            [one.data.encode() for one in occupants],
            *(limits.seats, limits.per_user, limits.when_over == "close_oldest"),
        )
        if row["_version"] is None:
            raise LeaseLost(f"the lease {lease.token} of {lease.node} has ended")
        verdicts = [*zip(occupants, row["_verdicts"], row["_sinces"] or (), strict=True)]
        return Entered(
            row["_version"],
            "i" in row["_verdicts"],
            [one._replace(since=since / 1_000_000) for one, verdict, since in verdicts if verdict in "is"],
            [one.id for one, verdict, _ in verdicts if verdict == "f"],
            [one.id for one, verdict, _ in verdicts if verdict == "o"],
            _occupants(row["_gone"]),
        )

    async def leave(self, room: str, ids: Collection[str]) -> Left:
        row = await self._call("leave", room.encode(), [id.encode() for id in ids])
        return Left(room, row["_version"], _occupants(row["_gone"]))

    async def count(self, room: str) -> int:
        found: int = (await self._call("headcount", room.encode()))["_occupied"]
        return found

    async def count_people(self, room: str) -> int:
        found: int = (await self._call("count_people", room.encode()))["_people"]
        return found

    async def occupancy(self, room: str, first: int = 0, limit: int | None = None) -> Occupancy:
        row = await self._call("occupancy", room.encode(), first, limit)
        return Occupancy(row["_version"], _occupants(row["_part"]), row["_total"])

    # What was published

    async def append(self, room: str, addition: Addition) -> Appended:
        record, keep, key, key_seconds, known, _ = addition
        row = await self._call(
            "append",
            *(room.encode(), new_epoch(), *(known or (None, None)), _remembered(keep), *_bounds(keep)),
            *(size_of(record.body), packed(record)),
            *(None if key is None else key.encode(), microseconds(key_seconds)),
        )
        return Appended(Position(row["_epoch"], row["_place"]), row["_is_new"])

    async def read(self, room: str, keep: Retention, part: Part = FIRST) -> Page:
        row = await self._call(
            "read",
            *(room.encode(), new_epoch(), _remembered(keep), *_bounds(keep)),
            *part,
        )
        found = zip(row["_places"] or (), row["_times"] or (), row["_contents"] or (), strict=True)
        records = [unpacked(*one) for one in found]
        return Page(row["_epoch"], row["_top"], row["_first"], records[::-1] if part.reverse else records)

    async def tops(self, known: Mapping[str, Position | None]) -> dict[str, Position]:
        found = await asyncio.gather(*(self._top(room, seen) for room, seen in known.items()))
        return dict(zip(known, found, strict=True))

    async def _top(self, room: str, known: Position | None) -> Position:
        row = await self._call(
            "top", room.encode(), new_epoch(), *(known or (None, None)), microseconds(REMEMBERED)
        )
        return Position(row["_epoch"], row["_top"])

    # Keys that were used

    async def claim(self, key: str, owner: str, seconds: float) -> Claim:
        row = await self._call("claim", key.encode(), owner.encode(), microseconds(seconds))
        return Claim(row["_state"], (row["_outcome"] or b"").decode())

    async def settle(self, key: str, owner: str, outcome: str | None, seconds: float) -> None:
        told = None if outcome is None else outcome[:MAX_OUTCOME].encode()
        await self._call("settle", key.encode(), owner.encode(), told, microseconds(seconds))

    # Values that end

    async def put(self, key: str, value: str, seconds: float) -> None:
        await self._call("put", key.encode(), value.encode(), microseconds(seconds))

    async def get(self, key: str) -> str | None:
        return _text((await self._call("get", key.encode()))["_value"])

    async def take(self, key: str) -> str | None:
        return _text((await self._call("take", key.encode()))["_value"])

    # Asking

    async def _call(self, function: str, *arguments: Any) -> Any:
        """The row that a function returns."""
        places = ", ".join(f"${number + 1}" for number in range(len(arguments) + 1))
        call = _Call(f"SELECT * FROM {function}({places})", (self._namespace, *arguments))  # noqa: S608
        size = sum(len(each) for each in arguments if isinstance(each, bytes))
        await self._deadline.answer(lambda: self._send(call, size))
        return call.row

    async def _send(self, call: _Call, size: int) -> None:
        try:
            session = await self._session.get()
        except _PROBLEMS as exc:
            raise NotSent(f"there is no connection: {describe(exc)}") from exc
        try:
            await session.link.do(call, size)
        except NotSent:
            if self._session.is_made(session):
                await self.close()
            raise

    async def _connect(self) -> _Session:
        async with self._deadline.connecting():
            connection = await connect(self._url, search_path=SCHEMA)
            try:
                await _install(connection)
            except BaseException:
                connection.terminate()
                raise
        self.connects += 1
        return _Session(connection)


class _Session:
    """A connection, and what is asked over it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._prune_at = 0.0
        self.link: Link[_Call] = Link(self._perform, connection.terminate, lambda _: None)
        watched(connection, self.link)

    async def close(self) -> None:
        await self.link.close()

    async def _perform(self, batch: list[Errand[_Call]]) -> None:
        check(self._connection)
        if not batch:
            await self._ping()
        together: dict[str, list[Errand[_Call]]] = {}
        for errand in batch:
            together.setdefault(errand.what.query, []).append(errand)
        for errands in together.values():
            errands.sort(key=lambda errand: errand.what.arguments[1] or b"")
            for start in range(0, len(errands), AT_ONCE):
                await self._ask(errands[start : start + AT_ONCE])

    async def _ask(self, errands: list[Errand[_Call]]) -> None:
        """Calls of one function, in one transaction."""
        arguments = [errand.what.arguments for errand in errands]
        try:
            rows = await self._connection.fetchmany(errands[0].what.query, arguments)
        except asyncpg.PostgresError as exc:
            if self._connection.is_closed() or getattr(exc, "severity_en", None) in ("FATAL", "PANIC"):
                raise
            await self._refused(errands, exc)
            return
        for errand, row in zip(errands, rows, strict=True):
            errand.what.row = row
            errand.finish()

    async def _refused(self, errands: list[Errand[_Call]], reason: asyncpg.PostgresError) -> None:
        """The transaction had no effect: find whose fault it was."""
        if len(errands) == 1:
            errands[0].fail(reason)
        else:
            for errand in errands:
                await self._ask([errand])

    async def _ping(self) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._prune_at:
            self._prune_at = now + PRUNE_INTERVAL
            await self._connection.fetchval("SELECT prune($1)", PRUNED)
        else:
            await self._connection.execute("SELECT 1")


async def _install(connection: Connection) -> None:
    """Have the schema. One process at a time makes it."""
    version = await _version(connection)
    if version == VERSION:
        return
    if version > VERSION:
        raise ConfigurationError(
            f"the schema {SCHEMA!r} of the store is of version {version}, made by a newer fastapi-channels; "
            f"this one knows {VERSION}"
        )
    async with connection.transaction():
        await connection.execute(f"SELECT pg_advisory_xact_lock(hashtext('{SCHEMA}'))")
        if await _version(connection) < VERSION:
            await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
            await connection.execute(_SQL.read_text(encoding="utf-8"))
            await connection.execute("DELETE FROM version")
            await connection.execute("INSERT INTO version VALUES ($1)", VERSION)


async def _version(connection: Connection) -> int:
    """Of the schema; 0 where there is none."""
    if await connection.fetchval("SELECT to_regclass($1)::text", f"{SCHEMA}.version") is None:
        return 0
    found: int | None = await connection.fetchval("SELECT number FROM version")
    return found or 0


def _refusal(reason: Exception) -> Exception | None:
    """What the server has against us, and will have: who we are, which database, what we may do there
    (SQLSTATE classes 28, 3D, 42); or the schema that it has."""
    cause = reason.__cause__ if isinstance(reason, NotSent) else reason
    if isinstance(cause, ConfigurationError):
        return cause
    is_final = (getattr(cause, "sqlstate", None) or "")[:2] in ("28", "3D", "42")
    return cause if isinstance(cause, Exception) and is_final else None


def _bounds(keep: Retention) -> tuple[int, int, int]:
    return keep.messages, min(keep.size, _MOST), microseconds(keep.seconds)


def _remembered(keep: Retention) -> int:
    return microseconds(REMEMBERED + keep.seconds)


def _lefts(row: Any) -> list[Left]:
    if not row["_lefts"]:
        return []
    gone: dict[bytes, list[Occupant]] = {room: [] for room in row["_lefts"]}
    for room, occupant in zip(row["_gone"]["rooms"], _occupants(row["_gone"]), strict=True):
        gone[room].append(occupant)
    versions = zip(row["_lefts"], row["_versions"], strict=True)
    return [Left(room.decode(), version, gone[room]) for room, version in versions]


def _occupants(taken: Any) -> list[Occupant]:
    """From the arrays of the type `taken`."""
    if taken is None or taken["ids"] is None:
        return []
    columns = (taken[name] for name in ("ids", "people", "seats", "datas", "sinces"))
    return [_occupant(*one) for one in zip(*columns, strict=True)]


def _occupant(id: bytes, user: bytes | None, seat: bytes, data: bytes, since: int) -> Occupant:
    known = None if user is None else user.decode()
    return Occupant(id.decode(), known, seat.decode(), data.decode(), since / 1_000_000)


def _text(found: bytes | None) -> str | None:
    return None if found is None else found.decode()
