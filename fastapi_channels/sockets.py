"""Many rooms and channels over one WebSocket."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from fastapi import APIRouter, FastAPI, WebSocket
from starlette.websockets import WebSocketState

from .callables import is_failure
from .channels import Channel
from .connection import Connection
from .exceptions import (
    FOR_CLIENTS,
    ConfigurationError,
    NotFound,
    PermissionDenied,
    TooManyRooms,
)
from .lanes import JOIN, LEAVE, Control, Lane, not_joined
from .membership import Membership
from .messages import Body, Envelope, Message
from .mounting import add_route
from .node import Node
from .outbox import DEFAULT_LIMIT, SlowPolicy
from .permission import BasePermission, Permission, allows, as_permission
from .rooms import check_room
from .session import CONNECTION_KEY, Session, headers_of, size_of

IN_FLIGHT: Final = 64
"""How many messages of one socket may be waiting or running; beyond them the client waits."""


class Socket:
    """A WebSocket over which a client joins rooms of several channels.

    The client joins with `{"type": "join", "channel": room, "request_id": …}`, leaves with
    `{"type": "leave", …}`, and names the room in the `channel` of every action. Each channel keeps its
    own permissions, limits, events and error handling; what closes a connection elsewhere ends one room
    here. The messages for one room are handled in order, those for different rooms do not wait for each
    other.

    Args:
        channels: the first whose `room_pattern` fits a name has the room. All have one envelope.
        permission_classes: asked before the WebSocket is accepted.

    Attributes:
        envelope: that of the channels.
        max_rooms: how many rooms one client may be in.
        max_message_size, outbox_limit, slow_policy, send_timeout, finish_timeout: as of a channel. What is
            said here holds for the WebSocket as a whole; a channel's own `max_message_size` holds too.
    """

    permission_classes: Permission = None
    max_rooms: int = 100
    max_message_size: int = 64 * 1024
    outbox_limit: int = DEFAULT_LIMIT
    slow_policy: SlowPolicy = "disconnect"
    send_timeout: float = 20.0
    finish_timeout: float = 1.0

    def __init__(self, *channels: Channel, permission_classes: Permission = None) -> None:
        if not channels:
            raise ConfigurationError("a Socket needs at least one channel")
        for channel in channels:
            _check(channel, channels[0])
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
        await node.ensure_started()
        for channel in self.channels:
            channel._use(node)
        await SocketSession(self, websocket, node, user).run(subprotocol, headers_of(headers))

    def mount(
        self,
        app: FastAPI | APIRouter,
        path: str,
        *,
        name: str | None = None,
        user: Callable[..., Any] | None = None,
        **options: Any,
    ) -> None:
        """Add a WebSocket route for this socket. The arguments are those of a channel's `mount`."""
        name = name or type(self).__name__
        add_route(app, path, self.connect, name=name, in_room=False, user=user, options=options)

    def find(self, room: str) -> Channel | None:
        """The channel that has `room`."""
        for channel in self.channels:
            if channel._pattern is None or channel._pattern.match(room) is not None:
                return channel
        return None

    def _decode(self, body: Body) -> Any:
        return self.envelope.decode(body)


def _check(channel: Channel, first: Channel) -> None:
    """
    Raises:
        ConfigurationError: `channel` cannot share a WebSocket with `first`.
    """
    if not isinstance(channel, Channel):
        raise ConfigurationError(f"a Socket takes instances of Channel, got {channel!r}")
    name = type(channel).__name__
    if channel.envelope != first.envelope:
        raise ConfigurationError(f"{name} has another envelope than {type(first).__name__}: a Socket has one")
    if channel._decode_json is not None:
        raise ConfigurationError(f"a Socket decodes with its envelope: decode_json of {name} is not called")


