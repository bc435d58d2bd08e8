"""A WebSocket that is in one room of one channel."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import Any

from starlette.websockets import WebSocket

from fastapi_channels.cluster.node import Node
from fastapi_channels.cluster.recovery import Since
from fastapi_channels.connection import Connection
from fastapi_channels.wire.messages import Body, Message

from .arrival import check_arrival, check_ban, give_place, take_place
from .lanes import JOIN, join_again
from .membership import Membership
from .plan import Plan
from .session import CONNECTION_KEY, Session


class RoomSession(Session):
    """The session of a WebSocket in one room.

    Args:
        plan: of the channel whose rules hold.
        room: where the client goes.
        websocket, node, user: as of every session.
    """

    def __init__(self, plan: Plan, websocket: WebSocket, room: str, node: Node, user: Any = None) -> None:
        self.relays = plan.actions is None
        decoder = _as_it_came if self.relays else plan.decoder
        super().__init__(plan.channel, decoder, websocket, node, user)
        self._member = Membership(self, plan, room, addressed=False)

    async def expel(self, connection: Connection | None, code: int, reason: str) -> None:
        await self.writer.close(code, reason)

    def enroll(self, key: str) -> Awaitable[None] | None:
        room = self._member.plan.words.room_of(key)
        return None if room is None else self._member.connection.join(room)

    def dismiss(self, key: str) -> None:
        room = self._member.plan.words.room_of(key)
        if room is not None:
            self._member.leave(room)

    async def _end(self) -> None:
        if self.node.settings.per_user is not None:
            give_place(self)
        if self.node.settings.bans:
            self.node.bans.leave(self.writer)
        try:
            await super()._end()
        finally:
            self._dissolve()

    @property
    def _is_busy(self) -> bool:
        # uvicorn must have noticed that it refused a client when the endpoint returns, else it complains.
        refused = not self._accepted
        return refused or self.inbox.is_reading or self.writer.is_writing or self._member.is_busy

    def _dissolve(self) -> None:
        """Undo the circles of references, for the reason that `Membership.dissolve` gives."""
        self.websocket.scope[CONNECTION_KEY] = None
        self.writer.dissolve()
        self.inbox.dissolve()
        self._member.dissolve()
        del self._member, self.reporter

    async def _admit(self) -> None:
        if self.node.settings.bans:
            await check_ban(self)
        if self._terms.connect_throttle_classes is not None:
            await check_arrival(self.node, self.websocket, self.user, self._terms)
        member = self._member
        await member.ask()
        if self.node.settings.per_user is not None:
            await take_place(self)
        if member.plan.history is None:
            await member.enter()
        else:
            await self._enter_with_history(member)
        self.websocket.scope[CONNECTION_KEY] = member.connection

    async def _enter_with_history(self, member: Membership) -> None:
        query = self.websocket.query_params
        since = Since.read(query.get("since"), query.get("connection"))
        # A page whose stream of events was lost says it so (HTML Living Standard, section 9.2.4); its address
        # stays what it was.
        if (last := self.websocket.headers.get("last-event-id")) is not None:
            since = Since.read(last, None)
        frames = None
        member.hold()
        try:
            arrival = await member.enter(since)
            frames = member.arrived(arrival)
        finally:
            member.release(frames)

    async def _begin(self) -> bool:
        self.node.watch.enter(self.inbox)
        try:
            return await self._member.begin()
        finally:
            self.inbox.busy = False

    def _act(self, frame: Any) -> Awaitable[None] | None:
        if self.relays:
            return self._member.dispatcher.relay(frame)
        if self._member.plan.history is not None and self._joins(frame):
            return self._join_again(frame)
        return self._member.dispatcher.handle(self._open(frame), self._task)

    def _joins(self, frame: Any) -> bool:
        """Whether a frame asks for what was missed in this room."""
        names, room = self.envelope, self._member.connection.room
        if not isinstance(frame, dict) or names.action in frame or frame.get(names.type) != JOIN:
            return False
        return bool(frame.get(names.channel, room) == room)

    async def _join_again(self, frame: dict[str, Any]) -> None:
        message: Message | None = None
        try:
            message = self._open({**frame, self.envelope.action: JOIN})
            await join_again(self._member, message)
        except Exception as exc:
            await self.reporter.report(exc, message, self._member)

    @property
    def _speaker(self) -> Membership:
        return self._member

    def _members(self) -> Iterable[Membership]:
        return (self._member,)


def _as_it_came(body: Body) -> Body:
    return body
