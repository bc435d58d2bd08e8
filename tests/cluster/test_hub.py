from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastapi_channels.cluster import hub as module
from fastapi_channels.cluster.hub import MAX_COLLECTED, MAX_JOINED, MAX_TURNS, WRITES_A_TURN, Hub, soon
from fastapi_channels.wire.bursts import MAX_WAIT
from fastapi_channels.wire.messages import Frame
from fastapi_channels.wire.traffic import Traffic


class Listener:
    """A member that keeps what it gets.

    Attributes:
        direct: itself; None while frames have to be queued.
    """

    def __init__(self, id: str, direct: bool = True) -> None:
        self.id = id
        self.direct: Listener | None = self if direct else None
        self.stream = b""
        """Everything it got, however it got it."""
        self.writes: list[bytes] = []
        self.pushed: list[Frame] = []
        self.on_frame: Callable[[], Any] = lambda: None

    def write(self, wire: bytes) -> None:
        self.writes.append(wire)
        self.stream += wire
        self.on_frame()

    def send_kept(self, frames: Sequence[Frame]) -> None:
        self.write(b"".join([frame.wire for frame in frames]))

    def push(self, frame: Frame) -> None:
        self.pushed.append(frame)
        self.stream += frame.wire
        self.on_frame()


class Turn:
    """The turn of an event loop: what is to be called when it ends."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []

    def end(self) -> None:
        calls = self.calls.copy()
        self.calls.clear()
        for call in calls:
            call()


@pytest.fixture
def turn() -> Turn:
    return Turn()


@pytest.fixture
def hub(turn: Turn) -> Hub[Listener]:
    return Hub(turn.calls.append)


@pytest.fixture
def ada(hub: Hub[Listener]) -> Listener:
    ada = Listener("ada")
    hub.add("room", ada)
    return ada


def wire(*bodies: str) -> bytes:
    return b"".join(Frame(body).wire for body in bodies)


# Who is where


def test_rooms_have_members(hub: Hub[Listener]) -> None:
    ada, bob = Listener("ada"), Listener("bob")
    assert (list(hub.rooms), hub.count("room"), hub.members("room")) == ([], 0, [])
    hub.add("room", ada)
    hub.add("room", bob)
    hub.add("room", ada)
    hub.add("other", ada)
    assert sorted(hub.rooms) == ["other", "room"]
    assert (hub.count("room"), hub.members("room")) == (2, [ada, bob])


def test_the_last_to_leave_takes_the_room_along(hub: Hub[Listener]) -> None:
    ada, bob = Listener("ada"), Listener("bob")
    hub.add("room", ada)
    hub.add("room", bob)
    assert hub.discard("room", ada) is False
    assert hub.discard("room", ada) is False, "it had left already"
    assert hub.discard("room", bob) is True
    assert hub.discard("room", bob) is False
    assert (list(hub.rooms), hub.count("room")) == ([], 0)


# One write for many frames


def test_what_is_delivered_in_one_turn_leaves_together(hub: Hub[Listener], turn: Turn, ada: Listener) -> None:
    hub.deliver("room", Frame("1"))
    hub.deliver("room", Frame("2"))
    assert (ada.writes, len(turn.calls)) == ([], 1)
    turn.end()
    assert ada.writes == [wire("1", "2")]
    hub.deliver("room", Frame("3"))
    turn.end()
    assert ada.writes[1:] == [wire("3")]
    turn.end()
    assert len(ada.writes) == 2


async def test_the_turn_of_an_event_loop_ends() -> None:
    hub: Hub[Listener] = Hub(soon)
    ada = Listener("ada")
    hub.add("room", ada)
    hub.deliver("room", Frame("1"))
    assert ada.writes == []
    await asyncio.sleep(0)
    assert ada.writes == [wire("1")]


def test_a_single_frame_is_shared_by_all_who_get_it(hub: Hub[Listener], turn: Turn, ada: Listener) -> None:
    bob = Listener("bob")
    hub.add("room", bob)
    frame = Frame("1")
    hub.deliver("room", frame)
    turn.end()
    assert ada.writes[0] is bob.writes[0] is frame.wire


def test_who_cannot_be_written_to_gets_frames_to_queue(hub: Hub[Listener], turn: Turn, ada: Listener) -> None:
    slow = Listener("slow", direct=False)
    hub.add("room", slow)
    frames = [Frame("1"), Frame("2")]
    for frame in frames:
        hub.deliver("room", frame)
    hub.deliver("room", Frame("3"), {"slow"})
    turn.end()
    assert slow.pushed == frames
    assert b"".join(ada.writes) == wire("1", "2", "3")


def test_a_member_may_pause_while_the_room_is_written_to(
    hub: Hub[Listener], turn: Turn, ada: Listener
) -> None:
    def pause() -> None:
        ada.direct = None
        hub.redirect("room", ada)

    bob = Listener("bob")
    hub.add("room", bob)
    ada.on_frame = pause
    for body in ("1", "2"):
        hub.deliver("room", Frame(body))
        turn.end()
    assert (ada.writes, [frame.body for frame in ada.pushed]) == ([wire("1")], ["2"])
    assert bob.writes == [wire("1"), wire("2")]
    ada.on_frame = lambda: None
    ada.direct = ada
    hub.redirect("room", ada)
    hub.redirect("nowhere", ada)
    hub.deliver("room", Frame("3"))
    turn.end()
    assert ada.stream == wire("1", "2", "3")
    assert list(hub.rooms) == ["room"]


def test_runs_end_where_the_room_or_the_exclusion_changes(
    hub: Hub[Listener], turn: Turn, ada: Listener
) -> None:
    hub.add("other", ada)
    for room, body, exclude in [
        *(("room", "1", ()), ("room", "2", ()), ("other", "3", ()), ("room", "4", ())),
        *(("room", "5", {"bob"}), ("room", "6", {"bob"}), ("room", "7", {"ada"}), ("room", "8", ())),
    ]:
        hub.deliver(room, Frame(body), exclude)
    turn.end()
    assert ada.writes == [wire("1", "2"), wire("3"), wire("4"), wire("5", "6"), wire("8")]


def test_nobody_is_there(hub: Hub[Listener], turn: Turn) -> None:
    hub.deliver("room", Frame("1"))
    hub.flush()
    assert turn.calls == []


class Broker:
    """One that brings a burst in parts, as long as `rest` is to come."""

    rest = True


@pytest.fixture
def parts() -> Broker:
    return Broker()


@pytest.fixture
def crowd(turn: Turn, parts: Broker, monkeypatch: pytest.MonkeyPatch) -> tuple[Hub[Listener], Listener]:
    """A hub of such a broker, and one of the many members of its room; the time stands still."""
    monkeypatch.setattr(module, "monotonic", lambda: 0.0)
    hub: Hub[Listener] = Hub(turn.calls.append, lambda: parts.rest)
    listeners = [Listener(f"{number}") for number in range(WRITES_A_TURN * MAX_TURNS * 2)]
    for listener in listeners:
        hub.add("room", listener)
    hub.add("small", listeners[0])
    return hub, listeners[0]


def test_a_burst_that_comes_in_parts_leaves_together(
    crowd: tuple[Hub[Listener], Listener], turn: Turn, parts: Broker
) -> None:
    hub, one = crowd
    hub.deliver("room", Frame("1"))
    turn.end()
    hub.deliver("room", Frame("2"))
    turn.end()
    assert (one.writes, len(turn.calls)) == ([], 1)
    parts.rest = False
    hub.deliver("room", Frame("3"))
    turn.end()
    assert (one.writes, turn.calls) == ([wire("1", "2", "3")], [])
    hub.deliver("room", Frame("4"))
    turn.end()
    assert (one.writes[1:], turn.calls) == ([wire("4")], []), "one that comes alone does not wait"


def test_the_rest_of_a_burst_is_not_waited_for_for_ever(
    crowd: tuple[Hub[Listener], Listener], turn: Turn
) -> None:
    hub, one = crowd
    hub.deliver("room", Frame("1"))
    for _ in range(MAX_TURNS):
        turn.end()
        assert one.writes == []
    turn.end()
    assert (one.writes, turn.calls) == ([wire("1")], [])


def test_turns_that_take_their_time_are_not_waited_for(
    crowd: tuple[Hub[Listener], Listener], turn: Turn, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub, one = crowd
    hub.deliver("room", Frame("1"))
    turn.end()
    assert one.writes == []
    monkeypatch.setattr(module, "monotonic", lambda: MAX_WAIT)
    turn.end()
    assert (one.writes, turn.calls) == ([wire("1")], [])


def test_a_small_room_does_not_wait_for_the_rest(crowd: tuple[Hub[Listener], Listener], turn: Turn) -> None:
    hub, one = crowd
    hub.deliver("small", Frame("1"))
    turn.end()
    assert (one.writes, turn.calls) == ([wire("1")], [])


def test_what_is_sent_to_one_takes_along_what_waits_for_the_rest(
    crowd: tuple[Hub[Listener], Listener], turn: Turn
) -> None:
    hub, one = crowd
    hub.deliver("room", Frame("1"))
    turn.end()
    hub.send([one], Frame("own"))
    assert one.stream == wire("1", "own")
    hub.deliver("room", Frame("2"))
    turn.end()
    hub.keep(one, Frame("reply"))
    assert one.stream == wire("1", "own", "2")
    turn.end()
    assert one.stream == wire("1", "own", "2", "reply")
    assert turn.calls == []


def test_a_write_is_bounded(hub: Hub[Listener], turn: Turn, ada: Listener) -> None:
    for _ in range(3):
        hub.deliver("room", Frame("x" * (MAX_JOINED // 2)))
    hub.deliver("room", Frame("y" * 2 * MAX_JOINED))
    turn.end()
    assert list(map(len, ada.writes)) == [
        len(wire("x" * (MAX_JOINED // 2))) * 2,
        len(wire("x" * (MAX_JOINED // 2))),
        len(wire("y" * 2 * MAX_JOINED)),
    ]


def test_what_is_collected_is_bounded(hub: Hub[Listener], turn: Turn, ada: Listener) -> None:
    hub.deliver("room", Frame("x" * (MAX_COLLECTED - 1)))
    assert ada.writes == []
    hub.deliver("room", Frame("y"))
    assert ada.stream == wire("x" * (MAX_COLLECTED - 1), "y")
    turn.end()
    assert ada.stream == wire("x" * (MAX_COLLECTED - 1), "y")


def test_a_newcomer_gets_nothing_from_before(hub: Hub[Listener], turn: Turn, ada: Listener) -> None:
    hub.deliver("room", Frame("1"))
    late = Listener("late")
    hub.add("room", late)
    hub.deliver("room", Frame("2"))
    assert hub.discard("room", ada) is False
    hub.deliver("room", Frame("3"))
    turn.end()
    assert ada.stream == wire("1", "2")
    assert late.stream == wire("2", "3")


def test_members_may_come_and_go_and_speak_while_they_are_written_to(
    hub: Hub[Listener], turn: Turn, ada: Listener
) -> None:
    bob = Listener("bob", direct=False)
    hub.add("room", bob)

    def react() -> None:
        ada.on_frame = lambda: None
        hub.discard("room", ada)
        hub.add("room", Listener("late"))
        hub.deliver("room", Frame("2"))

    ada.on_frame = react
    hub.deliver("room", Frame("1"))
    turn.end()
    turn.end()
    assert ada.stream == wire("1")
    assert bob.stream == wire("1", "2")


def test_a_room_may_go_while_another_is_written_to(hub: Hub[Listener], turn: Turn, ada: Listener) -> None:
    bob = Listener("bob")
    hub.add("other", bob)
    ada.on_frame = lambda: hub.discard("other", bob)
    hub.deliver("room", Frame("1"))
    hub.deliver("other", Frame("2"))
    turn.end()
    assert (ada.stream, bob.stream) == (wire("1"), b"")
    assert list(hub.rooms) == ["room"]


NAMES = ["ada", "bob", "cy"]
ROOMS = ["r", "s"]
operations = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["add", "discard"]), st.sampled_from(ROOMS), st.sampled_from(NAMES)),
        st.tuples(
            st.just("deliver"),
            st.sampled_from(ROOMS),
            st.sampled_from(["", "x", "é" * 70, "y" * (MAX_JOINED - 10), "z" * MAX_COLLECTED]),
            st.frozensets(st.sampled_from(NAMES), max_size=2),
        ),
        st.tuples(st.just("block"), st.sampled_from(NAMES)),
        st.just(("turn",)),
    ),
    max_size=40,
)


@settings(max_examples=200)
@given(operations)
def test_everybody_gets_what_was_for_them_in_its_order(operations: list[tuple[Any, ...]]) -> None:
    turn = Turn()
    hub: Hub[Listener] = Hub(turn.calls.append)
    listeners = {name: Listener(name) for name in NAMES}
    members: dict[str, set[str]] = {room: set() for room in ROOMS}
    expected = dict.fromkeys(NAMES, b"")
    for operation in operations:
        match operation:
            case ("add", room, name):
                hub.add(room, listeners[name])
                members[room].add(name)
            case ("discard", room, name):
                was_last = members[room] == {name}
                members[room].discard(name)
                assert hub.discard(room, listeners[name]) is was_last
            case ("deliver", room, body, exclude):
                hub.deliver(room, Frame(body, room), exclude)
                for name in members[room] - exclude:
                    expected[name] += wire(body)
            case ("block", name):
                hub.flush()
                listener = listeners[name]
                listener.direct = None if listener.direct else listener
                for room in ROOMS:
                    hub.redirect(room, listener)
            case _:
                turn.end()
        assert set(hub.rooms) == {room for room in ROOMS if members[room]}
        assert all(hub.count(room) == len(members[room]) for room in ROOMS)
    turn.end()
    assert {name: listeners[name].stream for name in NAMES} == expected


def test_what_leaves_is_counted_where_somebody_asked(hub: Hub[Listener], turn: Turn, ada: Listener) -> None:
    hub.add("room", Listener("bob"))
    hub.add("room", Listener("queued", direct=False))
    hub.traffic = Traffic()
    for body in ("one", "three"):
        hub.deliver("room", Frame(body))
    turn.end()
    assert (hub.traffic.sent, hub.traffic.sent_bytes) == (4, 16)
    hub.send([ada, Listener("queued", direct=False)], Frame("two"))
    assert (hub.traffic.sent, hub.traffic.sent_bytes) == (5, 19)
    hub.traffic = None
    hub.send([ada], Frame("two"))
    assert ada.stream == wire("one", "three", "two", "two")


def test_rooms_are_listed_those_with_the_most_members_first(
    hub: Hub[Listener], monkeypatch: pytest.MonkeyPatch
):
    for room, number in (("one", 1), ("three", 3), ("scope\x1ftwo", 2)):
        for each in range(number):
            hub.add(room, Listener(f"{room} {each}"))
    assert hub.listed() == (3, {"three": 3, "scope\x1ftwo": 2, "one": 1})
    assert hub.listed("t") == (2, {"three": 3, "scope\x1ftwo": 2})
    assert hub.listed("scope") == (0, {}), "that is no part of the name"
    monkeypatch.setattr(module, "MAX_LISTED", 1)
    assert hub.listed() == (3, {"three": 3})


# Replies that leave together


def test_replies_leave_together_between_what_is_delivered(
    hub: Hub[Listener], ada: Listener, turn: Turn
) -> None:
    bob = Listener("bob")
    hub.deliver("room", Frame("1"))
    for body in ("2", "3"):
        hub.keep(ada, Frame(body))
        hub.keep(bob, Frame(body))
    assert ada.writes == [wire("1")]
    hub.deliver("room", Frame("4"))
    hub.keep(ada, Frame("5"))
    assert set(hub.bursts.kept) == {ada}
    turn.end()
    assert ada.writes == [wire("1"), wire("2", "3"), wire("4"), wire("5")]
    assert bob.writes == [wire("2", "3")]
    assert not hub.bursts.kept


def test_what_is_written_to_one_comes_behind_its_replies(hub: Hub[Listener], ada: Listener) -> None:
    hub.keep(ada, Frame("1"))
    hub.send([ada], Frame("2"))
    assert ada.writes == [wire("1"), wire("2")]
