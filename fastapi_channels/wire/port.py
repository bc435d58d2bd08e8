"""What this package knows of uvicorn beyond ASGI: a shorter way in and out of its WebSockets.

ASGI hands the server a message for every receiver, and the server frames it again each time; what comes in
takes a parser that is made for every case, a queue, and two calls of epoll to stop reading and to go on.
Where the server is uvicorn, its protocol object is therefore replaced, at its own transport, by a `Port`
that passes everything on to it except what nearly all traffic is:

- A frame that was built once (RFC 6455 section 5.2: what a server sends is not masked) is written to the
  transport, while it is neither paused nor closing. An uncompressed frame is legal on a connection that
  negotiated permessage-deflate (RFC 7692 section 6).
- A message below 64 KiB that has come whole, in one plain frame, is unmasked and handed over. Frames of
  every other kind go, byte by byte, to uvicorn, which thus keeps its handshake, pings, fragments,
  compression, failures and close.

What is used of uvicorn is looked up on the object, so that a server that is not uvicorn, or a version that
looks different, is simply not known and gets its frames by ASGI.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, MutableMapping
from functools import lru_cache
from typing import Any, Final, TypeAlias

Event: TypeAlias = MutableMapping[str, Any]


def body_of(event: Event) -> str | bytes:
    """The content of a `websocket.receive`."""
    text = event.get("text")
    return event.get("bytes") or b"" if text is None else text


MAX_AHEAD: Final = 64 * 1024
"""Bytes received that may wait to be handled; beyond them nothing is read."""
MAX_EVENTS: Final = 64
"""Messages that may wait."""
_WHOLE_TEXT: Final = 0x81
_WHOLE: Final = (_WHOLE_TEXT, 0x82)
_MASKED: Final = 0x80
_FINAL: Final = 0x80
_CONTROL: Final = 0x08
_OPCODE: Final = 0x0F
"""Bits and bytes of a frame's header (RFC 6455 section 5.2)."""


def port_of(send: Callable[..., Any], receive: Callable[..., Any], *, is_new: bool) -> Port | None:
    """The port in front of a connection, or None where its server is not known.

    Args:
        send, receive: what the application was called with. If a middleware has put something of its own in
            the place of either, there is no port: it must see what passes.
        is_new: whether no client can have sent a frame yet, because the handshake is still to be answered.
            Otherwise it is not known where a frame begins, and all that comes is left to uvicorn.
    """
    protocol: Any = getattr(_within(send), "__self__", None)
    transport: Any = getattr(protocol, "transport", None)
    max_size = getattr(getattr(protocol, "config", None), "ws_max_size", None)
    queue = getattr(protocol, "queue", None)
    if (
        not _are_known((type(protocol), type(transport)))
        or getattr(receive, "__self__", None) is not protocol
        or not isinstance(max_size, int)
        or not isinstance(queue, asyncio.Queue)
        or not isinstance(getattr(protocol, "writable", None), asyncio.Event)
        or not isinstance(getattr(protocol, "close_sent", None), bool)
        or not isinstance(getattr(protocol, "read_paused", None), bool)
        or getattr(queue, "_getters", None)  # somebody waits there, and would do so for ever
    ):
        return None
    return Port(protocol, transport, max_size, is_new=is_new)


def _within(send: Any) -> Any:
    """What is called by the function that Starlette puts around `send`, to see whether a response began."""
    while getattr(send, "__module__", "") == "starlette._exception_handler" and "send" in _names(send):
        send = send.__closure__[_names(send).index("send")].cell_contents
    return send


def _names(function: Any) -> tuple[str, ...]:
    """Those of its closure."""
    code = getattr(function, "__code__", None)
    return getattr(code, "co_freevars", ())


_OF_TRANSPORT: Final = ("write", "abort", "is_closing", "set_protocol", "pause_reading", "resume_reading")


@lru_cache(maxsize=16)
def _are_known(classes: tuple[type, type]) -> bool:
    """Whether protocol and transport are of uvicorn's `websockets-sansio` or `wsproto`, which have these in
    common."""
    protocol, transport = classes
    return (
        any(cls.__module__.partition(".")[0] == "uvicorn" for cls in protocol.__mro__)
        and callable(getattr(protocol, "keepalive_timeout", None))
        and all(callable(getattr(transport, name, None)) for name in _OF_TRANSPORT)
    )


