"""One client in one room of a channel: its identity, its rooms, and what can be sent to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.datastructures import State
from starlette.websockets import WebSocket

from .exceptions import CloseCode
from .messages import Envelope, Frame
from .writer import Writer

if TYPE_CHECKING:
    from .channels import BaseChannel
    from .node import Node


class Connection:
    """A client as its channel sees it. Handlers receive it by the parameter name `connection`.

    Attributes:
        id: unique over all processes.
        channel: the channel object.
        room: the room it was connected to.
        rooms: every room it is in now.
        seat: whose place it takes in a room of limited size; its own unless the channel says otherwise.
        language: of the error texts for this client.
        offer, push: for the hub.
    """

    __slots__ = (
        "__weakref__",
        "_node",
        "_state",
        "_user",
        "channel",
        "id",
        "language",
        "offer",
        "push",
        "room",
        "rooms",
        "seat",
        "writer",
    )

    def __init__(
        self, channel: BaseChannel, room: str, writer: Writer, node: Node, *, language: str, user: Any
    ) -> None:
        self.id = node.next_id()
        self.channel = channel
        self.room = room
        self.rooms: set[str] = set()
        self.seat = self.id
        self.language = language
        self.writer = writer
        self.offer = writer.offer
        self.push = writer.push
        self._node = node
        self._user = user
        self._state: State | None = None

    def __repr__(self) -> str:
        return f"<Connection {self.id} in {self.room!r}{' closed' if self.closed else ''}>"

    @property
    def websocket(self) -> WebSocket:
        """The Starlette object; sending and closing through it keeps the order of frames."""
        return self.writer.websocket

    @property
    def envelope(self) -> Envelope:
        return self.channel.envelope

    @property
    def user(self) -> Any:
        """Who the client is: what `connect(user=…)` or an authentication middleware said, or None."""
        return self._user

    @user.setter
    def user(self, user: Any) -> None:
        self._node.forget_user(self)
        self._user = user
        if self.rooms:
            self._node.remember_user(self)

    @property
    def state(self) -> State:
        """A namespace for the application."""
        if self._state is None:
            self._state = State()
        return self._state

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self.writer.closed

    @property
    def address(self) -> str:
        """The client's address; of proxies only those named as trusted are believed."""
        return self._node.address_of(self.websocket)

    async def join(self, room: str) -> None:
        """Also receive what is broadcast to `room`. Returns once nothing sent there can be missed.

        Raises:
            ParseError: `room` is not a usable name.
            BrokerUnavailable: the broker did not confirm in time.
        """
        await self._node.join(room, self)

    async def leave(self, room: str) -> None:
        """Stop receiving what is broadcast to `room`; nothing happens if it was not joined."""
        self._node.leave(room, self)

    async def send(self, data: Any) -> bool:
        """Send `data` to this client alone; text and bytes go as they are, other values encoded.

        Waits until the frame was handed to the server, behind all earlier ones. False when the
        connection is closed: nothing is raised for a client that has gone.
        """
        if self.closed:
            return False
        body = data if isinstance(data, str | bytes) else self.envelope.encode(data)
        return await self.writer.write(Frame(body))

    async def send_event(self, event: str, data: Any = None) -> bool:
        """Send one event frame to this client alone."""
        return await self.send(self.envelope.to_event(event, self.room, data))

    async def close(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """Close behind the frames that are queued; waits until the close frame left, or its deadline."""
        await self.writer.close(code, reason)
