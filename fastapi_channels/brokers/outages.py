"""What is known of a broker that is away, or that does not answer; and what the log is told of it."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field

from fastapi_channels.exceptions import BrokerUnavailable
from fastapi_channels.wire.log import Seldom

from .backend import describe


@dataclass(slots=True)
class _Outage:
    reason: Exception
    began: float = field(default_factory=time.monotonic)
    attempts: int = 0
    failed_calls: int = 0


class Outages:
    """Of one broker. What the log is told has begun, it is told has ended; in between failures are counted.

    Args:
        logger: is told.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._failures = Seldom(logger)
        self.reset()

    def reset(self) -> None:
        """Know of none."""
        self._current: _Outage | None = None
        self.silent_since: float | None = None
        """Since when calls are not answered although there is a connection, if the log was told so."""

    @property
    def reason(self) -> Exception | None:
        """Why there is no connection; None while there is one, or before it was looked for."""
        return None if self._current is None else self._current.reason

    @property
    def away(self) -> float:
        """Seconds that there has been none; 0.0 as there."""
        return 0.0 if self._current is None else time.monotonic() - self._current.began

    # The connection

    def lost(self, reason: Exception) -> None:
        self._begin(_Outage(reason), "the broker is lost, reconnecting: %s")

    def unreachable(self, reason: Exception) -> None:
        """An attempt to connect has failed."""
        if self._current is None:
            self._begin(_Outage(reason, attempts=1), "the broker cannot be reached, going on to try: %s")
        else:
            self._current.reason = reason

    def attempt(self) -> None:
        if self._current is not None:
            self._current.attempts += 1

    def over(self, topics: int) -> None:
        """There is a connection again, to which so many topics are subscribed."""
        away, outage, self._current = self.away, self._current, None
        if outage is not None:
            told = "the broker is back after %.1f s and %d attempts; topics: %d; calls that failed: %d"
            self._logger.warning(told, away, outage.attempts, topics, outage.failed_calls)

    def _begin(self, outage: _Outage, told: str) -> None:
        self._current, self.silent_since = outage, None
        self._logger.warning(told, describe(outage.reason))

    # Calls

    def failure(self, why: str) -> BrokerUnavailable:
        """What a call raises that failed."""
        if self._current is None:
            self._failures.warn(why)
        else:
            self._current.failed_calls += 1
        return BrokerUnavailable(why)

    def silence(self) -> BrokerUnavailable:
        """What a call raises that was not answered, although there is a connection."""
        why = "the broker did not answer in time"
        if self._failures.warn(why) and self.silent_since is None:
            self.silent_since = time.monotonic()
        return BrokerUnavailable(why)

    def answered(self, silent_since: float) -> None:
        self.silent_since = None
        self._logger.warning("the broker answers again after %.1f s", time.monotonic() - silent_since)