class Port(asyncio.Protocol):
    """Stands between a transport and uvicorn's protocol, and in place of that protocol's queue.

    Attributes:
        transport: where finished frames may be written, while `ready`.
        ready: whether it is open and not paused, and no close frame is on its way.
        on_change: called when `ready` changes.
    """

    __slots__ = (
        "_events",
        "_fragmented",
        "_max_size",
        "_protocol",
        "_rest",
        "_shut",
        "_size",
        "_theirs",
        "_unmask",
        "_waiters",
        "on_change",
        "ready",
        "transport",
    )

    _protocol: Any
    """None when the connection is lost."""

    def __init__(self, protocol: Any, transport: Any, max_size: int, *, is_new: bool) -> None:
        self._protocol = protocol
        self.transport: asyncio.Transport = transport
        self._shut: bool = protocol.close_sent or transport.is_closing()
        self.ready: bool = protocol.writable.is_set() and not self._shut
        self.on_change: Callable[[], None] | None = None
        self._events: list[Event] = []
        while not protocol.queue.empty():
            self._events.append(protocol.queue.get_nowait())
        self._waiters: list[asyncio.Future[None]] = []
        self._max_size = max_size
        self._unmask = _unmasking()
        self._theirs = 0 if is_new else sys.maxsize
        """How many of the next bytes are uvicorn's to read."""
        self._fragmented = False
        """Whether the next part of a message is to come."""
        self._rest = b""
        """What has come and is still to be read: the beginning of a header, or what has to wait."""
        self._size = 0
        """Bytes that have come since nothing waited."""
        protocol.queue = self
        # uvicorn sends a close frame there, and this is the only sign of it.
        protocol.keepalive_timeout = self._keepalive_timeout
        timer = getattr(protocol, "pong_timer", None)
        if timer is not None:
            timer.cancel()
            loop = asyncio.get_running_loop()
            protocol.pong_timer = loop.call_at(timer.when(), self._keepalive_timeout)
        transport.set_protocol(self)

    def abort(self) -> None:
        """Cut the connection without waiting for the peer."""
        self.transport.abort()

    # Of a protocol, for the transport

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data, self._rest = self._rest + data, b""
        self._read(data)
        if not self._events:
            self._size = 0
            return
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._size += len(data)
        if self._size > MAX_AHEAD:
            self._pause_reading()

    def eof_received(self) -> bool | None:
        keep_open: bool | None = self._protocol.eof_received()
        return keep_open

    def connection_lost(self, exc: Exception | None) -> None:
        protocol, self._protocol = self._protocol, None
        protocol.connection_lost(exc)
        self._shut_down()

    def pause_writing(self) -> None:
        self._protocol.pause_writing()
        self._set_ready(False)

    def resume_writing(self) -> None:
        self._protocol.resume_writing()
        self._set_ready(not self._shut)

    # Of a queue, for uvicorn

    def put_nowait(self, event: Event) -> None:
        if event["type"] == "websocket.disconnect":
            self._shut_down()
        self._events.append(event)
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def get(self) -> Event:
        """The next ASGI message."""
        events = self._events
        while not events:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            finally:
                self._waiters.remove(waiter)
        event = events.pop(0)
        if not events and self._protocol is not None and self._protocol.read_paused:
            self._read_on()
        return event

    def empty(self) -> bool:
        return not self._events

    # The way in

    def _read(self, data: bytes) -> None:
        """Hand over the plain messages in `data`, and to uvicorn, in one piece, what is between two."""
        end = len(data)
        begin = 0
        """Where what is uvicorn's, and has not been passed on, begins."""
        at = self._theirs
        """Where the next frame begins: behind the end, if that of uvicorn's last one is still to come."""
        while at + 2 <= end:
            first, second = data[at], data[at + 1]
            if 0 < first & _OPCODE < _CONTROL:  # a message begins
                if begin < at and not self._pass_on(data[begin:at]):
                    return
                begin = at
                if len(self._events) >= MAX_EVENTS and self._pause_reading():
                    break
            size, start = second & 0x7F, at + 6
            is_plain = first in _WHOLE and second >= _MASKED
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
        """Hand over one message; False if it is for uvicorn to say what is wrong with it."""
        if self._fragmented or len(data) > self._max_size or self._protocol.close_sent:
            return False
        body = self._unmask(data, mask)
        event: Event
        if kind == _WHOLE_TEXT:
            try:
                event = {"type": "websocket.receive", "text": body.decode()}
            except UnicodeDecodeError:
                return False
        else:
            event = {"type": "websocket.receive", "bytes": body}
        self._events.append(event)
        return True

    def _pass_on(self, data: bytes) -> bool:
        """Give uvicorn what is its to read; False if that was the end."""
        self._protocol.data_received(data)
        if self.transport.is_closing():
            self._shut_down()
            return False
        return True

    def _read_on(self) -> None:
        """Read what was kept, then what comes."""
        if self._protocol is None or self.transport.is_closing():
            return
        data, self._rest = self._rest, b""
        self._size = len(data)
        self._protocol.read_paused = False
        self._read(data)
        if not self._protocol.read_paused and not self.transport.is_closing():
            self.transport.resume_reading()

    def _pause_reading(self) -> bool:
        """Whether nothing is to be read for now. Behind our close frame all is, to find the client's."""
        if self._protocol.close_sent:
            return False
        if not self._protocol.read_paused:
            self._protocol.read_paused = True
            self.transport.pause_reading()
        return True

    # The way out

    def _keepalive_timeout(self) -> None:
        type(self._protocol).keepalive_timeout(self._protocol)
        # The connection is lost only when all that was written has left, which may be never.
        self.put_nowait({"type": "websocket.disconnect", "code": 1011, "reason": "keepalive ping timeout"})

    def _shut_down(self) -> None:
        """Nothing may be written any more: a close frame is there, or on its way."""
        if not self._shut and self._rest:
            # The client's close frame may be in it, and nobody is going to take what is before it.
            asyncio.get_running_loop().call_soon(self._read_on)
        self._shut = True
        self._set_ready(False)

    def _set_ready(self, ready: bool) -> None:
        if ready is not self.ready:
            self.ready = ready
            if self.on_change is not None:
                self.on_change()


def _unmasking() -> Callable[[bytes, bytes], bytes]:
    """The fastest function that takes the mask from a payload."""
    found: Callable[[bytes, bytes], bytes] = getattr(
        sys.modules.get("websockets.frames"), "apply_mask", _unmask
    )
    return found


def _unmask(data: bytes, mask: bytes) -> bytes:
    size = len(data)
    whole = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "big") ^ int.from_bytes(whole, "big")).to_bytes(size, "big")
