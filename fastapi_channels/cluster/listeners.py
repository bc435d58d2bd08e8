"""Who hears what is published in a room, and is not in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from fastapi_channels.brokers import Broker
from fastapi_channels.topics.spaces import TOPIC
from fastapi_channels.topics.trie import Trie
from fastapi_channels.wire.messages import Publication
from fastapi_channels.wire.rooms import name_of, source_of

from .rooms import Rooms
from .tasks import Tasks

Hear = Callable[[Publication], None]


class _Listener(NamedTuple):
    """
    Attributes:
        filter: has the room's name, where it is one of topics.
    """

    hear: Hear
    filter: Trie[bool]

    def takes(self, publication: Publication) -> bool:
        if publication.kind == TOPIC:
            return any(self.filter.match(topic) for topic in publication.to)
        return not publication.kind


class Listeners:
    """Nobody counts them among the members of a room, nor shows them to those.

    Args:
        rooms: of this process, which are handed everything first.
        broker: brings what is published.

    Attributes:
        receive: takes what the broker brings: the rooms' own, as long as nobody listens. So a publication
            costs nothing more then.
    """

    def __init__(self, rooms: Rooms, broker: Broker) -> None:
        self._rooms = rooms
        self._broker = broker
        self._by_topic: dict[str, list[_Listener]] = {}
        """By the topic of the broker: several rooms may have one together."""
        self._tasks = Tasks()
        self.receive: Callable[[Publication], None] = rooms.receive

    async def stop(self) -> None:
        await self._tasks.stop()
        self._tasks = Tasks()

    async def add(self, room: str, hear: Hear) -> None:
        """Call `hear` with each broadcast to `room` until `discard`; it must neither wait nor raise.

        Raises:
            BrokerUnavailable: the room was not subscribed in time.
        """
        topic, listener = self._rooms.topic(source_of(room)), _Listener(hear, Trie())
        listener.filter.put(name_of(room), True)
        self._by_topic.setdefault(topic, []).append(listener)
        self._rooms.heard.add(topic)
        self.receive = self._receive
        try:
            await self._broker.subscribe(topic)
        except BaseException:
            self.discard(room, hear)
            raise

    def discard(self, room: str, hear: Hear) -> None:
        """Undo one `add`; never waits."""
        source = source_of(room)
        topic = self._rooms.topic(source)
        heard = self._by_topic[topic]
        del heard[[each.hear for each in heard].index(hear)]
        if heard:
            return
        del self._by_topic[topic]
        self._rooms.heard.discard(topic)
        if not self._by_topic:
            self.receive = self._rooms.receive
        if not self._is_wanted(source):
            self._tasks.spawn(self._let_go(source, topic))

    async def _let_go(self, source: str, topic: str) -> None:
        # Looked at here, in one step with what follows: somebody may have come since.
        if topic not in self._by_topic and not self._is_wanted(source):
            await self._broker.unsubscribe(topic)

    def _is_wanted(self, source: str) -> bool:
        """Whether a room is open that gets what comes from `source`; it lets go of that when it closes."""
        idle, count = self._rooms.idle, self._rooms.hub.count
        return any(room in idle or count(room) for room in self._rooms.spaces.rooms(source))

    def _receive(self, publication: Publication) -> None:
        self._rooms.receive(publication)
        for listener in list(self._by_topic.get(publication.topic, ())):
            if listener.takes(publication):
                listener.hear(publication)
