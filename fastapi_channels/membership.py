"""One client in one room of one channel: from the question whether it may to the last leave handler."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

from .callables import is_failure
from .connection import Connection
from .dispatch import Dispatcher
from .exceptions import FOR_CLIENTS, NotFound, PermissionDenied
from .guard import Guard
from .rooms import check_room

if TYPE_CHECKING:
    from .base import BaseChannel
    from .events import Visit
    from .session import Session


class Membership:
    """What a channel knows of one client.

    Args:
        session: the WebSocket, which may carry several memberships.
        channel: whose rules hold.
        room: where the client goes.
        addressed: whether frames to the client name the room, as on a socket with many.
    """

    __slots__ = (
        "_began",
        "_visit",
        "address",
        "channel",
        "connection",
        "dispatcher",
        "guard",
        "node",
        "session",
    )

    def __init__(self, session: Session, channel: BaseChannel, room: str, *, addressed: bool) -> None:
        self.session = session
        self.channel = channel
        self.node = session.node
        # Where the WebSocket is in one room only, both have one id.
        id = session.node.next_id() if addressed else session.writer.name
        self.connection = Connection(id, channel, room, session)
        self.address: dict[str, str] = {channel.envelope.channel: room} if addressed else {}
        """What frames carry beside their own fields."""
        self.guard = Guard(self.connection, session, channel._rules(self.node.settings))
        self.dispatcher = Dispatcher(self)
        self._began = False
        self._visit: Visit | None = None

    async def enter(self) -> None:
        """Ask whether the client may, and make it a member; nothing published later can be missed.

        Raises:
            WebSocketException, HTTPException: the refusal.
            BrokerUnavailable: the broker did not confirm in time.
        """
        connection, channel = self.connection, self.channel
        connection.params = self._match(check_room(connection.room))
        pending = self.guard.check_permissions()
        if pending is not None:
            await pending
        await self._authorize()
        connection.seat = channel._seat_of(connection)
        await self.node.join(channel._key(connection.room), connection, limit=channel.max_connection)

    async def begin(self) -> bool:
        """Run the join handlers; False if one of them failed, which ends the membership."""
        self._began = True
        try:
            self._visit = await self.channel._events.join(self._values(None, None))
        except BaseException as exc:
            if not is_failure(exc):
                raise
            await self.session.reporter.report(exc, None, self, fatal=True)
            return False
        return True

    def leave(self) -> None:
        """Receive nothing more; never waits."""
        self.connection.ended = True
        for key in list(self.connection.keys):
            self.node.leave(key, self.connection)

    @property
    def is_busy(self) -> bool:
        """Whether `end` has anything to wait for."""
        return self.dispatcher.is_busy or self._wants_leave

    @property
    def _wants_leave(self) -> bool:
        return self._began and (self.channel._events.wants_leave or self._visit is not None)

    async def end(self, code: int | None, reason: str | None) -> None:
        """Finish what runs, then run the leave handlers if the join handlers ever began."""
        await self.dispatcher.stop(self.channel.finish_timeout)
        if not self._wants_leave:
            return
        self._began = False
        try:
            async with asyncio.timeout(self.channel.leave_timeout):
                await self.channel._events.leave(self._values(code, reason), self._visit)
        except TimeoutError:
            self.session.log.error("the leave handlers took more than %g s", self.channel.leave_timeout)

    def dissolve(self) -> None:
        """Let go of what refers back to it."""
        del self.connection, self.dispatcher, self.guard, self.session

    def _match(self, room: str) -> dict[str, Any]:
        """The parameters in the room's name.

        Raises:
            NotFound: the name does not fit the channel's pattern.
        """
        pattern = self.channel._pattern
        params = {} if pattern is None else pattern.match(room)
        if params is None:
            raise NotFound(close=False)
        return params

    async def _authorize(self) -> None:
        authorize = self.channel._authorize
        if authorize is None:
            return
        try:
            answer = authorize(self.connection, **self.connection.params)
            allowed = (await answer if inspect.isawaitable(answer) else answer) is True
        except FOR_CLIENTS:
            raise
        except BaseException as exc:
            if not is_failure(exc):
                raise
            self.session.log.exception("authorize failed, and so refuses")
            allowed = False
        if not allowed:
            raise PermissionDenied(close=False)

    def _values(self, code: int | None, reason: str | None) -> dict[str, Any]:
        return {
            "websocket": self.connection.websocket,
            "channel": self.connection.room,
            "connection": self.connection,
            "code": code,
            "reason": reason,
            "self": self.channel,
        }
