"""The hits that still count against one limit: a sliding log of bounded size."""

from __future__ import annotations

import math
from typing import Final

from .rates import Rate

GRAINS: Final = 64
"""Entries that a log keeps exactly; beyond as many hits, this many slots to a window."""


class Log:
    """The hits that one rate has admitted for one key.

    Each hit counts until `window` seconds after it, so no window holds more than `times`. Up to 64
    times every hit is an entry of its own and the limit is exact. Above, hits of the same 1/64 of a
    window share an entry that ends with the latest of them: a permit comes back up to window/64 late,
    never early, and a log has at most 65 entries whatever `times` is.
    """

    __slots__ = ("_counts", "_ends", "_slot", "_total")

    def __init__(self) -> None:
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

    def wait(self, times: int, now: float) -> float:
        """Seconds until one more hit fits, 0.0 when it fits now.

        `times` is 1 or more and the same for every call, and `now` never goes back.
        """
        if self._ends and self._ends[0] <= now:
            self._forget(now)
        return 0.0 if self._total < times else self._ends[0] - now

    def add(self, rate: Rate, now: float) -> float:
        """Count a hit that `wait` let through; the new `end`."""
        end = now + rate.window
        slot = now // (rate.window / GRAINS) if rate.times > GRAINS else -1.0
        if slot >= 0 and slot == self._slot:
            self._ends[-1] = end
            self._counts[-1] += 1
        else:
            self._ends.append(end)
            self._counts.append(1)
            self._slot = slot
        self._total += 1
        return end

    def _forget(self, now: float) -> None:
        past = 0
        for end in self._ends:
            if end > now:
                break
            past += 1
        self._total -= sum(self._counts[:past])
        del self._ends[:past], self._counts[:past]
