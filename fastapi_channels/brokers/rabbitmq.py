"""RabbitMQ, over two connections of aiormq, aio-pika's own driver: one that publishes, one that consumes.

One direct exchange for all rooms, and for each process one queue that nobody else sees, bound once for each
room. aio-pika's robust connections are not used: they reconnect without telling, so that nobody learns that
messages were missed.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, Final, TypeAlias, cast
from urllib.parse import parse_qs, urlsplit

from aiormq.abc import ChannelFrame, DeliveredMessage
from aiormq.channel import Channel
from aiormq.connection import Connection, TCPTransportFactory, TLSTransportFactory, TransportFactory
from aiormq.exceptions import DeliveryError
from broadcaster import BroadcastBackend, Event
from pamqp import commands as spec
from pamqp.header import ContentHeader

from .backend import NotSent, Receive
from .backlog import LIMIT, Backlog
from .link import Errand, Link, connected, decoded, encoded, server_name, subscription

EXCHANGE: Final = "fastapi-channels"
HEARTBEAT: Final = 10
"""Seconds, unless the URL says otherwise; the server gives a process up that was silent for twice as long."""
FRAMES: Final = 10_000
"""Frames that wait between aiormq's two readers, so that what comes in one read is not torn apart."""
CLOSING: Final = 0.5
"""Seconds in which the server can answer to the close of a connection."""

_KEY: Final = re.compile(".*", re.DOTALL)
_MAX_KEY: Final = 255
_ours: Final = ContextVar("ours", default=False)
"""Whether what runs is a task of a connection of ours: it has the context in which it was begun."""


def _is_news(record: logging.LogRecord) -> bool:
    """Whether nobody else says it: what ends our connections is raised, and told once for each outage. That a
    server is short of memory, only aiormq says."""
    return not _ours.get() or record.levelno <= logging.DEBUG or "blocked" in str(record.msg)


for _name in ("aiormq.connection", "aiormq.channel"):
    logging.getLogger(_name).addFilter(_is_news)


class RabbitBackend(BroadcastBackend):
    """Broadcasts over RabbitMQ (AMQP 0.9.1).

    A subscription is confirmed by the server when `subscribe` returns, a message taken by it when
    `publish` does: those of one turn of the event loop are confirmed together, and what comes meanwhile
    after them. A connection that does not answer is noticed within five seconds. Nothing is repeated here:
    when a connection is lost, `listen` and `next_published` raise, and it is the broker that reconnects.

    A server that is short of memory or disk takes nothing until it has them again: `publish` raises.

    Args:
        url: as `aiormq.connect` takes it: `amqp://` or `amqps://`.
        limit: bytes that wait in a plain `Broadcast`; beyond them the oldest messages are dropped.
    """

    def __init__(self, url: str, *, limit: int = LIMIT) -> None:
        query = parse_qs(urlsplit(url).query)
        self._url = url if "heartbeat" in query else f"{url}{'&' if query else '?'}heartbeat={HEARTBEAT}"
        self._backlog = Backlog(limit)
        self._publisher: _Publisher | None = None
        self._consumer: _Consumer | None = None

    @property
    def dropped(self) -> int:
        return self._backlog.dropped

    async def connect(self) -> None:
        self._backlog.open()
        # Whichever is lost, reading ends with it: there is one state, not two.
        self._publisher = _Publisher(self._url, self._backlog.fail)
        self._consumer = _Consumer(self._url, self._backlog.put, self._backlog.fail)
        before = _ours.set(True)
        try:
            await self._publisher.open()
            await self._consumer.open()
        except BaseException:
            await self.disconnect()
            raise
        finally:
            _ours.reset(before)

    async def disconnect(self) -> None:
        ends = [end.close() for end in (self._publisher, self._consumer) if end is not None]
        await asyncio.gather(*ends)

    async def subscribe(self, group: str) -> None:
        await subscription(connected(self._consumer).change(group, wanted=True))

    async def unsubscribe(self, group: str) -> None:
        await subscription(connected(self._consumer).change(group, wanted=False))

    async def publish(self, channel: str, message: str | bytes) -> None:
        body = encoded(message)
        await connected(self._publisher).link.do((_key(channel), body), len(body))

    async def next_published(self) -> Event:
        """The next message: text where it is UTF-8, else bytes."""
        event = await self._backlog.get()
        return Event(event.channel, decoded(event.message))

    async def listen(self, receive: Receive) -> None:
        await self._backlog.listen(receive)


