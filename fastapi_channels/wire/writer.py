"""The way out to one WebSocket: the only place where its frames leave, in one order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any, Final, Protocol

from starlette.websockets import WebSocket, WebSocketState

from fastapi_channels.exceptions import CloseCode

from .bursts import Bursts
from .closing import COME_BACK, STANDING_IN, close_event
from .log import Once
from .messages import Envelope, Frame
from .outbox import Gap, Item, Lagged, Outbox
from .port import Port
from .shortcut import port_of, warn_of_instrumentation
from .traffic import Traffic

logger = logging.getLogger("fastapi_channels")

CLOSE_TIMEOUT: Final = 5.0
"""Seconds that a client which did not read gets to take its close frame."""


class Collector(Protocol):
    """What lets frames leave together: `flush` sends all that was collected, `keep` adds to the `bursts`."""

    @property
    def bursts(self) -> Bursts[Frame]: ...

    def flush(self) -> None: ...

    def keep(self, writer: Writer, frame: Frame) -> None: ...


class Writer:
    """Sends the frames of one WebSocket.

    While nothing waits, a frame goes straight to the server's port, if the server has one that is ready.
    Otherwise it goes to the outbox, which a task empties through ASGI; the task lives as long as anything
    waits.

    Args:
        websocket: its `send` is taken over by `release`.
        outbox: what waits, and the bound on it.
        envelope: makes the notices of loss.
        name: the connection's id.
        timeout: seconds that the server may need for one frame.
        collector: lets out what was collected earlier before anything is written at once, and keeps what can
            leave together.
        traffic: is added to for each message, if anybody asked.

    Attributes:
        direct: the transport that takes finished frames at once; None while they have to be queued.
    """

    __slots__ = (
        "_asgi_send",
        "_collector",
        "_deadline",
        "_envelope",
        "_held",
        "_on_closed",
        "_on_direct",
        "_outbox",
        "_task",
        "_timeout",
        "_traffic",
        "closed",
        "closing",
        "direct",
        "name",
        "port",
        "websocket",
    )

    def __init__(
        self,
        websocket: WebSocket,
        outbox: Outbox,
        envelope: Envelope,
        *,
        name: str,
        timeout: float,
        collector: Collector,
        traffic: Traffic | None = None,
    ) -> None:
        self.websocket = websocket
        self.name = name
        self.closed = False
        """Whether nothing can be sent any more."""
        self.closing: dict[str, Any] | None = None
        """The close message, once this side has closed."""
        self._outbox = outbox
        self._envelope = envelope
        self._timeout = timeout
        self._collector = collector
        self._traffic = traffic
        self._asgi_send: Callable[[MutableMapping[str, Any]], Any] = websocket._send
        self.port: Port | None = None
        self.direct: asyncio.WriteTransport | None = None
        self._held = True
        self._task: asyncio.Task[None] | None = None
        self._deadline: asyncio.Timeout | None = None
        self._on_closed: Callable[[], None] | None = None
        self._on_direct: Callable[[], None] | None = None

    def connect(self, *, is_new: bool, told: Once) -> None:
        """Take the server's port, if it has one. `is_new`: the handshake is still to be answered; `told`: the
        routes of which the log knows why they have none."""
        self.port = port_of(self.websocket._send, self.websocket._receive, is_new=is_new)
        if self.port is None:
            warn_of_instrumentation(self.websocket, told)

    def release(self) -> None:
        """The handshake is complete: from now on this object alone writes to the WebSocket."""
        self._asgi_send = self.websocket._send
        self.websocket._send = self._send_through
        self._held = False
        if self.closing is not None:
            self.websocket.application_state = WebSocketState.DISCONNECTED
        if self.port is not None:
            self.port.flush()
            self.port.on_change = self._redirect
            self._redirect()
        if len(self._outbox):
            self._start()

    def watch(self, on_closed: Callable[[], None] | None, on_direct: Callable[[], None] | None) -> None:
        """Call `on_closed` once, when nothing can be sent any more, and `on_direct` whenever `direct` has
        changed; None calls nothing."""
        self._on_closed = on_closed
        self._on_direct = on_direct

    def push(self, frame: Frame) -> None:
        """Queue a room's frame; never waits. A full outbox meets its policy."""
        if self.closed:
            return
        if self._outbox.put(frame):
            self._start()
        else:
            self._overflow()

    def write_now(self, frame: Frame, *, patiently: bool = False) -> bool:
        """Send `frame` behind all others if that takes no waiting; else False, and it is not sent.

        Args:
            patiently: while more of the client's messages have come and wait for their turn, replies leave
                together.
        """
        direct, port, collector = self.direct, self.port, self._collector
        if (
            patiently
            and direct is not None
            and port is not None
            and (port.events or self in collector.bursts.kept)
        ):
            collector.keep(self, frame)
            return True
        collector.flush()
        if self.direct is None:
            return False
        self.direct.write(frame.wire)
        if self._traffic is not None:
            self._traffic.sent += 1
            self._traffic.sent_bytes += frame.size
        return True

    def send_kept(self, frames: Sequence[Frame]) -> None:
        """Send what the collector has kept."""
        if self.direct is not None:
            self.direct.write(b"".join([frame.wire for frame in frames]))
            if self._traffic is not None:
                self._traffic.sent += len(frames)
                self._traffic.sent_bytes += sum([frame.size for frame in frames])
        elif not self.closed:  # the server has written meanwhile, and the client does not read
            for frame in frames:
                self._outbox.put_last(frame)
            self._start()

    async def write(self, frame: Frame) -> bool:
        """Send `frame` behind all others and wait until it left; False if it did not. Before the handshake
        is complete it only waits in the outbox."""
        if self.closed:
            return False
        if self._held:
            self._outbox.put_last(frame)
            return True
        return self.write_now(frame) or await self._queue(frame)

    def post(self, frame: Frame) -> None:
        """Send `frame` behind all others, without waiting."""
        if self.closed:
            return
        if not self.write_now(frame):
            self._outbox.put_last(frame)
            self._start()

    def post_all(self, frames: Sequence[Frame]) -> None:
        """The same for several, of which the bound on what a room sends does not concern those of a room."""
        for number, frame in enumerate(() if self.closed else frames):
            if not self.write_now(frame):
                self.keep_back().fill(*frames[number:])
                return

    async def passed(self) -> None:
        """Wait until all that waits now has left; what comes later may still wait."""
        if self._task is not None:
            await self._behind()

    def keep_back(self) -> Gap:
        """From now on nothing leaves, until the gap that is returned is filled."""
        self._collector.flush()
        gap = Gap()
        self._outbox.put_last(gap)
        self._start()
        return gap

    def withdraw(self, room: str) -> None:
        """Drop the frames of `room` that wait."""
        self._outbox.withdraw(room)

    async def close(self, code: int, reason: str) -> None:
        """Close behind what is queued; waits until the close frame left, or its deadline."""
        self.start_close(code, reason)
        await self.drained()

    def start_close(self, code: int, reason: str) -> None:
        """Queue the close frame behind all others, unless one is queued; nothing is accepted behind it.

        Before the handshake is complete it waits for that: a close in its place is HTTP 403, without a word.
        """
        self._collector.flush()
        if self.closed:
            return
        if not self._held:
            self.websocket.application_state = WebSocketState.DISCONNECTED
        self.closing = close_event(code, reason)
        self._outbox.put_last(self.closing)
        self._start()
        self.lost()

    def lost(self) -> None:
        """Nothing can be sent any more."""
        if not self.closed:
            self.closed = True
            self._redirect()
            if self._on_closed is not None:
                self._on_closed()

    @property
    def is_writing(self) -> bool:
        """Whether anything waits to leave."""
        return self._task is not None

    @property
    def waiting(self) -> int:
        """Bytes of room frames that wait to leave."""
        return self._outbox.size

    async def drained(self) -> None:
        """Wait for what is queued; the server has its deadline."""
        if self._task is not None and self._task is not asyncio.current_task():
            await asyncio.wait((self._task,))

    def dissolve(self) -> None:
        """Let go of the WebSocket, which is gone."""
        self.websocket._send = _discard
        if self.port is not None:
            self.port.on_change = None
            self.port = None

    async def _send_through(self, event: MutableMapping[str, Any]) -> None:
        """What `websocket.send()` calls: keeps the order with frames that wait."""
        if self.closed:
            return
        self._collector.flush()
        closes = event["type"] == "websocket.close"
        event = close_event(event.get("code"), event.get("reason")) if closes else dict(event)
        left = self._queue(event)
        if closes:
            self.closing = event
            self.lost()
        await left

    def _queue(self, item: Item) -> asyncio.Future[bool]:
        """Queue `item`; the future tells whether it left."""
        self._outbox.put_last(item)
        return self._behind()

    def _behind(self) -> asyncio.Future[bool]:
        """Tells whether all that waits now left."""
        left: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._outbox.put_last(left)
        self._start()
        return left

    def _start(self) -> None:
        if self._task is None and not self._held:
            self._task = asyncio.get_running_loop().create_task(self._drain())
            self._redirect()

    def _redirect(self) -> None:
        """Let frames go where they can go now."""
        port = self.port
        ready = port is not None and port.ready and self._task is None and not self.closed
        direct = port.transport if port is not None and ready else None
        if direct is not self.direct:
            self.direct = direct
            if self._on_direct is not None:
                self._on_direct()

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(self._timeout) as self._deadline:
                while (item := self._outbox.pop()) is not None:
                    await self._send(item)
        except TimeoutError:
            logger.warning("a client took no frame for %g s: cut off", self._timeout, extra=self._extra)
            if self._traffic is not None:
                self._traffic.cut_off += 1
            if self.port is not None:
                self.port.abort()
            self._give_up()
        except (RuntimeError, OSError, asyncio.CancelledError) as exc:
            # The client has gone; which exception says so is up to the server.
            logger.debug("not sent: %r", exc, extra=self._extra)
            self._give_up()
        except Exception:
            logger.exception("the server failed to send", extra=self._extra)
            self._give_up()
        finally:
            self._task = self._deadline = None
            self._redirect()

    async def _send(self, item: Item) -> None:
        if isinstance(item, asyncio.Future):
            if not item.done():
                item.set_result(True)
            return
        if isinstance(item, Gap):
            await self._send_all(item)
            return
        if isinstance(item, Frame):
            event = self._form(item)
        elif isinstance(item, Lagged):
            notice = self._envelope.lagged(item.room, item.dropped, item.since)
            event = self._form(self._envelope.frame(notice))
        else:
            event = item
        try:
            await self._asgi_send(event)
        except (RuntimeError, OSError):
            raise
        except Exception as exc:
            if (
                event["type"] != "websocket.close"
                or event["code"] == CloseCode.NORMAL
                or event["code"] >= 3000
            ):
                raise
            # daphne lets an application close with 1000 and 3000 to 4999 alone.
            logger.debug("the server does not close with %d: %r", event["code"], exc, extra=self._extra)
            await self._asgi_send({**event, "code": STANDING_IN.get(event["code"], COME_BACK)})
        if self._traffic is not None and isinstance(item, Frame):
            self._traffic.sent += 1
            self._traffic.sent_bytes += item.size
        self._send_on()

    def _form(self, frame: Frame) -> MutableMapping[str, Any]:
        """What the server is given for `frame`."""
        return frame.event

    async def _send_all(self, gap: Gap) -> None:
        """Send what fills `gap`. That it takes long is not the client's fault."""
        if not self.closed and self._deadline is not None:
            self._deadline.reschedule(None)
        frames = await gap.filled
        self._send_on()
        for frame in frames:
            await self._send(frame)

    def _send_on(self) -> None:
        """The next frame has the whole time again; the close frame has its own."""
        if not self.closed and self._deadline is not None:
            self._deadline.reschedule(asyncio.get_running_loop().time() + self._timeout)

    def _overflow(self) -> None:
        """The client does not read: forget what waits and tell it to come back."""
        logger.warning("a slow client is closed: %d bytes wait for it", self._outbox.size, extra=self._extra)
        self._outbox.clear()
        if self._deadline is not None:
            self._deadline.reschedule(asyncio.get_running_loop().time() + CLOSE_TIMEOUT)
        self.start_close(CloseCode.SLOW_CONSUMER, "slow consumer")

    def _give_up(self) -> None:
        self._outbox.clear()
        self.lost()

    @property
    def _extra(self) -> dict[str, str]:
        return {"connection": self.name}


async def _discard(event: MutableMapping[str, Any]) -> None:
    """What a WebSocket that is gone does with what it is sent."""
