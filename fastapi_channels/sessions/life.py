"""How long a WebSocket may stay, and whether its client is still there.

Only the WebSockets of a channel that asks for any of it have a Life. All of a process ride one wheel: none
has a timer, or a task, of its own.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable
from typing import Any, Final, Protocol

from fastapi_channels.cluster.drain import Leaver, come_back
from fastapi_channels.exceptions import CloseCode
from fastapi_channels.wire.inbox import Inbox
from fastapi_channels.wire.messages import Envelope
from fastapi_channels.wire.wheel import Wheel
from fastapi_channels.wire.writer import Writer

JITTER: Final = 0.1
"""The part of a lifetime that chance may take away: who came together, as after a deploy, goes apart."""
PING: Final = "ping"
PONG: Final = "pong"
"""Frames that ask for a sign of life, and give one: a page can neither send nor see a ping of the
WebSocket's own."""


class Limits(Protocol):
    """What a channel, or a socket, says of its WebSockets: seconds, or None for no limit."""

    idle_timeout: float | None
    max_lifetime: float | None
    heartbeat: float | None


class Guest(Leaver, Protocol):
    """The session of a WebSocket."""

    envelope: Envelope
    writer: Writer
    inbox: Inbox
    relays: bool
    is_one_way: bool


LIMITS: Final = tuple(Limits.__annotations__)


def is_limit(value: Any) -> bool:
    """Whether it is a number of seconds above 0, or None."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value is None or (is_number and 0 < value < math.inf)


class Life:
    """That of one WebSocket, from its handshake to `stop`.

    A client is idle while it sends nothing but pings and pongs, and no action of it runs. That is closed
    with 4008, and the end of a lifetime with 4010, where an action that runs gets its `finish_timeout`
    before; both say that the client may come back. It is pinged where the server itself does not as often,
    and closed with 1011 when nothing has come by the next ping. A room that relays has no frames of its own
    for that: without a port nobody is pinged there.

    Args:
        guest: the session.
        limits: what its channel says.
        wheel: that of the process.
    """

    __slots__ = (
        *("_active", "_asked", "_ends", "_guest", "_heard", "_heartbeat", "_idle_timeout"),
        *("_next_ping", "_spoke", "_told", "_wheel"),
    )

    def __init__(self, guest: Guest, limits: Limits, wheel: Wheel[Callable[[], None]]) -> None:
        now = _now()
        self._guest = guest
        self._wheel = wheel
        # Who can send nothing is neither idle nor silent.
        self._idle_timeout = math.inf if guest.is_one_way else limits.idle_timeout or math.inf
        self._active = now
        """When the client was last known not to be idle."""
        self._ends = now + (limits.max_lifetime or math.inf) * random.uniform(1 - JITTER, 1)  # noqa: S311
        self._told = False
        """Whether the client knows that its lifetime is over."""
        self._heartbeat = self._interval(limits.heartbeat)
        self._next_ping = now + self._heartbeat
        self._asked = False
        """Whether a ping waits for its answer."""
        self._heard = True
        """Whether a frame has come since."""
        self._ride(now)

    def heard(self, kind: object) -> None:
        """The client has sent a frame.

        Args:
            kind: what its `type` says, if it is no request.
        """
        self._heard = True
        if kind not in (PING, PONG):
            self._active = _now()

    def stop(self) -> None:
        """The WebSocket has ended."""
        self._spoke.discard(self._look)

    def _interval(self, heartbeat: float | None) -> float:
        """Seconds between two pings; infinite where there are none."""
        port = self._guest.writer.port
        if heartbeat is None or self._guest.is_one_way or (port is None and self._guest.relays):
            return math.inf
        theirs = None if port is None else port.keepalive
        return math.inf if theirs is not None and theirs <= heartbeat else heartbeat

    def _ride(self, now: float) -> None:
        due = min(self._ends, self._active + self._idle_timeout, self._next_ping)
        self._spoke = self._wheel.ride(self._look, due - now)

    def _look(self) -> None:
        now = _now()
        if self._guest.is_working:
            self._active = now
        if now >= self._ends:
            self._expire(now)
        elif now >= self._active + self._idle_timeout:
            self._guest.announce(0.0, 0.0)
            self._close(CloseCode.IDLE, come_back("idle", 0.0))
        elif now >= self._next_ping:
            self._ping(now)
        if not self._guest.writer.closed:
            self._ride(now)

    def _expire(self, now: float) -> None:
        guest = self._guest
        patience = guest.finish_timeout if guest.is_working else 0.0
        if not self._told:
            self._told = True
            guest.announce(patience, 0.0)
        if now >= self._ends + patience:
            self._close(CloseCode.LIFETIME_OVER, come_back("lifetime over", 0.0))

    def _ping(self, now: float) -> None:
        guest, port = self._guest, self._guest.writer.port
        silent = not (self._heard or guest.inbox.is_full) and (port is None or port.is_silent)
        if self._asked and silent:
            self._close(CloseCode.INTERNAL_ERROR, "no answer to a ping")
            return
        self._asked, self._heard = True, False
        self._next_ping = now + self._heartbeat
        if port is not None:
            port.ping()
        else:
            guest.writer.post(guest.envelope.frame({guest.envelope.type: PING}))

    def _close(self, code: CloseCode, reason: str) -> None:
        self._guest.writer.start_close(code, reason)


def _now() -> float:
    return asyncio.get_running_loop().time()
