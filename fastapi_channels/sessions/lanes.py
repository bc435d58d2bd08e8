"""What one client asks of one of its rooms, in turn."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, TypeAlias

from fastapi_channels.cluster.recovery import Since
from fastapi_channels.exceptions import CloseCode, WebSocketException
from fastapi_channels.signatures.callables import finish, is_failure
from fastapi_channels.wire.messages import Message

from .membership import Membership
from .plan import Plan
from .session import CONNECTION_KEY, Session

JOIN: Final = "join"
LEAVE: Final = "leave"
Step: TypeAlias = Callable[[], Awaitable[None]]


class Control(Message):
    """A message that joins or leaves a room, and is no action although it is named like one."""

    __slots__ = ()


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


def not_joined(room: Any) -> NotJoined:
    return NotJoined(close=False, context={"room": repr(room)[:64]})


class Lane:
    """What one client asks of one room, in turn; a task works it off, and lives no longer.

    Args:
        plan: of the channel that has the room.
        on_done: called for each message that is done.
        on_idle: called when nothing is left to do.
    """

    __slots__ = ("_on_done", "_on_idle", "_ordered", "_session", "_steps", "member", "plan", "room", "task")

    def __init__(
        self,
        session: Session,
        plan: Plan,
        room: str,
        *,
        on_done: Callable[[], None],
        on_idle: Callable[[Lane], None],
    ) -> None:
        self.plan = plan
        self.room = room
        self.member: Membership | None = None
        """The client's membership, from the question whether it may to the last leave handler."""
        self.task: asyncio.Task[None] | None = None
        self._session = session
        self._steps: deque[tuple[Message | None, Step]] = deque()
        self._on_done = on_done
        self._on_idle = on_idle
        self._ordered: bool | None = None
        """Whether the client is to be in the room, if somebody has said so meanwhile."""

    def put(self, message: Message, size: int) -> None:
        """Handle `message` of `size` bytes when everything before it is done."""
        step: Callable[[Message], Awaitable[None]] = partial(self._act, size=size)
        if isinstance(message, Control):
            step = self._join if message.action == JOIN else self._leave
        self._steps.append((message, partial(step, message)))
        self._start()

    def expel(self, member: Membership, code: int, reason: str) -> None:
        """Let `member` leave next; what runs gets a moment to finish. Nothing happens the second time."""
        if member.connection.ended:
            return
        member.depart(code)
        grace = self.plan.channel.finish_timeout
        asyncio.get_running_loop().call_later(grace, member.dispatcher.cancel_all)
        self._steps.appendleft((None, partial(self._end, member, None, code, reason)))
        self._start()

    def order(self, *, inside: bool) -> None:
        """Have the client in the room, or out of it, when what was before is done; the last order counts."""
        if self._ordered is None:
            self._steps.append((None, self._obey))
        self._ordered = inside
        self._start()

    def find(self, request_id: Any) -> Message | None:
        """The message of that id, if it waits for its turn."""
        waiting = (message for message, _ in self._steps if message is not None)
        return next((message for message in waiting if message.request_id == request_id), None)

    def dissolve(self, member: Membership) -> None:
        """The membership has ended: let go of it, and of what refers back to it."""
        member.connection.websocket.scope[CONNECTION_KEY] = None
        member.dissolve()
        self.member = None

    def _start(self) -> None:
        if self.task is None:
            self.task = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        try:
            while self._steps:
                message, step = self._steps.popleft()
                try:
                    await step()
                except Exception as exc:
                    await self._session.reporter.report(exc, message, self.member)
                finally:
                    if message is not None:
                        self._on_done()
        finally:
            self.task = None
            self._on_idle(self)

    async def _join(self, message: Message) -> None:
        if self.member is not None:
            raise AlreadyJoined(close=False, context={"room": repr(self.room)[:64]})
        member = self.member = Membership(self._session, self.plan, self.room, addressed=True)
        member.hold()
        try:
            said = message.data
            await member.ask()
            arrival = await member.enter(Since.read(said.get("since"), said.get("connection")))
        except BaseException as exc:
            member.depart()
            member.release(None)
            if not is_failure(exc):
                raise
            await self._session.reporter.report(exc, message, member)
            self.dissolve(member)
            return
        member.release(member.arrived(arrival, message))
        await member.begin()

    async def _act(self, message: Message, *, size: int) -> None:
        if self.member is None:
            raise not_joined(self.room)
        limit = self.plan.channel.max_message_size
        if size > limit:
            raise WebSocketException(CloseCode.TOO_BIG, f"a message may have {limit} bytes")
        work = self.member.dispatcher.handle(message, self.task)
        if work is not None:
            await work

    async def _leave(self, message: Message) -> None:
        if self.member is None:
            raise not_joined(self.room)
        await self._end(self.member, message, CloseCode.NORMAL, "")

    async def _obey(self) -> None:
        inside, self._ordered = self._ordered, None
        if inside and self.member is None:
            await self._join(Control(JOIN, {}))
        elif not inside and self.member is not None:
            await self._end(self.member, None, CloseCode.NORMAL, "")

    async def _end(self, member: Membership, message: Message | None, code: int, reason: str) -> None:
        member.depart(code)
        try:
            # Not cut short where the whole session ends meanwhile.
            await finish(member.end(code, reason))
        finally:
            self.dissolve(member)
        envelope = self.plan.envelope
        closed = None if code == CloseCode.NORMAL else code
        await self._session.writer.write(envelope.frame(envelope.left(self.room, message, closed, reason)))
