"""The port of a WebSocket: a shorter way in and out than ASGI.

ASGI hands the server a message for every receiver, and the server frames it again each time; what comes in
takes a parser that is made for every case, a queue, and two calls of epoll to stop reading and to go on. A
port stands at the transport instead, and takes what nearly all traffic is:

- A frame that was built once (RFC 6455 section 5.2: what a server sends is not masked) is written to the
  transport, while it is neither paused nor closing. An uncompressed frame is legal on a connection that
  negotiated permessage-deflate (RFC 7692 section 6).
- A message below 64 KiB that has come whole, in one plain frame, is unmasked and handed over. Frames of
  every other kind go, byte by byte, to a parser that knows all of them.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from functools import cache
from typing import Any, Final, TypeAlias

from .messages import BINARY, TEXT, header

ASGIEvent: TypeAlias = MutableMapping[str, Any]


def body_of(event: ASGIEvent) -> str | bytes:
    """The content of a `websocket.receive`."""
    text = event.get("text")
    return event.get("bytes") or b"" if text is None else text


def frame_of(event: ASGIEvent) -> bytes:
    """The frame of a `websocket.send`; nothing, if it has no content."""
    text: str | None = event.get("text")
    data: bytes | None = event.get("bytes")
    if data is not None:
        return header(BINARY, len(data)) + data
    if text is None:
        return b""
    data = text.encode()
    return header(TEXT, len(data)) + data


def send_at_once(transport: asyncio.BaseTransport) -> None:
    """Have the kernel send a small frame while the client has not confirmed the one before (RFC 9293 section
    3.7.4): else it waits for up to 40 ms.

    asyncio does so itself only where the listening socket says that it is TCP. One that uvicorn or gunicorn
    opens for its workers does not.
    """
    connection = transport.get_extra_info("socket")
    if connection is not None and connection.family in _INTERNET:
        with suppress(OSError):  # it is closed
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


_INTERNET: Final = (socket.AF_INET, socket.AF_INET6)
MAX_AHEAD: Final = 64 * 1024
"""Bytes received that may wait to be handled; beyond them nothing is read."""
MAX_EVENTS: Final = 64
"""Messages that may wait."""
_PING: Final = b"\x89\x00"
"""A whole frame, without payload (RFC 6455 section 5.5.2)."""
_WHOLE_TEXT: Final = 0x81
_WHOLE_BYTES: Final = 0x82
_MASKED: Final = 0x80
_FINAL: Final = 0x80
_CONTROL: Final = 0x08
_OPCODE: Final = 0x0F
"""Bits and bytes of a frame's header (RFC 6455 section 5.2)."""


