"""PostgreSQL: LISTEN and NOTIFY, over two connections of asyncpg: one that notifies, one that listens.

A notification is a text below 8,000 bytes, without NUL, and PostgreSQL drops one that equals another of the
same transaction. What does not fit begins with a mark; what is too long waits in a table for those that
listen, for a minute.
"""

from __future__ import annotations

import asyncio
import base64
import re
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, TypeAlias

import asyncpg  # type: ignore[import-untyped]  # it has annotations here and there
from broadcaster import BroadcastBackend, Event

from fastapi_channels.exceptions import ConfigurationError

from .backend import NotSent, Receive
from .backlog import LIMIT, Backlog
from .link import Errand, Link, connected, decoded, encoded, server_name, subscription

MAX_INLINE: Final = 7999
"""Bytes of a notification."""
KEPT: Final = 60
"""Seconds that a long message waits in the table."""
PRUNE_INTERVAL: Final = 30.0
"""Seconds between two looks for those that have waited for longer."""
AT_ONCE: Final = 16
"""Long messages that are fetched together."""
MAX_HELD: Final = 100_000
"""Notifications that wait behind a long message that is being fetched."""
MARK: Final = "\x02fc "
"""Begins a notification that is not its message itself. Then follow a letter, a number and a blank."""
TABLE: Final = "fastapi_channels_messages"

_SETTINGS: Final = {"synchronous_commit": "off"}
"""What is notified does not survive a crash."""
_CHANNEL: Final = re.compile("[^\0]+")
_MAX_CHANNEL: Final = 63
_CREATE: Final = f"""
    SELECT pg_advisory_xact_lock(hashtext('{TABLE}'));
    CREATE UNLOGGED TABLE IF NOT EXISTS {TABLE} (
        id uuid PRIMARY KEY, body bytea NOT NULL, at timestamptz NOT NULL DEFAULT now())"""
_PRUNE: Final = f"DELETE FROM {TABLE} WHERE at < now() - interval '{KEPT} seconds'"  # noqa: S608 - constants
_FETCH: Final = f"SELECT id, body FROM {TABLE} WHERE id = ANY($1::uuid[])"  # noqa: S608
_NOTIFY: Final = (
    "SELECT count(pg_notify(channel, payload)::text) "
    "FROM unnest($1::text[], $2::text[]) AS notification(channel, payload)"
)
_STORE: Final = (
    f"WITH stored AS (INSERT INTO {TABLE} (id, body) SELECT * FROM unnest($3::uuid[], $4::bytea[])) "  # noqa: S608
    + _NOTIFY
)


class PostgresBackend(BroadcastBackend):
    """Broadcasts over PostgreSQL.

    A subscription is confirmed by the server when `subscribe` returns, a message committed when `publish`
    does. What is published in one turn of the event loop is one transaction, and what comes while it runs
    is the next. A connection that does not answer is noticed within five seconds. Nothing is repeated
    here: when a connection is lost, `listen` and `next_published` raise, and it is the broker that
    reconnects.

    Args:
        url: as `asyncpg.connect` takes it. Not that of a pooler that changes sessions under its clients.
        limit: bytes that wait in a plain `Broadcast`; beyond them the oldest messages are dropped.
    """

    def __init__(self, url: str, *, limit: int = LIMIT) -> None:
        self._url = url
        self._backlog = Backlog(limit)
        self._publisher: _Publisher | None = None
        self._listener: _Listener | None = None

    @property
    def dropped(self) -> int:
        return self._backlog.dropped

    async def connect(self) -> None:
        self._backlog.open()
        # Whichever is lost, reading ends with it: there is one state, not two.
        self._publisher = self._listener = None
        try:
            self._publisher = _Publisher(await connect(self._url, **_SETTINGS), self._backlog.fail)
            self._listener = _Listener(
                await connect(self._url, **_SETTINGS), self._backlog.put, self._backlog.fail
            )
        except BaseException:
            await self.disconnect()
            raise

    async def disconnect(self) -> None:
        for end in (self._publisher, self._listener):
            if end is not None:
                await end.link.close()

    async def subscribe(self, group: str) -> None:
        await subscription(connected(self._listener).subscribe(group))

    async def unsubscribe(self, group: str) -> None:
        await subscription(connected(self._listener).unsubscribe(group))

    async def publish(self, channel: str, message: str | bytes) -> None:
        body = encoded(message)
        await connected(self._publisher).link.do((_channel(channel), body), len(body))

    async def next_published(self) -> Event:
        """The next message: text where it is UTF-8, else bytes."""
        event = await self._backlog.get()
        return Event(event.channel, decoded(event.message))

    async def listen(self, receive: Receive) -> None:
        await self._backlog.listen(receive)


