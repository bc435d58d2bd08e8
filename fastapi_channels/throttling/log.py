"""The hits that still count against one limit: a sliding log of bounded size."""

from __future__ import annotations

import math
from typing import Final

from .rates import Rate

GRAINS: Final = 64
"""Entries that a log keeps exactly; beyond as many hits, this many slots to a window."""


class Log:
    """The hits that `rate` has admitted for one key.

    Each hit counts until `window` seconds after it, so no window holds more than `times`. Up to 64
    times every hit is an entry of its own and the limit is exact. Above, hits of the same 1/64 of a
    window share an entry that ends with the latest of them: a permit comes back up to window/64 late,
    never early, and a log has at most 65 entries whatever `times` is.
    """

    __slots__ = ("_counts", "_ends", "_grain", "_slot", "_times", "_total", "_window")

    def __init__(self, rate: Rate) -> None:
        self._times = rate.times
        self._window = rate.window
        self._grain = rate.window / GRAINS if rate.times > GRAINS else 0.0
        """Seconds that share an entry, if any do."""
        self._ends: list[float] = []
        self._counts: list[int] = []
        self._total = 0
        self._slot = -1.0

    def __len__(self) -> int:
        return len(self._ends)

    @property
    def end(self) -> float:
        """When the last hit stops counting; before any time when none counts."""
        return self._ends[-1] if self._ends else -math.inf

    def wait(self, now: float, cost: int = 1) -> float:
        """Seconds until one more hit fits, which counts as `cost`: 0.0 when it fits now, infinite when it
        never does. `now` never goes back."""
        ends = self._ends
        if ends and ends[0] <= now:
            self._forget(now)
        over = self._total + cost - self._times
        if over <= 0:
            return 0.0
        for end, count in zip(ends, self._counts, strict=True):
            over -= count
            if over <= 0:
                return end - now
        return math.inf

    def add(self, now: float, cost: int = 1) -> float:
        """Count a hit that `wait` let through; the new `end`."""
        end = now + self._window
        self._total += cost
        if self._grain:
            slot = now // self._grain
            if slot == self._slot:
                self._ends[-1] = end
                self._counts[-1] += cost
                return end
            self._slot = slot
        self._ends.append(end)
        self._counts.append(cost)
        return end

    def _forget(self, now: float) -> None:
        past = 0
        for end in self._ends:
            if end > now:
                break
            past += 1
        self._total -= sum(self._counts[:past])
        del self._ends[:past], self._counts[:past]
