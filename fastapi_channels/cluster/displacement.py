"""Whoever has lost a place to another is told, and gives it up: in whatever process that is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final

from fastapi_channels.connection import Connection
from fastapi_channels.exceptions import BrokerUnavailable
from fastapi_channels.wire.log import Seldom
from fastapi_channels.wire.messages import Publication
from fastapi_channels.wire.rooms import name_of, node_topic

from .tasks import Tasks

logger = logging.getLogger("fastapi_channels")

KIND: Final = "displaced"
"""Of the publications that tell it to another process."""
ATTEMPTS: Final = 30
"""How often it is told while the broker is away."""
PAUSE: Final = 1.0
"""Seconds between two of them."""


class Displacements:
    """
    Args:
        node: the id of this process.
        namespace: begins every topic.
        publish: reaches the other processes.
        connections: those here, by id.
        leave: takes one of them out of a room.

    Attributes:
        on_elsewhere: called with a topic and an id of this process that is not in that room: the store's
            answer, that it has a place, is still under way; or it is a place among those of its user. Says
            which room a connection must leave for it, and that one's id.
    """

    def __init__(
        self,
        node: str,
        namespace: str,
        publish: Callable[[Publication], Awaitable[None]],
        connections: Mapping[str, Connection],
        leave: Callable[[str, Connection], None],
    ) -> None:
        self._own = node + "."
        self._namespace = namespace
        self._publish = publish
        self._connections = connections
        self._leave = leave
        self.on_elsewhere: Callable[[str, str], tuple[str, str] | None] | None = None
        self._log = Seldom(logger)
        self.reset()

    def reset(self) -> None:
        """Run in whatever event loop comes next."""
        self._tasks = Tasks()

    async def stop(self) -> None:
        await self._tasks.stop()

    def displace(self, topic: str, id: str, by_own: bool) -> None:
        """A connection has lost its place in the room of `topic`.

        Args:
            by_own: whether to one of the same user.
        """
        room, connection = topic.removeprefix(self._namespace), self._connections.get(id)
        if connection is not None and room in connection.keys:
            if not by_own:
                self._log.warn(f"{id!r} had to give up its place in {name_of(room)!r} to another")
            self._leave(room, connection)
            self._tasks.spawn(connection._carrier.displaced(room, by_own))
        elif id.startswith(self._own):
            over = self.on_elsewhere(topic, id) if self.on_elsewhere is not None else None
            if over is not None:
                self._leave_for_another(*over)
        elif by_own:
            home = self._namespace + node_topic(id.partition(".")[0])
            self._tasks.spawn(self._tell(Publication(home, topic, to=(id,), kind=KIND)))

    def _leave_for_another(self, room: str, id: str) -> None:
        """A user is in too many rooms. A connection that is not in this one yet learns it by itself."""
        if id in self._connections and room in self._connections[id].keys:
            self.displace(self._namespace + room, id, True)

    def receive(self, publication: Publication) -> None:
        """Take what another process has told: the room, and who has lost its place there."""
        for id in publication.to:
            if id.startswith(self._own):
                self.displace(str(publication.body), id, True)

    async def _tell(self, publication: Publication) -> None:
        for _ in range(ATTEMPTS):
            with suppress(BrokerUnavailable):
                await self._publish(publication)
                break
            await asyncio.sleep(PAUSE)
