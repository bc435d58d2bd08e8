"""Who is told of what passes."""

from __future__ import annotations

from typing import Any

from fastapi_channels.cluster.observer import Observer, Observers
from fastapi_channels.operations.figures import Histogram


class Timed(Observer):
    def __init__(self) -> None:
        self.histogram = Histogram((0.5,))

    def timer(self, channel: str, spec: Any) -> Histogram:
        return self.histogram


def test_an_observer_that_comes_later_is_told_how_long_an_action_takes_that_has_run():
    spec: Any = object()
    first, later = Timed(), Timed()
    told = Observers(first)
    assert told.time("room", spec) == (first.histogram,)
    told.add(later)
    assert not told.timers
    assert told.time("room", spec) == (first.histogram, later.histogram)


def test_who_asks_for_nothing_is_told_nothing():
    told = Observers(Observer())
    assert not any(getattr(told, name) for name in Observers.__slots__)
