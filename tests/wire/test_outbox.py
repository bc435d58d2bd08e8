from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.wire.messages import Frame
from fastapi_channels.wire.outbox import DEFAULT_LIMIT, OVERHEAD, Gap, Item, Lagged, Outbox, SlowPolicy
from fastapi_channels.wire.traffic import Traffic

LIMIT = 10 * OVERHEAD
POLICIES: list[SlowPolicy] = list(get_args(SlowPolicy))


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """For futures; it never runs."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def frame(body: str = "", room: str = "room") -> Frame:
    return Frame(body, room)


def drained(outbox: Outbox) -> list[Item]:
    return list(iter(outbox.pop, None))


def cost(frame: Frame) -> int:
    return frame.size + OVERHEAD


class Model:
    """The outbox as one would write it without a thought for speed, and what came out of the real one."""

    def __init__(self, policy: SlowPolicy, loop: asyncio.AbstractEventLoop) -> None:
        self.outbox = Outbox(LIMIT, policy)
        self.policy = policy
        self.loop = loop
        self.queued: list[Item] = []
        self.numbers: dict[Frame, int] = {}
        """Each frame's place among those of its room."""
        self.counts: dict[str, int] = {}
        """How many frames were put, by room."""
        self.seen: dict[str, int] = {}
        """How many of them the client knows of: it got them, or was told that they are missing."""
        self.waiters: list[asyncio.Future[bool]] = []

    @property
    def frames(self) -> list[Frame]:
        return [item for item in self.queued if isinstance(item, Frame) and item.room]

    @property
    def size(self) -> int:
        return sum(map(cost, self.frames))

    def put(self, room: str, length: int) -> None:
        new = frame("x" * length, room)
        full = bool(self.frames) and self.size + cost(new) > LIMIT
        kept = self.outbox.put(new)
        assert kept is (not full or self.policy != "disconnect")
        if not kept:
            return
        self.numbers[new] = self.counts.get(room, 0)
        self.counts[room] = self.numbers[new] + 1
        if full and self.policy == "drop_newest":
            return
        while self.frames and self.size + cost(new) > LIMIT:
            self.queued.remove(self.frames[0])
        self.queued.append(new)

    def reply(self) -> None:
        self._put_last(Frame("reply"))

    def event(self) -> None:
        self._put_last({"type": "websocket.send", "text": "raw"})

    def wait(self, impatient: bool) -> None:
        waiter: asyncio.Future[bool] = self.loop.create_future()
        self._put_last(waiter)
        self.waiters.append(waiter)
        if impatient:
            waiter.cancel()

    def _put_last(self, item: Item) -> None:
        self.outbox.put_last(item)
        self.queued.append(item)

    def pop(self) -> bool:
        item = self.outbox.pop()
        if isinstance(item, Lagged):
            assert item.dropped > 0
            self.seen[item.room] = self.seen.get(item.room, 0) + item.dropped
        elif item is None:
            assert not self.queued
        else:
            assert item is self.queued.pop(0)
            self._arrive(item)
        return item is not None

    def _arrive(self, item: Item) -> None:
        if isinstance(item, Frame) and item.room:
            assert self.numbers[item] == self.seen.get(item.room, 0), "a gap that was not announced before it"
            self.seen[item.room] = self.numbers[item] + 1
        elif isinstance(item, asyncio.Future) and not item.done():
            item.set_result(True)

    def clear(self) -> None:
        waiting = [waiter for waiter in self.waiters if not waiter.done()]
        self.outbox.clear()
        self.queued.clear()
        self.seen = dict(self.counts)
        assert all(waiter.done() for waiter in self.waiters)
        assert not any(waiter.result() for waiter in waiting), "they did not leave"
        assert self.outbox.pop() is None

    def check(self) -> None:
        assert self.outbox.size == self.size
        assert self.size <= LIMIT or len(self.frames) == 1
        assert len(self.outbox) >= len(self.queued)


