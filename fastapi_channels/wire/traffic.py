"""What passes, as numbers that only rise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Final

from .messages import Body, size_of

MAX_ROOMS: Final = 100
"""Rooms of one connection that are remembered."""


@dataclass(slots=True)
class Traffic:
    """Of all WebSockets of a process. Whoever writes adds in place: to call something for each message would
    cost more than the rest of counting it.

    Attributes:
        received, received_bytes: messages of clients, and their bytes.
        sent, sent_bytes: messages to clients that have left, and their bytes.
        dropped_oldest, dropped_newest: messages of rooms that a client did not get, because it read too
            slowly, by the policy of its channel.
        cut_off: clients that took no frame within their `send_timeout`.
    """

    received: int = 0
    received_bytes: int = 0
    sent: int = 0
    sent_bytes: int = 0
    dropped_oldest: int = 0
    dropped_newest: int = 0
    cut_off: int = 0

    @property
    def dropped(self) -> int:
        return self.dropped_oldest + self.dropped_newest


@dataclass(slots=True)
class Tally:
    """Of one WebSocket: what its client has sent, and where it was.

    Args:
        traffic: that of the process, which is added to as well.
        began: when it was accepted, in seconds of the monotonic clock; 0.0 if it was not.
    """

    traffic: Traffic
    began: float = 0.0
    received: int = 0
    received_bytes: int = 0
    rooms: dict[str, None] = field(default_factory=dict)

    def take(self, body: Body) -> None:
        """The client has sent `body`."""
        size, traffic = len(body) if body.isascii() else size_of(body), self.traffic
        self.received += 1
        self.received_bytes += size
        traffic.received += 1
        traffic.received_bytes += size

    def enter(self, room: str) -> None:
        """The client has come into `room`."""
        if len(self.rooms) < MAX_ROOMS:
            self.rooms[room] = None


class Timer(ABC):
    """Of one action: how long its calls took. Whoever times adds in place, for the same reason: to `seconds`,
    and to `quick` what took no longer than `least`; the rest is for `add_slow`.

    Args:
        least: seconds; most calls take no longer.
    """

    __slots__ = ("least", "quick", "seconds")

    def __init__(self, least: float) -> None:
        self.least = least
        self.quick = 0
        self.seconds = 0.0

    @abstractmethod
    def add_slow(self, seconds: float) -> None:
        """One call took so long, which is more than `least`."""
