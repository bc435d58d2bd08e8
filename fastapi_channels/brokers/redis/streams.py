"""Redis Streams: what was missed while there was no connection is read afterwards."""

from __future__ import annotations

import asyncio
import math
import re
import uuid
from collections import deque
from collections.abc import Set as AbstractSet
from typing import Any, Final, NoReturn, TypeAlias

from broadcaster import BroadcastBackend, Event
from redis.asyncio import Redis

from fastapi_channels.brokers.backend import MISSED, NotSent, Receive

from .link import PING_INTERVAL, Link
from .pubsub import connected, packed, text
from .server import Server

KEPT: Final = 1000
"""Messages of a topic, unless said otherwise."""
TTL: Final = 600.0
"""Seconds for which a topic is kept after its last message, unless said otherwise."""
AT_ONCE: Final = b"500"
"""Messages of one topic that are read at a time."""
BLOCK: Final = b"%d" % (PING_INTERVAL * 1000 / 2)
"""Milliseconds that the server waits for messages. Signs of life wait as long, and must be in time."""
ALARM_TTL: Final = b"10"
"""Seconds for which the key is kept that interrupts a read."""
FIELD: Final = b"message"
"""The field of an entry that has the message; broadcaster's."""

Position: TypeAlias = tuple[int, int]
"""The id of an entry: milliseconds, and a number within them."""
BEGINNING: Final = (0, 0)


