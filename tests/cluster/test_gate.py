"""The gate of a room with history."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastapi_channels.cluster import gate as gate_module
from fastapi_channels.cluster.gate import Gate, Passed
from fastapi_channels.stores import Page, Record
from fastapi_channels.wire.positions import Position


def record(offset: int, epoch: str = "a") -> Record:
    return Record(offset, f"{epoch}{offset}")


def page(top: int, first: int = 1, *, after: int = 0, limit: int = 1000, epoch: str = "a") -> Page:
    offsets = range(max(first, after + 1), min(top, max(first - 1, after) + limit) + 1)
    return Page(epoch, top, first, [record(offset, epoch) for offset in offsets])


def opened(top: int = 0, epoch: str = "a") -> Gate:
    gate = Gate()
    gate.fill(page(top, after=top, epoch=epoch))
    return gate


def bodies(passed: Passed | None) -> list[object]:
    return [each.body for each in passed.records] if passed is not None else []


def test_what_comes_in_order_passes_at_once():
    gate = opened(4)
    assert gate.take("a", record(5)) == Passed(Position("a", 4), [record(5)])
    assert gate.position == Position("a", 5)
    assert not gate.is_behind


def test_what_comes_twice_passes_once():
    gate = opened(4)
    gate.take("a", record(5))
    assert gate.take("a", record(5)) is None
    assert gate.take("a", record(3)) is None
    assert not gate.is_behind


def test_what_comes_too_early_waits_for_what_is_before_it():
    gate = opened()
    assert gate.take("a", record(3)) is None
    assert gate.take("a", record(2)) is None
    assert gate.is_behind
    assert bodies(gate.take("a", record(1))) == ["a1", "a2", "a3"]
    assert not gate.is_behind


def test_a_gap_is_filled_from_the_store():
    gate = opened(1)
    gate.take("a", record(4))
    assert bodies(gate.fill(page(4, after=1))) == ["a2", "a3", "a4"]
    assert not gate.is_behind


def test_before_the_store_has_answered_everything_waits():
    gate = Gate()
    assert gate.position is None
    assert gate.take("a", record(7)) is None
    passed = gate.fill(page(6, after=6))
    assert (bodies(passed), passed.after, passed.is_lost) == (["a7"], Position("a", 6), False)


def test_what_the_store_does_not_have_any_more_is_lost_and_the_rest_passes():
    gate = opened(1)
    gate.compare(Position("a", 9))
    assert gate.is_behind
    passed = gate.fill(page(9, first=6, after=1))
    assert passed == Passed(Position("a", 5), [record(offset) for offset in range(6, 10)], is_lost=True)
    assert not gate.is_behind


def test_what_the_store_need_not_be_asked_about():
    assert Gate().has_passed(Position("a", 1)), "it will be asked anyway"
    gate = opened(4)
    assert gate.has_passed(Position("a", 4))
    assert not gate.has_passed(Position("a", 5))
    assert not gate.has_passed(Position("b", 1))


def test_a_page_that_is_cut_leaves_it_behind():
    gate = opened()
    gate.compare(Position("a", 5))
    assert bodies(gate.fill(page(5, limit=2))) == ["a1", "a2"]
    assert gate.is_behind
    assert bodies(gate.fill(page(5, after=2, limit=10))) == ["a3", "a4", "a5"]
    assert not gate.is_behind


def test_what_came_while_the_store_was_read_is_not_taken_back():
    gate = opened()
    gate.take("a", record(2))
    gate.take("a", record(1))
    assert bodies(gate.fill(page(2))) == []
    assert gate.position == Position("a", 2)


def test_of_a_top_that_has_passed_nothing_is_wanted():
    gate = opened(5)
    gate.compare(Position("a", 5))
    gate.compare(Position("a", 3))
    assert not gate.is_behind


def test_another_epoch_begins_where_the_store_says_and_what_was_is_lost():
    gate = opened(8)
    gate.take("b", record(3, "b"))
    assert gate.is_behind
    passed = gate.fill(page(2, after=8, epoch="b"))
    assert (passed.after, bodies(passed), passed.is_lost) == (Position("b", 2), ["b3"], True)
    assert not gate.is_behind


def test_a_straggler_of_an_epoch_that_has_ended_is_dropped_by_the_second_answer():
    gate = opened(8, "b")
    gate.take("a", record(3))
    gate.fill(page(8, after=8, epoch="b"))
    assert gate.is_behind, "the answer may be older than what came"
    assert bodies(gate.fill(page(8, after=8, epoch="b"))) == []
    assert not gate.is_behind


def test_without_the_store_what_is_held_passes_with_a_loss():
    gate = opened(1)
    gate.take("a", record(5))
    gate.take("a", record(3))
    assert gate.give_up() == Passed(Position("a", 2), [record(3), record(5)], is_lost=True)
    assert gate.position == Position("a", 5)
    assert not gate.is_behind
    assert gate.give_up() is None


def test_without_the_store_what_came_of_another_epoch_passes():
    gate = Gate()
    gate.take("b", record(3, "b"))
    assert gate.give_up() == Passed(Position("b", 2), [record(3, "b")], is_lost=True)


def test_what_is_held_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gate_module, "MAX_HELD", 2)
    gate = opened()
    for offset in (3, 4, 5):
        gate.take("a", record(offset))
    assert bodies(gate.take("a", record(1))) == ["a1"]
    assert bodies(gate.take("a", record(2))) == ["a2", "a3", "a4"]
    assert gate.is_behind
    assert bodies(gate.fill(page(5, after=4))) == ["a5"]


COUNTS = st.integers(1, 12)
COMING = st.lists(st.one_of(st.none(), st.integers(0, 11)), max_size=40)


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[int, list[int | None]]:
    """How many publications there are, and what comes of them: doubled, swapped, dropped; None: a read."""
    count, coming = draw(COUNTS), draw(COMING)
    return count, [number if number is None else number % count + 1 for number in coming]


@given(deliveries(), st.integers(1, 12), st.integers(1, 5), st.integers(0, 4))
@settings(max_examples=400)
def test_whatever_a_broker_does_publications_pass_in_order_and_once(
    case: tuple[int, list[int | None]], kept: int, limit: int, begin: int
):
    """The model: a store that has had everything up to the newest that came, and keeps the last `kept`."""
    count, coming = case
    begin = min(begin, count)
    gate = opened(begin)
    top, seen, told = begin, begin, 0

    def check(passed: Passed | None) -> None:
        nonlocal seen, told
        if passed is None:
            return
        if passed.is_lost:
            told += 1
            assert passed.after.offset > seen
            seen = passed.after.offset
        for each in passed.records:
            assert each.offset == seen + 1
            seen += 1
        assert gate.position == Position("a", seen)

    def read() -> None:
        position = gate.position
        assert position is not None
        check(gate.fill(page(top, max(1, top - kept + 1), after=position.offset, limit=limit)))

    for offset in coming:
        if offset is None:
            gate.compare(Position("a", top))
            read()
        else:
            top = max(top, offset)
            check(gate.take("a", record(offset)))
    while gate.is_behind:
        read()
    assert seen == top
    if kept >= count:
        assert told == 0