class _Wire(TransportFactory):
    """Connects as aiormq does, and keeps hold of both streams, to look at one and to cut the other."""

    def __init__(self, url: str) -> None:
        secure = url.lower().startswith("amqps:")
        self._factory = TLSTransportFactory() if secure else TCPTransportFactory()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def create(self, url: Any, **kwargs: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        self._streams = await self._factory.create(url, **kwargs)
        return self._streams

    @property
    def gone(self) -> bool:
        if self._streams is None:
            return True
        reader, writer = self._streams
        return reader.at_eof() or reader.exception() is not None or writer.is_closing()

    def abort(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()


_Message: TypeAlias = tuple[str, bytes]
"""The routing key, and the content."""


class _Publisher:
    def __init__(self, url: str, on_lost: Callable[[Exception], None]) -> None:
        self._wire = _Wire(url)
        self._connection = Connection(url, transport_factory=self._wire)
        self._channel: Channel | None = None
        self.link: Link[_Message] = Link(self._perform, self._wire.abort, on_lost, self._is_blocked)

    async def open(self) -> None:
        self._channel = await _open(self._connection, self.link)
        self.link.open()

    async def close(self) -> None:
        await _close(self._connection, self._wire, self.link)

    async def _perform(self, batch: list[Errand[_Message]]) -> None:
        channel = _checked(self._channel, self._wire)
        if not batch:
            await channel.basic_qos(prefetch_count=0)
        elif await self._is_blocked():
            for errand in batch:
                errand.fail(RuntimeError("RabbitMQ takes nothing: it is short of memory or disk"))
        else:
            await self._publish(channel, batch)

    async def _publish(self, channel: Channel, batch: list[Errand[_Message]]) -> None:
        """As `basic_publish` does for each, but in one write; each confirmation has its errand."""
        frames: list[Any] = []
        confirmations: list[asyncio.Future[Any]] = []
        for errand in batch:
            key, body = errand.what
            frames += [
                spec.Basic.Publish(exchange=EXCHANGE, routing_key=key),
                ContentHeader(properties=spec.Basic.Properties(delivery_mode=1), body_size=len(body)),
                *channel._split_body(body),
            ]
            channel.delivery_tag += 1
            confirmation = channel.create_future()
            channel.confirmations[channel.delivery_tag] = confirmation
            confirmations.append(confirmation)
        await channel.write_queue.put(ChannelFrame.marshall(channel.number, frames))
        outcomes = await asyncio.gather(*confirmations, return_exceptions=True)
        for errand, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, DeliveryError):
                errand.fail(RuntimeError(f"RabbitMQ could not take it: {outcome!r}"))
            elif isinstance(outcome, BaseException):
                raise outcome

    async def _is_blocked(self) -> bool:
        """Whether the server has said that it takes nothing; it does not answer then on this connection."""
        try:
            async with asyncio.timeout(0):
                await self._connection.ready()
        except TimeoutError:
            return True
        return False


class _Consumer:
    def __init__(self, url: str, receive: Receive, on_lost: Callable[[Exception], None]) -> None:
        self._wire = _Wire(url)
        self._connection = Connection(url, transport_factory=self._wire)
        self._channel: Channel | None = None
        self._queue = ""
        self._topics: dict[str, str] = {}
        self._receive = receive
        self.link: Link[_Binding] = Link(self._perform, self._wire.abort, on_lost)

    async def open(self) -> None:
        channel = self._channel = await _open(self._connection, self.link)
        queue = await channel.queue_declare(exclusive=True, auto_delete=True)
        self._queue = str(queue.queue)
        await channel.basic_consume(self._queue, self._took, no_ack=True)
        self.link.open()

    async def close(self) -> None:
        await _close(self._connection, self._wire, self.link)

    async def change(self, topic: str, *, wanted: bool) -> None:
        key = _key(topic)
        if wanted:
            self._topics[key] = topic
        else:
            self._topics.pop(key, None)
        await self.link.do((key, wanted))

    async def _perform(self, batch: list[Errand[_Binding]]) -> None:
        """All but the last without an answer: the server goes by their order."""
        channel = _checked(self._channel, self._wire)
        for errand in batch:
            key, wanted = errand.what
            if wanted:
                # Older versions of aiormq's queue_bind() wait for an answer also with nowait.
                bind = spec.Queue.Bind(queue=self._queue, exchange=EXCHANGE, routing_key=key, nowait=True)
                await channel.write_queue.put(ChannelFrame.marshall(channel.number, [bind]))
            else:
                await channel.queue_unbind(self._queue, EXCHANGE, key)
        await channel.queue_declare(self._queue, passive=True)  # fails if somebody deleted it

    async def _took(self, message: DeliveredMessage) -> None:
        _ours.set(False)  # what follows from a message may be the application's
        topic = self._topics.get(message.routing_key or "")
        if topic is not None:
            self._receive(topic, message.body)


_Binding: TypeAlias = tuple[str, bool]
"""The routing key, and whether it is wanted."""


async def _open(connection: Connection, link: Link[Any]) -> Channel:
    await connection.connect()
    channel = cast(Channel, await connection.channel(frame_buffer_size=FRAMES))
    for resource in (channel, connection):
        resource.closing.add_done_callback(lambda done: link.lose(_reason(done)))
    await channel.exchange_declare(EXCHANGE, exchange_type="direct")
    return channel


async def _close(connection: Connection, wire: _Wire, link: Link[Any]) -> None:
    """Say goodbye, if there is somebody to hear it."""
    try:
        if link.idle:
            with suppress(Exception):
                await asyncio.wait_for(connection.close(), CLOSING)
    finally:
        wire.abort()
        await link.close()
        with suppress(Exception):
            await connection.close()


def _checked(channel: Channel | None, wire: _Wire) -> Channel:
    if channel is None or wire.gone:
        raise NotSent("the server closed the connection")
    return channel


def _reason(done: asyncio.Future[Any]) -> Exception:
    error = None if done.cancelled() else done.exception()
    return ConnectionError(f"the server closed the connection: {error!r}")


def _key(topic: str) -> str:
    return server_name(topic, _KEY, _MAX_KEY)
