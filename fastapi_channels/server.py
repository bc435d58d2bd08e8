"""What this package knows of uvicorn beyond ASGI: how to write finished frames to its transport.

ASGI hands the server a message for every receiver, and the server frames it again each time. Where
the server is uvicorn, a frame that was built once (RFC 6455 section 5.2: what a server sends is not
masked) is written straight to the transport, if nothing speaks against it at that moment: the
handshake is complete, no close frame was sent, the transport is neither closing nor paused. An
uncompressed frame is legal on a connection that negotiated permessage-deflate (RFC 7692 section 6).

Everything is looked up on the object, never imported, so that a server that is not uvicorn, or a
version that looks different, is simply not known and gets its frames by ASGI.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class Port(Protocol):
    """A server's transport, seen as a place for finished frames."""

    def offer(self, wire: bytes) -> bool:
        """Write `wire` if that is sound at this moment, without waiting; else False."""
        ...

    def abort(self) -> None:
        """Cut the connection without waiting for the peer."""
        ...


def port_of(send: Callable[..., Any]) -> Port | None:
    """The port behind the `send` that an ASGI server called the application with, or None.

    The handshake must be complete.
    """
    protocol = getattr(send, "__self__", None)
    if type(protocol).__module__.partition(".")[0] != "uvicorn" and not _inherits_uvicorn(protocol):
        return None
    transport = getattr(protocol, "transport", None)
    if not callable(getattr(transport, "write", None)) or not callable(getattr(transport, "abort", None)):
        return None
    if isinstance(getattr(protocol, "close_sent", None), bool) and hasattr(protocol, "writable"):
        return _EventPort(protocol, transport)
    if isinstance(getattr(protocol, "_paused", None), bool) and hasattr(protocol, "closed_event"):
        return _StatePort(protocol, transport)
    return None


def _inherits_uvicorn(protocol: object) -> bool:
    return any(cls.__module__.partition(".")[0] == "uvicorn" for cls in type(protocol).__mro__)


class _EventPort:
    """uvicorn's `websockets-sansio` and `wsproto` protocols."""

    __slots__ = ("_is_closing", "_is_writable", "_protocol", "_transport", "_write")

    def __init__(self, protocol: Any, transport: Any) -> None:
        self._protocol = protocol
        self._is_writable: Callable[[], bool] = protocol.writable.is_set
        self._is_closing: Callable[[], bool] = transport.is_closing
        self._write: Callable[[bytes], None] = transport.write
        self._transport = transport

    def abort(self) -> None:
        self._transport.abort()

    def offer(self, wire: bytes) -> bool:
        if self._is_writable() and not self._protocol.close_sent and not self._is_closing():
            self._write(wire)
            return True
        return False


class _StatePort:
    """uvicorn's `websockets` protocol, which inherits from the legacy half of that library."""

    __slots__ = ("_is_closing", "_protocol", "_transport", "_write")

    def __init__(self, protocol: Any, transport: Any) -> None:
        self._protocol = protocol
        self._is_closing: Callable[[], bool] = transport.is_closing
        self._write: Callable[[bytes], None] = transport.write
        self._transport = transport

    def abort(self) -> None:
        self._transport.abort()

    def offer(self, wire: bytes) -> bool:
        protocol = self._protocol
        if protocol._paused or not protocol.open or protocol.closed_event.is_set() or self._is_closing():
            return False
        self._write(wire)
        return True
