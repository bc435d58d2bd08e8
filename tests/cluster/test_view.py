"""What the members of a room are shown: state and differences, whatever becomes of what is told."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fastapi_channels.cluster import view as module
from fastapi_channels.cluster.view import Change, Difference, View
from fastapi_channels.stores import Occupant


def one(id: str, user: str | None = None, data: str = "null", since: float = 1.0) -> Occupant:
    return Occupant(id, user, "", data, since)


def loaded(*occupants: Occupant, grace: float = 0.0, version: int = 10) -> View:
    view = View(grace)
    view.read()
    view.fill(version, occupants, 0.0)
    view.look(0.0)
    return view


def test_what_is_told_in_order_is_shown():
    view = loaded(one("a.1"))
    view.take(Change(11, [one("a.2")]), 0)
    view.take(Change(12, [one("a.1", data="1")]), 0)
    view.take(Change(13, [one("a.3")]), 0)
    view.take(Change(14, left=["a.2"]), 0)
    assert view.look(0) == Difference([one("a.3")], [one("a.1", data="1")], [])
    assert view.look(0) is None
    assert not view.is_behind


def test_what_was_shown_at_the_last_look_is_known():
    view = loaded(one("a.1"), one("a.2"), one("a.3"))
    before = view.seen
    assert before == view.shown
    view.take(Change(11, [one("a.4"), one("a.1", data="1")]), 0)
    view.take(Change(12, left=["a.2"], gone=["a.3"]), 0)
    assert [*view.shown] == ["a.1", "a.4"]
    assert view.seen == before
    view.look(0)
    assert view.seen == view.shown


def test_of_those_who_were_listed_together_it_is_told_who_has_gone_again():
    view = loaded(one("a.1"))
    view.take(Change(11, [one("a.2"), one("a.3"), one("a.4")]), 0)
    assert [*view.listed(["a.2"])] == ["a.1", "a.2"]
    assert [*view.listed(["a.3", "a.4", "a.5"])] == ["a.1", "a.3", "a.4"]
    view.take(Change(12, gone=["a.2", "a.3"]), 0)
    assert view.look(0) == Difference([one("a.4")], [], ["a.3"]), "nobody but itself was shown a.2"
    view.take(Change(13, [one("a.3")]), 0)
    view.take(Change(14, gone=["a.3"]), 0)
    assert view.look(0) is None


def test_what_comes_too_early_waits_and_what_comes_twice_is_ignored():
    view = loaded()
    view.take(Change(12, left=["a.1"]), 0)
    assert view.is_behind
    assert view.look(0) is None
    view.take(Change(11, [one("a.1"), one("a.2")]), 0)
    view.take(Change(11, [one("a.3")]), 0)
    assert not view.is_behind
    assert view.look(0) == Difference([one("a.2")], [], [])


def test_that_something_was_changed_may_be_all_that_is_told():
    view = loaded()
    view.take(Change(11, None), 0)
    assert view.is_behind
    view.read()
    view.fill(11, [one("a.1")], 0)
    assert not view.is_behind
    assert view.look(0) == Difference([one("a.1")], [], [])


def test_a_store_that_has_lost_something_is_believed():
    view = loaded(one("a.1"), one("a.2"), version=20)
    view.take(Change(25, [one("a.5")]), 0)
    view.read()
    view.fill(15, [one("a.2")], 0)
    assert not view.is_behind, "what was told before is void"
    assert view.look(0) == Difference([], [], ["a.1"])
    view.take(Change(16, [one("a.3")]), 0)
    assert view.look(0) == Difference([one("a.3")], [], [])


def test_what_is_told_while_the_room_is_read_comes_after_it():
    view = loaded()
    view.read()
    view.take(Change(12, [one("a.2")]), 0)
    view.take(Change(11, [one("a.1")]), 0)
    assert not view.shown
    view.fill(11, [one("a.1")], 0)
    assert list(view.shown) == ["a.1", "a.2"]
    view.read()
    view.abandon()
    assert view.is_behind


def test_who_says_nothing_of_itself_is_not_shown():
    view = loaded(one("a.1", data=""))
    assert not view.shown
    view.take(Change(11, [one("a.1"), one("a.2", data="")]), 0)
    assert list(view.shown) == ["a.1"]
    view.take(Change(12, [one("a.1", data="")]), 0)
    assert not view.shown


def test_a_user_who_comes_back_in_time_has_not_left():
    view = loaded(one("a.1", "ann"), one("a.2", "bob"), one("a.3"), grace=5.0)
    view.take(Change(11, left=["a.1", "a.2", "a.3"]), 0.0)
    assert view.look(1.0) == Difference([], [], ["a.3"]), "who has no user cannot be known again"
    assert view.expires == 5.0
    view.take(Change(12, [one("b.1", "ann")]), 2.0)
    assert view.look(2.0) == Difference([one("b.1", "ann")], [], ["a.1"])
    assert view.look(4.9) is None
    assert view.look(5.0) == Difference([], [], ["a.2"])
    assert view.expires is None


def test_who_is_gone_for_good_is_not_shown_any_more():
    view = loaded(one("a.1", "ann"), one("a.2", "bob"), grace=5.0)
    view.take(Change(11, gone=["a.1"]), 0.0)
    view.take(Change(12, left=["a.2"]), 0.0)
    view.take(Change(13, gone=["a.2"]), 0.0)
    assert view.look(0.0) == Difference([], [], ["a.1", "a.2"])


def test_the_same_connection_may_come_back_too():
    view = loaded(one("a.1", "ann"), grace=5.0)
    view.take(Change(11, left=["a.1"]), 0.0)
    view.take(Change(12, [one("a.1", "ann")]), 1.0)
    assert view.look(1.0) is None
    assert view.expires is None
    view.take(Change(13, left=["a.1"]), 6.0)
    assert view.look(10.0) is None
    assert view.look(11.0) == Difference([], [], ["a.1"])


def test_more_than_can_be_held_is_read():
    view = loaded()
    for number in range(module.MAX_HELD + 1):
        view.take(Change(20 + number, [one(f"a.{number}")]), 0)
    assert view.is_behind
    assert not view.is_loaded
    assert view.look(0) is None


class Room:
    """A room of the store, and all that was ever told of it."""

    def __init__(self) -> None:
        self.version = 100
        self.occupants: dict[str, Occupant] = {}
        self.told: list[Change] = []

    def put(self, id: str, data: str) -> None:
        user = id[-1] if id < "c" else None
        occupant = one(id, user, data)
        if self.occupants.get(id) != occupant:
            self.occupants[id] = occupant
            self._tell([occupant])

    def drop(self, id: str, for_good: bool) -> None:
        if self.occupants.pop(id, None) is not None:
            self._tell((), *(((), [id]) if for_good else ([id], ())))

    def _tell(self, *what: Any) -> None:
        self.version += 1
        self.told.append(Change(self.version, *what))


class Client:
    """A client that does what the protocol says: it counts the frames, and asks when one is missing."""

    def __init__(self) -> None:
        self.version: int | None = None
        self.shown: dict[str, tuple[str | None, str]] = {}

    def receive(self, version: int, difference: Difference) -> None:
        if self.version is None or version != self.version + 1:
            self.version = None  # and it asks for the state
            return
        self.version = version
        for occupant in (*difference.joined, *difference.changed):
            self.shown[occupant.id] = occupant.user, occupant.data
        assert {each.id for each in difference.joined}.isdisjoint(difference.left)
        for id in difference.left:
            del self.shown[id]

    def show(self, version: int, shown: dict[str, Occupant]) -> None:
        self.version, self.shown = version, plain(shown)


def plain(shown: dict[str, Occupant]) -> dict[str, tuple[str | None, str]]:
    return {id: (occupant.user, occupant.data) for id, occupant in shown.items()}


IDS = [f"{node}.{number}" for node in "abc" for number in "12"]
STEP: st.SearchStrategy[tuple[Any, ...]] = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(IDS), st.sampled_from(["1", "2", ""])),
    st.tuples(st.just("drop"), st.sampled_from(IDS), st.booleans()),
    st.tuples(st.just("hear"), st.integers(0, 8)),
    st.tuples(st.just("lose"), st.integers(0, 8)),
    st.tuples(st.just("read")),
    st.tuples(st.just("look"), st.booleans()),
    st.tuples(st.just("wait"), st.floats(0.1, 3.0)),
)


@settings(max_examples=400)
@given(steps=st.lists(STEP, max_size=60), grace=st.sampled_from([0.0, 2.0]))
def test_state_and_differences_come_to_what_the_store_has(steps: list[tuple[Any, ...]], grace: float):
    """Whatever is lost, doubled, delayed and swapped between processes; and frames that the client loses it
    notices."""
    room, view, client = Room(), View(grace), Client()
    version, now = 0, 0.0
    reading: tuple[int, list[Occupant]] | None = None

    def look(lost: bool) -> None:
        nonlocal version
        difference = view.look(now)
        if difference is not None:
            version += 1
            if not lost:
                client.receive(version, difference)
        if client.version is None and view.is_loaded:
            client.show(version, view.shown)
        if client.version == version:
            assert client.shown == plain(view.shown)

    for name, *what in steps:
        match name:
            case "put":
                room.put(*what)
            case "drop":
                room.drop(*what)
            case "hear" if room.told:  # a late one, or again one that was heard
                view.take(room.told[-1 - what[0] % len(room.told)], now)
            case "lose" if room.told:
                room.told.pop(what[0] % len(room.told))
            case "read" if reading is None:
                view.read()
                reading = room.version, list(room.occupants.values())
            case "read" if reading is not None:
                view.fill(*reading, now)
                reading = None
            case "look":
                look(*what)
            case "wait":
                now += what[0]
            case _:
                pass
    if reading is not None:
        view.fill(*reading, now)
    view.take(Change(room.version, None), now)
    if view.is_behind:
        view.read()
        view.fill(room.version, room.occupants.values(), now)
    look(lost=True)
    now += grace
    look(lost=False)
    view.take(Change(room.version + 1, [one("z.1", "zoe")]), now)
    look(lost=False)
    if client.version is None:
        client.show(version, view.shown)
    here = {id: each for id, each in room.occupants.items() if each.data}
    assert client.shown == plain(here | {"z.1": one("z.1", "zoe")})
