"""Who is told of what passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi_channels.cluster.observer import Observer, Observers


class Timed(Observer):
    def __init__(self) -> None:
        self.took: list[float] = []

    def timer(self, channel: str, spec: Any) -> Callable[[float], None]:
        return self.took.append


def test_an_observer_that_comes_later_is_told_how_long_an_action_takes_that_has_run():
    spec: Any = object()
    first, later = Timed(), Timed()
    told = Observers(first)
    for tell in told.time("room", spec):
        tell(1.0)
    told.add(later)
    assert not told.timers
    for tell in told.time("room", spec):
        tell(2.0)
    assert (first.took, later.took) == ([1.0, 2.0], [2.0])


def test_who_asks_for_nothing_is_told_nothing():
    told = Observers(Observer())
    assert not any(getattr(told, name) for name in Observers.__slots__)