class StreamBackend(BroadcastBackend):
    """Broadcasts over Redis Streams, one stream for each topic, whose key is the topic.

    While a stream has them, messages are neither lost nor doubled by a connection that is lost and made
    again (`Resuming`); where it has them no more, listeners are told `MISSED`. A subscription begins
    behind the last message that is there when it is made. One read brings what came to all topics, and
    names them all: this is for some hundred topics in a process, not for ten thousand.

    Args:
        url: as `RedisBackend` takes it, also with `redis-stream` and `rediss-stream` in the scheme.
        client: instead of a URL, as `RedisBackend` takes it.
        kept: messages that a stream keeps at least, if it had so many.
        ttl: seconds for which a stream is kept after its last message, at least; not below a second.
    """

    def __init__(
        self, url: str | None = None, *, client: Redis | None = None, kept: int = KEPT, ttl: float = TTL
    ) -> None:
        plain = url and re.sub("^(rediss?)-stream", r"\1", url, count=1, flags=re.IGNORECASE)
        self._server = Server(plain, client)
        self._publisher: Link | None = None
        self._reader: Link | None = None
        self._add = (b"MAXLEN", b"~", b"%d" % kept, b"*", FIELD)
        self._expiry = _Expiry(ttl)
        self._positions: dict[str, Position] = {}
        """Of the last message that was handed over, or that need not be, of each subscribed topic."""
        self._former: dict[str, Position] = {}
        """The positions of earlier connections, until it is known which are to be resumed."""
        self._resumed: dict[str, Position] = {}
        """Those that are, until they are subscribed again."""
        self._alarm = f"fastapi-channels:alarm:{uuid.uuid4().hex}".encode()
        """A stream that is read with the others, to end a read that does not name a new topic."""
        self._alarm_at = BEGINNING
        self._alarmed = False
        self._missed: set[str] = set()
        self._ready: deque[Event] = deque()

    async def connect(self) -> None:
        self._former |= self._resumed | self._positions
        self._resumed, self._positions = {}, {}
        self._alarm_at, self._alarmed = BEGINNING, False
        self._expiry.renew()
        self._publisher = Link(self._server.connection(), self._lose)
        self._reader = Link(self._server.connection(), self._lose)
        try:
            await self._server.open(self._publisher, self._reader)
        except BaseException:
            await self.disconnect()
            raise

    async def disconnect(self) -> None:
        for link in (self._publisher, self._reader):
            if link is not None:
                await link.close()
        await self._server.close()

    def resume(self, topics: AbstractSet[str]) -> None:
        self._resumed = {topic: self._former[topic] for topic in topics & self._former.keys()}
        self._former = {}

    async def subscribe(self, group: str) -> None:
        if group in self._positions:
            return
        try:
            self._positions[group] = await self._begin(group, self._resumed.get(group))
        except ConnectionError as exc:
            raise NotSent(str(exc)) from exc  # nothing was changed by asking
        self._resumed.pop(group, None)
        self._sound()

    async def unsubscribe(self, group: str) -> None:
        self._positions.pop(group, None)
        self._resumed.pop(group, None)

    async def publish(self, channel: str, message: str | bytes) -> None:
        link, topic = connected(self._publisher), channel.encode()
        await link.ask(b"XADD", topic, *self._add, packed(message))
        if self._expiry.is_due(channel):
            link.tell(b"EXPIRE", topic, self._expiry.seconds)

    async def next_published(self) -> Event:
        """The next message: text where it is UTF-8, else bytes."""
        while not self._ready:
            await self._read(self._keep)
        return self._ready.popleft()

    async def listen(self, receive: Receive) -> NoReturn:
        while True:
            await self._read(receive)

    def _keep(self, topic: str, message: Any) -> None:
        if message is not MISSED:
            self._ready.append(Event(topic, text(message)))

    def _lose(self, reason: Exception) -> None:
        """Whichever connection is lost, the other goes too: there is one state, not two."""
        for link in (self._publisher, self._reader):
            if link is not None:
                link.lose(reason)

    # Reading

    async def _read(self, receive: Receive) -> None:
        """Hand over what has come, or comes before long, to the topics that are subscribed now."""
        self._alarmed = False
        keys = [self._alarm, *(topic.encode() for topic in self._positions)]
        ids = [b"%d-%d" % position for position in (self._alarm_at, *self._positions.values())]
        how = (b"COUNT", AT_ONCE, b"BLOCK", BLOCK, b"STREAMS")
        streams = await connected(self._reader).ask(b"XREAD", *how, *keys, *ids)
        while self._missed:
            receive(self._missed.pop(), MISSED)
        for key, entries in streams or ():
            if key == self._alarm:
                self._alarm_at = _position(entries[-1][0])
            else:
                self._take(key.decode(), entries, receive)

    def _take(self, topic: str, entries: list[Any], receive: Receive) -> None:
        for entry_id, fields in entries:
            position, known = _position(entry_id), self._positions.get(topic)
            if known is None or position <= known:
                continue  # it was unsubscribed, or subscribed anew, since the read began
            self._positions[topic] = position
            if FIELD in fields[::2]:
                receive(topic, fields[fields[::2].index(FIELD) * 2 + 1])

    def _sound(self) -> None:
        """Let the read that goes on end, and the next one begin."""
        if not self._alarmed:
            self._alarmed = True
            link = connected(self._publisher)
            link.tell(b"XADD", self._alarm, b"MAXLEN", b"1", b"*", b"", b"")
            link.tell(b"EXPIRE", self._alarm, ALARM_TTL)

    async def _begin(self, topic: str, known: Position | None) -> Position:
        """Where to read on: behind `known`, if it was read up to there before, else behind all there is."""
        last = await self._end(topic, b"XREVRANGE")
        if known is None:
            return last or BEGINNING
        if known == BEGINNING:
            return known
        first = await self._end(topic, b"XRANGE")
        anew = first is None or last is None or last < known  # another stream has its name
        if anew or (first and first > known):
            self._missed.add(topic)
        return BEGINNING if anew else known

    async def _end(self, topic: str, command: bytes) -> Position | None:
        """The position of the first entry (XRANGE), or the last (XREVRANGE); None if there is none."""
        bounds = (b"-", b"+") if command == b"XRANGE" else (b"+", b"-")
        found = await connected(self._publisher).ask(command, topic.encode(), *bounds, b"COUNT", b"1")
        return _position(found[0][0]) if found else None


class _Expiry:
    """Which topics are due to be given their time to live: not each time that something is published."""

    def __init__(self, ttl: float) -> None:
        self.seconds: Final = b"%d" % max(1, math.ceil(ttl * 4 / 3))
        self._renewal = ttl / 4
        self._since = 0.0
        self._given: set[str] = set()

    def renew(self) -> None:
        """All are due: the server may have lost what it was told."""
        self._given.clear()

    def is_due(self, topic: str) -> bool:
        now = asyncio.get_running_loop().time()
        if now - self._since > self._renewal:
            self._since = now
            self._given.clear()
        if topic in self._given:
            return False
        self._given.add(topic)
        return True


def _position(entry_id: bytes) -> Position:
    milliseconds, _, number = entry_id.partition(b"-")
    return int(milliseconds), int(number)
