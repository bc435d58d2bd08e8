"""What goes to the processes of an application: each thing to the topic of those that it is for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.wire.messages import Body, Publication
from fastapi_channels.wire.positions import Position
from fastapi_channels.wire.rooms import EVERY_NODE, check_room, name_of, node_topic

from .orders import DisconnectConnection, Order, encode
from .recovery import Keeping
from .users import UserKeys

Publish: TypeAlias = Callable[[Publication], Awaitable[None]]


class Sender:
    """Sends to rooms, connections and users, and gives orders.

    Every method raises BrokerUnavailable when the broker did not take it before its deadline.

    Args:
        publish: hands a publication to the broker.
        namespace: begins every topic.
        key_of: what names the users.
    """

    def __init__(self, publish: Publish, namespace: str, key_of: UserKeys) -> None:
        self._publish = publish
        self.key_of = key_of
        self._namespace = namespace

    async def publish(
        self,
        room: str,
        body: Body,
        exclude: frozenset[str] = frozenset(),
        *,
        keeping: Keeping | None = None,
        key: str | None = None,
    ) -> Position | None:
        """Send `body` to the members of `room` in every process.

        Raises:
            ConfigurationError: what has a history, or a `key`, only the application's processes publish.
            ParseError: the name is not usable.
            UnicodeEncodeError: a text that UTF-8 cannot hold, which no client could be sent.
        """
        check_sendable(room, body)
        if keeping is not None or key is not None:
            raise ConfigurationError(
                "a history, and key=, need the store of the application: publish inside of it"
            )
        await self._publish(Publication(self._namespace + room, body, exclude))
        return None

    async def send_to_connection(self, connection_id: str, body: Body) -> None:
        """Send `body` to one connection; nothing if there is none of that id."""
        await self._send(_home_of(connection_id), body, "connection", connection_id)

    async def send_to_user(self, user: Any, body: Body) -> None:
        """Send `body` to every connection of a user.

        Raises:
            ConfigurationError: `user` is nobody, or has no key.
        """
        await self._send(EVERY_NODE, body, "user", self.key_of.named(user))

    async def order(self, order: Order) -> None:
        """Have the processes do something with their connections. It is done after this returned."""
        topic = _home_of(order.connection) if isinstance(order, DisconnectConnection) else EVERY_NODE
        await self._send(topic, encode(order), "order")

    async def report(self, asker: str, body: Body) -> None:
        """Answer the probe of a process of that id."""
        await self._send(node_topic(asker), body, "report")

    async def _send(self, topic: str, body: Body, kind: str, *to: str) -> None:
        await self._publish(Publication(self._namespace + topic, body, to=to, kind=kind))


def check_sendable(room: str, body: Body) -> None:
    """
    Raises:
        ParseError: the name of the room is not usable.
        UnicodeEncodeError: a text that UTF-8 cannot hold, which no client could be sent.
    """
    check_room(name_of(room))
    if isinstance(body, str) and not body.isascii():
        body.encode()


def _home_of(connection_id: str) -> str:
    """The topic of the process that has a connection.

    Raises:
        ParseError: the id cannot be one.
    """
    return node_topic(check_room(connection_id.partition(".")[0]))
