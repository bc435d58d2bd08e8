"""One client in one room of a channel: its identity, its rooms, and what can be sent to it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Generic, Protocol, TypeAlias, overload

from starlette.datastructures import State
from starlette.websockets import WebSocket
from typing_extensions import TypeVar

from .exceptions import CloseCode, ConfigurationError, Disconnected
from .topics.reception import Reception
from .wire.messages import Body, Envelope, Frame
from .wire.positions import Position
from .wire.rooms import name_of
from .wire.words import Answer, Call, Event
from .wire.writer import Writer

User = TypeVar("User", default=Any)
_ID: Final = re.compile(r"[0-9a-f]{12}\.[0-9]+")
"""What the id of a connection looks like."""


class Carrier(Protocol):
    """What a connection needs of its membership, which made it."""

    @property
    def writer(self) -> Writer: ...

    @property
    def envelope(self) -> Envelope: ...

    @property
    def language(self) -> str: ...

    @property
    def address(self) -> str: ...

    def identify(self, user: Any) -> None: ...

    async def join(self, room: str) -> None: ...

    async def subscribe(self, filter: str) -> None: ...

    def unsubscribe(self, filter: str) -> None: ...

    def leave(self, room: str) -> None: ...

    def event(self, event: Event | str, data: Any, room: str) -> Body: ...

    def for_each(self, name: str) -> Callable[..., Any] | None: ...

    @property
    def reception(self) -> Reception | None: ...

    def missed(self, room: str, position: Position | None = None) -> None: ...

    async def displaced(self, room: str, by_own: bool) -> None: ...

    def set_presence(self, data: Any) -> None: ...

    def present(self) -> None: ...

    async def call(self, call: Call[Any] | str, data: Any, timeout: float) -> Any: ...  # noqa: ASYNC109 - as Connection's

    async def close(self, code: int, reason: str) -> None: ...


class Connection(Generic[User]):
    """A client as its channel sees it. Handlers receive it by the parameter name `connection`, or by its
    type; `Connection[Person]` says what its user is.

    Attributes:
        id: unique over all processes.
        channel: the channel object.
        room: the room it was connected to.
        keys: the rooms it is in, as the node knows them: with their scope.
        params: the parameters in the room's name, where the channel has a pattern.
        seat: whose place it takes in a room of limited size; its own unless the channel says otherwise.
        direct, push: for the hub.
        presence: JSON of what the others in its rooms are told of it; empty where they are told nothing.
    """

    __slots__ = (
        "__weakref__",
        "_carrier",
        "_state",
        "_user",
        "channel",
        "direct",
        "ended",
        "id",
        "keys",
        "params",
        "presence",
        "push",
        "room",
        "seat",
        "websocket",
    )

    def __init__(self, id: str, channel: Any, room: str, carrier: Carrier, user: User) -> None:
        self.id = id
        self.channel = channel
        self.room: str = room
        self.keys: set[str] = set()
        self.params: dict[str, Any] = {}
        self.seat = self.id
        self.presence = ""
        writer = carrier.writer
        self.direct: asyncio.WriteTransport | None = writer.direct
        self.push: Callable[[Frame], None] = writer.push
        self.websocket: WebSocket = writer.websocket
        """The Starlette object; sending and closing through it keeps the order of frames."""
        self.ended = False
        """Whether it has left its channel: its WebSocket may still serve others."""
        self._carrier = carrier
        self._user = user
        self._state: State | None = None

    def __repr__(self) -> str:
        return f"<Connection {self.id} in {self.room!r}{' closed' if self.closed else ''}>"

    @property
    def rooms(self) -> set[str]:
        """Every room it is in now."""
        return {name_of(key) for key in self.keys}

    @property
    def envelope(self) -> Envelope:
        return self._carrier.envelope

    @property
    def language(self) -> str:
        """The language of the error texts for this client."""
        return self._carrier.language

    @property
    def user(self) -> User:
        """Who the client is: what `connect(user=…)` or an authentication middleware said, or None."""
        return self._user

    @user.setter
    def user(self, user: User) -> None:
        if not self.ended:
            self._carrier.identify(user)
        self._user = user
        if self.presence and not self.ended:
            self._carrier.present()

    @property
    def state(self) -> State:
        """A namespace for the application."""
        if self._state is None:
            self._state = State()
        return self._state

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self.ended or self._carrier.writer.closed

    @property
    def address(self) -> str:
        """The client's address; of proxies only those named as trusted are believed."""
        return self._carrier.address

    @property
    def waiting(self) -> int:
        """Bytes of rooms that wait for the client, which reads more slowly than it is sent to; mostly 0."""
        return self._carrier.writer.waiting

    async def join(self, room: str) -> None:
        """Also receive what is broadcast to `room`. Returns once nothing sent there can be missed.

        Raises:
            ParseError: `room` is not a usable name.
            TooManyRooms: it is in `max_rooms` already.
            ChannelFull: the room has as many connections as the channel's `max_connection`.
            BrokerUnavailable: the broker did not confirm in time.
            Disconnected: it has left the channel.
        """
        if self.ended:
            raise Disconnected("the client has left, and can join nothing")
        await self._carrier.join(room)

    async def leave(self, room: str) -> None:
        """Stop receiving what is broadcast to `room`; nothing happens if it was not joined."""
        if not self.ended:
            self._carrier.leave(room)

    async def subscribe(self, filter: str) -> None:
        """Receive what is published to the topics that fit `filter`, if `authorize` lets the client. The same
        as `join` beside that.

        Raises:
            ParseError: a wildcard stands where none may.
            NotFound: no topic of the channel fits it.
            PermissionDenied: `authorize` has not answered True.
            ConfigurationError: the channel has no topics.
            as `join`.
        """
        if self.ended:
            raise Disconnected("the client has left, and can subscribe to nothing")
        await self._carrier.subscribe(filter)

    async def unsubscribe(self, filter: str) -> None:
        """Undo `subscribe`; nothing happens if nothing was subscribed with that filter."""
        if not self.ended:
            self._carrier.unsubscribe(filter)

    async def set_presence(self, data: Any) -> None:
        """Let the others in its rooms know `data` of this connection, in place of what they knew.

        Raises:
            ConfigurationError: the channel has no presence.
            InvalidPresence: `data` is no JSON, or more than 4096 bytes of it. It may be raised to the client.
            Disconnected: it has left the channel.
        """
        if self.ended:
            raise Disconnected("the client has left, and is shown to nobody")
        self._carrier.set_presence(data)

    async def send(self, data: Any) -> bool:
        """Send `data` to this client alone; text and bytes go as they are, other values encoded.

        Waits until the frame was handed to the server, behind all earlier ones. False when the
        connection is closed: nothing is raised for a client that has gone.
        """
        if self.closed:
            return False
        if isinstance(data, bytearray | memoryview):
            data = bytes(data)
        frame = Frame(data) if isinstance(data, str | bytes) else self._carrier.envelope.frame(data)
        return await self._carrier.writer.write(frame)

    async def send_event(self, event: Event | str, data: Any = None) -> bool:
        """Send one event frame to this client alone: a typed Event, or a name and its data."""
        return await self.send(self._carrier.event(event, data, self.room))

    @overload
    async def call(self, call: Call[Answer], *, timeout: float = ...) -> Answer: ...  # noqa: ASYNC109

    @overload
    async def call(self, call: str, data: Any = None, *, timeout: float = ...) -> Any: ...  # noqa: ASYNC109

    async def call(self, call: Call[Any] | str, data: Any = None, *, timeout: float = 10.0) -> Any:  # noqa: ASYNC109
        """Ask the client, and return its answer: a typed Call, or a name and its data.

        The client receives `{"type": "call", "call": name, "call_id": n, "data": …, "within": timeout}` and
        answers with `{"type": "answer", "call_id": n, "data": …}`, or with `errors` in place of `data`.

        Raises:
            TimeoutError: no answer within `timeout` seconds.
            CallFailed: the client answered with errors, or with what is no answer to such a Call.
            Disconnected: it left.
            ConfigurationError: the channel has `call_types`, and this is none of them.
        """
        if self.closed:
            raise Disconnected("the client had left before it was asked")
        return await self._carrier.call(call, data, timeout)

    async def close(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """Close behind the frames that are queued; waits until the close frame left, or its deadline."""
        if not self.ended:
            await self._carrier.close(code, reason)


Exclude: TypeAlias = Connection | str | Iterable["Connection | str"] | None
"""Who does not get a broadcast."""


ForEach: TypeAlias = Callable[[Connection[Any], dict[str, Any]], dict[str, Any] | None]
"""Says what a recipient of a broadcast gets: the frame, another one, or None for nothing. It may change the
frame that it is given."""


def each_of(exclude: Any) -> list[Any]:
    """What `exclude=` was given, one or several. A WebSocket is a mapping, and is one."""
    if exclude is None:
        return []
    if isinstance(exclude, Iterable) and not isinstance(exclude, str | Mapping):
        return list(exclude)
    return [exclude]


def ids_of(exclude: Exclude) -> frozenset[str]:
    """
    Raises:
        ConfigurationError: it is, or has in it, what is neither a connection nor the id of one.
    """
    ids = [one.id if isinstance(one, Connection) else one for one in each_of(exclude)]
    if not all(isinstance(id, str) and _ID.fullmatch(id) for id in ids):
        raise ConfigurationError(f"exclude= takes connections, or their ids, got {exclude!r}"[:300])
    return frozenset(ids)