class Port(asyncio.Protocol, ABC):
    """What stands at the transport of one WebSocket, and the queue of what has come.

    Args:
        loop: the running one. To ask for it is a system call, up to Python 3.11.
        max_size: bytes that a message may have.
        theirs: how many of the next bytes are the parser's to read.

    Attributes:
        transport: where finished frames may be written, while `ready`.
        ready: whether it is open and not paused, and no close frame is on its way.
        on_change: called when `ready` changes.
        events: what has come and was not taken yet.
    """

    __slots__ = (
        "_fragmented",
        "_heard",
        "_loop",
        "_max_size",
        "_read_paused",
        "_rest",
        "_shut",
        "_size",
        "_theirs",
        "_waiter",
        "events",
        "on_change",
        "ready",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(self, loop: asyncio.AbstractEventLoop, max_size: int, *, theirs: int = 0) -> None:
        self._loop = loop
        self._shut = False
        """Whether nothing may be written any more."""
        self.ready = False
        self.on_change: Callable[[], None] | None = None
        self._heard = False
        """Whether anything has come since the last ping."""
        self.events: list[ASGIEvent] = []
        self._waiter: asyncio.Future[None] | None = None
        """Of who waits for something to come."""
        self._max_size = max_size
        self._theirs = theirs
        """How many of the next bytes are the parser's to read."""
        self._read_paused = False
        """Whether nothing is read, because enough waits."""
        self._fragmented = False
        """Whether the next part of a message is to come."""
        self._rest = b""
        """What has come and is still to be read: the beginning of a header, or what has to wait."""
        self._size = 0
        """Bytes that have come since nothing waited."""

    def abort(self) -> None:
        """Cut the connection without waiting for the peer."""
        self.transport.abort()

    # Whether the client is there

    @property
    @abstractmethod
    def keepalive(self) -> float | None:
        """Seconds between the server's own pings that have to be answered; None if there are none."""

    def ping(self) -> None:
        """Ask the client for a sign of life: `is_silent` until one comes."""
        self._heard = False
        if not self._shut:
            self.transport.write(_PING)

    @property
    def is_silent(self) -> bool:
        """Whether nothing has come since the last ping, although it would have been read."""
        return not (self._heard or self._read_paused)

    # Of a protocol, for the transport

    def data_received(self, data: bytes) -> None:
        self._heard = True
        if not self.events:
            self._size = 0
        if self._rest:
            data, self._rest = self._rest + data, b""
        size = len(data)
        # Nearly always it is one message, and nothing else is there: that needs no search for frames.
        if size < 132:
            start, is_whole = 6, size > 5 and data[1] == _MASKED + size - 6
        else:
            start, is_whole = 8, data[1] == _MASKED + 126 and data[2] << 8 | data[3] == size - 8 > 125
        if not (
            is_whole
            and self.ready
            and not (self.events or self._theirs)
            and self._take(data[0], data[start - 4 : start], data[start:])
        ):
            self._read(data)
        if self.events:
            self._wake()
            self._size += size
            if self._size > MAX_AHEAD:
                self._pause_reading()

    # A queue

    def put_nowait(self, event: ASGIEvent) -> None:
        if event["type"] == "websocket.disconnect":
            self._shut_down()
        self.events.append(event)
        self._wake()

    async def get(self) -> ASGIEvent:
        """The next ASGI message."""
        events = self.events
        while not events:
            if self._waiter is not None and not self._waiter.done():
                await asyncio.wait((self._waiter,))  # which another task has, and may give up
            else:
                self._waiter = self._loop.create_future()
                await self._waiter
        event = events.pop(0)
        if not events and self._read_paused:
            self._read_on()
        return event

    def empty(self) -> bool:
        return not self.events

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # The way in

    def _read(self, data: bytes) -> None:
        """Hand over the plain messages in `data`, and to the parser, in one piece, what is between two.

        A frame of a client (RFC 6455 section 5.2), in bytes from `at` on:

            0       1        2             start - 4  start      stop
            | first | second | longer size | mask     | payload  |

        `first` is a bit that says "final", and the opcode; `second` a bit that says "masked", and the size.
        A size of 126 or 127 says that the true one follows, in 2 or 8 bytes; else nothing is between.
        """
        events, end = self.events, len(data)
        begin = 0
        """Where what is the parser's, and has not been passed on, begins."""
        at = self._theirs
        """Where the next frame begins: behind the end, if that of the parser's last one is still to come."""
        while at + 2 <= end:
            first, second = data[at], data[at + 1]
            if 0 < first & _OPCODE < _CONTROL:  # a message begins
                if begin < at and not self._pass_on(data[begin:at]):
                    return
                begin = at
                if len(events) >= MAX_EVENTS and self._pause_reading():
                    break
            size, start = second & 0x7F, at + 6
            is_plain = second >= _MASKED
            if size == 126:
                if end - at < 4:
                    break
                size, start = data[at + 2] << 8 | data[at + 3], at + 8
                is_plain = is_plain and size >= 126
            elif size == 127:
                if end - at < 10:
                    break
                size, start = int.from_bytes(data[at + 2 : at + 10], "big"), at + 14
                is_plain = False
            stop = start + size
            if is_plain and stop <= end and self._take(first, data[start - 4 : start], data[start:stop]):
                if stop == end:
                    self._theirs = 0
                    return
                at = begin = stop
                continue
            if not first & _CONTROL:
                self._fragmented = not first & _FINAL
            at = stop if second >= _MASKED else stop - 4
        known = min(at, end)
        if begin < known and not self._pass_on(data[begin:known]):
            return
        self._theirs = at - known
        self._rest = data[known:]

    def _take(self, kind: int, mask: bytes, data: bytes) -> bool:
        """Hand over one message; False if it is none, or wrong in a way that the parser is to name."""
        if self._fragmented or len(data) > self._max_size or self._shut:
            return False
        if kind == _WHOLE_TEXT:
            try:
                text = unmasking()(data, mask).decode()
            except UnicodeDecodeError:
                return False
            self.events.append({"type": "websocket.receive", "text": text})
        elif kind == _WHOLE_BYTES:
            self.events.append({"type": "websocket.receive", "bytes": unmasking()(data, mask)})
        else:
            return False
        return True

    @abstractmethod
    def _pass_on(self, data: bytes) -> bool:
        """Give the parser what is its to read; False if that was the end."""

    def _read_on(self) -> None:
        """Read what was kept, then what comes."""
        if self.transport.is_closing():
            return
        data, self._rest = self._rest, b""
        self._size = len(data)
        self._set_read_paused(False)
        self._read(data)
        if not self._read_paused and not self.transport.is_closing():
            self.transport.resume_reading()

    def _pause_reading(self) -> bool:
        """Whether nothing is to be read for now. Behind our close frame all is, to find the client's."""
        if self._shut:
            return False
        if not self._read_paused:
            self._set_read_paused(True)
            self.transport.pause_reading()
        return True

    def _set_read_paused(self, paused: bool) -> None:
        self._read_paused = paused

    # The way out

    def flush(self) -> None:
        """Send what the application has sent through ASGI, and is kept to leave with more of it."""

    def _shut_down(self) -> None:
        """Nothing may be written any more: a close frame is there, or on its way."""
        if not self._shut and self._rest:
            # The client's close frame may be in it, and nobody is going to take what is before it.
            self._loop.call_soon(self._read_on)
        self._shut = True
        self._set_ready(False)

    def _set_ready(self, ready: bool) -> None:
        if ready is not self.ready:
            self.ready = ready
            if self.on_change is not None:
                self.on_change()


@cache
def unmasking() -> Callable[[bytes, bytes], bytes]:
    """The fastest function that takes the mask from a payload."""
    found: Callable[[bytes, bytes], bytes] = getattr(
        sys.modules.get("websockets.frames"), "apply_mask", _unmask
    )
    return found


def _unmask(data: bytes, mask: bytes) -> bytes:
    size = len(data)
    whole = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "big") ^ int.from_bytes(whole, "big")).to_bytes(size, "big")
