"""Ready-made channels: a room for two, and a room for a group."""

from __future__ import annotations

from typing import Any

from .channels.channel import Channel
from .connection import Connection

__all__ = ["GroupChannel", "PersonChannel"]


class PersonChannel(Channel):
    """A room for two people. A third is refused; `members()` says who is in it.

    A person is a user: all connections of one share a place, so that a second device, or a reconnect
    while the old connection is not yet known to be dead, does not lock its owner out. Clients without a
    user take a place for each connection.

    Attributes:
        announce: whether everybody in the room is sent an event `joined` or `left`, with `member` and
            all `members`, when somebody comes or goes.
    """

    max_connection = 2
    announce: bool = False

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        if self.announce:
            self._plan.join_leave.add("join", self._announce_join)
            self._plan.join_leave.add("leave", self._announce_leave)

    async def _announce_join(self, connection: Connection) -> None:
        await self._announce("joined", connection)

    async def _announce_leave(self, connection: Connection) -> None:
        await self._announce("left", connection)

    async def _announce(self, event: str, connection: Connection) -> None:
        node = self._current_node()
        data = {
            "member": {"id": connection.id, "user": node.key_of(connection.user)},
            "members": await node.rooms.members(self._plan.key(connection.room)),
        }
        envelope = self.envelope
        body = envelope.encode(envelope.to_event(event, connection.room, data))
        await node.publish(self._plan.key(connection.room), body)

    def _seat_of(self, connection: Connection) -> str:
        key = self._current_node().key_of(connection.user)
        return connection.id if key is None else f"user:{key}"


class GroupChannel(Channel):
    """A room for a group, with a capacity: 200 connections unless `max_connection` says otherwise."""

    max_connection = 200