operations = st.lists(
    st.one_of(
        st.tuples(
            st.just("put"), st.sampled_from("ab"), st.sampled_from([0, 1, OVERHEAD, LIMIT // 2, 2 * LIMIT])
        ),
        st.tuples(st.just("put"), st.sampled_from("ab"), st.integers(0, LIMIT // 3)),
        st.sampled_from([("reply",), ("event",), ("wait", False), ("wait", True)]),
        st.sampled_from([("pop",), ("pop",), ("pop",), ("clear",)]),
    ),
    max_size=60,
)


@pytest.mark.parametrize("policy", POLICIES)
@settings(max_examples=300)
@given(operations=operations)
def test_any_interleaving(
    policy: SlowPolicy, operations: list[tuple[Any, ...]], loop: asyncio.AbstractEventLoop
) -> None:
    """Order is kept, the bound holds, every gap is announced where it is, and nobody waits for ever."""
    model = Model(policy, loop)
    for name, *arguments in operations:
        getattr(model, name)(*arguments)
        model.check()
    while model.pop():
        model.check()
    assert model.seen == model.counts, "the last gap was not announced"
    assert all(waiter.done() for waiter in model.waiters)
    assert len(model.outbox) == model.outbox.size == 0


def test_disconnect_keeps_what_is_queued() -> None:
    outbox = Outbox(2 * OVERHEAD, "disconnect")
    first, second = frame(), frame()
    assert outbox.put(first)
    assert outbox.put(second)
    assert not outbox.put(frame())
    assert drained(outbox) == [first, second]


def test_drop_oldest_says_what_is_missing_where_it_is_missing() -> None:
    outbox = Outbox(2 * OVERHEAD, "drop_oldest", traffic := Traffic())
    frames = [frame(room=room) for room in "aabab"]
    for each in frames[:2]:
        outbox.put(each)
    outbox.put_last(reply := Frame("reply"))
    for each in frames[2:]:
        outbox.put(each)
    first, said, second, fourth, fifth = drained(outbox)
    assert (_told(first), said, _told(second)) == (("a", 2), reply, ("b", 1))
    assert [fourth, fifth] == frames[3:]
    assert (traffic.dropped_oldest, traffic.dropped_newest) == (3, 0)


def test_what_is_dropped_is_counted_by_its_policy() -> None:
    outbox = Outbox(OVERHEAD, "drop_newest", traffic := Traffic())
    for _ in range(3):
        outbox.put(frame())
    assert (traffic.dropped_oldest, traffic.dropped_newest, traffic.dropped) == (0, 2, 2)


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest"])
def test_what_is_missing_stands_behind_what_was_said_before(policy: SlowPolicy) -> None:
    """As the `joined` of a room that was left and joined again: both sides tell the two stays apart."""
    outbox = Outbox(1, policy)
    for _ in range(2):
        for _ in range(3):
            outbox.put(frame())
        outbox.put_last(Frame("joined"))
    outbox.put(frame())
    told = [item.dropped if isinstance(item, Lagged) else item for item in drained(outbox)]
    if policy == "drop_newest":
        kept, first, said, second, again, last = told
        assert (first, second, last) == (2, 3, 1)
    else:
        first, said, second, again, kept = told
        assert (first, second) == (3, 3)
    assert [each.body for each in (kept, said, again) if isinstance(each, Frame)] == ["", "joined", "joined"]


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest"])
def test_the_position_before_the_first_that_is_missing_is_named(policy: SlowPolicy) -> None:
    outbox = Outbox(1, policy)
    for position in ("e:6", "", "e:7", "e:9"):
        outbox.put(Frame("", "room", position))
    outbox.put(Frame("", "other"))
    notices = {item.room: item for item in drained(outbox) if isinstance(item, Lagged)}
    if policy == "drop_newest":
        assert (notices["room"].since, notices["room"].dropped) == ("e:6", 3)
        assert (notices["other"].since, notices["other"].dropped) == ("", 1)
    else:
        assert (notices["room"].since, notices["room"].dropped) == ("e:5", 4)


def test_drop_newest_says_what_is_missing_where_it_is_missing() -> None:
    outbox = Outbox(2 * OVERHEAD, "drop_newest")
    frames = [frame(str(number)[:0]) for number in range(6)]
    for each in frames[:4]:
        assert outbox.put(each)
    assert outbox.pop() is frames[0]
    outbox.put(frames[4])
    outbox.put(frames[5])
    assert outbox.pop() is frames[1]
    assert _told(outbox.pop()) == ("room", 2)
    assert outbox.pop() is frames[4]
    assert _told(outbox.pop()) == ("room", 1)
    assert outbox.pop() is None


def _told(item: Item | None) -> tuple[str, int]:
    assert isinstance(item, Lagged)
    return item.room, item.dropped


@pytest.mark.parametrize("policy", POLICIES)
def test_one_frame_larger_than_the_bound_passes_alone(policy: SlowPolicy) -> None:
    outbox = Outbox(1, policy)
    assert outbox.put(large := frame("x" * 1000))
    assert drained(outbox) == [large]


@pytest.mark.parametrize("policy", POLICIES)
def test_empty_frames_are_bounded_too(policy: SlowPolicy) -> None:
    outbox = Outbox(DEFAULT_LIMIT, policy)
    for _ in range(20_000):
        outbox.put(frame())
    assert len(outbox) < 10_000


@pytest.mark.parametrize("policy", POLICIES)
def test_what_is_waited_for_is_not_bounded(policy: SlowPolicy) -> None:
    outbox = Outbox(1, policy)
    replies = [Frame("x" * 1000) for _ in range(3)]
    for reply in replies:
        outbox.put_last(reply)
    assert outbox.size == 0
    assert drained(outbox) == replies


@pytest.mark.parametrize(
    ("limit", "policy"), [(0, "disconnect"), (-1, "drop_oldest"), (1, "drop_all"), (1, None)]
)
def test_settings_that_cannot_work(limit: int, policy: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"at least 1 byte, got|expected one of .* got the policy"):
        Outbox(limit, policy)


def test_what_a_room_has_sent_can_be_withdrawn():
    box = Outbox(1000)
    box.put(Frame("one", "tea"))
    box.put(Frame("two", "coffee"))
    box.put_last(Frame("three"))
    box.withdraw("tea")
    assert box.size == 3 + OVERHEAD
    assert [item.body for item in iter(box.pop, None) if isinstance(item, Frame)] == ["two", "three"]
    assert box.size == 0


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest"])
def test_what_was_dropped_of_a_room_is_withdrawn_with_the_rest(policy: SlowPolicy):
    box = Outbox(1, policy)
    for _ in range(2):
        for room in ("tea", "coffee"):
            box.put(Frame("", room))
    box.withdraw("tea")
    told = [_told(item) for item in drained(box) if isinstance(item, Lagged)]
    assert told == [("coffee", 1 if policy == "drop_oldest" else 2)]


async def test_a_gap_is_filled_once_and_keeps_its_place():
    box = Outbox(1000)
    gap = Gap()
    box.put_last(gap)
    box.put(Frame("one", "tea"))
    gap.fill(Frame("joined"))
    assert box.pop() is gap
    assert [frame.body for frame in gap.filled.result()] == ["joined"]
