"""What a client can be told, and what it does where it is not."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol, TypeAlias

from fastapi_channels.wire.messages import Body, Envelope

logger = logging.getLogger("fastapi_channels.client")

MOST_WAITING: Final = 64
MOST_WAITING_BYTES: Final = 256 * 1024
"""Calls that wait for a room at a time, and bytes of them."""
MOST_UNTAKEN: Final = 1024
"""Items of a stream, or events, that nobody has taken yet."""
USUAL_WINDOW: Final = 64
"""Items that the server may send of a stream before the first of them is taken."""
MOST_UNSENT: Final = 1024 * 1024
"""Bytes that wait for the network."""


@dataclass(frozen=True, kw_only=True)
class Times:
    """Seconds.

    Attributes:
        first: the ceiling of the first delay; it doubles with each attempt.
        most: the highest ceiling.
        gap: the least time between the beginnings of two attempts.
        connect: what an attempt may take, from asking for a token to the welcome.
        settle: what a connection must last before the next loss counts as the first.
        silence: without a frame for so long, the server is asked whether it is there.
        pong: what its answer may take.
        probe: the same, after sleep.
        tick: between two looks at the clock.
        call: what a call may take.
        rejoin: the least time before a room that refused for now is asked again.
    """

    first: float = 0.5
    most: float = 30.0
    gap: float = 1.0
    connect: float = 10.0
    settle: float = 5.0
    silence: float = 25.0
    pong: float = 10.0
    probe: float = 5.0
    tick: float = 5.0
    call: float = 10.0
    rejoin: float = 1.0

    def ceiling(self, failures: int) -> float:
        """The most to wait after so many failures in a row."""
        return min(self.most, self.first * 2.0 ** min(failures, 16))


class Closed(Exception):
    """A WebSocket is closed, or was never opened.

    Args:
        code: of the close; 1006 where it was lost without a word, 0 where it was refused for good.
    """

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class Wire(Protocol):
    """One WebSocket."""

    @property
    def subprotocol(self) -> str | None:
        """What the server has chosen."""
        ...

    async def send(self, body: Body) -> None:
        """
        Raises:
            Closed: nothing can be sent any more.
        """
        ...

    async def receive(self) -> Body:
        """
        Raises:
            Closed: nothing more comes.
        """
        ...

    async def close(self, code: int) -> None: ...


Dial: TypeAlias = Callable[[str, Sequence[str], Mapping[str, str]], Awaitable[Wire]]
"""Opens a WebSocket to a URL, with subprotocols and headers; raises Closed."""
Token: TypeAlias = Callable[[], str | Awaitable[str]]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The arguments of a client."""

    dial: Dial
    token: Token | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    protocols: Sequence[str] = ()
    query: Mapping[str, str] = field(default_factory=dict)
    away: Literal["wait", "fail"] = "wait"
    envelope: Envelope = field(default_factory=Envelope)
    trace: Callable[[], Mapping[str, str]] | None = None
    times: Times = field(default_factory=Times)

    def complain(self, what: str, error: BaseException) -> None:
        """Log what went wrong where nobody waits for it."""
        logger.error("%s: %r", what, error, exc_info=error)
