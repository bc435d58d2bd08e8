"""A rate: so many calls in so long."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from fastapi_channels.exceptions import ConfigurationError

MAX_WINDOW: Final = 10 * 365 * 86_400
"""Seconds in the longest window: microseconds since 1970 stay exact in a double for far longer."""


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `times` calls in any `window` seconds; 0 times is never.

    A window is half-open: a call at second 0 with a window of 10 seconds counts at 9.999 and no longer
    at 10.

    Args:
        identifier: who the limit counts, called with the websocket (it may be async); the user, else
            the client's address, unless given.
        ws_callback: called in place of the error, with the websocket and the milliseconds to wait.
        cost: how many of `times` one call uses up.
        budget: whoever says the same one, of the same size, uses up the same, whatever action, room, channel
            or route it is; empty for a count of its own.
    """

    times: int
    window: float
    identifier: Callable[..., Any] | None = None
    ws_callback: Callable[..., Any] | None = None
    cost: int = 1
    budget: str = ""

    def __post_init__(self) -> None:
        _check_times(self.times)
        _check_cost(self.cost, self.times)
        if not isinstance(self.budget, str):
            raise ConfigurationError(f"a budget is a name, not {self.budget!r}")
        if not 0 < _number("window", self.window) <= MAX_WINDOW:
            raise ConfigurationError(
                f"window must be more than 0 and at most {MAX_WINDOW} seconds, not {self.window!r}: "
                "give one of milliseconds, seconds, minutes, hours"
            )
        for name in ("identifier", "ws_callback"):
            _check_callable(name, getattr(self, name))

    def __str__(self) -> str:
        """The rate as a part of a key: two rates of one action must not share a count."""
        return f"{self.times}/{self.window}"


def rate(
    times: int = 1,
    milliseconds: float = 0,
    seconds: float = 0,
    minutes: float = 0,
    hours: float = 0,
    identifier: Callable[..., Any] | None = None,
    ws_callback: Callable[..., Any] | None = None,
    cost: int = 1,
    budget: str = "",
) -> Rate:
    """`times` in the sum of the lengths given: `rate(5, seconds=30, minutes=1)` is 5 in 90 seconds. All else
    is as of `Rate`."""
    lengths = {"milliseconds": milliseconds, "seconds": seconds, "minutes": minutes, "hours": hours}
    for name, length in lengths.items():
        if _number(name, length) < 0:
            raise ConfigurationError(f"{name} must not be negative, got {length!r}")
    window = milliseconds / 1000 + seconds + 60 * minutes + 3600 * hours
    return Rate(times, float(window), identifier, ws_callback, cost, budget)


def _check_times(times: Any) -> None:
    if callable(times):
        raise ConfigurationError("@limiter needs arguments: @limiter(times=5, seconds=10)")
    if isinstance(times, bool) or not isinstance(times, int) or times < 0:
        raise ConfigurationError(f"times must be a whole number of 0 or more, not {times!r}")


def _check_cost(cost: Any, times: int) -> None:
    if isinstance(cost, bool) or not isinstance(cost, int) or not 1 <= cost <= max(times, 1):
        raise ConfigurationError(f"cost must be a whole number from 1 to times, {times}, not {cost!r}")


def _check_callable(name: str, value: Any) -> None:
    if value is not None and not callable(value):
        raise ConfigurationError(f"{name} must be a function, not {value!r}")


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigurationError(f"{name} must be a number, not {value!r}")
    return value
