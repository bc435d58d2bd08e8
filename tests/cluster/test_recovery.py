"""What a client gets that comes back."""

from __future__ import annotations

import pytest

from fastapi_channels.cluster.recovery import Arrival, Keeping, Since, Successors, Tail, decide, gone, placed
from fastapi_channels.exceptions import ConfigurationError, ParseError
from fastapi_channels.stores import Page, Record, Retention
from fastapi_channels.wire.messages import Envelope, Frame
from fastapi_channels.wire.positions import Position

BEGINS = Position("a", 6)


def keeping(limit: int = 10, size: int = 10_000, *, cache: bool = False) -> Keeping:
    return Keeping(Retention(limit, size, 60), limit, cache, Envelope().place)


def record(offset: int, *, exclude: str = "", user: str = "") -> Record:
    users = frozenset({user} if user else ())
    return Record(offset, f'{{"n":{offset}}}', frozenset({exclude} if exclude else ()), users)


def tail(*records: Record, top: int = 6, kept: int | None = None, of: Keeping | None = None) -> Tail:
    of = of or keeping()
    first = kept if kept is not None else records[0].offset if records else top + 1
    made = Tail(Page("a", top, first, list(records)), of)
    for each in records:
        made.add(each, placed("room", of, "a", each))
    return made


def see(name: str, frame: Frame) -> Frame | None:
    """What a function of that name leaves of a frame."""
    return None if name == "nothing" else Frame(f"{name} {frame.body!r}")


def bodies(arrival: Arrival) -> list[object]:
    return [frame.body for frame in arrival.frames]


def body(offset: int) -> str:
    return f'{{"n":{offset},"position":"a:{offset}"}}'


@pytest.mark.parametrize("position", [None, ""])
def test_who_says_nothing_has_been_nowhere(position: str | None):
    assert Since.read(position, "7.1") is None


def test_a_body_without_a_place_for_a_position():
    keeping().check("{}")
    for wrong in ("", "text", "[]", b"\x00"):
        with pytest.raises(ConfigurationError, match="must be an object"):
            keeping().check(wrong)


def test_who_says_where_it_was():
    assert Since.read("a:4", "7.1") == Since(Position("a", 4), "7.1")
    for none in (None, 7, "", "bogus", "7.", "7.1\n", "7.1.2", "7." + "1" * 10_000):
        assert Since.read("a:4", none) == Since(Position("a", 4))
    with pytest.raises(ParseError):
        Since.read(4, None)


def test_what_is_decided_without_reading():
    assert decide(BEGINS, None, keeping()) == Arrival(BEGINS)
    assert decide(BEGINS, Since(BEGINS), keeping()) == Arrival(BEGINS, recovered=True)
    assert decide(BEGINS, Since(Position("b", 6)), keeping()) == gone(BEGINS, Since(Position("b", 6)))
    ahead = decide(BEGINS, Since(Position("a", 7)), keeping())
    assert ahead == Arrival(BEGINS, recovered=False, reason="epoch")
    late = decide(BEGINS, Since(Position("a", 3)), keeping(2))
    assert late == Arrival(BEGINS, recovered=False, reason="limit")


def test_what_has_to_be_read():
    assert decide(BEGINS, Since(Position("a", 4)), keeping()) is None
    assert decide(BEGINS, None, keeping(cache=True)) is None
    empty = Position("a", 0)
    assert decide(empty, None, keeping(cache=True)) == Arrival(empty)


def test_where_the_history_began_anew_nobody_has_missed_what_it_did_not_ask_for():
    assert gone(BEGINS, None) == Arrival(BEGINS)


def test_what_was_missed_is_between_where_it_was_and_where_it_begins():
    found = tail(*map(record, range(3, 7))).arrival(Position("a", 5), Since(Position("a", 3)), None, see)
    assert (found.position, found.recovered, bodies(found)) == (Position("a", 3), True, [body(4), body(5)])


def test_the_latest():
    found = tail(*map(record, range(3, 7))).arrival(BEGINS, None, None, see)
    assert (found.position, found.recovered, bodies(found)) == (BEGINS, None, [body(6)])
    assert bodies(tail(top=6).arrival(BEGINS, None, None, see)) == []


def test_what_is_not_there_any_more():
    since = Since(Position("a", 1))
    assert tail(record(5), record(6)).arrival(BEGINS, since, None, see).reason == "expired"
    assert tail(record(5), record(6), kept=1).arrival(BEGINS, since, None, see).reason == "limit"
    assert tail(top=6).arrival(BEGINS, since, None, see).reason == "expired"


def test_what_was_kept_from_a_connection_or_else_from_a_user():
    kept = tail(record(4, exclude="7.1", user="ann"), record(5), record(6, exclude="7.2", user="ann"))
    after = Position("a", 3)
    assert bodies(kept.arrival(BEGINS, Since(after, "7.1"), "ann", see)) == [body(5), body(6)]
    assert bodies(kept.arrival(BEGINS, Since(after), "ann", see)) == [body(5)]
    assert bodies(kept.arrival(BEGINS, Since(after), "bob", see)) == [body(4), body(5), body(6)]
    assert bodies(kept.arrival(BEGINS, Since(after), None, see)) == [body(4), body(5), body(6)]


def test_what_comes_is_added_and_the_oldest_goes():
    of = keeping(2)
    found = tail(record(5), record(6), of=of)
    for each in (record(6), record(8), record(7)):
        found.add(each, placed("room", of, "a", each))
    assert found.top == 7
    assert bodies(found.arrival(Position("a", 7), Since(Position("a", 5)), None, see)) == [body(6), body(7)]
    assert found.arrival(Position("a", 7), Since(Position("a", 4)), None, see).recovered is False


def test_its_bytes_are_bounded_but_for_the_newest():
    found = tail(record(5), record(6), of=keeping(size=3))
    assert bodies(found.arrival(BEGINS, Since(Position("a", 5)), None, see)) == [body(6)]
    assert found.arrival(BEGINS, Since(Position("a", 4)), None, see).recovered is False


def test_what_functions_leave_of_it_and_the_latest_alike():
    kept = tail(*(record(offset)._replace(for_each=name) for offset, name in ((5, "less"), (6, "nothing"))))
    assert bodies(kept.arrival(BEGINS, Since(Position("a", 4)), None, see)) == [f"less {body(5)!r}"]
    assert bodies(kept.arrival(BEGINS, None, None, see)) == []
    assert bodies(kept.arrival(Position("a", 5), None, None, see)) == [f"less {body(5)!r}"]


def test_who_came_back_is_meant_by_the_id_of_before():
    successors = Successors()
    some = frozenset({"ada.1", "bob.1"})
    assert successors.also(some) is some
    successors.add("ada.1", "ada.2")
    assert successors.also(frozenset()) == frozenset()
    assert successors.also(some) == {"ada.1", "ada.2", "bob.1"}
    successors.discard("ada.2")
    assert successors.also(some) == some


def test_the_latest_is_meant_whatever_of_one_client_ends_first():
    successors = Successors()
    successors.add("ada.1", "ada.2")
    successors.add("ada.1", "ada.3")
    successors.discard("ada.2")
    assert successors.also(frozenset({"ada.1"})) == {"ada.1", "ada.3"}
    successors.discard("nobody")
    successors.discard("ada.3")
    assert successors.also(frozenset({"ada.1"})) == {"ada.1"}
