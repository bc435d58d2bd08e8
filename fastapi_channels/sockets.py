"""Many rooms and channels over one WebSocket."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any, Final

from fastapi import APIRouter, FastAPI, WebSocket

from .channels import Channel
from .exceptions import (
    CloseCode,
    ConfigurationError,
    NotFound,
    PermissionDenied,
    TooManyRooms,
    WebSocketException,
)
from .membership import Membership
from .messages import Body, Envelope, Frame, Message
from .node import Node
from .outbox import DEFAULT_LIMIT, SlowPolicy
from .permission import Permission, allows, as_permission
from .session import Session, headers_of

IN_FLIGHT: Final = 64
"""How many messages of one socket may be waiting or running; beyond them the client waits."""


class NotJoined(WebSocketException):
    """A message for a room that the client is not in."""

    error_code = "not_joined"
    http_status = 404
    code = CloseCode.NOT_FOUND


class AlreadyJoined(WebSocketException):
    """A join of a room that the client is in."""

    error_code = "already_joined"
    http_status = 409
    code = CloseCode.BAD_REQUEST


class Socket:
    """A WebSocket over which a client joins rooms of several channels.

    The client joins with `{"type": "join", "channel": room, "request_id": …}`, leaves with
    `{"type": "leave", …}`, and names the room in the `channel` of every action. Each channel keeps its
    own permissions, limits, events and error handling; what closes a connection elsewhere ends one room
    here. The actions of one room run in order, those of different rooms do not wait for each other.

    Args:
        channels: the first whose `room_pattern` fits a name has the room.
        permission_classes: asked before the WebSocket is accepted.

    Attributes:
        max_rooms: how many rooms one client may be in.
        envelope, max_message_size, outbox_limit, slow_policy, send_timeout, finish_timeout: as of a channel.
    """

    max_rooms: int = 100
    envelope: Envelope = Envelope()
    max_message_size: int = 64 * 1024
    outbox_limit: int = DEFAULT_LIMIT
    slow_policy: SlowPolicy = "disconnect"
    send_timeout: float = 20.0
    finish_timeout: float = 1.0

    def __init__(self, *channels: Channel, permission_classes: Permission = None) -> None:
        for channel in channels:
            if not isinstance(channel, Channel):
                raise ConfigurationError(f"a Socket takes instances of Channel, got {channel!r}")
        if not channels:
            raise ConfigurationError("a Socket needs at least one channel")
        self.channels = channels
        self._permission = as_permission(permission_classes)

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

    def mount(self, app: FastAPI | APIRouter, path: str, *, name: str | None = None, **options: Any) -> None:
        """Add a WebSocket route for this socket; `options` are those of `app.websocket()`."""

        async def endpoint(websocket: WebSocket) -> None:
            await self.connect(websocket)

        app.add_api_websocket_route(path, endpoint, name or type(self).__name__, **options)

    def find(self, room: str) -> Channel | None:
        """The channel that has `room`."""
        for channel in self.channels:
            if channel._pattern is None or channel._pattern.match(room) is not None:
                return channel
        return None

    def _decode(self, body: Body) -> Any:
        return self.envelope.decode(body)


class SocketSession(Session):
    """A WebSocket that is in as many rooms as its client has joined."""

    def __init__(self, socket: Socket, websocket: WebSocket, node: Node, user: Any = None) -> None:
        super().__init__(socket, websocket, node, user)
        self._socket = socket
        self._rooms: dict[str, Membership] = {}
        self._slots = asyncio.Semaphore(IN_FLIGHT)
        self._tasks: set[asyncio.Task[None]] = set()

    async def expel(self, member: Membership | None, code: int, reason: str) -> None:
        if member is None:
            await self.writer.close(code, reason)
        else:
            self._spawn(self._leave(member, None, code, reason))

    async def _admit(self) -> None:
        for permission in (self.node.settings.permission, self._socket._permission):
            if not await allows(permission, self.websocket, None, {}):
                raise PermissionDenied()

    async def _handle(self, body: Body) -> None:
        if not await self._acceptable(body, any_kind=False):
            return
        message: Message | None = None
        try:
            frame = await self._decode(body)
            if self._take_control(frame):
                return
            message = self._control_of(frame) or self.envelope.open(frame)
            work = self._work_for(message)
        except Exception as exc:
            await self.reporter.report(exc, message)
        else:
            await self._slots.acquire()
            self._spawn(self._in_slot(work))

    def _control_of(self, frame: Any) -> Message | None:
        """A join or a leave as a message, or None."""
        if not isinstance(frame, dict) or self.envelope.action in frame:
            return None
        kind = frame.get(self.envelope.type)
        if kind not in ("join", "leave"):
            return None
        named = self.envelope.open({**frame, self.envelope.action: kind})
        return Message(kind, frame, named.request_id)

    def _work_for(self, message: Message) -> Coroutine[Any, Any, None]:
        """What a message asks for.

        Raises:
            WebSocketException: it cannot be done.
        """
        room = message.data.get(self.envelope.channel)
        if self.envelope.action not in message.data and message.action == "join":
            return self._enter_room(self._new_member(room), message)
        member = self._rooms.get(room) if isinstance(room, str) else None
        if member is None:
            raise NotJoined(close=False, context={"room": repr(room)[:64]})
        if self.envelope.action not in message.data:
            return self._leave(member, message, CloseCode.NORMAL, "")
        message.data.pop(self.envelope.channel)
        return self._act(member, message)

    def _new_member(self, room: Any) -> Membership:
        if room in self._rooms if isinstance(room, str) else False:
            raise AlreadyJoined(close=False, context={"room": repr(room)[:64]})
        if len(self._rooms) >= self._socket.max_rooms:
            raise TooManyRooms(close=False, context={"limit": self._socket.max_rooms})
        channel = self._socket.find(room) if isinstance(room, str) else None
        if channel is None:
            raise NotFound(close=False)
        member = self._rooms[room] = Membership(self, channel, room, addressed=True)
        return member

    async def _enter_room(self, member: Membership, message: Message) -> None:
        async with member.lane:
            release = member.connection.hold()
            try:
                await member.enter()
            except Exception as exc:
                self._forget(member)
                await self.reporter.report(_without_close(exc), message)
                return
            self._tell({self.envelope.type: "joined"}, member, message)
            release()
            await member.begin()

    async def _act(self, member: Membership, message: Message) -> None:
        async with member.lane:
            if self._rooms.get(member.connection.room) is member:
                await member.dispatcher.handle(message)
            else:
                room = repr(member.connection.room)[:64]
                await self.reporter.report(NotJoined(close=False, context={"room": room}), message)

    async def _leave(self, member: Membership, message: Message | None, code: int, reason: str) -> None:
        if self._rooms.get(member.connection.room) is not member:
            return
        self._forget(member)
        await member.end(code, reason)
        frame: dict[str, Any] = {self.envelope.type: "left"}
        if code != CloseCode.NORMAL:
            frame.update(close_code=code, reason=reason)
        self._tell(frame, member, message)

    def _forget(self, member: Membership) -> None:
        self._rooms.pop(member.connection.room, None)
        member.leave()

    def _tell(self, frame: dict[str, Any], member: Membership, message: Message | None) -> None:
        frame[self.envelope.channel] = member.connection.room
        if message is not None:
            frame[self.envelope.request_id] = message.request_id
        self.writer.post(Frame(self.envelope.encode(frame)))

    async def _in_slot(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        finally:
            self._slots.release()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _members(self) -> Iterable[Membership]:
        return list(self._rooms.values())

    async def _clean_up(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._socket.finish_timeout)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await super()._clean_up()


def _without_close(exc: Exception) -> Exception:
    """A refusal to enter one room closes nothing."""
    if isinstance(exc, WebSocketException):
        exc.close = False
    return exc
