"""How many rooms a user may be in, and how many connections it may have, over all processes.

The store has a room for each user, in which each of the user's rooms takes a place, and another one for its
connections: under the lease of the process, as every place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from fastapi_channels.connection import Connection
from fastapi_channels.exceptions import ChannelFull, TooManyRooms
from fastapi_channels.stores import Limits, Occupant
from fastapi_channels.wire.rooms import RESERVED

from .roster import Roster, replaced
from .users import UserKeys


class Allowances:
    """
    Args:
        roster: enters in the store.
        namespace: begins the names there.
        key_of: what names a user.

    Attributes:
        taken: by connection and room: where it has a place for it; empty where it has lost that.
    """

    def __init__(self, roster: Roster, namespace: str, key_of: UserKeys) -> None:
        self.taken: dict[tuple[str, str], str] = {}
        self._connected: dict[str, tuple[str, Callable[[], None]]] = {}
        """By id of a connection: where it has a place, and what to call when it has lost that."""
        self._roster = roster
        self._namespace = namespace
        self._key_of = key_of

    async def enter(self, room: str, connection: Connection, channel: str, limit: int) -> None:
        """Count `room` for the user of `connection`, among those of a class of channels; nothing where there
        is no user.

        Raises:
            TooManyRooms: the user is in as many others.
            StoreUnavailable: the store did not say.
        """
        user = self._key_of(connection.user)
        if user is None:
            return
        topic = self._namespace + RESERVED + "rooms:" + _digest(channel, user)
        occupant = Occupant(_id(room, connection), user, seat=room)
        self.taken[connection.id, room] = topic
        try:
            await self._roster.enter(topic, occupant, Limits(seats=limit))
        except ChannelFull:
            self.leave(room, connection)
            raise TooManyRooms(close=False, context={"limit": limit}) from None
        except BaseException:
            self.leave(room, connection)
            raise

    def check(self, room: str, connection: Connection, limit: int | None) -> None:
        """
        Raises:
            TooManyRooms: the place that `enter` found was lost meanwhile.
        """
        if self.taken.get((connection.id, room)) == "":
            raise TooManyRooms(close=False, context={"limit": limit})

    def leave(self, room: str, connection: Connection) -> None:
        """Undo `enter`; never waits and never fails."""
        topic = self.taken.pop((connection.id, room), "")
        if topic:
            self._roster.leave(topic, _id(room, connection))

    async def connect(self, id: str, user: Any, limits: Limits, on_lost: Callable[[], None]) -> None:
        """Count a connection of `user`; nothing where that is nobody.

        Args:
            on_lost: called when a newer one of the user has taken its place.

        Raises:
            TooManyConnections: the user has as many others.
            StoreUnavailable: the store did not say.
        """
        key = self._key_of(user)
        if key is None:
            return
        topic = self._namespace + RESERVED + "connections:" + _digest("", key)
        self._connected[id] = topic, on_lost
        try:
            await self._roster.enter(topic, Occupant(id, key), limits)
            if not self._roster.has(topic, id):
                raise replaced(limits)
        except BaseException:
            self.disconnect(id)
            raise

    def disconnect(self, id: str) -> None:
        """Undo `connect`; never waits and never fails."""
        topic, _ = self._connected.pop(id, ("", None))
        if topic:
            self._roster.leave(topic, id)

    def lost(self, topic: str, id: str) -> tuple[str, str] | None:
        """A connection of this process has lost its place in a room that it is not in yet, or among those of
        its user; or the place that one of its rooms had: then which room it is, and the connection's id."""
        self._roster.drop(topic, id)
        name, _, room = id.partition(" ")
        if self.taken.get((name, room)) == topic:
            self.taken[name, room] = ""
            return room, name
        if id in self._connected:
            place, on_lost = self._connected[id]
            if place == topic:
                on_lost()
        return None


def _id(room: str, connection: Connection) -> str:
    return f"{connection.id} {room}"


def _digest(channel: str, user: str) -> str:
    # A key may have any length, and hold what UTF-8 cannot.
    named = f"{len(channel)}:{channel}{user}".encode(errors="surrogatepass")
    return hashlib.blake2b(named, digest_size=16).hexdigest()
