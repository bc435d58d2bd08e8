"""What the log is told once, or seldom: warnings that would else come with every message."""

from __future__ import annotations

import logging
import math
import time
from typing import Final

logger = logging.getLogger("fastapi_channels")

MAX_TOLD: Final = 100
"""What clients choose, such as an origin, must not fill the memory, nor the log."""
QUIET: Final = 30.0
"""Seconds between two warnings of one kind."""


class Once:
    """Tells whether something is new. Of `MAX_TOLD` things it does, then it says that it stops.

    Args:
        kind: what they are, in the plural.
    """

    __slots__ = ("_is_over", "_kind", "_told")

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._told: set[str] = set()
        self._is_over = False

    def is_new(self, what: str) -> bool:
        if what in self._told:
            return False
        if len(self._told) < MAX_TOLD:
            self._told.add(what)
            return True
        if not self._is_over:
            logger.warning("more than %d %s: no further ones are told of", MAX_TOLD, self._kind)
        self._is_over = True
        return False


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

    def warn(self, message: str) -> bool:
        """Whether the log was told now."""
        now = time.monotonic()
        if now < self._next:
            self._more += 1
            return False
        since = f" (and {self._more} more before, that were not told of)" if self._more else ""
        self._next, self._more = now + QUIET, 0
        self._log.warning("%s%s", message, since)
        return True

    def count(self) -> None:
        """One more, of which the log knows."""
        self._more += 1
