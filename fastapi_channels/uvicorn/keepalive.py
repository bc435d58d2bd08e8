"""One timer for the pings of all connections, in place of two for each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Generic, TypeVar

Rider = TypeVar("Rider")

SPOKES: Final = 128
"""Parts of a turn: a rider is called at most one of them late."""


class Wheel(Generic[Rider]):
    """Calls each of its riders once, a turn after it got on; a timer runs as long as there are any.

    Args:
        turn: seconds.
        call: may let riders get on, or off.
    """

    __slots__ = ("_at", "_call", "_due", "_loop", "_spokes", "_timer", "_turn")

    def __init__(self, loop: asyncio.AbstractEventLoop, turn: float, call: Callable[[Rider], None]) -> None:
        self._loop = loop
        self._turn = turn
        self._call = call
        # One more, so that a rider is never called before its turn is over.
        self._spokes: list[set[Rider]] = [set() for _ in range(SPOKES + 1)]
        self._at = 0
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def ride(self, rider: Rider) -> set[Rider]:
        """Let `rider` get on; it gets off by leaving the set."""
        if self._timer is None:
            self._due = self._loop.time()
            self._wait()
        spoke = self._spokes[self._at]
        spoke.add(rider)
        return spoke

    def _wait(self) -> None:
        """For the next spoke, or for the first that is not over yet if the event loop was busy."""
        now, step = self._loop.time(), self._turn / SPOKES
        self._due = max(self._due + step, now)
        self._timer = self._loop.call_at(self._due, self._step)

    def _step(self) -> None:
        self._at = (self._at + 1) % len(self._spokes)
        riders, self._spokes[self._at] = self._spokes[self._at], set()
        for rider in tuple(riders):
            if rider in riders:  # none before has made it get off
                self._call(rider)
        if any(self._spokes):
            self._wait()
        else:
            self._timer = None
