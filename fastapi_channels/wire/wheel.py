"""One timer for all that waits for a time which need not be exact, in place of one for each."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Final, Generic, TypeVar

Rider = TypeVar("Rider")

SPOKES: Final = 128
"""Parts of a turn: a rider is called at most one of them late."""
COARSE: Final = 32.0
"""Seconds of a turn in which nobody is called more than a quarter of a second late."""


class Wheel(Generic[Rider]):
    """Calls each of its riders once, when its time is over; a timer runs as long as there are any.

    Args:
        turn: seconds; nobody rides for longer.
        call: may let riders get on, or off.
    """

    __slots__ = ("_at", "_call", "_due", "_spokes", "_step", "_timer", "_turn")

    def __init__(self, turn: float, call: Callable[[Rider], None]) -> None:
        self._turn = turn
        self._step = turn / SPOKES
        self._call = call
        # One more, so that a rider is never called before its time is over.
        self._spokes: list[set[Rider]] = [set() for _ in range(SPOKES + 1)]
        self._at = 0
        self._due = 0.0
        """When the next spoke is reached."""
        self._timer: asyncio.TimerHandle | None = None

    def ride(self, rider: Rider, seconds: float = math.inf) -> set[Rider]:
        """Let `rider` get on, for a turn at most; it gets off by leaving the set."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._timer is None:
            self._due = now + self._step
            self._timer = loop.call_at(self._due, self._pass)
        ahead = math.ceil((now + min(seconds, self._turn) - self._due) / self._step)
        spoke = self._spokes[(self._at + 1 + min(max(ahead, 0), SPOKES)) % len(self._spokes)]
        spoke.add(rider)
        return spoke

    def _pass(self) -> None:
        """The next spoke is reached."""
        self._timer = None
        if not any(self._spokes):
            return
        loop = asyncio.get_running_loop()
        # At once, if the event loop was busy for longer than from one to the next.
        self._due = max(self._due + self._step, loop.time())
        self._timer = loop.call_at(self._due, self._pass)
        self._at = (self._at + 1) % len(self._spokes)
        riders, self._spokes[self._at] = self._spokes[self._at], set()
        for rider in tuple(riders):
            if rider in riders:  # none before has made it get off
                self._call(rider)