class SocketSession(Session):
    """A WebSocket that is in as many rooms as its client has joined."""

    def __init__(self, socket: Socket, websocket: WebSocket, node: Node, user: Any = None) -> None:
        super().__init__(socket, websocket, node, user)
        self.slots = asyncio.Semaphore(IN_FLIGHT)
        """Each message has one until it is done."""
        self._socket = socket
        self._lanes: dict[str, Lane] = {}

    def websocket_of(self, connection: Connection) -> WebSocket:
        # The scope is where whoever has a WebSocket finds its connection.
        scope = {**self.websocket.scope, CONNECTION_KEY: connection}
        view = WebSocket(scope, self.websocket.receive, self.websocket.send)
        view.client_state = view.application_state = WebSocketState.CONNECTED
        return view

    async def expel(self, connection: Connection | None, code: int, reason: str) -> None:
        if connection is None:
            await self.writer.close(code, reason)
            return
        for lane in self._lanes.values():
            if lane.member is not None and lane.member.connection is connection and not self.writer.closed:
                lane.expel(lane.member, code, reason)

    async def _admit(self) -> None:
        for permission in (self.node.settings.permission, self._socket._permission):
            if not await self._is_allowed(permission):
                raise PermissionDenied()

    async def _is_allowed(self, permission: BasePermission) -> bool:
        try:
            nothing = {"channel": None, "connection": None, "data": None}
            return await allows(permission, self.websocket, None, nothing)
        except FOR_CLIENTS:
            raise
        except BaseException as exc:
            if not is_failure(exc):
                raise
            self.log.exception("a permission failed, and so refuses")
            return False

    async def _handle(self, body: Body) -> None:
        fault = self._fault(body, any_kind=False)
        if fault is not None:
            await self.writer.close(*fault)
            return
        message: Message | None = None
        try:
            frame = self._decode(body)
            if inspect.isawaitable(frame):
                frame = await frame
            if self._take_control(frame):
                return
            message = self._read(frame)
            lane = self._lane_of(message)
        except Exception as exc:
            await self.reporter.report(exc, message)
        else:
            await self.slots.acquire()
            lane.put(message, size_of(body))

    def _read(self, frame: Any) -> Message:
        """The message in a decoded frame."""
        controls = isinstance(frame, dict) and self.envelope.action not in frame
        kind = frame.get(self.envelope.type) if controls else None
        if kind not in (JOIN, LEAVE):
            return self._open(frame)
        message = self._open({**frame, self.envelope.action: kind})
        return Control(kind, message.data, message.request_id)

    def _lane_of(self, message: Message) -> Lane:
        """The lane of the room that `message` names, which a join opens.

        Raises:
            WebSocketException: there is none, and there cannot be.
        """
        room = message.data.pop(self.envelope.channel, None)
        lane = self._lanes.get(room) if isinstance(room, str) else None
        if lane is not None:
            return lane
        if not isinstance(message, Control) or message.action != JOIN:
            raise not_joined(room)
        if len(self._lanes) >= self._socket.max_rooms:
            raise TooManyRooms(close=False, context={"limit": self._socket.max_rooms})
        channel = self._socket.find(check_room(room))
        if channel is None:
            raise NotFound(close=False)
        lane = self._lanes[room] = Lane(self, channel, room, self._close_lane)
        return lane

    def _close_lane(self, lane: Lane) -> None:
        if lane.member is None:
            del self._lanes[lane.room]

    def _cancel(self, request_id: Any) -> None:
        if not any(lane.cancel(request_id) for lane in self._lanes.values()):
            super()._cancel(request_id)

    def _members(self) -> Iterable[Membership]:
        return [lane.member for lane in self._lanes.values() if lane.member is not None]

    async def _clean_up(self) -> None:
        self.writer.lost()
        tasks = [lane.task for lane in self._lanes.values() if lane.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=self._socket.finish_timeout)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        lanes = self._lanes.values()
        await asyncio.gather(*(self._leave_room(lane, lane.member) for lane in lanes if lane.member))
        await super()._clean_up()

    async def _leave_room(self, lane: Lane, member: Membership) -> None:
        # Again: it may have entered since.
        member.leave()
        await member.end(*self._ending)
        lane.dissolve(member)
