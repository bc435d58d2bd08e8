"""What is said of the other server, and between it and this one."""

from __future__ import annotations

import ssl as ssl_module
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from fastapi_channels.exceptions import CloseCode, WebSocketException
from fastapi_channels.wire.messages import Body


class BadGateway(WebSocketException):
    """The other server cannot be reached, or is gone: 502 before the handshake is accepted, or 504 where it
    did not answer in time; 1014 after."""

    error_code = "bad_gateway"
    http_status = 502
    code = CloseCode.BAD_GATEWAY


class Lost(Exception):
    """The other server has closed, or is gone.

    Attributes:
        code, reason: what the client is closed with.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Line:
    """How the other server is spoken with.

    Attributes:
        connect_timeout: seconds for each address, to the end of its handshake.
        send_timeout: seconds that it may need to take a message.
        ping_interval, ping_timeout: seconds between pings, and for each answer; None for none.
        max_size: bytes of one of its messages.
        ssl: for `wss://`; the default context unless given.
    """

    connect_timeout: float
    send_timeout: float
    ping_interval: float | None
    ping_timeout: float | None
    max_size: int
    ssl: ssl_module.SSLContext | None = None


class Upstream(Protocol):
    """One connection with the other server."""

    @property
    def subprotocol(self) -> str | None: ...

    @property
    def answer(self) -> Iterable[tuple[str, str]]:
        """The headers of its answer to the handshake."""
        ...

    async def send(self, body: Body) -> None:
        """Send one message; returns when there is place for another.

        Raises:
            Lost: it was not sent.
        """
        ...

    async def receive(self) -> Body:
        """The next message.

        Raises:
            Lost: there is none.
        """
        ...

    async def close(self, code: int | None, reason: str | None) -> None:
        """Close as the client was closed; who has gone without a word leaves so here too. Never fails."""
        ...
