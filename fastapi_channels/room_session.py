"""A WebSocket that is in one room of one channel."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Iterable
from typing import TYPE_CHECKING, Any

from starlette.websockets import WebSocket

from .connection import Connection
from .membership import Membership
from .messages import Body
from .node import Node
from .server import Event
from .session import CONNECTION_KEY, Session

if TYPE_CHECKING:
    from .base import BaseChannel


class RoomSession(Session):
    """
    Args:
        channel: whose rules hold.
        room: where the client goes.
        websocket, node, user: as of every session.
    """

    def __init__(
        self, channel: BaseChannel, websocket: WebSocket, room: str, node: Node, user: Any = None
    ) -> None:
        super().__init__(channel, websocket, node, user)
        self._member = Membership(self, channel, room, addressed=False)
        self._relays = channel._actions is None

    async def expel(self, connection: Connection | None, code: int, reason: str) -> None:
        await self.writer.close(code, reason)

    async def _end(self) -> None:
        await super()._end()
        self._dissolve()

    @property
    def _is_busy(self) -> bool:
        # uvicorn must have noticed that it refused a client when the endpoint returns, else it complains.
        refused = not self._accepted
        return refused or self.inbox.is_reading or self.writer.is_writing or self._member.is_busy

    def _dissolve(self) -> None:
        """Undo the circles of references. Else only the garbage collector could, which takes it a third
        of the time that a connection costs from its handshake on."""
        self.websocket.scope[CONNECTION_KEY] = None
        self.writer.dissolve()
        self.inbox.dissolve()
        self._member.dissolve()
        del self._member, self.reporter

    async def _admit(self) -> None:
        await self._member.enter()
        self.websocket.scope[CONNECTION_KEY] = self._member.connection

    async def _begin(self) -> bool:
        self.node.watch.enter(self.inbox)
        try:
            return await self._member.begin()
        finally:
            self.inbox.busy = False

    def _handle(self, body: Body) -> Awaitable[None] | None:
        fault = self._fault(body, self._relays)
        if fault is not None:
            return self.writer.close(*fault)
        if self._relays:
            return self._member.dispatcher.relay(body)
        try:
            frame = self._decode(body)
            if type(frame) is not dict and inspect.isawaitable(frame):
                return self._handle_later(frame)
            return self._act(frame)
        except Exception as exc:
            return self.reporter.report(exc, None, self._member)

    async def _handle_later(self, frame: Awaitable[Any]) -> None:
        work: Awaitable[None] | None
        try:
            work = self._act(await frame)
        except Exception as exc:
            work = self.reporter.report(exc, None, self._member)
        if work is not None:
            await work

    def _act(self, frame: Any) -> Awaitable[None] | None:
        if self._take_control(frame):
            return None
        return self._member.dispatcher.handle(self._open(frame), self._task)

    async def _take_early(self, event: Event) -> bool:
        return not self._relays and await super()._take_early(event)

    def _members(self) -> Iterable[Membership]:
        return (self._member,)
