"""NATS, over one connection of nats-py.

nats-py connects and reads; it does not reconnect here, because then nobody would learn that messages were
missed. Its subscriptions each have a task and a queue, which drops what is too much; so messages are taken
from its parser instead, as they are read.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from itertools import count
from typing import Any, Final

from broadcaster import BroadcastBackend, Event
from nats.aio.client import Client

from .backend import NotSent, Receive
from .backlog import LIMIT, Backlog
from .link import Errand, Link, connected, decoded, encoded, server_name, subscription

PART: Final = "Fc-Part"
"""The header of each part of a message that is larger than the server takes: whose it is, the number of the
message, the number of the part, and how many there are."""
HEADERS: Final = 512
"""Bytes that are left for the headers of a part."""
MAX_UNFINISHED: Final = 64 * 1024 * 1024
"""Bytes of messages whose last part has not come; beyond them the oldest are given up."""

_SUBJECT: Final = re.compile(r"(?!\$)[^\s.*>\x00-\x20\x7f]+(\.[^\s.*>\x00-\x20\x7f]+)*")
_MAX_SUBJECT: Final = 255
_PING: Final = b"PING\r\n"


class NatsBackend(BroadcastBackend):
    """Broadcasts over NATS (core; nothing is stored).

    A subscription is confirmed by the server when `subscribe` returns, a message taken by it when
    `publish` does: what is asked for in one turn of the event loop is followed by one ping, and what comes
    before the answer is followed by the next. Messages that are larger than the server takes travel in
    parts. A connection that does not answer is noticed within five seconds. Nothing is repeated here: when
    it is lost, `listen` and `next_published` raise, and it is the broker that reconnects.

    Args:
        url: `nats://` or `tls://` with a server, or several with commas between them, of which any is used;
            `nats+tls://` is the same as `tls://`. The server decides whether TLS is spoken.
        limit: bytes that wait in a plain `Broadcast`; beyond them the oldest messages are dropped.
        options: what else `nats.connect` takes (`user_credentials`, `tls`, …), except what is about
            reconnecting.
    """

    def __init__(self, url: str, *, limit: int = LIMIT, **options: Any) -> None:
        scheme, _, hosts = url.rpartition("://")
        scheme = "tls" if "tls" in scheme.lower() else "nats"
        self._servers = [f"{scheme}://{host}" for host in hosts.split(",")]
        self._options = options
        self._backlog = Backlog(limit)
        self._peer: _Peer | None = None

    @property
    def dropped(self) -> int:
        return self._backlog.dropped

    async def connect(self) -> None:
        self._backlog.open()
        self._peer = _Peer(self._backlog.put, self._backlog.fail)
        try:
            await self._peer.open(self._servers, self._options)
        except BaseException:
            await self.disconnect()
            raise

    async def disconnect(self) -> None:
        if self._peer is not None:
            await self._peer.close()

    async def subscribe(self, group: str) -> None:
        await subscription(self._link.do(_Order(_Verb.SUB, _subject(group), group)))

    async def unsubscribe(self, group: str) -> None:
        await subscription(self._link.do(_Order(_Verb.UNSUB, _subject(group), group)))

    async def publish(self, channel: str, message: str | bytes) -> None:
        body = encoded(message)
        await self._link.do(_Order(_Verb.PUB, _subject(channel), channel, body), len(body))

    async def next_published(self) -> Event:
        """The next message: text where it is UTF-8, else bytes."""
        event = await self._backlog.get()
        return Event(event.channel, decoded(event.message))

    async def listen(self, receive: Receive) -> None:
        await self._backlog.listen(receive)

    @property
    def _link(self) -> Link[_Order]:
        return connected(self._peer).link


class _Verb(Enum):
    PUB = "publish"
    SUB = "subscribe"
    UNSUB = "unsubscribe"


@dataclass(slots=True)
class _Order:
    verb: _Verb
    subject: str
    topic: str
    body: bytes = b""


class _Client(Client):
    """Hands messages over as they are read."""

    def __init__(self, take: Callable[[bytes, bytes, bytes | None], None]) -> None:
        super().__init__()
        self._take = take

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None
    ) -> None:
        if sid in self._subs:  # else it was on its way when it was unsubscribed
            self._take(subject, data, headers)


class _Peer:
    """The connection, and who is subscribed on it."""

    def __init__(self, receive: Receive, on_lost: Callable[[Exception], None]) -> None:
        self._receive = receive
        self._client = _Client(self._took)
        self._subscriptions: dict[str, Any] = {}
        self._topics: dict[bytes, str] = {}
        self._parts = _Parts()
        self._name = os.urandom(8).hex()
        self._numbers = count()
        self._batch: list[Errand[_Order]] = []
        self._error: Exception | None = None
        self.link: Link[_Order] = Link(self._perform, self._abort, on_lost)

    async def open(self, servers: list[str], options: dict[str, Any]) -> None:
        settings: dict[str, Any] = {"name": "fastapi-channels"} | options
        settings |= {"allow_reconnect": False, "max_reconnect_attempts": 1, "reconnect_time_wait": 0}
        settings |= {"error_cb": self._complained, "closed_cb": self._closed}
        try:
            await self._client.connect(servers, **settings)
        except Exception as exc:
            raise ConnectionError(f"{type(exc).__name__}: {self._error or exc}") from exc
        self.link.open()

    async def close(self) -> None:
        await self.link.close()
        with suppress(Exception):
            await self._client.close()

    def _abort(self) -> None:
        """Close at once: what a hung server has not read would otherwise keep the socket open."""
        for name in ("_io_writer", "_bare_io_writer"):
            writer = getattr(getattr(self._client, "_transport", None), name, None)
            if writer is not None:
                writer.transport.abort()

    async def _closed(self) -> None:
        self.link.lose(ConnectionError(f"the server closed the connection: {self._client.last_error}"))

    async def _complained(self, error: Exception) -> None:
        """The server has an objection to something in the current batch, or the connection broke."""
        self._error = error
        text = str(error)
        for errand in self._batch:
            if f'"{errand.what.subject.lower()}"' in text:
                errand.fail(PermissionError(text))

    # Out

    async def _perform(self, batch: list[Errand[_Order]]) -> None:
        if not self._client.is_connected:
            raise NotSent("the server closed the connection")
        self._batch = batch
        for errand in batch:
            await self._send(errand.what)
            self._check()
        # nats-py's own flush() writes its ping before what waits to be written, and so confirms nothing.
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._client._pongs.append(answer)
        await self._client._send_command(_PING)
        await self._client._flush_pending()
        self._check()
        await answer

    def _check(self) -> None:
        """nats-py swallows a cancellation while it writes."""
        if self.link.lost:
            raise ConnectionError("the connection is lost")

    async def _send(self, order: _Order) -> None:
        subject = order.subject
        match order.verb:
            case _Verb.PUB:
                await self._publish(subject, order.body)
            case _Verb.SUB if subject not in self._subscriptions:
                self._topics[subject.encode()] = order.topic
                self._subscriptions[subject] = await self._client.subscribe(subject)
            case _Verb.UNSUB if subject in self._subscriptions:
                del self._topics[subject.encode()]
                await self._subscriptions.pop(subject).unsubscribe()
            case _:
                pass

    async def _publish(self, subject: str, body: bytes) -> None:
        if len(body) <= self._client.max_payload:
            await self._client.publish(subject, body)
            return
        size = max(self._client.max_payload - HEADERS, 1)
        parts = [body[start : start + size] for start in range(0, len(body), size)]
        number = next(self._numbers)
        for index, part in enumerate(parts):
            header = {PART: f"{self._name} {number} {index} {len(parts)}"}
            await self._client.publish(subject, part, headers=header)

    # In

    def _took(self, subject: bytes, data: bytes, headers: bytes | None) -> None:
        topic = self._topics.get(subject)
        body = self._parts.add(subject, data, headers) if headers else data
        if topic is not None and body is not None:
            self._receive(topic, body)


@dataclass(slots=True)
class _Unfinished:
    number: str
    parts: list[bytes] = field(default_factory=list)


class _Parts:
    """Puts messages together whose parts come in order, but between those of others."""

    def __init__(self) -> None:
        self._unfinished: dict[tuple[bytes, str], _Unfinished] = {}
        self._size = 0

    def add(self, subject: bytes, data: bytes, headers: bytes) -> bytes | None:
        """The whole message, if this is its last part or it has no others."""
        match = _PART.search(headers)
        if match is None:
            return data
        name, number, index, parts = (group.decode() for group in match.groups())
        key = (subject, name)
        message = self._unfinished.get(key)
        if message is None or message.number != number:
            self._drop(key)
            message = self._unfinished[key] = _Unfinished(number)
        if int(index) != len(message.parts):  # what came before was missed
            return None
        message.parts.append(data)
        self._size += len(data)
        if len(message.parts) == int(parts):
            self._drop(key)
            return b"".join(message.parts)
        self._shrink()
        return None

    def _shrink(self) -> None:
        while self._size > MAX_UNFINISHED:
            self._drop(next(iter(self._unfinished)))

    def _drop(self, key: tuple[bytes, str]) -> None:
        message = self._unfinished.pop(key, None)
        if message is not None:
            self._size -= sum(map(len, message.parts))


_PART: Final = re.compile(rb"\r\n" + PART.encode() + rb": *(\S{1,64}) (\d{1,20}) (\d{1,9}) (\d{1,9})\r\n")


def _subject(topic: str) -> str:
    return server_name(topic, _SUBJECT, _MAX_SUBJECT)
