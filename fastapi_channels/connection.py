"""One client in one room of a channel: its identity, its rooms, and what can be sent to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from starlette.datastructures import State
from starlette.websockets import WebSocket

from .exceptions import CloseCode, Disconnected, TooManyRooms
from .messages import Envelope, Event, Frame
from .rooms import name_of

if TYPE_CHECKING:
    from .base import BaseChannel
    from .session import Session


class Connection:
    """A client as its channel sees it. Handlers receive it by the parameter name `connection`.

    Attributes:
        id: unique over all processes.
        channel: the channel object.
        room: the room it was connected to.
        keys: the rooms it is in, as the node knows them: with their scope.
        params: the parameters in the room's name, where the channel has a pattern.
        seat: whose place it takes in a room of limited size; its own unless the channel says otherwise.
        direct, push: for the hub.
    """

    __slots__ = (
        "__weakref__",
        "_session",
        "_state",
        "_user",
        "_websocket",
        "channel",
        "direct",
        "ended",
        "id",
        "keys",
        "params",
        "push",
        "room",
        "seat",
    )

    def __init__(self, id: str, channel: BaseChannel, room: str, session: Session) -> None:
        self.id = id
        self.channel = channel
        self.room: str = room
        self.keys: set[str] = set()
        self.params: dict[str, Any] = {}
        self.seat = self.id
        self.direct: asyncio.WriteTransport | None = session.writer.direct
        self.push: Callable[[Frame], None] = session.writer.push
        self._session = session
        self._user = session.user
        self._state: State | None = None
        self._websocket = session.websocket_of(self)
        self.ended = False
        """Whether it has left its channel: its WebSocket may still serve others."""

    def __repr__(self) -> str:
        return f"<Connection {self.id} in {self.room!r}{' closed' if self.closed else ''}>"

    @property
    def rooms(self) -> set[str]:
        """Every room it is in now."""
        return {name_of(key) for key in self.keys}

    @property
    def websocket(self) -> WebSocket:
        """The Starlette object; sending and closing through it keeps the order of frames."""
        return self._websocket

    @property
    def envelope(self) -> Envelope:
        return self.channel.envelope

    @property
    def language(self) -> str:
        """The language of the error texts for this client."""
        return self._session.language

    @property
    def user(self) -> Any:
        """Who the client is: what `connect(user=…)` or an authentication middleware said, or None."""
        return self._user

    @user.setter
    def user(self, user: Any) -> None:
        node = self._session.node
        node.users.discard(self)
        self._user = user
        if self.keys:
            node.users.add(self)

    @property
    def state(self) -> State:
        """A namespace for the application."""
        if self._state is None:
            self._state = State()
        return self._state

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self.ended or self._session.writer.closed

    @property
    def address(self) -> str:
        """The client's address; of proxies only those named as trusted are believed."""
        return self._session.node.address_of(self.websocket)

    def redirect(self) -> None:
        """What rooms send has another way to the client than before."""
        writer = self._session.writer
        self.direct = writer.direct if self.push == writer.push else None
        for key in self.keys:
            self._session.node.hub.redirect(key, self)

    def hold(self) -> Callable[[], None]:
        """Keep back what rooms send, until the function that is returned is called."""
        held: list[Frame] = []
        writer = self._session.writer

        def release() -> None:
            self._session.node.hub.flush()
            self.push = writer.push
            for frame in held:
                writer.push(frame)
            self.redirect()

        self.push = held.append
        self.redirect()
        return release

    async def join(self, room: str) -> None:
        """Also receive what is broadcast to `room`. Returns once nothing sent there can be missed.

        Raises:
            ParseError: `room` is not a usable name.
            TooManyRooms: it is in `max_rooms` already.
            ChannelFull: the room has as many connections as the channel's `max_connection`.
            BrokerUnavailable: the broker did not confirm in time.
        """
        key = self.channel._key(room)
        if len(self.keys) >= self.channel.max_rooms and key not in self.keys:
            raise TooManyRooms(close=False, context={"limit": self.channel.max_rooms})
        await self._session.node.join(key, self, limit=self.channel.max_connection)

    async def leave(self, room: str) -> None:
        """Stop receiving what is broadcast to `room`; nothing happens if it was not joined."""
        self._session.node.leave(self.channel._key(room), self)

    async def send(self, data: Any) -> bool:
        """Send `data` to this client alone; text and bytes go as they are, other values encoded.

        Waits until the frame was handed to the server, behind all earlier ones. False when the
        connection is closed: nothing is raised for a client that has gone.
        """
        if self.closed:
            return False
        body = data if isinstance(data, str | bytes) else self.envelope.encode(data)
        return await self._session.writer.write(Frame(body))

    async def send_event(self, event: Event | str, data: Any = None) -> bool:
        """Send one event frame to this client alone: a typed Event, or a name and its data."""
        name, content = self.channel._named(event, data)
        return await self.send(self.envelope.to_event(name, self.room, content))

    async def call(self, name: str, data: Any = None, *, timeout: float = 10.0) -> Any:  # noqa: ASYNC109
        """Ask the client, and return the data of its answer.

        The client receives `{"type": "call", "call": name, "call_id": n, "data": …}` and answers with
        `{"type": "answer", "call_id": n, "data": …}`, or with `errors` in place of `data`.

        Raises:
            TimeoutError: no answer within `timeout` seconds.
            CallFailed: the client answered with errors.
            Disconnected: it left.
        """
        session, envelope = self._session, self.envelope
        number, answer = session.calls.ask()
        frame = {envelope.type: "call", "call": name, "call_id": number, envelope.data: data}
        try:
            if not await self.send({**frame, envelope.channel: self.room}):
                raise Disconnected("the client had left before it was asked")
            # The answer must be read while the action that waits for it still runs.
            session.inbox.look_ahead()
            async with asyncio.timeout(timeout):
                return await answer
        finally:
            session.calls.forget(number)

    async def close(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """Close behind the frames that are queued; waits until the close frame left, or its deadline."""
        await self._session.expel(self, code, reason)
