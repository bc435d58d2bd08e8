"""How a channel sends, and what it says of its rooms."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from fastapi import WebSocket

from fastapi_channels.cluster.node import Node, current_node
from fastapi_channels.cluster.tasks import all_of
from fastapi_channels.cluster.users import Member
from fastapi_channels.connection import Connection, Exclude, ForEach, ids_of
from fastapi_channels.exceptions import BrokerUnavailable, ConfigurationError
from fastapi_channels.sessions.plan import Plan
from fastapi_channels.sessions.session import CONNECTION_KEY
from fastapi_channels.signatures.callables import awaited
from fastapi_channels.stores import StoreUnavailable
from fastapi_channels.wire.messages import Body
from fastapi_channels.wire.positions import Published
from fastapi_channels.wire.rooms import rooms_of
from fastapi_channels.wire.words import Event

from .people import Person, people_of
from .reading import HistoryPage, read_page
from .settings import Settings

logger = logging.getLogger("fastapi_channels")


class Sending(Settings):
    """What can be sent by a channel to whoever is in its rooms."""

    _plan: Plan
    _node: weakref.ref[Node] | None
    _encode_json: Callable[..., Any] | None
    _load_history: Callable[..., Any] | None

    async def broadcast(
        self,
        room: str | Iterable[str],
        event: Event | str,
        data: Any = None,
        *,
        exclude: Exclude = None,
        required: bool = True,
        key: str | None = None,
        for_each: ForEach | None = None,
    ) -> Published:
        """Send an event frame to everybody in a room, or in each of several, in every process; where the
        channel has topics, to everybody with a filter that the topic fits.

        Args:
            event: a typed Event, or the name of an event with its `data`.
            exclude: connections, or their ids, that do not get it.
            required: False where what it tells of is done, and stands without it: that the broker does not
                take it is then not raised.
            key: a text that names it: what was broadcast with it within five minutes is not sent again to
                the same room.
            for_each: one of the channel's `for_each`; called in every process with each recipient and the
                frame, says what that one gets: the frame, another, or None for nothing. Where it fails the
                client gets nothing.

        Returns:
            Whether it was taken, and its positions; that of the first with the same `key`.

        Raises:
            ParseError: a room's name is not usable.
            NotFound: no topic of the channel fits it.
            ConfigurationError: it does not fit the channel's `room_pattern`, or is no name; or the event has
                none; or the channel does not declare `for_each`.
            pydantic.ValidationError: the data does not fit the event.
            pydantic_core.PydanticSerializationError: the data cannot be encoded; a ValueError.
            BrokerUnavailable: the broker did not take it before its deadline.
            StoreUnavailable: the history did not.
        """
        _check_instance(self, "broadcast")
        function = self._plan.words.function(for_each) if for_each else ""
        node, skip, positions = self._current_node(), ids_of(exclude), {}
        keeping = self._plan.history
        rooms = rooms_of(room)
        # Nothing is sent where one of them is wrong.
        bodies = [
            (each, self._plan.words.target(each), self._plan.event(event, data, each)) for each in rooms
        ]

        async def send(said: tuple[str, str, Body]) -> None:
            to, name, body = said
            position = await node.publish(name, body, skip, keeping=keeping, key=key, for_each=function)
            if position is not None:
                positions[to] = str(position)

        try:
            await all_of(send, bodies)
        except (BrokerUnavailable, StoreUnavailable) as exc:
            if required:
                raise
            logger.debug("a broadcast that was not required is lost: %s", exc)
            return Published(False, positions)
        return Published(True, positions)

    async def broadcast_to_channel(self, channel: str, message: Any, *, exclude: Exclude = None) -> None:
        """Send `message` to everybody in the room `channel`: text and bytes as they are, any other value
        as `encode_json` gives it.

        Raises:
            ConfigurationError: the room has a history, and the message is no object: it has no place for its
                position.
        """
        body = await self._encode(message)
        if self._plan.history is not None:
            self._plan.history.check(body)
        await self._current_node().publish(
            self._plan.words.target(channel), body, ids_of(exclude), keeping=self._plan.history
        )

    async def broadcast_to_personal(self, websocket: WebSocket, message: Any) -> None:
        """Send `message` to one client alone; nothing happens if it has gone."""
        if CONNECTION_KEY not in websocket.scope:
            raise ConfigurationError("this websocket is not connected to a channel: call connect() first")
        connection = websocket.scope[CONNECTION_KEY]
        if connection is not None:
            await connection.send(message if self._encode_json is None else await self._encode(message))

    async def send_to_connection(self, connection_id: str, event: Event | str, data: Any = None) -> None:
        """Send an event frame to one connection, by its id, in whichever process it is."""
        _check_instance(self, "send_to_connection")
        await self._current_node().send_to_connection(connection_id, self._plan.event(event, data))

    async def send_to_user(self, user: Any, event: Event | str, data: Any = None) -> None:
        """Send an event frame to all connections of a user (an object, or its key), in every process."""
        _check_instance(self, "send_to_user")
        await self._current_node().send_to_user(user, self._plan.event(event, data))

    async def get_connection_count(self, channel: str) -> int:
        """How many connections are in the room, over all processes."""
        return await self._current_node().rooms.count(self._plan.key(channel))

    async def members(self, channel: str) -> list[Member]:
        """Who is in the room, over all processes: `id` and `user` (its key or None) of each connection."""
        return await self._current_node().rooms.members(self._plan.key(channel))

    async def people(self, channel: str) -> list[Person]:
        """Who is in the room, over all processes, each with their devices: those whom its members see.

        One call of the store. Somebody whose page is just being loaded anew is not in it.

        Raises:
            ConfigurationError: the channel has no presence.
            StoreUnavailable: the store did not answer in time.
        """
        _check_presence(self)
        found = await self._current_node().rooms.occupancy(self._plan.key(channel))
        return people_of(found.occupants)

    async def count_people(self, channel: str) -> int:
        """How many `people()` there are, without reading who: one call of the store.

        Raises:
            ConfigurationError: the channel has no presence.
            StoreUnavailable: the store did not answer in time.
        """
        _check_presence(self)
        return await self._current_node().rooms.count_people(self._plan.key(channel))

    async def read_history(
        self,
        channel: str,
        *,
        limit: int = 50,
        since: str | None = None,
        reverse: bool = True,
        connection: Connection | None = None,
    ) -> HistoryPage:
        """A page of what was published in the room `channel`.

        Args:
            limit: items at most.
            since: a position, or `next` of the page before.
            reverse: the newest first, from `since` back; else the oldest first, from `since` on.
            connection: what was kept from it is left out.

        Raises:
            ConfigurationError: the channel keeps no history.
            InvalidPosition: `since` is none.
            StoreUnavailable: the store did not answer in time.
        """
        return await read_page(
            self._plan, self._current_node(), self._load_history, channel, limit, since, reverse, connection
        )

    async def load_history(self, room: str, before: str, limit: int) -> Sequence[dict[str, Any]]:
        """Frames that are older than the history: override it, plain or async, to read them from a database.

        Args:
            before: the position of the oldest frame that the reader has: one of the history, or what a frame
                of the last answer has as its `position`, which may be any text.
            limit: frames at most.

        Returns:
            The newest first. Fewer than `limit` say that there are no more.
        """
        return ()

    # Codec: override these, plain or async, static or not

    if TYPE_CHECKING:  # whatever it is overridden by

        def encode_json(self, *args: Any, **kwargs: Any) -> Any: ...

        def decode_json(self, *args: Any, **kwargs: Any) -> Any: ...
    else:

        async def encode_json(self, data: Any) -> Body:
            """The body that `broadcast_to_channel` and `broadcast_to_personal` send for `data`."""
            return self.envelope.encode(data)

        async def decode_json(self, message: Body) -> Any:
            """The object in a client's frame; raises ValueError for what it cannot read."""
            return self.envelope.decode(message)

    # Nothing here calls a public method: an action may have its name.

    async def _encode(self, data: Any) -> Body:
        if isinstance(data, str | bytes):
            return data
        if isinstance(data, bytearray | memoryview):
            return bytes(data)
        if self._encode_json is None:
            return self.envelope.encode(data)
        found: Body = await awaited(self._encode_json(data))
        return found

    def _current_node(self) -> Node:
        bound = self._node() if self._node is not None else None
        return current_node.get() or bound or Node.of()


def _check_instance(speaker: Any, method: str) -> None:
    """
    Raises:
        ConfigurationError: the method was called on the class, so that its first argument is `self`.
    """
    if not isinstance(speaker, Sending):
        raise ConfigurationError(
            f"{method}() was called on the class: call it on the channel that is mounted, "
            f"or a Publisher's {method}(…, channel=TheClass)"
        )


def _check_presence(channel: Settings) -> None:
    if not channel.presence:
        name = type(channel).__name__
        raise ConfigurationError(
            f"{name} has no presence, so nobody is shown in its rooms: set presence = True"
        )
