"""Redis pub/sub, over two connections of our own: one that publishes, one that is subscribed."""

from __future__ import annotations

from typing import Any, TypeVar

from broadcaster import BroadcastBackend, Event
from redis.asyncio import Redis

from fastapi_channels.brokers.backend import NotSent, Receive
from fastapi_channels.brokers.backlog import LIMIT, Backlog

from .link import Link
from .server import Server
from .subscriber import Subscriber

L = TypeVar("L", bound=Link)


class PubSubBackend(BroadcastBackend):
    """What comes over subscribed connections waits in one backlog.

    Args:
        limit: bytes that wait in a plain `Broadcast`; beyond them the oldest messages are dropped.
    """

    def __init__(self, limit: int) -> None:
        self._backlog = Backlog(limit)

    @property
    def dropped(self) -> int:
        return self._backlog.dropped

    async def next_published(self) -> Event:
        """The next message: text where it is UTF-8, else bytes."""
        event = await self._backlog.get()
        return Event(event.channel, text(event.message))

    async def listen(self, receive: Receive) -> None:
        await self._backlog.listen(receive)


class RedisBackend(PubSubBackend):
    """Broadcasts over Redis pub/sub.

    A subscription is confirmed by the server when `subscribe` returns, a message taken by it when
    `publish` does. What is published in one turn of the event loop goes out in one write. A connection
    that does not answer is noticed within five seconds. Nothing is repeated here: when a connection is
    lost, or the server is not the master any more that the sentinels name, `listen` and
    `next_published` raise, and it is the broker that reconnects.

    Args:
        url: as `redis.asyncio.Redis.from_url` takes it: `redis://`, `rediss://` or `unix://`; or
            `redis+sentinel://host:port,host:port/master/database`, with `rediss+sentinel://` for TLS
            and `?sentinel_username=…&sentinel_password=…` for what the sentinels want to know.
        client: instead of a URL, a client whose server and credentials are used; its own connections
            are not, and it is not closed.
        limit: bytes that wait in a plain `Broadcast`; beyond them the oldest messages are dropped.
    """

    def __init__(self, url: str | None = None, *, client: Redis | None = None, limit: int = LIMIT) -> None:
        super().__init__(limit)
        self._server = Server(url, client)
        self._publisher: Link | None = None
        self._subscriber: Subscriber | None = None

    async def connect(self) -> None:
        self._backlog.open()
        # Whichever is lost, reading ends with it: there is one state, not two.
        self._publisher = Link(self._server.connection(), self._backlog.fail)
        self._subscriber = Subscriber(self._server.connection(), self._backlog.fail, self._backlog.put)
        try:
            await self._server.open(self._publisher, self._subscriber)
        except BaseException:
            await self.disconnect()
            raise

    async def disconnect(self) -> None:
        for link in (self._publisher, self._subscriber):
            if link is not None:
                await link.close()
        await self._server.close()

    async def subscribe(self, group: str) -> None:
        await self._set_subscription(b"SUBSCRIBE", group)

    async def unsubscribe(self, group: str) -> None:
        await self._set_subscription(b"UNSUBSCRIBE", group)

    async def publish(self, channel: str, message: str | bytes) -> None:
        await connected(self._publisher).ask(b"PUBLISH", channel.encode(), packed(message))

    async def _set_subscription(self, command: bytes, topic: str) -> None:
        try:
            await connected(self._subscriber).ask(command, topic.encode())
        except ConnectionError as exc:
            raise NotSent(str(exc)) from exc  # a subscription ends with its connection


def connected(link: L | None) -> L:
    """The link, which must be there.

    Raises:
        NotSent: there is no link.
    """
    if link is None:
        raise NotSent("not connected")
    return link


def packed(message: str | bytes) -> bytes:
    return message.encode() if isinstance(message, str) else message


def text(message: Any) -> Any:
    """A text where it is UTF-8; else, and where it is no bytes, what it was."""
    try:
        return message.decode() if isinstance(message, bytes) else message
    except UnicodeDecodeError:
        return message
