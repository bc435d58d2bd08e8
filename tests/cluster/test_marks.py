"""High-water marks; what they are for is in `test_history.py`."""

from __future__ import annotations

from fastapi_channels.cluster import marks
from fastapi_channels.cluster.marks import Marks
from fastapi_channels.wire.positions import Position


def test_the_highest_of_an_epoch_is_kept_and_of_another_the_last():
    known = Marks()
    for epoch, offset in (("a", 2), ("a", 1)):
        known.note("room", Position(epoch, offset))
    assert known.get("room") == Position("a", 2)
    known.note("room", Position("b", 1))
    assert known.get("room") == Position("b", 1)


def test_those_that_were_noted_last_are_kept():
    known = Marks()
    for number in range(marks.MOST + 1):
        known.note(f"{number}", Position("a", 1))
        known.note("1", Position("a", number))
    assert len(known) == marks.MOST
    assert (known.get("0"), known.get("1")) == (None, Position("a", marks.MOST))
