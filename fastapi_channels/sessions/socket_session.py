"""A WebSocket that is in as many rooms as its client has joined."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol

from starlette.websockets import WebSocket, WebSocketState

from fastapi_channels.cluster.node import Node
from fastapi_channels.connection import Connection
from fastapi_channels.exceptions import (
    ParseError,
    PermissionDenied,
    TooManyRooms,
    WebSocketException,
)
from fastapi_channels.permission import BasePermission, allows, combine
from fastapi_channels.signatures.callables import MaybeAwaited
from fastapi_channels.wire.messages import Body, Message, size_of
from fastapi_channels.wire.rooms import check_room, name_of

from .arrival import check_arrival, check_ban, give_place, take_place
from .foretold import Foretold, tell
from .guard import refusal
from .lanes import JOIN, LEAVE, Control, Lane, not_joined
from .membership import Membership
from .plan import Plan, Terms
from .run import Run
from .session import CONNECTION_KEY, Session

IN_FLIGHT: Final = 64
"""How many messages of one socket may be waiting or running; beyond them the client waits."""
JOINS_AT_ONCE: Final = 32
"""How many joins of one frame are under way at a time."""
CHANNELS: Final = "channels"
"""The field of a join frame that names several rooms."""


class SocketTerms(Terms, Protocol):
    """What a socket says of its WebSockets."""

    max_rooms: int
    max_joins: int


class _Joins:
    """Those of one frame.

    Args:
        count: how many there are.
        on_done: called when all are done.
    """

    def __init__(self, count: int, on_done: Callable[[], None]) -> None:
        self.gate = asyncio.Semaphore(JOINS_AT_ONCE)
        self._count = count
        self._on_done = on_done

    def done(self) -> None:
        """One more is."""
        self._count -= 1
        if not self._count:
            self._on_done()


class _Several(Message):
    """Stands for messages of one id, such as the joins of one frame.

    Args:
        messages: these.
    """

    def __init__(self, messages: Iterable[Message]) -> None:
        super().__init__("", {})
        self._messages = messages

    def cancel(self) -> None:
        for message in self._messages:
            message.cancel()


class SocketSession(Session):
    """The session of a WebSocket in many rooms, or in none.

    Args:
        terms: the limits that hold.
        permission: asked before the WebSocket is accepted, beside the application's.
        find: the plan of the channel that has a room; raises a WebSocketException where there is none.
        websocket, node, user: as of every session.
    """

    def __init__(
        self,
        terms: SocketTerms,
        permission: BasePermission,
        find: Callable[[str], Plan],
        websocket: WebSocket,
        node: Node,
        user: Any = None,
    ) -> None:
        super().__init__(terms, terms.envelope.decode, websocket, node, user)
        self._slots = asyncio.Semaphore(IN_FLIGHT)
        """Each message has one until it is done."""
        self._max_rooms = terms.max_rooms
        self._max_joins = terms.max_joins
        self._permission = permission
        self._find = find
        self._lanes: dict[str, Lane] = {}
        self._size = 0
        """Bytes of the frame that is being read."""
        self._entering: Message | None = None
        """What waits for a place in flight."""
        self._is_known = False
        """Whether the node knows whose WebSocket it is."""

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

    def enroll(self, key: str) -> None:
        room = name_of(key)
        try:
            plan = self._find(room)
        except WebSocketException:
            return  # another's
        if plan.words.room_of(key) is not None:
            (self._lanes.get(room) or self._open_lane(room)).order(inside=True)

    def dismiss(self, key: str) -> None:
        lane = self._lanes.get(name_of(key))
        if lane is not None and lane.plan.words.room_of(key) is not None:
            lane.order(inside=False)

    async def _admit(self) -> None:
        if self.node.settings.bans:
            await check_ban(self)
        if self._terms.connect_throttle_classes is not None:
            await check_arrival(self.node, self.websocket, self.user, self._terms)
        if not await self.may_stay():
            raise PermissionDenied()
        if self.node.settings.per_user is not None:
            await take_place(self)
        self.node.users.add(self.user, self)
        self._is_known = True

    async def may_stay(self) -> bool:
        try:
            nothing = {"channel": None, "connection": None, "data": None}
            permission = combine(self.node.settings.permission, self._permission)
            return await allows(permission, self.websocket, None, nothing)
        except BaseException as exc:
            return refusal(exc, self.writer.name, self.websocket)

    def _handle(self, body: Body) -> MaybeAwaited[None]:
        self._size = size_of(body)
        return super()._handle(body)

    async def _act(self, frame: Any) -> None:
        # Reading it may forget what was said of the joins in it.
        is_of_many = isinstance(frame, dict) and CHANNELS in frame
        foretold = {**self._foretold} if is_of_many else self._foretold
        try:
            message = self._entering = self._read(frame)
        except Exception as exc:
            await self.reporter.report(exc)
            return
        # Before the lane is looked for: one that is found idle may be closed while this waits.
        await self._slots.acquire()
        try:
            if isinstance(message, Control) and self._is_of_many(message):
                await self._join_all(self._joins_of(message, {**foretold, **self._foretold}))
            else:
                self._lane_of(message).put(message, self._size, self._slots.release)
        except Exception as exc:
            self._slots.release()
            await self.reporter.report(exc, message)
        finally:
            self._entering = None

    def _read(self, frame: Any) -> Message:
        """The message in a decoded frame."""
        controls = isinstance(frame, dict) and self.envelope.action not in frame
        kind: Any = frame.get(self.envelope.type) if controls else None
        is_lost = kind == "presence" and self._lane_at(frame.get(self.envelope.channel)) is None
        if kind not in (JOIN, LEAVE) and not is_lost:
            return self._open(frame)
        message = self._open({**frame, self.envelope.action: kind})
        return Control(kind, message.data, message.request_id, message.cancelled)

    def _is_of_many(self, message: Control) -> bool:
        # An envelope may give that name to the field of one room.
        is_list = CHANNELS in message.data and self.envelope.channel != CHANNELS
        return is_list and message.action == JOIN

    def _joins_of(self, whole: Control, foretold: Foretold) -> list[Control]:
        """The joins of a frame that names several rooms, each as an object like a join frame.

        Args:
            foretold: what was said of requests before their turn.

        Raises:
            ParseError: one of them cannot be read, or is of the same room as another; or the frame names one
                room beside them.
        """
        names, rooms = self.envelope, whole.data[CHANNELS]
        if names.channel in whole.data:
            problem = f"a join has {names.channel!r} for one room, or {CHANNELS!r} for several, got both"
            raise ParseError(close=False, context={"problem": problem})
        if not isinstance(rooms, list) or not 0 < len(rooms) <= self._max_joins:
            got = f"{len(rooms)} of them" if isinstance(rooms, list) else "no list"
            problem = f"{CHANNELS!r} must be a list of 1 to {self._max_joins} rooms, got {got}"
            raise ParseError(close=False, context={"problem": problem})
        found: dict[str, Control] = {}
        for number, each in enumerate(rooms):
            if not isinstance(each, dict) or not isinstance(each.get(names.channel), str):
                problem = f"{CHANNELS}[{number}] must be an object with a text as {names.channel!r}"
                raise ParseError(close=False, context={"problem": problem})
            room = each[names.channel]
            if room in found:
                problem = f"{CHANNELS}[{number}] names {room[:64]!r} once more: each room is joined once"
                raise ParseError(close=False, context={"problem": problem})
            message = names.open({names.request_id: whole.request_id, **each, names.action: JOIN})
            tell(foretold, message, is_last=False)
            self._foretold.pop(message.request_id, None)
            cancelled = whole.cancelled or message.cancelled
            found[room] = Control(JOIN, message.data, message.request_id, cancelled)
        return list(found.values())

    async def _join_all(self, messages: Sequence[Control]) -> None:
        joins = _Joins(len(messages), self._slots.release)
        refused: list[tuple[WebSocketException, Control]] = []
        for message in messages:
            room = message.data[self.envelope.channel]
            try:
                self._lane_of(message).put(message, self._size, joins.done, joins.gate)
            except WebSocketException as exc:
                exc.extra[self.envelope.channel] = room
                refused.append((exc, message))
        for fault, message in refused:
            await self.reporter.report(fault, message)
            joins.done()

    def _lane_of(self, message: Message) -> Lane:
        """The lane of the room that `message` names, which a join opens.

        Raises:
            WebSocketException: there is none.
        """
        room = message.data.pop(self.envelope.channel, None)
        lane = self._lane_at(room)
        if lane is not None:
            return lane
        if not isinstance(message, Control) or message.action != JOIN:
            raise not_joined(room)
        return self._open_lane(room)

    def _lane_at(self, room: Any) -> Lane | None:
        return self._lanes.get(room) if isinstance(room, str) else None

    def _open_lane(self, room: Any) -> Lane:
        """
        Raises:
            WebSocketException: there cannot be one.
        """
        if len(self._lanes) >= self._max_rooms:
            raise TooManyRooms(close=False, context={"limit": self._max_rooms})
        lane = Lane(self, self._find(check_room(room)), room, on_idle=self._close_lane)
        self._lanes[room] = lane
        return lane

    def _close_lane(self, lane: Lane) -> None:
        if lane.member is None:
            del self._lanes[lane.room]

    def _known(self, request_id: str | float) -> Run | Message | None:
        if self._entering is not None and self._entering.request_id == request_id:
            return self._entering
        waiting = [found for lane in self._lanes.values() if (found := lane.find(request_id)) is not None]
        if len(waiting) > 1:
            return _Several(waiting)
        return waiting[0] if waiting else super()._known(request_id)

    @property
    def _limits(self) -> dict[str, int]:
        return {**super()._limits, "max_joins": self._max_joins}

    @property
    def is_working(self) -> bool:
        return super().is_working or any(lane.task is not None for lane in self._lanes.values())

    def _members(self) -> Iterable[Membership]:
        return [lane.member for lane in self._lanes.values() if lane.member is not None]

    async def _end(self) -> None:
        if self._is_known:
            self._is_known = False
            self.node.users.discard(self.user, self)
        if self.node.settings.per_user is not None:
            give_place(self)
        if self.node.settings.bans:
            self.node.bans.leave(self.writer)
        await super()._end()

    async def _clean_up(self) -> None:
        self.writer.lost()
        tasks = [lane.task for lane in self._lanes.values() if lane.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=self._terms.finish_timeout)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        lanes = self._lanes.values()
        await asyncio.gather(*(self._leave_room(lane, lane.member) for lane in lanes if lane.member))
        await super()._clean_up()

    async def _leave_room(self, lane: Lane, member: Membership) -> None:
        # Again: it may have entered since.
        member.depart()
        await member.end(*self.ending)
        lane.dissolve(member)
