"""One accepted WebSocket: its identity, its rooms, and the single writer of its frames."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, MutableMapping
from typing import TYPE_CHECKING, Any, Final

from starlette.datastructures import State
from starlette.websockets import WebSocket, WebSocketState

from .exceptions import CloseCode
from .messages import Envelope, Frame
from .outbox import Item, Lagged, Outbox

if TYPE_CHECKING:
    from .node import Node

logger = logging.getLogger("fastapi_channels")

MAX_REASON: Final = 123
"""Bytes of a close reason (RFC 6455 section 5.5)."""
CLOSE_TIMEOUT: Final = 5.0
"""Seconds that a client which did not read gets to take its close frame."""


class Connection:
    """One client on one channel. Handlers receive it by the parameter name `connection`.

    Attributes:
        id: unique over all processes.
        websocket: the Starlette object; sending and closing through it keeps the order of frames.
        room: the room it was connected to.
        rooms: every room it is in now.
        seat: whose place it takes in a room of limited size; its own unless the channel says otherwise.
        language: of the error texts for this client.
        state: a namespace for the application.
    """

    __slots__ = (
        "__weakref__",
        "_asgi_send",
        "_closed",
        "_deadline",
        "_envelope",
        "_held",
        "_node",
        "_on_closed",
        "_outbox",
        "_send_timeout",
        "_state",
        "_user",
        "_writer",
        "id",
        "language",
        "room",
        "rooms",
        "seat",
        "websocket",
    )

    def __init__(
        self,
        websocket: WebSocket,
        room: str,
        *,
        node: Node,
        envelope: Envelope,
        outbox: Outbox,
        send_timeout: float,
        language: str = "en",
        user: Any = None,
    ) -> None:
        self.id = node.next_id()
        self.websocket = websocket
        self.room = room
        self.rooms: set[str] = set()
        self.seat = self.id
        self.language = language
        self._node = node
        self._envelope = envelope
        self._outbox = outbox
        self._send_timeout = send_timeout
        self._state: State | None = None
        self._user = user
        self._held = True
        self._closed = False
        self._writer: asyncio.Task[None] | None = None
        self._deadline: asyncio.Timeout | None = None
        self._asgi_send = websocket._send
        self._on_closed: Callable[[], None] | None = None

    def __repr__(self) -> str:
        return f"<Connection {self.id} in {self.room!r}{' closed' if self._closed else ''}>"

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
        if self._state is None:
            self._state = State()
        return self._state

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._closed

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
        if self._closed:
            return False
        body = data if isinstance(data, str | bytes) else self._envelope.encode(data)
        return await self.write(Frame(body))

    async def send_event(self, event: str, data: Any = None) -> bool:
        """Send one event frame to this client alone."""
        return await self.send(self._envelope.to_event(event, self.room, data))

    async def close(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """Close after the frames that are queued; waits until the close frame left, or its deadline."""
        if not self._closed:
            self.start_close(code, reason)
        await self.drained()

    # What follows is for the framework: the hub, the session and the node.

    def push(self, frame: Frame) -> None:
        """Queue a room's frame; never waits. A full outbox meets its policy."""
        if self._closed:
            return
        if not self._outbox.put(frame):
            self._overflow()
        elif self._writer is None and not self._held:
            self._start_writer()

    async def write(self, item: Frame | dict[str, Any]) -> bool:
        """Queue `item` behind all others and wait until it left; False if it did not."""
        return not self._closed and await self._queue(item)

    def release(self) -> None:
        """The handshake is complete: from now on this object is the only writer of the WebSocket."""
        self._asgi_send = self.websocket._send
        self.websocket._send = self._send_through
        self._held = False
        if len(self._outbox):
            self._start_writer()

    def on_closed(self, callback: Callable[[], None] | None) -> None:
        """Call `callback` once, when the connection can send no more; None calls nothing."""
        self._on_closed = callback

    def start_close(self, code: int, reason: str = "") -> None:
        """Queue the close frame; nothing is accepted behind it."""
        event = {"type": "websocket.close", "code": valid_close_code(code), "reason": clip(reason)}
        self.websocket.application_state = WebSocketState.DISCONNECTED
        self._outbox.put_last(event)
        if self._writer is None and not self._held:
            self._start_writer()
        self.lost()

    def lost(self) -> None:
        """Nothing can be sent any more."""
        if not self._closed:
            self._closed = True
            if self._on_closed is not None:
                self._on_closed()

    async def drained(self) -> None:
        """Wait for the writer, which has a deadline of its own."""
        if self._writer is not None and self._writer is not asyncio.current_task():
            await asyncio.wait((self._writer,))

    async def _send_through(self, event: MutableMapping[str, Any]) -> None:
        """What `websocket.send()` calls: keeps the order with frames that are queued."""
        event = dict(event)
        closes = event["type"] == "websocket.close"
        if closes:
            event.update(code=valid_close_code(event["code"]), reason=clip(event["reason"]))
        if not self._closed:
            left = self._queue(event)
            if closes:
                self.lost()
            await left

    def _queue(self, item: Item) -> asyncio.Future[bool]:
        """Queue `item`; the future tells whether it left."""
        left: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._outbox.put_last(item)
        self._outbox.put_last(left)
        if self._writer is None and not self._held:
            self._start_writer()
        return left

    def _start_writer(self) -> None:
        self._writer = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        """Send what is queued until nothing is; the only place where frames leave."""
        try:
            async with asyncio.timeout(self._send_timeout) as self._deadline:
                while (item := self._outbox.pop()) is not None:
                    await self._write_item(item)
        except TimeoutError:
            logger.warning(
                "a client took no frame for %g s: cut off",
                self._send_timeout,
                extra={"connection": self.id, "room": self.room},
            )
            self._node.abort(self._asgi_send)
            self._give_up()
        except (RuntimeError, OSError, asyncio.CancelledError) as exc:
            # The client has gone; which exception says so is up to the server.
            logger.debug("not sent: %r", exc, extra={"connection": self.id, "room": self.room})
            self._give_up()
        finally:
            self._writer = None
            self._deadline = None

    async def _write_item(self, item: Item) -> None:
        if isinstance(item, Frame):
            await self._asgi_send(item.event)
        elif isinstance(item, Lagged):
            await self._asgi_send(
                Frame(self._envelope.encode(self._envelope.lagged(item.room, item.dropped))).event
            )
        elif isinstance(item, asyncio.Future):
            if not item.done():
                item.set_result(True)
            return
        else:
            await self._asgi_send(item)
        if not self._closed and self._deadline is not None:
            self._deadline.reschedule(asyncio.get_running_loop().time() + self._send_timeout)

    def _overflow(self) -> None:
        """The client does not read: forget what waits and tell it to come back."""
        logger.warning(
            "a slow client is disconnected: %d bytes waited for it",
            self._outbox.size,
            extra={"connection": self.id, "room": self.room},
        )
        self._outbox.clear()
        if self._deadline is not None:
            self._deadline.reschedule(asyncio.get_running_loop().time() + CLOSE_TIMEOUT)
        self.start_close(CloseCode.SLOW_CONSUMER, "slow consumer")

    def _give_up(self) -> None:
        self._outbox.clear()
        self.lost()


def clip(reason: str | None) -> str:
    """`reason` cut to what a close frame can carry, at a character's end."""
    encoded = (reason or "").encode(errors="replace")
    if len(encoded) <= MAX_REASON:
        return encoded.decode()
    return encoded[: MAX_REASON - 3].decode(errors="ignore") + "…"


def valid_close_code(code: int | None) -> int:
    """`code` if an endpoint may send it (RFC 6455 section 7.4), else 1011."""
    if code is None:
        return CloseCode.NORMAL
    sendable = (1000 <= code <= 1014 and code not in (1004, 1005, 1006)) or 3000 <= code <= 4999
    return int(code) if sendable else CloseCode.INTERNAL_ERROR