class Connection(asyncpg.Connection):  # type: ignore[misc]  # for the same reason
    """Hands notifications over as they are read: asyncpg's own listeners cost a round trip for each."""

    notified: Callable[[str, str], None] | None = None

    def _process_notification(self, pid: int, channel: str, payload: str) -> None:
        if self.notified is not None:
            self.notified(channel, payload)


async def connect(url: str, **settings: str) -> Connection:
    """A connection to a database whose texts are those of Python, with settings of its session.

    Raises:
        ConfigurationError: the URL has an option that is neither asyncpg's nor a setting of PostgreSQL.
    """
    try:
        connection: Connection = await asyncpg.connect(
            url,
            connection_class=Connection,
            server_settings={"application_name": "fastapi-channels", **settings},
        )
    except (asyncpg.UndefinedObjectError, asyncpg.InvalidParameterValueError) as exc:
        raise ConfigurationError(f"PostgreSQL does not take an option that the URL has: {exc}") from None
    encoding = connection.get_settings().server_encoding
    if encoding != "UTF8":
        connection.terminate()
        raise ConnectionError(f"the database's encoding must be UTF8, and is {encoding}")
    return connection


def check(connection: Connection) -> None:
    """Raises NotSent where the server is gone."""
    if connection.is_closed():
        raise NotSent("the server closed the connection")


def watched(connection: Connection, link: Link[Any]) -> None:
    """Open `link`, whose connection is made; it is lost when the server closes it."""
    connection.add_termination_listener(
        lambda _: link.lose(ConnectionError("the server closed the connection"))
    )
    link.open()


# Publishing


_Message: TypeAlias = tuple[str, bytes]
"""The channel at the server, and the content."""


