"""Which filters have subscribers in this process, and who gets what is published to a topic."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, Protocol

from fastapi_channels.wire.messages import Frame, Publication
from fastapi_channels.wire.rooms import name_of, source_of

from .trie import Trie

TOPIC: Final = "topic"
"""That of a publication which is for a topic."""


class Crowd(Protocol):
    """Who is in which room here; a filter is one."""

    @property
    def rooms(self) -> Collection[str]: ...

    def members(self, room: str) -> list[Any]: ...

    def deliver(self, room: str, frame: Frame) -> None: ...

    def send(self, recipients: Iterable[Any], frame: Frame) -> None: ...


class Forms(Protocol):
    """What each recipient gets of a publication that says so."""

    def send(self, name: str, recipients: Iterable[Any], frame: Frame) -> None: ...


class Spaces:
    """The spaces of one process. Each has all topics of a channel, or of those that share a scope, and is one
    topic of the broker.

    Args:
        crowd: the hub.
        forms: for publications with a `for_each`.
        connections: those that are in a room here, by id.
    """

    __slots__ = ("_asking", "_connections", "_crowd", "_forms", "_tries")

    def __init__(self, crowd: Crowd, forms: Forms, connections: Mapping[str, Any]) -> None:
        self._crowd = crowd
        self._forms = forms
        self._connections = connections
        self.reset()

    def reset(self) -> None:
        self._tries: dict[str, Trie[str]] = {}
        """The filters of each space, with the rooms that they are."""
        self._asking: set[str] = set()
        """The spaces where somebody may not receive all that fits."""

    def enter(self, room: str, connection: Any) -> None:
        """Somebody subscribes with the filter that is `room`."""
        space = source_of(room)
        trie = self._tries.get(space)
        if trie is None:
            trie = self._tries[space] = Trie()
        trie.put(name_of(room), room)
        if connection._carrier.reception is not None:
            self._asking.add(space)

    def leave(self, room: str) -> bool:
        """Nobody has the filter that is `room` any more; whether nothing more is wanted of its space."""
        space = source_of(room)
        trie = self._tries.get(space)
        if trie is None:
            return True
        trie.remove(name_of(room))
        if len(trie):
            return False
        del self._tries[space]
        self._asking.discard(space)
        return True

    def rooms(self, source: str) -> list[str]:
        """The rooms here that get what comes from `source`."""
        if name_of(source):
            return [source]
        return [room for room in self._crowd.rooms if source_of(room) == source]

    def count(self, space: str, publication: Publication) -> int:
        """How many it is for, at most: who has several filters that it fits is counted with each."""
        trie = self._tries.get(space)
        if trie is None or not publication.to:
            return 0
        return sum(len(self._crowd.members(room)) for room in trie.match(publication.to[0]))

    def receive(self, space: str, publication: Publication) -> None:
        """Hand what was published to a topic to those whose filters it fits: once to each WebSocket."""
        trie = self._tries.get(space)
        if trie is None or not publication.to:
            return
        topic, exclude = publication.to[0], publication.exclude
        rooms = trie.match(topic)
        asks = space in self._asking
        if len(rooms) == 1 and not asks and not exclude and not publication.for_each:
            self._crowd.deliver(rooms[0], Frame(publication.body, name_of(rooms[0])))
            return
        here = self._connections
        served = {here[id]._carrier.writer for id in exclude if id in here}
        for room in rooms:
            recipients = []
            for connection in self._crowd.members(room):
                writer = connection._carrier.writer
                if writer not in served and (not asks or _may(connection, topic)):
                    served.add(writer)
                    recipients.append(connection)
            if recipients:
                # It is said to be of the filter: what a slow client misses is counted for those that it has.
                frame = Frame(publication.body, name_of(room))
                if publication.for_each:
                    self._forms.send(publication.for_each, recipients, frame)
                else:
                    self._crowd.send(recipients, frame)


def _may(connection: Any, topic: str) -> bool:
    reception = connection._carrier.reception
    return reception is None or reception.allows(connection, topic)
