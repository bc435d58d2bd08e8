"""What one client asks of one of its rooms, in turn."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from functools import partial
from typing import Any, Final, TypeAlias

from fastapi_channels.cluster.recovery import Since
from fastapi_channels.exceptions import Cancelled, CloseCode, WebSocketException
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
    """A join of a room that the client is in, and that does not say what is missing."""

    error_code = "already_joined"
    http_status = 409
    code = CloseCode.BAD_REQUEST


def not_joined(room: Any) -> NotJoined:
    return NotJoined(close=False, context={"room": repr(room)[:64]})


async def join_again(member: Membership, message: Message) -> None:
    """Let a member that says where it was have what it has missed since.

    Raises:
        AlreadyJoined: it does not say so, or the room has no history.
        InvalidPosition: that is no position.
        NotJoined: the server has taken it out of the room.
        StoreUnavailable: the store did not answer.
    """
    room = member.connection.room
    since = None if member.plan.history is None else Since.read(message.data.get("since"), None)
    if since is None:
        raise AlreadyJoined(close=False, context={"room": repr(room)[:64]})
    await member.guard.wait_to_catch_up()
    if not await member.catch_up(since, message):
        raise not_joined(room)


def _check_wanted(message: Message) -> None:
    """
    Raises:
        Cancelled: the client has cancelled it.
    """
    if message.cancelled:
        raise Cancelled()


class Lane:
    """What one client asks of one room, in turn; a task works it off, and lives no longer.

    Args:
        plan: of the channel that has the room.
        on_idle: called when nothing is left to do.
    """

    __slots__ = ("_joining", "_on_idle", "_ordered", "_session", "_steps", "member", "plan", "room", "task")

    def __init__(self, session: Session, plan: Plan, room: str, *, on_idle: Callable[[Lane], None]) -> None:
        self.plan = plan
        self.room = room
        self.member: Membership | None = None
        """The client's membership, from the question whether it may to the last leave handler."""
        self.task: asyncio.Task[None] | None = None
        self._session = session
        self._steps: deque[tuple[Message | None, Step, Callable[[], None] | None]] = deque()
        self._joining: Message | None = None
        """The join that is under way."""
        self._on_idle = on_idle
        self._ordered: bool | None = None
        """Whether the client is to be in the room, if somebody has said so meanwhile."""

    def put(
        self,
        message: Message,
        size: int,
        on_done: Callable[[], None],
        gate: asyncio.Semaphore | None = None,
    ) -> None:
        """Handle `message` of `size` bytes when everything before it is done.

        Args:
            on_done: called when it is done too.
            gate: lets in so many joins at a time.
        """
        step: Callable[[Message], Awaitable[None]] = partial(self._act, size=size)
        if isinstance(message, Control):
            step = partial(self._join, gate=gate) if message.action == JOIN else self._leave
        self._steps.append((message, partial(step, message), on_done))
        self._start()

    def expel(self, member: Membership, code: int, reason: str) -> None:
        """Let `member` leave next; what runs gets a moment to finish. Nothing happens the second time."""
        if member.connection.ended:
            return
        member.depart(code)
        grace = self.plan.channel.finish_timeout
        asyncio.get_running_loop().call_later(grace, member.dispatcher.cancel_all)
        self._steps.appendleft((None, partial(self._end, member, None, code, reason), None))
        self._start()

    def order(self, *, inside: bool) -> None:
        """Have the client in the room, or out of it, when what was before is done; the last order counts."""
        if self._ordered is None:
            self._steps.append((None, self._obey, None))
        self._ordered = inside
        self._start()

    def find(self, request_id: Any) -> Message | None:
        """The message of that id, if it waits for its turn or is a join."""
        known = (self._joining, *(message for message, _, _ in self._steps))
        return next((each for each in known if each is not None and each.request_id == request_id), None)

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
                message, step, on_done = self._steps.popleft()
                try:
                    await step()
                except Exception as exc:
                    await self._session.reporter.report(exc, message, self.member)
                finally:
                    if on_done is not None:
                        on_done()
        finally:
            self.task = None
            self._on_idle(self)

    async def _join(self, message: Message, gate: asyncio.Semaphore | None = None) -> None:
        self._joining = message
        try:
            async with gate or nullcontext():
                await self._observed(message)
        finally:
            self._joining = None

    async def _observed(self, message: Message) -> None:
        """Join, and tell who observes."""
        session, failure = self._session, None
        told = session.node.observers
        for begins in told.joining:
            begins(self.plan.name, session.writer.name, session.websocket, message)
        try:
            await (self._enter(message) if self.member is None else join_again(self.member, message))
        except BaseException as exc:
            failure = exc
            raise
        finally:
            for ends in told.answered_join:
                ends(failure)
            failure = None  # which refers to this frame

    async def _enter(self, message: Message) -> None:
        member = self.member = Membership(self._session, self.plan, self.room, addressed=True)
        member.hold()
        try:
            said = message.data
            _check_wanted(message)
            await member.ask()
            _check_wanted(message)
            arrival = await member.enter(Since.read(said.get("since"), said.get("connection")))
            _check_wanted(message)
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
