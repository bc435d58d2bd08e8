from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from fastapi_channels.wire import bursts as module
from fastapi_channels.wire.bursts import MAX_KEPT, MAX_WAIT, Bursts


class Line:
    """A connection that writes down what it is given, and when."""

    def __init__(self) -> None:
        self.writes: list[list[str]] = []

    def send_kept(self, frames: Sequence[str]) -> None:
        self.writes.append(list(frames))


@pytest.fixture
def ends() -> list[Callable[[], None]]:
    """What is called at the end of the turn."""
    return []


@pytest.fixture
def bursts(ends: list[Callable[[], None]]) -> Bursts[str]:
    return Bursts(ends.append)


def test_each_gets_its_own_together_when_the_turn_ends(
    bursts: Bursts[str], ends: list[Callable[[], None]]
) -> None:
    ada, bob = Line(), Line()
    for frame in ("1", "2"):
        bursts.keep(ada, frame, 1)
        bursts.keep(bob, frame, 1)
    assert set(bursts.kept) == {ada, bob}
    assert ada.writes == []
    assert len(ends) == 1, "one call for all"
    ends.pop()()
    assert ada.writes == bob.writes == [["1", "2"]]
    assert not bursts.kept
    bursts.keep(ada, "3", 1)
    ends.pop()()
    assert ada.writes[1:] == [["3"]]


def test_nothing_is_sent_twice(bursts: Bursts[str], ends: list[Callable[[], None]]) -> None:
    ada = Line()
    bursts.keep(ada, "1", 1)
    bursts.flush()
    ends.pop()()
    assert ada.writes == [["1"]]


def test_the_bytes_are_bounded(bursts: Bursts[str]) -> None:
    ada = Line()
    bursts.keep(ada, "1", MAX_KEPT - 1)
    assert ada.writes == []
    bursts.keep(ada, "2", 1)
    assert ada.writes == [["1", "2"]]
    bursts.keep(ada, "3", MAX_KEPT - 1)
    assert len(ada.writes) == 1


def test_nobody_waits_for_what_takes_its_time(bursts: Bursts[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(module, "monotonic", lambda: now)
    ada = Line()
    bursts.keep(ada, "1", 1)
    bursts.keep(ada, "2", 1)
    assert ada.writes == []
    now = 2 * MAX_WAIT
    bursts.keep(ada, "3", 1)
    assert ada.writes == [["1", "2", "3"]]