class _Publisher:
    def __init__(self, connection: Connection, on_lost: Callable[[Exception], None]) -> None:
        self._connection = connection
        self._ready = False
        self._stored = self._pruned = float("-inf")
        self.link: Link[_Message] = Link(self._perform, connection.terminate, on_lost)
        watched(connection, self.link)

    async def _perform(self, batch: list[Errand[_Message]]) -> None:
        check(self._connection)
        try:
            if batch:
                await self._publish([errand.what for errand in batch])
            else:
                await self._ping()
        except asyncpg.PostgresError as exc:
            if self._connection.is_closed() or getattr(exc, "severity_en", None) in ("FATAL", "PANIC"):
                raise
            await self._refused(batch, exc)

    async def _refused(self, batch: list[Errand[_Message]], reason: asyncpg.PostgresError) -> None:
        """The transaction had no effect: find whose fault it was."""
        if len(batch) == 1:
            batch[0].fail(reason)
        else:
            for errand in batch:
                await self._perform([errand])

    async def _publish(self, messages: list[_Message]) -> None:
        notifications = _Notifications()
        for channel, body in messages:
            notifications.add(channel, body)
        columns: list[Any] = [notifications.channels, notifications.payloads]
        if not notifications.stored:
            await self._connection.fetchval(_NOTIFY, *columns)
            return
        await self._prepare()
        ids, bodies = zip(*notifications.stored.items(), strict=True)
        await self._connection.fetchval(_STORE, *columns, ids, bodies)

    async def _prepare(self) -> None:
        """Have a table; users that may not create one can be given it."""
        self._stored = asyncio.get_running_loop().time()
        if not self._ready:
            if await self._connection.fetchval("SELECT to_regclass($1)::text", TABLE) is None:
                await self._connection.execute(_CREATE)
            self._ready = True

    async def _ping(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._pruned - self._stored < KEPT + PRUNE_INTERVAL and now - self._pruned > PRUNE_INTERVAL:
            self._pruned = now
            await self._connection.execute(_PRUNE)
        else:
            await self._connection.execute("SELECT 1")


class _Notifications:
    """What one transaction notifies, and what it stores."""

    def __init__(self) -> None:
        self.channels: list[str] = []
        self.payloads: list[str] = []
        self.stored: dict[uuid.UUID, bytes] = {}
        self._seen: set[tuple[str, str]] = set()

    def add(self, channel: str, body: bytes) -> None:
        payload = self._inline(channel, body)
        if payload is None or len(payload) > MAX_INLINE or len(payload.encode()) > MAX_INLINE:
            key = uuid.uuid4()
            self.stored[key] = body
            payload = f"{MARK}r{len(self.payloads)} {key.hex}"
        self._seen.add((channel, payload))
        self.channels.append(channel)
        self.payloads.append(payload)

    def _inline(self, channel: str, body: bytes) -> str | None:
        """The payload for `body`; None if it is longer than any notification."""
        if len(body) > MAX_INLINE:
            return None
        text: str | bytes = decoded(body)
        number = len(self.payloads)
        if isinstance(text, bytes) or "\0" in text:
            return f"{MARK}b{number} {base64.b64encode(body).decode()}"
        if text.startswith(MARK) or (channel, text) in self._seen:
            return f"{MARK}t{number} {text}"
        return text


# Listening


@dataclass(slots=True)
class _Stored:
    """Stands for a message in the table."""

    key: uuid.UUID


class _Listener:
    def __init__(
        self, connection: Connection, receive: Receive, on_lost: Callable[[Exception], None]
    ) -> None:
        self._connection = connection
        self._receive = receive
        self._topics: dict[str, str] = {}
        self._held: deque[tuple[str, str | bytes | _Stored]] = deque()
        self._wanted = asyncio.Event()
        self._turn = asyncio.Lock()
        connection.notified = self._notified
        self.link: Link[str] = Link(self._perform, connection.terminate, on_lost)
        watched(connection, self.link)
        self.link.run(self._fetch())

    async def subscribe(self, topic: str) -> None:
        channel = _channel(topic)
        self._topics[channel] = topic
        await self.link.do(f"LISTEN {_quoted(channel)}")

    async def unsubscribe(self, topic: str) -> None:
        channel = _channel(topic)
        self._topics.pop(channel, None)
        await self.link.do(f"UNLISTEN {_quoted(channel)}")

    async def _perform(self, batch: list[Errand[str]]) -> None:
        check(self._connection)
        statements = [errand.what for errand in batch] or ["SELECT 1"]
        async with self._turn:
            await self._connection.execute("; ".join(statements))

    def _notified(self, channel: str, payload: str) -> None:
        topic = self._topics.get(channel)
        if topic is None:
            return
        message = _read(payload)
        if not self._held and not isinstance(message, _Stored):
            self._receive(topic, message)
            return
        self._held.append((topic, message))
        self._wanted.set()
        if len(self._held) > MAX_HELD:
            self.link.lose(ConnectionError("long messages come faster than they can be fetched"))

    async def _fetch(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            while self._held:
                await self._fetch_some()

    async def _fetch_some(self) -> None:
        """Fetch the first long messages, and hand over what is held, in order, as far as it is there."""
        keys = [message.key for _, message in self._held if isinstance(message, _Stored)]
        async with self._turn:
            rows = await self._connection.fetch(_FETCH, list(islice(keys, AT_ONCE)))
        bodies = {row["id"].int: row["body"] for row in rows}
        wanted = keys[:AT_ONCE]
        while self._held:
            topic, message = self._held[0]
            if isinstance(message, _Stored):
                if message.key not in wanted:
                    return
                if message.key.int not in bodies:
                    raise ConnectionError("a long message was gone before it could be fetched")
                message = bodies[message.key.int]
            self._held.popleft()
            self._receive(topic, message)


def _read(payload: str) -> str | bytes | _Stored:
    """What a notification stands for; one of a stranger that begins with the mark is itself."""
    head, blank, rest = payload[len(MARK) :].partition(" ")
    if not payload.startswith(MARK) or not blank or not head[1:].isdecimal():
        return payload
    try:
        match head[0]:
            case "t":
                return rest
            case "b":
                return base64.b64decode(rest, validate=True)
            case "r":
                return _Stored(uuid.UUID(rest))
            case _:
                return payload
    except ValueError:
        return payload


def _channel(topic: str) -> str:
    return server_name(topic, _CHANNEL, _MAX_CHANNEL)


def _quoted(channel: str) -> str:
    return '"' + channel.replace('"', '""') + '"'
