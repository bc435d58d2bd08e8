"""What the log is told once, or seldom: warnings that would else come with every message."""

from __future__ import annotations

import logging
import math
import time
from typing import Final

MAX_TOLD: Final = 100
"""What clients choose, such as an origin, must not fill the memory, nor the log."""
QUIET: Final = 30.0
"""Seconds between two warnings of one kind."""


class Once:
    """Tells whether something is new; beyond `MAX_TOLD` things nothing is."""

    __slots__ = ("_told",)

    def __init__(self) -> None:
        self._told: set[str] = set()

    def is_new(self, what: str) -> bool:
        if what in self._told or len(self._told) >= MAX_TOLD:
            return False
        self._told.add(what)
        return True


class Seldom:
    """Warns of one kind of thing: of the first at once, then every `QUIET` seconds of how many there were.

    Args:
        log: is warned.
    """

    __slots__ = ("_log", "_more", "_next")

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._next = -math.inf
        self._more = 0

    def warn(self, message: str) -> None:
        now = time.monotonic()
        if now < self._next:
            self._more += 1
            return
        since = f" (and {self._more} more before, that were not told of)" if self._more else ""
        self._next, self._more = now + QUIET, 0
        self._log.warning("%s%s", message, since)
