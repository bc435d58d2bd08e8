"""What this package knows of uvicorn beyond ASGI: how to put a port before its own WebSocket protocols.

Where the server is uvicorn, its protocol object is replaced, at its own transport, by a `Shortcut` that
passes everything on to it except what a port takes itself. uvicorn thus keeps its handshake, pings,
fragments, compression, failures and close.

What is used of uvicorn is looked up on the object, so that a server that is not uvicorn, or a version that
looks different, is simply not known and gets its frames by ASGI.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from starlette.websockets import WebSocket

from .log import Once
from .port import Port, send_at_once

logger = logging.getLogger("fastapi_channels")

WEBSOCKETS: Final = "^wss?://"
"""The URLs of all WebSockets, and of nothing else, as an instrumentation excludes them."""


def port_of(send: Callable[..., Any], receive: Callable[..., Any], *, is_new: bool) -> Port | None:
    """The port in front of a connection, or None where its server is not known.

    Args:
        send, receive: what the application was called with. If a middleware has put something of its own in
            the place of either, there is no port: it must see what passes.
        is_new: whether no client can have sent a frame yet, because the handshake is still to be answered.
            Otherwise it is not known where a frame begins, and all that comes is left to uvicorn.
    """
    protocol: Any = getattr(_within(send), "__self__", None)
    if isinstance(protocol, Port):
        return protocol if getattr(receive, "__self__", None) is protocol else None
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
        if isinstance(transport, asyncio.BaseTransport):  # as of uvicorn's `websockets`
            send_at_once(transport)
        return None
    return Shortcut(protocol, transport, max_size, is_new=is_new)


def warn_of_instrumentation(websocket: WebSocket, told: Once) -> None:
    """Say, once for each route, that OpenTelemetry's middleware keeps the port away, and what to do."""
    send = _within(websocket._send)
    # It has the name of what it wraps.
    if getattr(send, "__globals__", {}).get("__name__") != "opentelemetry.instrumentation.asgi":
        return
    route: Any = websocket.scope.get("route")
    path = str(getattr(route, "path", websocket.scope["path"])).partition("{")[0]
    if told.is_new(path):
        logger.warning(
            "opentelemetry.instrumentation.asgi is around the WebSockets of %r: it makes a span as long as "
            "each, and all frames take the slow way. Leave WebSockets out, by "
            "FastAPIInstrumentor.instrument_app(app, excluded_urls=%r), and trace with "
            "add_channel(app, tracing=True)",
            path,
            WEBSOCKETS,
        )


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


class Shortcut(Port):
    """Stands between a transport and uvicorn's protocol, and in place of that protocol's queue."""

    __slots__ = ("_protocol",)

    _protocol: Any
    """None when the connection is lost."""

    def __init__(self, protocol: Any, transport: Any, max_size: int, *, is_new: bool) -> None:
        super().__init__(asyncio.get_running_loop(), max_size, theirs=0 if is_new else sys.maxsize)
        self._protocol = protocol
        self.transport = transport
        self._shut = protocol.close_sent or transport.is_closing()
        self.ready = protocol.writable.is_set() and not self._shut
        while not protocol.queue.empty():
            self.events.append(protocol.queue.get_nowait())
        protocol.queue = self
        self._read_paused = protocol.read_paused
        # uvicorn sends a close frame there, and this is the only sign of it.
        protocol.keepalive_timeout = self._keepalive_timeout
        timer = getattr(protocol, "pong_timer", None)
        if timer is not None:
            timer.cancel()
            protocol.pong_timer = self._loop.call_at(timer.when(), self._keepalive_timeout)
        transport.set_protocol(self)
        send_at_once(transport)

    @property
    def keepalive(self) -> float | None:
        config = None if self._protocol is None else self._protocol.config
        return getattr(config, "ws_ping_timeout", None) and getattr(config, "ws_ping_interval", None)

    # Of a protocol, for the transport

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

    # The rest is uvicorn's

    def _pass_on(self, data: bytes) -> bool:
        self._protocol.data_received(data)
        self._read_paused = self._protocol.read_paused
        if self.transport.is_closing():
            self._shut_down()
            return False
        return True

    def _set_read_paused(self, paused: bool) -> None:
        self._read_paused = self._protocol.read_paused = paused

    def _keepalive_timeout(self) -> None:
        type(self._protocol).keepalive_timeout(self._protocol)
        # The connection is lost only when all that was written has left, which may be never.
        self.put_nowait({"type": "websocket.disconnect", "code": 1011, "reason": "keepalive ping timeout"})
