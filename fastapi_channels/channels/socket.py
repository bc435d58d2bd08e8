"""Many rooms and channels over one WebSocket."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastapi import APIRouter, FastAPI, WebSocket

from fastapi_channels.auth import Authenticator
from fastapi_channels.cluster.node import Node
from fastapi_channels.exceptions import ConfigurationError, NotFound
from fastapi_channels.permission import Permission, as_permission
from fastapi_channels.sessions.http import headers_of
from fastapi_channels.sessions.plan import Plan
from fastapi_channels.sessions.socket_session import SocketSession
from fastapi_channels.topics.names import check_filter
from fastapi_channels.wire.messages import Envelope
from fastapi_channels.wire.outbox import DEFAULT_LIMIT, SlowPolicy

from .channel import Channel
from .hooks import HOOKS
from .misspelt import refuse_misspelt
from .mounting import add_route
from .settings import Settings, check_limits


class Socket:
    """A WebSocket over which a client joins rooms of several channels.

    The client joins with `{"type": "join", "channel": room, "request_id": …}`, or several rooms at once
    with `"channels": [{"channel": room, …}, …]`. It leaves with `{"type": "leave", …}`, and names the room in
    the `channel` of every action. Each channel keeps its own permissions, limits, events and error handling;
    what closes a connection elsewhere ends one room here. The messages for one room are handled in order,
    those for different rooms do not wait for each other.

    Args:
        channels: the first whose `room_pattern` fits a name has the room. All have one envelope.
        permission_classes: asked before the WebSocket is accepted.

    Attributes:
        envelope: that of the channels.
        authenticator: as of a channel; those of the channels are not asked.
        connect_throttle_classes: as of a channel.
        max_rooms: how many rooms one client may be in.
        max_joins: how many rooms one join frame may name.
        max_message_size, outbox_limit, slow_policy, send_timeout, finish_timeout, idle_timeout, max_lifetime,
            heartbeat: as of a channel. What is said here holds for the WebSocket as a whole; a channel's own
            `max_message_size` holds too.
    """

    permission_classes: Permission = None
    authenticator: Authenticator | None = None
    connect_throttle_classes: Any = None
    max_rooms: int = 100
    max_joins: int = 100
    max_message_size: int = 64 * 1024
    outbox_limit: int = DEFAULT_LIMIT
    slow_policy: SlowPolicy = "disconnect"
    send_timeout: float = 20.0
    finish_timeout: float = 1.0
    idle_timeout: float | None = None
    max_lifetime: float | None = None
    heartbeat: float | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        refuse_misspelt(cls, Socket, tuple(Socket.__annotations__), lambda value: False)
        for name in vars(cls):
            if name in (*Settings.__annotations__, *HOOKS) and not hasattr(Socket, name):
                raise ConfigurationError(
                    f"{cls.__name__}.{name} is a setting or hook of a channel, and a Socket does not read "
                    "it: set it on its channels. If it is yours, give it another name"
                )

    def __init__(self, *channels: Channel, permission_classes: Permission = None) -> None:
        if not channels:
            raise ConfigurationError("a Socket needs at least one channel")
        for number, channel in enumerate(channels):
            _check(channel, channels[0])
            _check_reached(channel, channels[:number])
        check_limits(self, "max_joins")
        self.channels = channels
        self.envelope: Envelope = channels[0].envelope
        self._permission = as_permission(permission_classes or self.permission_classes)

    async def connect(
        self,
        websocket: WebSocket,
        *,
        user: Any = None,
        subprotocol: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Serve `websocket`; returns when the client has left. The arguments are those of a channel's.

        Raises:
            ConfigurationError: no add_channel() covers the endpoint.
        """
        node = Node.of(websocket.scope)
        await node.ensure_started(websocket.scope)
        for channel in self.channels:
            channel._use(node)
        session = SocketSession(self, self._permission, self._plan_of, websocket, node, user)
        await session.run(subprotocol, headers_of(headers))

    def mount(
        self,
        app: FastAPI | APIRouter,
        path: str,
        *,
        name: str | None = None,
        user: Callable[..., Any] | None = None,
        **options: Any,
    ) -> None:
        """Add a WebSocket route for this socket. The arguments are those of a channel's `mount`.

        Raises:
            ConfigurationError: a channel lacks something of the application, or another guarded class of its
                name is there.
        """
        node = Node.attached(app)
        if node is not None:
            for channel in self.channels:
                channel._claim(node)
            if self.authenticator is not None and self.authenticator.revocable:
                node.rooms.check_store(f"{type(self).__name__}.authenticator (revocable)")
        name = name or type(self).__name__
        add_route(app, path, self, self.connect, name=name, in_room=False, user=user, options=options)

    def find(self, room: str) -> Channel | None:
        """The channel that has `room`."""
        for channel in self.channels:
            if channel._plan.words.has(room):
                return channel
        return None

    def _plan_of(self, room: str) -> Plan:
        """
        Raises:
            NotFound: no channel has `room`.
            ParseError: nor has one whose rooms are filters of topics, of which it is none.
        """
        channel = self.find(room)
        if channel is not None:
            return channel._plan
        if any(each.topics for each in self.channels):
            check_filter(room)
        raise NotFound(close=False)


def _check(channel: Channel, first: Channel) -> None:
    """Refuse a channel that does not go together with the first.

    Raises:
        ConfigurationError: `channel` cannot share a WebSocket with `first`.
    """
    if not isinstance(channel, Channel):
        raise ConfigurationError(f"a Socket takes instances of Channel, got {channel!r}")
    name = type(channel).__name__
    if channel.envelope != first.envelope:
        raise ConfigurationError(f"{name} has another envelope than {type(first).__name__}: a Socket has one")
    if channel._plan.has_decoder:
        raise ConfigurationError(f"a Socket decodes with its envelope: decode_json of {name} is not called")
    if channel.envelope.payload is None:
        for spec in (channel._plan.actions or {}).values():
            spec.refuse_fields((channel.envelope.channel,))


def _check_reached(channel: Channel, before: Sequence[Channel]) -> None:
    """
    Raises:
        ConfigurationError: `channel` would never have a room: one before it takes all that fit it.
    """
    pattern = channel._plan.pattern
    for other in before:
        takes = other._plan.pattern
        if takes is None or (pattern is not None and takes.is_like(pattern)):
            raise ConfigurationError(
                f"{type(channel).__name__} would never have a room: the first channel that fits has it, and "
                f"{type(other).__name__} before it takes "
                + ("every name" if takes is None else f"the same, {takes.pattern!r}")
            )
