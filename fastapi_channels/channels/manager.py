"""A connection manager: for endpoints that read their WebSockets in a loop of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias

from fastapi import APIRouter, FastAPI, WebSocket

from fastapi_channels.cluster.middleware import ENDED
from fastapi_channels.cluster.node import SCOPE_KEY
from fastapi_channels.cluster.users import Member
from fastapi_channels.connection import Connection, each_of
from fastapi_channels.exceptions import CloseCode, ConfigurationError
from fastapi_channels.sessions.http import headers_of
from fastapi_channels.sessions.managed_session import ManagedSession
from fastapi_channels.sessions.session import CONNECTION_KEY
from fastapi_channels.topics.names import check_topic

from .base import BaseChannel

SETTINGS: Final = (
    *("authenticator", "permission_classes", "throttle_classes", "connect_throttle_classes"),
    *("max_connection", "max_per_user", "per_user_policy", "max_rooms", "max_message_size"),
    *("outbox_limit", "slow_policy", "send_timeout", "finish_timeout"),
    *("idle_timeout", "max_lifetime", "heartbeat"),
)
"""Attributes of a manager that mean what they mean on a channel."""
_ALL: Final = "all"
"""The room that everybody is in."""


Client: TypeAlias = WebSocket | Connection
Excluded: TypeAlias = Client | str | Iterable[Client | str] | None
"""Whom what is sent does not reach: clients, or the ids of their connections."""


class Manager:
    """Keeps the connections of a program that is written around a connection manager: `connect`, then a loop
    that reads the WebSocket, then `disconnect`. It is one room of a channel, and a room for each id and each
    topic. So what it sends reaches all processes, and origin, permissions, limits, slow readers and deploys
    are those of a channel.

    A text, or bytes, are sent as they are; any other value as JSON. The settings of a channel that are in
    `SETTINGS` can be attributes of a subclass.

    Args:
        name: of the manager. Those of one name share their clients, in all processes.

    Attributes:
        channel: the channel beneath, for a `Publisher` in another program.
    """

    def __init__(self, name: str = "manager") -> None:
        self.name = name
        self.channel: BaseChannel = _Managed(self)

    def bind(self, app: FastAPI | APIRouter) -> None:
        """Send through `app` also outside of its requests and lifespan."""
        self.channel.bind(app)

    async def connect(
        self,
        websocket: WebSocket,
        conn_id: Any = None,
        *,
        topics: Iterable[str] = (),
        user: Any = None,
        subprotocol: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Connection:
        """Accept a client; returns when nothing that is sent to it can be missed. The endpoint goes on with
        the WebSocket. When it ends, so does the connection, `disconnect` or not.

        Args:
            conn_id: what `send_by_conn_id` calls it; several connections may have one. The connection's own
                `id` unless given. Whoever chooses it gets what is sent there: do not take it from a client
                that has not shown who it is.
            topics: that it is subscribed to.
            user, subprotocol, headers: as of `channel.connect()`.

        Raises:
            WebSocketDisconnect: it was refused: by origin, permission or limit. It need not be caught.
            ParseError: one of the topics has no usable name.
            ConfigurationError: no add_channel() covers the endpoint, the WebSocket is connected already, or
                the topics are a text in place of a list.
        """
        if isinstance(topics, str):
            raise ConfigurationError(f"topics takes a list of names, got {topics!r}")
        if websocket.scope.get(CONNECTION_KEY) is not None:
            raise ConfigurationError("this websocket is connected already: call connect() once")
        channel = self.channel
        node = await channel._node_of(websocket)
        rooms = [_topic(topic) for topic in topics]
        session = ManagedSession(channel._plan, websocket, _ALL, node, user, rooms)
        rooms.append(_id(session.writer.name if conn_id is None else conn_id))
        if SCOPE_KEY in websocket.scope:
            websocket.scope[ENDED] = session.finish
        elif (task := asyncio.current_task()) is not None:  # of a router that add_channel() was called on
            task.add_done_callback(lambda _: session.release())
        return await session.let_in(subprotocol, headers_of(headers))

    @asynccontextmanager
    async def connected(
        self, websocket: WebSocket, conn_id: Any = None, **how: Any
    ) -> AsyncIterator[Connection]:
        """`connect` and `disconnect`, around a block."""
        connection = await self.connect(websocket, conn_id, **how)
        try:
            yield connection
        finally:
            self.disconnect(connection)

    def disconnect(self, client: Client) -> None:
        """A client has left: nothing more is sent to it. One that is still there is closed normally."""
        connection = _connection_of(client)
        if connection is not None and not connection.closed:
            connection._carrier.writer.start_close(CloseCode.NORMAL, "")

    async def close(self, client: Client, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """Close one client's connection, behind what is queued for it."""
        connection = _connection_of(client)
        if connection is not None:
            await connection.close(code, reason)

    async def broadcast(self, message: Any, *, exclude: Excluded = None) -> None:
        """Send `message` to everybody, in every process, but for the clients in `exclude`.

        Raises:
            ConfigurationError: `exclude` has another thing in it, such as a `conn_id`, or a WebSocket that is
                not connected.
            BrokerUnavailable: the broker did not take it before its deadline.
        """
        await self.channel.broadcast_to_channel(_ALL, message, exclude=_excluded(exclude))

    async def send(self, topic: str, message: Any, *, exclude: Excluded = None) -> None:
        """Send `message` to everybody who is subscribed to `topic`, but for the clients in `exclude`.

        Raises:
            ParseError: it is no usable name of a topic.
            as `broadcast`.
        """
        await self.channel.broadcast_to_channel(_topic(topic), message, exclude=_excluded(exclude))

    async def send_by_conn_id(self, conn_id: Any, message: Any) -> None:
        """Send `message` to the connections of one id, or of each id in a list. Nothing happens where there
        is none.

        Raises:
            BrokerUnavailable: the broker did not take it before its deadline.
        """
        several = isinstance(conn_id, list | tuple | set | frozenset)
        for each in conn_id if several else (conn_id,):
            await self.channel.broadcast_to_channel(_id(each), message)

    async def send_personal_message(self, message: Any, client: Client) -> None:
        """Send `message` to one client; nothing happens if it has gone."""
        connection = _connection_of(client)
        if connection is not None:
            await connection.send(message)

    async def subscribe(self, client: Client, topic: str) -> None:
        """Also send `client` what is sent to `topic`.

        Raises:
            ParseError: it is no usable name of a topic.
            TooManyRooms: it is subscribed to `max_rooms` already, its id and the manager counted.
        """
        connection = _connection_of(client)
        if connection is not None:
            await connection.join(_topic(topic))

    async def unsubscribe(self, client: Client, topic: str) -> None:
        """Undo `subscribe`."""
        connection = _connection_of(client)
        if connection is not None:
            await connection.leave(_topic(topic))

    async def count(self, conn_id: Any = None) -> int:
        """How many connections there are, over all processes; or how many have that id."""
        return await self.channel.get_connection_count(_ALL if conn_id is None else _id(conn_id))

    async def connections(self) -> list[Member]:
        """Who is there, over all processes: `id` and `user` of each connection, not its `conn_id`."""
        return await self.channel.members(_ALL)


