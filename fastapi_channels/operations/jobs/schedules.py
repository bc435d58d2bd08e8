"""When something is due. All processes work it out by their clocks, and get the same ticks."""

from __future__ import annotations

import math
from bisect import bisect_left
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any, Final, NamedTuple, Protocol
from zoneinfo import ZoneInfo

from fastapi_channels.exceptions import ConfigurationError

SHORTEST: Final = 0.1
"""Seconds between two ticks, at least: each process asks the store at each."""
DAY: Final = 86_400.0
FIELDS: Final = 5
"""Of a cron expression."""


class Schedule(Protocol):
    def after(self, moment: float) -> float:
        """The first tick later than `moment`; both are seconds since 1970."""
        ...


class Every(NamedTuple):
    """At the multiples of `seconds` since 1970, by UTC."""

    seconds: float

    def after(self, moment: float) -> float:
        # A tick is always the same product, so that it is the same float wherever it is worked out.
        number = math.floor(moment / self.seconds)
        while number * self.seconds <= moment:
            number += 1
        return number * self.seconds


class Cron:
    """At the minutes that a cron expression names, as Debian's cron reads it.

    A time of day that the clocks leave out in spring is due at the first minute that they show; one that
    they show twice in autumn is due the first time. What recurs, as minute or hour begin with `*`, is due at
    each minute that they show.

    Args:
        expression: minute, hour, day of the month, month and day of the week.
        zone: whose clocks are meant.

    Raises:
        ConfigurationError: the expression cannot be read, or names a day that never comes; or `cronsim` is
            missing.
    """

    def __init__(self, expression: str, zone: tzinfo) -> None:
        try:
            from cronsim import CronSim, CronSimError
        except ModuleNotFoundError:
            raise ConfigurationError('cron() needs cronsim: pip install "fastapi-channels[cron]"') from None
        self._expression = expression
        self._zone = zone
        self._recurs = any(field.startswith("*") for field in expression.split()[:2])
        self._parse = CronSim
        try:
            # With a sixth it would be of seconds, which Debian's cron does not have.
            if len(expression.split()) > FIELDS:
                raise CronSimError("Too many fields")
            self.after(0.0)
        except CronSimError as exc:
            raise ConfigurationError(
                f"{expression!r} is no cron expression: {exc}; it has five fields, as in "
                '"30 9 * * MON-FRI" for half past nine'
            ) from None

    def after(self, moment: float) -> float:
        if not self._recurs:
            return self._first(moment, moment, self._zone)
        # Cronsim gets a clock that is never changed: with one that is, what it finds depends on where it
        # begins, and two processes would have other ticks.
        start, offset = moment, self._offset(moment)
        while True:
            due = self._first(start, moment, timezone(offset))
            change = self._change(start, due, offset)
            if change is None:
                return due
            start, offset = change - 1, self._offset(change)

    def _first(self, start: float, moment: float, zone: tzinfo) -> float:
        """The first tick behind `start`, by the clocks of `zone`, that is later than `moment`."""
        for tick in self._parse(self._expression, datetime.fromtimestamp(math.floor(start), zone)):
            # In the hour that comes twice, what comes next by the clock may have been before.
            if (due := tick.timestamp()) > moment:
                return due
        raise ConfigurationError(f"the cron expression {self._expression!r} names a time that never comes")

    def _change(self, start: float, end: float, offset: timedelta) -> int | None:
        """The first second in which the clocks have another offset than that; None where there is none."""
        while start < end:
            later = min(start + DAY, end)
            if self._offset(later) != offset:
                seconds = range(math.floor(start) + 1, math.ceil(later))
                return bisect_left(seconds, True, key=lambda at: self._offset(at) != offset) + seconds.start
            start = later
        return None

    def _offset(self, moment: float) -> timedelta:
        found = datetime.fromtimestamp(moment, self._zone).utcoffset()
        assert found is not None, "a time zone has one"
        return found


def every(seconds: Any) -> Every:
    """
    Raises:
        ConfigurationError: it is no time, or too short.
    """
    if not is_number(seconds) or not SHORTEST <= seconds < math.inf:
        raise ConfigurationError(f"every() takes {SHORTEST:g} or more seconds, got {seconds!r}")
    return Every(float(seconds))


def cron(expression: Any, tz: Any) -> Cron:
    """
    Raises:
        ConfigurationError: as `Cron`; or there is no such time zone.
    """
    if not isinstance(expression, str):
        raise ConfigurationError(f'cron() takes a text such as "30 9 * * MON-FRI", got {expression!r}')
    if isinstance(tz, str):
        try:
            tz = ZoneInfo(tz)
        except (ValueError, OSError, LookupError):
            raise ConfigurationError(
                f'there is no time zone {tz!r}: say one as "Europe/Berlin"; where the system knows none, '
                "pip install tzdata"
            ) from None
    if not isinstance(tz, tzinfo):
        raise ConfigurationError(f'tz takes the name of a time zone, as "Europe/Berlin", got {tz!r}')
    return Cron(expression, tz)


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
