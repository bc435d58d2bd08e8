"""One client in one room of one channel: from the question whether it may to the last leave handler."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from starlette.websockets import WebSocket

from fastapi_channels.cluster.node import Node
from fastapi_channels.cluster.recovery import Arrival, Since
from fastapi_channels.cluster.steward import Client
from fastapi_channels.connection import Connection
from fastapi_channels.exceptions import (
    ChannelFull,
    CloseCode,
    ConfigurationError,
    Disconnected,
    TooManyRooms,
    may_return,
)
from fastapi_channels.signatures.callables import awaited, is_failure
from fastapi_channels.texts import text
from fastapi_channels.topics.reception import Reception
from fastapi_channels.wire.inbox import Inbox
from fastapi_channels.wire.messages import Body, Envelope, Frame, Message
from fastapi_channels.wire.outbox import Gap
from fastapi_channels.wire.positions import Position
from fastapi_channels.wire.presence import said
from fastapi_channels.wire.rooms import check_room, name_of
from fastapi_channels.wire.traffic import Tally
from fastapi_channels.wire.words import Call, Event

from .calls import Calls, read
from .dispatch import Dispatcher
from .guard import Guard
from .handlers import Visit
from .plan import Plan
from .report import Reporter


class Host(Client, Protocol):
    """What a membership needs of its session: the WebSocket, which may carry several memberships."""

    node: Node
    user: Any
    inbox: Inbox
    calls: Calls
    reporter: Reporter
    is_fluent: bool
    is_one_way: bool
    tally: Tally | None

    @property
    def language(self) -> str: ...

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]: ...

    @property
    def ending(self) -> tuple[int | None, str | None]:
        """Code and reason of the end of the WebSocket, where it has ended."""
        ...

    def websocket_of(self, connection: Connection) -> WebSocket:
        """What the handlers of `connection` get for their WebSocket."""
        ...


class Membership:
    """What a channel knows of one client; the carrier of its connection.

    Args:
        host: the session.
        plan: of the channel whose rules hold.
        room: where the client goes.
        addressed: whether frames to the client name the room, as on a socket with many.
    """

    __slots__ = (
        "_began",
        "_gap",
        "_host",
        "_is_known",
        "_visit",
        "acknowledges",
        "connection",
        "dispatcher",
        "fields",
        "guard",
        "holds_place",
        "node",
        "plan",
        "reporter",
        "writer",
    )

    def __init__(self, host: Host, plan: Plan, room: str, *, addressed: bool) -> None:
        self._host = host
        self.node = host.node
        self.plan = plan
        self.reporter = host.reporter
        self.writer = host.writer
        # Where the WebSocket is in one room only, both have one id.
        id = host.node.next_id() if addressed else host.writer.name
        self.connection: Connection = Connection(id, plan.channel, room, self, host.user)
        self.connection.websocket = host.websocket_of(self.connection)
        self.fields: dict[str, str] = {plan.envelope.channel: room} if addressed else {}
        """What frames carry beside their own."""
        self.guard = Guard(self.connection, host.node, plan.rules(host.node.settings))
        self.dispatcher = Dispatcher(self)
        self.holds_place = plan.channel.max_connection is not None
        """Whether it is in a room of limited size, and so may lose its place."""
        self.acknowledges = host.is_fluent or plan.channel.ack
        """Whether a request with an id is replied to also where there is nothing to say."""
        self._began = False
        self._is_known = False
        """Whether the node knows whose WebSocket it is."""
        self._visit: Visit | None = None
        self._gap: Gap | None = None
        """Where `joined` goes, if the room sent something before."""

    async def ask(self) -> None:
        """Ask whether the client may.

        Raises:
            WebSocketException, HTTPException: the refusal.
        """
        connection = self.connection
        connection.params = self.plan.match(check_room(connection.room))
        pending = self.guard.check_permissions()
        if pending is not None:
            await pending

    async def enter(self, since: Since | None = None) -> Arrival | None:
        """Make a client that may a member; nothing published later can be missed.

        Args:
            since: where the client has been.

        Returns:
            What it is told first of all, in a room with history.

        Raises:
            WebSocketException: every place is taken.
            BrokerUnavailable, StoreUnavailable: it was not confirmed in time.
        """
        connection, plan = self.connection, self.plan
        self._is_known = True
        self.node.users.add(connection.user, self._host)
        connection.seat = plan.seat_of(connection)
        if plan.showing is not None:
            connection.presence = said(await awaited(plan.present(connection)))
        arrival = await self.node.rooms.join(plan.key(connection.room), connection, plan, since)
        if self._host.tally is not None:
            self._host.tally.enter(connection.room)
        for tell in self.node.observers.joined:
            tell(plan.name, arrival.recovered if arrival is not None else None)
        return arrival

    async def catch_up(self, since: Since, message: Message) -> bool:
        """Give a member what it has missed since then; it is told so as when it came. Returns when that has
        left: whoever does not read cannot ask for ever more. False if it is not in the room.

        Raises:
            StoreUnavailable: the store did not answer.
        """
        connection, node, key = self.connection, self.node, self.plan.key(self.connection.room)
        histories = node.rooms.histories
        assert histories is not None
        await histories.reach(key, since)
        if key not in connection.keys:
            return False
        # It has got what has passed, and what passes from now on waits.
        self.hold()
        frames: Sequence[Frame] = ()
        try:
            see = partial(node.rooms.renditions.frame, connection)
            user = node.key_of(connection.user)
            arrival = await histories.catch_up(key, connection.id, since, user, see)
            frames = self.arrived(arrival, message)
        finally:
            self.release(frames)
        await self.writer.passed()
        return True

    async def begin(self) -> bool:
        """Run the join handlers; False if one of them failed, which ends the membership."""
        self._began = True
        try:
            self._visit = await self.plan.join_leave.join(self._values(None, None))
        except BaseException as exc:
            if not is_failure(exc):
                raise
            await self.reporter.report(exc, None, self, fatal=True)
            return False
        return True

    def depart(self, code: int | None = None) -> None:
        """Receive nothing more; never waits.

        Args:
            code: what ends it, if not what ends the WebSocket.
        """
        returns = self.connection.presence != "" and may_return(code or self._host.ending[0])
        self.connection.ended = True
        if self._is_known:
            self._is_known = False
            self.node.users.discard(self.connection.user, self._host)
        for key in list(self.connection.keys):
            self.node.rooms.leave(key, self.connection, returns=returns)

    @property
    def is_busy(self) -> bool:
        """Whether `end` has anything to wait for."""
        return self.dispatcher.is_busy or self._wants_leave

    @property
    def _wants_leave(self) -> bool:
        return self._began and (self.plan.join_leave.wants_leave or self._visit is not None)

    async def end(self, code: int | None, reason: str | None) -> None:
        """Finish what runs, then run the leave handlers if the join handlers ever began."""
        await self.dispatcher.stop(self.plan.channel.finish_timeout)
        if not self._wants_leave:
            return
        self._began = False
        deadline = self.plan.channel.leave_timeout
        try:
            async with asyncio.timeout(deadline):
                await self.plan.join_leave.leave(self._values(code, reason), self._visit)
        except TimeoutError:
            self._host.log.error("the leave handlers took more than %g s", deadline)

    def dissolve(self) -> None:
        """Undo the circles of references. Else only the garbage collector could, which takes it a third of
        the time that a connection costs from its handshake on."""
        del self.connection, self.dispatcher, self.guard

    def arrived(self, arrival: Arrival | None, message: Message | None = None) -> list[Frame]:
        """The frames that tell the client that it has joined, as `message` asked, and what it has missed."""
        envelope = self.envelope
        fields: dict[str, Any] = {}
        if arrival is not None:
            fields = {envelope.position: str(arrival.position), "connection": self.connection.id}
            if arrival.recovered is not None:
                fields["recovered"] = arrival.recovered
            if arrival.reason is not None:
                fields["reason"] = arrival.reason
        frame = envelope.frame(envelope.joined(self.connection.room, message, **fields))
        frame.position = fields.get(envelope.position, "")
        return [frame, *(arrival.frames if arrival is not None else ())]

    # The way to the client

    def redirect(self) -> None:
        """What rooms send has another way to the client than before."""
        connection, writer = self.connection, self.writer
        connection.direct = writer.direct if connection.push == writer.push else None
        for key in connection.keys:
            self.node.hub.redirect(key, connection)

    def hold(self) -> None:
        """Keep back what the room sends until `release`. What is sent to the client behind that, by whomever,
        waits too: it is to see one order."""
        self.node.hub.flush()
        self.connection.push = self._keep_back
        self.redirect()

    def release(self, frames: Sequence[Frame] | None) -> None:
        """Let `frames` go, and what was kept back behind them; None: the client has not joined, and gets
        nothing of the room."""
        self.node.hub.flush()
        writer, gap = self.writer, self._gap
        self.connection.push, self._gap = writer.push, None
        self.redirect()
        if frames is None:
            writer.withdraw(self.connection.room)
        if gap is not None:
            gap.fill(*frames or ())
        else:
            writer.post_all(frames or ())

    def _keep_back(self, frame: Frame) -> None:
        self._gap = self.writer.keep_back()
        self.connection.push = self.writer.push
        self.writer.push(frame)

    # For the connection

    @property
    def envelope(self) -> Envelope:
        return self.plan.envelope

    @property
    def language(self) -> str:
        return self._host.language

    @property
    def address(self) -> str:
        return self.node.address_of(self.writer.websocket)

    def identify(self, user: Any) -> None:
        """The client is `user` from now on."""
        if self._is_known:
            self.node.users.discard(self.connection.user, self._host)
            self.node.users.add(user, self._host)

    async def join(self, room: str) -> None:
        connection, channel = self.connection, self.plan.channel
        key = self.plan.key(room)
        if len(connection.keys) >= channel.max_rooms and key not in connection.keys:
            raise TooManyRooms(close=False, context={"limit": channel.max_rooms})
        await self.node.rooms.join(key, connection, self.plan)
        if connection.ended:
            # Meanwhile: it was out of all its rooms before it came into this one.
            self.node.rooms.leave(key, connection)
            raise Disconnected("the client has left, and can join nothing")

    async def subscribe(self, filter: str) -> None:
        channel = self.plan.channel
        if not channel.topics:
            raise ConfigurationError(
                f"{type(channel).__name__} has no topics to subscribe: say topics = True"
            )
        pending = self.guard.check_entry(filter, self.plan.match(filter))
        if pending is not None:
            await pending
        await self.join(filter)

    def unsubscribe(self, filter: str) -> None:
        # A client says which: its home is none of them.
        if self.plan.words.guards(filter) and filter in self.connection.rooms:
            self.leave(filter)

    def leave(self, room: str) -> None:
        self.node.rooms.leave(self.plan.key(room), self.connection)

    def event(self, event: Event | str, data: Any, room: str) -> Body:
        return self.plan.event(event, data, room)

    def for_each(self, name: str) -> Callable[..., Any] | None:
        return self.plan.words.for_each.get(name)

    @property
    def reception(self) -> Reception | None:
        return self.plan.reception

    def missed(self, room: str, position: Position | None = None) -> None:
        """Tell the client that something of `room` may be missing, unless the channel does not want that."""
        if self.plan.actions is not None and self.plan.channel.resync:
            at = None if position is None else str(position)
            frame = self.envelope.frame(self.envelope.resync(room, at))
            frame.position = at or ""
            self.writer.post(frame)

    def set_presence(self, data: Any) -> None:
        if self.plan.showing is None:
            raise ConfigurationError(f"{type(self.plan.channel).__name__} shows nobody: say presence = True")
        content = said(data)
        if content != self.connection.presence:
            self.connection.presence = content
            self.present()

    def present(self) -> None:
        """Let others know who the client is now, and what is said of it."""
        for key in self.connection.keys:
            self.node.rooms.present(key, self.connection)

    def show(self, frame: dict[str, Any]) -> bool:
        """Show the client again who is in the room, if that is what `frame` is about."""
        if self.plan.showing is None or any(frame.get(key) != room for key, room in self.fields.items()):
            return False
        self.node.rooms.show(self.plan.key(self.connection.room), self.connection)
        return True

    async def displaced(self, room: str, by_own: bool) -> None:
        """Tell the client that its place in a room, known as `room`, was given to another; maybe to one of
        the same user, which then stays away rather than take it back."""
        code, reason = int(ChannelFull.code), "its place was given to another"
        if by_own:
            code, reason = CloseCode.REPLACED, text("replaced", self.language, {})
        if room == self.plan.key(self.connection.room):
            await self._host.expel(self.connection, code, reason)
        else:
            left = self.envelope.left(name_of(room), None, code, reason)
            self.writer.post(self.envelope.frame(left))

    async def call(self, call: Call[Any] | str, data: Any, timeout: float) -> Any:  # noqa: ASYNC109 - as Connection's
        host, connection = self._host, self.connection
        if host.is_one_way:
            raise Disconnected("a client without a WebSocket cannot be asked")
        name, content, kind = self.plan.words.call(call, data)
        number, answer = host.calls.ask()
        try:
            if not await connection.send(self.envelope.call(name, number, connection.room, content, timeout)):
                raise Disconnected("the client had left before it was asked")
            # The answer must be read while the action that waits for it still runs.
            host.inbox.look_ahead()
            async with asyncio.timeout(timeout):
                return read(await answer, kind)
        finally:
            host.calls.forget(number)

    async def close(self, code: int, reason: str) -> None:
        await self._host.expel(self.connection, code, reason)

    def _values(self, code: int | None, reason: str | None) -> dict[str, Any]:
        return {
            "websocket": self.connection.websocket,
            "channel": self.connection.room,
            "connection": self.connection,
            "code": code,
            "reason": reason,
            "self": self.plan.channel,
        }