class _Managed(BaseChannel):
    """What holds for the clients of a manager."""

    def __init__(self, manager: Manager) -> None:
        own = {name: getattr(manager, name) for name in SETTINGS if hasattr(manager, name)}
        vars(self).update(own, scope=f"manager {manager.name}")
        super().__init__(channel=_ALL)


def _connection_of(client: Client) -> Connection | None:
    """The connection of a WebSocket; None when it has left."""
    if isinstance(client, Connection):
        return client
    if CONNECTION_KEY not in client.scope:
        raise ConfigurationError("this websocket is not connected: call connect() first")
    connection: Connection | None = client.scope[CONNECTION_KEY]
    return connection


def _excluded(clients: Excluded) -> list[Connection | str]:
    """What a channel is to exclude: of WebSockets their connections, unless they have left."""
    found: list[Any] = []
    for client in each_of(clients):
        connection = _connection_of(client) if isinstance(client, WebSocket) else client
        if connection is not None or client is None:
            found.append(connection)
    return found


def _id(conn_id: Any) -> str:
    return f"id:{conn_id}"


def _topic(topic: str) -> str:
    """
    Raises:
        ParseError: it is no usable name: 1 to 255 printable characters without `+` and `#`.
    """
    return f"topic:{check_topic(topic)}"
