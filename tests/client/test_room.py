"""What is called in a room, what is told there, and what becomes of both when the connection is lost."""

import asyncio
import gc
import math
import random
from contextlib import suppress
from typing import Any

import pytest

from fastapi_channels import Call, ConfigurationError, Event
from fastapi_channels.client import (
    About,
    ActionError,
    ClientError,
    ConnectionLost,
    Gap,
    NotSent,
    Overflow,
    Refused,
    Room,
    TimedOut,
)
from fastapi_channels.client.settings import MOST_UNTAKEN
from fastapi_channels.cluster.recovery import Reason
from fastapi_channels.testing.clock import now, timeless

from .fake import FakeWire, Frame, World, joined, settle


class Said(Event):
    number: int


class Double(Call[int]):
    number: int


def said(offset: int, epoch: str = "e") -> Frame:
    return {
        "type": "event",
        "event": "said",
        "channel": "lobby",
        "data": {"number": offset},
        "position": f"{epoch}:{offset}",
    }


class Kept(World):
    """A room with history: the world counts, and gives what was missed."""

    def __init__(self) -> None:
        super().__init__(self._arrive)
        self.top = 0

    def publish(self) -> None:
        self.top += 1
        for wire in self.open:
            wire.say(said(self.top))

    def _arrive(self, wire: FakeWire) -> None:
        query = dict(each.split("=") for each in wire.url.partition("?")[2].split("&") if each)
        since = query.get("since", "").replace("%3A", ":")
        at = int(since.partition(":")[2] or self.top)
        recovered = {"recovered": True} if since else {}
        wire.say({"type": "joined", "position": f"e:{at}", "connection": "c.1", **recovered})
        wire.say(*(said(offset) for offset in range(at + 1, self.top + 1)))
        wire.welcome()


@pytest.mark.parametrize(("count", "published"), [(1, 3), (10, 1)])
@timeless
async def test_what_was_missed_is_told_once_also_where_nothing_had_come_before(count: int, published: int):
    """The loss of one connection, and ten losses in a row."""
    world = Kept()
    room = world.client().room("/rooms/{channel}", channel="lobby")
    heard: list[int] = []
    room.on(Said, lambda event: heard.append(event.number))
    await room.ready()
    for _ in range(count):
        world.wire.shut()
        await settle()
        for _ in range(published):
            world.publish()
        await asyncio.sleep(32)
    assert heard == list(range(1, count * published + 1))
    assert "since=e%3A0" in world.wires[1].url
    await room.leave()


@timeless
async def test_an_event_that_comes_twice_is_told_once_and_another_epoch_begins_anew():
    world = Kept()
    room = world.client().room("/a")
    heard: list[Any] = []
    room.on_any(lambda data, about: heard.append((data["number"], about)))
    await room.ready()
    world.wire.say(said(1), said(2), said(1), said(2), said(3), said(1, "f"))
    await settle()
    assert [number for number, _ in heard] == [1, 2, 3, 1]
    assert heard[0][1] == About("said", "lobby", "e:1")
    assert room.position == "f:1"
    await room.leave()


@timeless
async def test_who_leaves_and_joins_in_a_listener_is_told_nothing_twice():
    world = Kept()
    room = world.client().room("/a")
    heard: list[tuple[int, str]] = []

    async def listen(event: Said) -> None:
        heard.append((event.number, room.position))
        await room.leave()
        room.retry()
        await room.ready()

    room.on(Said, listen)
    await room.ready()
    for _ in range(2):
        world.publish()
        await asyncio.sleep(3)
    assert heard == [(1, "e:1"), (2, "e:2")]
    await room.leave()


@timeless
async def test_the_latest_publication_behind_joined_is_told():
    def arrive(wire: FakeWire) -> None:
        wire.say({"type": "joined", "position": "e:7", "connection": "c"}, said(7), said(7))
        wire.welcome()

    world = World(arrive)
    room = world.client().room("/a")
    heard: list[Any] = []
    room.on("said", heard.append)
    await room.ready()
    assert heard == [{"number": 7}]
    await room.leave()


@timeless
async def test_a_position_of_before_is_given_back():
    world = World()
    room = world.client().room("/a?x=1", since="e:5")
    await room.ready()
    assert world.wire.url.endswith("/a?x=1&since=e%3A5")
    await room.leave()


@pytest.mark.parametrize("reason", ["epoch", "expired", "limit"])
@timeless
async def test_who_cannot_get_all_is_told_so(reason: Reason):
    world = Kept()
    room = world.client().room("/a")
    await room.ready()
    gaps: list[Any] = []
    room.on_gap(lambda gap: gaps.append((gap, room.position, room.state)))

    def arrive(wire: FakeWire) -> None:
        wire.say(
            {"type": "joined", "position": "f:9", "connection": "c", "recovered": False, "reason": reason}
        )
        wire.welcome()

    world.arrives = arrive
    world.wire.shut()
    await asyncio.sleep(2)
    assert gaps == [(Gap(reason), "f:9", "joined")]
    await room.leave()


@timeless
async def test_other_gaps():
    world, room = await joined()
    gaps: list[Gap] = []
    places: list[str] = []
    room.on_gap(gaps.append)
    room.on_gap(lambda gap: places.append(room.position))
    before, after = ({"type": "event", "event": "said", "position": place} for place in ("e:3", "e:16"))
    world.wire.say(before, {"type": "lagged", "dropped": 12}, after, {"type": "resync", "position": "g:4"})
    await settle()
    assert places == ["e:3", "g:4"], "from the first the hole can be filled"
    assert room.position == "g:4"
    assert gaps == [Gap("lagged", 12), Gap("resync")]
    await room.leave()


class Lagging:
    """A room that has been told the first event, and then that the others up to the seventh were dropped."""

    def __init__(self, world: World, room: Room) -> None:
        self.world, self.room = world, room
        self.heard: list[int] = []
        self.gaps: list[Gap] = []
        room.on(Said, lambda event: self.heard.append(event.number))
        room.on_gap(self.gaps.append)

    async def say(self, *frames: Frame) -> None:
        self.world.wire.say(*frames)
        await settle()

    async def answer(self, position: str, *frames: Frame, **more: Any) -> None:
        asked = self.world.wire.sent[-1]
        named = {"type": "joined", "request_id": asked["request_id"], "connection": "c.1"}
        await self.say({**named, "position": position, **more}, *frames)


async def lagging() -> Lagging:
    world = Kept()
    room = await world.client().room("/a").ready()
    found = Lagging(world, room)
    lagged = {"type": "lagged", "channel": "a", "dropped": 6, "since": "e:1"}
    await found.say(said(1), lagged, said(8), {**lagged, "since": "e:8"}, said(9))
    assert (found.heard, found.gaps, room.position) == ([1], [], "e:1")
    asked = {key: value for key, value in world.wire.sent[-1].items() if key != "request_id"}
    assert asked == {"type": "join", "since": "e:1", "connection": "c.1"}
    assert [frame["type"] for frame in world.wire.sent] == ["join"], "once"
    return found


@timeless
async def test_what_was_dropped_for_a_slow_client_is_asked_for_in_the_open_room():
    found = await lagging()
    missing = [said(number) for number in range(2, 11)]
    await found.answer("e:1", *missing, said(11), recovered=True)
    assert (found.heard, found.gaps) == ([*range(1, 12)], [])
    assert (found.room.position, found.room.state, len(found.world.wires)) == ("e:11", "joined", 1)
    await found.room.leave()


@timeless
async def test_what_cannot_be_given_is_a_gap_and_what_came_meanwhile_is_told():
    found = await lagging()
    await found.answer("e:9", said(10), recovered=False, reason="limit")
    assert (found.heard, found.gaps, found.room.position) == ([1, 8, 9, 10], [Gap("limit")], "e:10")
    await found.room.leave()


@pytest.mark.parametrize(("code", "again"), [("unavailable", True), ("internal_error", False)])
@timeless
async def test_who_cannot_be_answered_now_asks_again(code: str, again: bool):
    found = await lagging()
    found.world.wire.fail(code)
    await settle()
    if again:
        assert (found.heard, found.gaps) == ([1], [])
        await asyncio.sleep(1.5)
        await found.answer("e:1", *(said(number) for number in range(2, 10)), recovered=True)
        assert (found.heard, found.gaps) == ([*range(1, 10)], [])
    else:
        assert (found.heard, found.gaps, found.room.position) == ([1, 8, 9], [Gap("lagged")], "e:9")
        assert [frame["type"] for frame in found.world.wire.sent] == ["join"]
    await found.room.leave()


@timeless
async def test_who_is_lost_meanwhile_comes_back_from_where_it_was():
    found = await lagging()
    world: Any = found.world
    world.top = 12
    world.wire.shut()
    await asyncio.sleep(3)
    assert "since=e%3A1" in world.wires[1].url
    assert (found.heard, found.gaps) == ([*range(1, 13)], [])
    await asyncio.sleep(3)
    assert [frame for frame in world.wire.sent if frame["type"] == "join"] == []
    await found.room.leave()


@timeless
async def test_too_much_that_comes_meanwhile_is_told_with_a_gap_and_a_late_answer_changes_nothing():
    found = await lagging()
    asked = found.world.wire.sent[-1]
    await found.say(*(said(number) for number in range(10, 10 + MOST_UNTAKEN)))
    heard = [1, *range(8, 10 + MOST_UNTAKEN)]
    assert (found.heard, found.gaps) == (heard, [Gap("lagged")])
    late = {"type": "joined", "request_id": asked["request_id"], "position": "e:1", "recovered": True}
    await found.say(late, *(said(number) for number in range(2, 12)))
    assert (found.heard, found.room.position) == (heard, f"e:{9 + MOST_UNTAKEN}")
    await found.room.leave()


@timeless
async def test_on_a_socket_the_room_is_named():
    world = Desk()
    async with world.client().socket("/desk") as socket:
        room, other = await socket.room("a").ready(), await socket.room("b").ready()
        heard: list[Any] = []
        for each in (room, other):
            each.on_any(lambda data, about: heard.append((about.channel, about.position)))
        event = {"type": "event", "event": "said", "channel": "a", "data": 1, "position": "e:7"}
        lagged = {"type": "lagged", "channel": "a", "dropped": 6, "since": "e:0"}
        world.wire.say(lagged, event, {**event, "channel": "b"})
        await settle()
        assert (world.joins[-1]["channel"], world.joins[-1]["since"]) == ("a", "e:0")
        assert heard == [("b", "e:7")]
        world.wire.say(event)
        await settle()
        assert heard == [("b", "e:7"), ("a", "e:7")]


@timeless
async def test_a_room_without_history_has_a_gap_with_each_loss():
    world, room = await joined()
    gaps: list[Gap] = []
    room.on_gap(gaps.append)
    for _ in range(2):
        world.wire.shut()
        await asyncio.sleep(2)
    assert gaps == [Gap("away")] * 2
    await room.leave()


# Calls


@timeless
async def test_a_reply_and_an_error():
    world, room = await joined()
    call = asyncio.create_task(room.call("say", {"text": "hello"}))
    await settle()
    assert (world.wire.sent[-1]["action"], world.wire.sent[-1]["text"]) == ("say", "hello")
    world.wire.answer({"id": 1})
    assert await call == {"id": 1}
    call = asyncio.create_task(room.call("say"))
    await settle()
    world.wire.fail("rate_limited", retry_after=2.5)
    with pytest.raises(ActionError) as error:
        await call
    assert (error.value.code, error.value.retry_after, error.value.action) == ("rate_limited", 2.5, "say")
    await room.leave()


@timeless
async def test_a_call_has_its_time_and_the_server_is_told_of_its_end():
    world, room = await joined()
    with pytest.raises(TimedOut):
        await room.call("slow")
    await settle()
    assert [frame.get("type") for frame in world.wire.sent] == [None, "cancel"]
    call = asyncio.create_task(room.call("slow", timeout=None))
    await asyncio.sleep(5)
    call.cancel()
    with suppress(asyncio.CancelledError):
        await call
    await settle()
    assert world.wire.sent[-1] == {"type": "cancel", "request_id": world.wire.sent[-2]["request_id"]}
    await room.leave()


@timeless
async def test_of_what_was_sent_and_lost_nobody_knows_and_nothing_is_sent_twice():
    world, room = await joined()
    call = asyncio.create_task(room.call("pay"))
    await settle()
    world.wire.shut()
    with pytest.raises(ConnectionLost):
        await call
    await room.ready()
    await settle()
    assert world.wire.sent == []
    await room.leave()


@timeless
async def test_a_call_that_may_be_repeated_is_with_the_same_id():
    world, room = await joined()
    call = asyncio.create_task(room.call("order", {"article": "tea"}, retry=True))
    await settle()
    (first,) = world.wire.sent
    assert len(first["request_id"]) >= 16
    world.wire.shut()
    await settle()
    await room.ready()
    await settle()
    assert world.wire.sent == [first]
    world.wire.fail("in_progress", retry_after=2)
    await asyncio.sleep(2.1)
    assert world.wire.sent == [first, first]
    world.wire.answer(7)
    assert await call == 7
    await room.leave()


@timeless
async def test_no_two_clients_of_a_user_have_an_id_in_common():
    ids = set()
    for _ in range(2):
        world, room = await joined()
        call = asyncio.create_task(room.call("order", {"article": "tea"}))
        await settle()
        ids.add(world.wire.sent[0]["request_id"])
        world.wire.answer(7)
        await call
        await room.leave()
    assert len(ids) == 2


@timeless
async def test_what_is_called_while_the_room_is_away_waits_for_it():
    world = World(lambda wire: None)
    room = world.client().room("/a")
    early = asyncio.create_task(room.call("say", {"n": 1}))
    late = asyncio.create_task(room.call("say", {"n": 2}, timeout=60))
    with pytest.raises(NotSent):
        await early
    world.arrives = FakeWire.welcome
    await room.ready()
    await settle()
    assert [frame["n"] for frame in world.wire.sent] == [2]
    world.wire.answer("ok")
    assert await late == "ok"
    await room.leave()


@timeless
async def test_what_waits_is_bounded_or_nothing_waits():
    world = World(lambda wire: None)
    client = world.client()
    room = client.room("/a")
    calls = [asyncio.create_task(room.call("say")) for _ in range(65)]
    await settle()
    assert [call.done() for call in calls] == [False] * 64 + [True]
    with pytest.raises(NotSent):
        await client.room("/b").call("say", {"text": "x" * 300_000})
    with pytest.raises(NotSent):
        await world.client(away="fail").room("/c").call("say")
    await client.close()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(each) for each in results} == {NotSent}


@timeless
async def test_a_message_beyond_the_servers_limit_is_not_sent():
    world, room = await joined()
    for text in ("x" * 70_000, "好" * 22_000):
        with pytest.raises(NotSent, match="65536 bytes"):
            await room.call("say", {"text": text})
    assert world.wire.sent == []
    await room.leave()


@timeless
async def test_a_server_that_does_not_read_keeps_nobody_beyond_the_time_of_the_call():
    world, room = await joined()
    world.wire.reads.clear()
    calls = []
    for size in (65_000, 5_000, 500, 0):  # until nothing fits any more
        with suppress(NotSent):
            while True:
                calls.append(asyncio.create_task(room.call("say", {"text": "x" * size}, timeout=0.5)))
                await asyncio.sleep(0)
                if calls[-1].done():
                    calls.pop().result()
    first, *rest = calls
    first.cancel()
    began = now()
    with pytest.raises(asyncio.CancelledError):
        await first
    outcomes = await asyncio.gather(*rest, return_exceptions=True)
    assert {type(each) for each in outcomes} == {TimedOut}
    assert now() - began < 1
    await asyncio.sleep(60)  # nothing is heard: the link is dead
    assert len(world.wires) > 1
    await room.leave()


@timeless
async def test_a_room_that_is_joined_has_nothing_to_retry():
    world, room = await joined()
    room.retry()
    assert room.state == "joined"
    call = asyncio.create_task(room.call("say"))
    await settle()
    world.wire.answer(1)
    assert await call == 1
    await room.leave()


@timeless
async def test_frames_of_an_application_that_are_named_like_ours_are_told_as_they_are():
    world, room = await joined()
    heard: list[Frame] = []
    room.on_frame(heard.append)
    own = {"type": "presence", "users": ["ann"]}
    world.wire.say(own)
    await settle()
    assert heard == [own]
    assert room.state == "joined"
    await room.leave()


# Streams and events


@timeless
async def test_the_time_of_a_stream_is_that_until_its_next_item():
    world, room = await joined()
    feed = room.stream("count", timeout=1)
    for number in range(5):
        await asyncio.sleep(0.9)
        world.wire.answer(number, more=True)
        assert await anext(feed) == number
    with pytest.raises(TimedOut):
        await anext(feed)
    await room.leave()


@timeless
async def test_a_stream_its_end_its_error_and_leaving_it():
    world, room = await joined()
    feed = room.stream("count", {"upto": 2})
    await settle()
    world.wire.answer(0, more=True)
    world.wire.answer(1, more=True)
    world.wire.answer(None, more=False)
    assert [item async for item in feed] == [0, 1]
    feed = room.stream("count")
    await settle()
    world.wire.answer(0, more=True)
    world.wire.fail("internal_error")
    assert await anext(feed) == 0
    with pytest.raises(ActionError):
        await anext(feed)
    with pytest.raises(StopAsyncIteration):
        await anext(feed)
    async with room.stream("count") as items:
        await settle()
        world.wire.answer(0, more=True)
        async for _ in items:
            break
    await settle()
    assert [frame.get("type") for frame in world.wire.sent] == [None, None, None, "cancel"]
    feed = room.stream("count")
    await settle()
    world.wire.shut()
    with pytest.raises(ConnectionLost):
        await anext(feed)
    await room.leave()


@timeless
async def test_a_stream_that_nobody_reads_is_bounded():
    world, room = await joined()
    feed = room.stream("count")
    await settle()
    for number in range(2000):
        world.wire.answer(number, more=True)
    await asyncio.sleep(1)
    assert world.wire.sent[-1]["type"] == "cancel"
    count = 0
    with pytest.raises(Overflow):  # noqa: PT012
        async for _ in feed:
            count += 1
    assert count == 1024
    await room.leave()


def knows_windows(wire: FakeWire) -> None:
    wire.welcome(max_window=65536)


def credits_in(wire: FakeWire) -> list[int]:
    """What was given of the stream that was asked for last."""
    asked = next(frame for frame in reversed(wire.sent) if "action" in frame)
    given = [frame for frame in wire.sent if frame.get("type") == "credit"]
    assert all(frame["request_id"] == asked["request_id"] for frame in given)
    return [frame["count"] for frame in given]


@timeless
@pytest.mark.parametrize("timeout", [0, -1.0, -5, math.nan])
async def test_a_timeout_is_above_zero(timeout: float):
    world, room = await joined()
    with pytest.raises(ConfigurationError, match="above 0"):
        await room.call("say", timeout=timeout)
    with pytest.raises(ConfigurationError, match="above 0"):
        room.stream("count", timeout=timeout)
    assert world.wire.sent == []
    await room.leave()


@timeless
async def test_a_stream_has_a_window_and_gives_credit_for_each_half_that_is_taken():
    world, room = await joined(knows_windows)
    feed = room.stream("count", window=4)
    await settle()
    assert world.wire.sent[-1]["window"] == 4
    request = world.wire.sent[-1]["request_id"]
    head = {"type": "response", "action": "count", "status": "ok", "request_id": request}
    for number in range(4):
        world.wire.say({**head, "data": number, "more": True, "index": number})
    await settle()
    for number, given in enumerate([[], [2], [2], [2, 2]]):
        assert await anext(feed) == number
        await settle()
        assert credits_in(world.wire) == given
    for number in range(4, 6):
        world.wire.say({**head, "data": number, "more": True, "index": number})
    world.wire.say({**head, "data": None, "more": False, "index": 6})
    await settle()
    assert [item async for item in feed] == [4, 5]
    assert credits_in(world.wire) == [2, 2]  # what has ended needs none
    await room.leave()


@timeless
async def test_a_server_that_does_not_know_windows_is_asked_for_all():
    world, room = await joined()
    feed = room.stream("count", window=2)
    await settle()
    assert "window" not in world.wire.sent[-1]
    for number in range(10):
        world.wire.answer(number, more=True)
    assert [await anext(feed) for _ in range(10)] == list(range(10))
    await settle()
    assert len(world.wire.sent) == 1
    await room.leave()


@timeless
async def test_a_stream_without_a_window_is_asked_for_all():
    world, room = await joined(knows_windows)
    feed = room.stream("count", window=None)
    await settle()
    assert "window" not in world.wire.sent[-1]
    await feed.aclose()
    await room.leave()


@timeless
async def test_the_time_of_a_stream_stands_still_while_the_server_may_send_nothing():
    world, room = await joined(knows_windows)
    feed = room.stream("count", window=2, timeout=1)
    await settle()
    for number in range(2):
        world.wire.answer(number, more=True, index=number)
    await asyncio.sleep(20)
    assert await anext(feed) == 0
    await asyncio.sleep(0.9)
    assert await anext(feed) == 1
    with pytest.raises(TimedOut):
        await anext(feed)
    await room.leave()


@pytest.mark.parametrize("more", [True, False])
@timeless
async def test_an_item_that_is_missing_ends_the_stream(more: bool):
    world, room = await joined(knows_windows)
    feed = room.stream("count")
    await settle()
    world.wire.answer(0, more=True, index=0)
    world.wire.answer(2, more=more, index=2)
    assert await anext(feed) == 0
    with pytest.raises(ClientError, match="item 1 of a stream is missing"):
        await anext(feed)
    await settle()
    assert world.wire.sent[-1]["type"] == "cancel"
    await room.leave()


@timeless
async def test_a_stream_that_cannot_be_asked_for_says_so():
    world, room = await joined()
    with pytest.raises(NotSent, match="may have 65536 bytes"):
        await anext(room.stream("count", {"pad": "x" * 65_536}))
    assert world.wire.sent == []
    await room.leave()


@timeless
async def test_a_stream_whose_credit_cannot_be_sent_says_so():
    world, room = await joined(knows_windows)
    feed = room.stream("count", window=1)
    await settle()
    world.wire.answer(0, more=True, index=0)
    await settle()
    world.wire.reads.clear()
    for size in (60_000, 1_000, 1):
        with suppress(NotSent):
            while True:
                room._line.say(room, {"pad": "x" * size})
    assert await anext(feed) == 0
    with pytest.raises(NotSent):
        await anext(feed)
    world.wire.reads.set()
    await room.leave()


@pytest.mark.parametrize("window", [0, -1, 1.5, 1025, float("nan")])
@timeless
async def test_a_window_that_cannot_be_is_refused(window: Any):
    _, room = await joined(knows_windows)
    with pytest.raises(ConfigurationError, match="1 to 1024"):
        room.stream("count", window=window)
    await room.leave()


@timeless
async def test_calling_what_streams_says_so():
    world, room = await joined()
    call = asyncio.create_task(room.call("count"))
    await settle()
    world.wire.answer(0, more=True)
    with pytest.raises(ClientError, match="streams"):
        await call
    await room.leave()


def tell(wire: FakeWire, *numbers: int) -> None:
    for number in numbers:
        wire.say({"type": "event", "event": "said", "channel": "lobby", "data": {"number": number}})


@timeless
async def test_events_by_name_by_type_and_as_a_loop():
    world, room = await joined()
    heard: list[Any] = []
    room.on("said", lambda data: heard.append(data["number"]))
    stop = room.on(Said, lambda event: heard.append(-event.number))
    room.on(Said, lambda event: 1 / 0)
    feed = room.events(Said)
    tell(world.wire, 1, 2)
    await settle()
    stop()
    tell(world.wire, 3)
    await settle()
    await room.leave()
    assert heard == [1, -1, 2, -2, 3]
    assert [event.number async for event in feed] == [1, 2, 3]
    assert [event async for event in room.events(Said)] == []
    assert room._states == []


@timeless
async def test_a_loop_over_a_room_that_is_refused_says_so_at_once():
    world, room = await joined()
    world.wire.shut(4501, "no token")
    await settle()
    for _ in range(2):
        with pytest.raises(Refused, match="no token"):
            await anext(room.events(Said))
    assert room._states == []


@timeless
async def test_what_was_closed_opens_no_connection():
    world = World()
    client = world.client()
    room = client.room("/a")
    async with client:
        socket = client.socket("/desk")
        await socket.own.ready()
        await socket.close()
        with pytest.raises(ClientError, match="socket was closed"):
            socket.room("b")
    for again in (
        lambda: client.room("/a"),
        lambda: client.socket("/desk"),
        lambda: socket.room("b"),
        socket.own.retry,
        room.retry,
    ):
        with pytest.raises(ClientError, match="was closed"):
            again()
    with pytest.raises(ClientError, match="was closed"):
        await client.__aenter__()
    assert world.open == []
    assert (room.state, socket.own.state) == ("left", "left")


@timeless
async def test_a_room_of_a_socket_that_is_refused_is_refused_until_it_is_asked_for_again():
    world = World()
    socket = world.client().socket("/desk")
    await socket.own.ready()
    world.wire.shut(4501, "no token")
    await settle()
    room = socket.room("late")
    with pytest.raises(Refused, match="no token"):
        await room.ready()
    room.retry()
    await asyncio.sleep(2)
    assert world.wire.sent[-1]["channel"] == "late"
    await socket.close()


@timeless
async def test_an_async_listener_hears_one_after_the_other_and_may_call():
    world, room = await joined()
    world.wire.heard = lambda frame: world.wire.answer("done") if "action" in frame else None
    heard: list[Any] = []

    async def listen(event: Said) -> None:
        heard.append((event.number, await room.call("ack")))
        if event.number == 2:
            raise ValueError("mine")

    room.on(Said, listen)
    tell(world.wire, 1, 2, 3)
    await asyncio.sleep(1)
    assert heard == [(1, "done"), (2, "done"), (3, "done")]
    await room.leave()


@timeless
async def test_what_the_server_asks_is_answered():
    world, room = await joined()

    async def ask(call: str) -> Frame:
        world.wire.say({"type": "call", "call": call, "call_id": 1, "data": {"number": 2}})
        await settle()
        return {key: value for key, value in world.wire.sent[-1].items() if key not in ("type", "call_id")}

    def fail(data: Any) -> None:
        raise ValueError("not now")

    async def double(asked: Double) -> int:
        return 2 * asked.number

    stop = room.answer(Double, double)
    room.answer("fail", fail)
    assert await ask("double") == {"data": 4}
    assert await ask("fail") == {"errors": "not now"}
    room.answer("large", lambda data: "x" * 70_000)
    assert "65536 bytes" in (await ask("large"))["errors"]
    stop()
    assert await ask("double") == {"errors": "nobody here answers double"}
    await room.leave()


@timeless
async def test_the_history_is_read_by_pages():
    world, room = await joined()
    pages = [([3, 2], "e:2"), ([1], None)]
    asked: list[Frame] = []

    def heard(frame: Frame) -> None:
        asked.append(frame)
        items, following = pages[len(asked) - 1]
        world.wire.answer(
            {
                "items": [said(offset) for offset in items],
                "position": "e:3",
                "next": following,
                "complete": True,
            }
        )

    world.wire.heard = heard
    found = [[item["data"]["number"] for item in page.items] async for page in room.history(limit=2)]
    assert found == [[3, 2], [1]]
    assert [(frame["action"], frame["limit"], frame.get("since")) for frame in asked] == [
        ("history", 2, None),
        ("history", 2, "e:2"),
    ]
    await room.leave()


@timeless
async def test_frames_of_an_applications_own_are_handed_on():
    world, room = await joined()
    frames: list[Frame] = []
    room.on_frame(frames.append)
    world.wire.say({"action": "message", "user": "ann"})
    await settle()
    assert frames == [{"action": "message", "user": "ann"}]
    await room.leave()


@pytest.mark.parametrize("seed", range(8))
@timeless
async def test_whatever_happens_everything_is_settled_and_nothing_is_left(seed: int):
    chance = random.Random(seed)  # noqa: S311
    world, room = await joined()
    calls: list[asyncio.Task[Any]] = []

    async def read() -> None:
        async with room.stream("count") as items:
            async for _ in items:
                if chance.random() < 0.3:
                    break

    for step in range(60):
        match chance.randrange(9):
            case 0 | 1:
                calls.append(asyncio.create_task(room.call("say", retry=chance.random() < 0.5)))
            case 2:
                calls.append(asyncio.create_task(read()))
            case 3 if world.wire.sent:
                world.wire.answer(step, **({"more": True} if chance.random() < 0.5 else {}))
            case 4 if world.wire.sent:
                world.wire.fail("unavailable")
            case 5 if calls:
                chance.choice(calls).cancel()
            case 6:
                world.wire.shut(1006 if chance.random() < 0.8 else 1008)
            case 7:
                world.wire.dead = True
            case 8:
                room.retry()
            case _:
                pass
        await asyncio.sleep(chance.random() * 8)
    await room.leave()
    await asyncio.sleep(60)
    assert [call for call in calls if not call.done()] == []
    await asyncio.gather(*calls, return_exceptions=True)
    assert (world.open, asyncio.all_tasks()) == ([], {asyncio.current_task()})


# Many rooms on one WebSocket


class Desk(World):
    """
    Attributes:
        frames: the rooms of each join frame.
        filters: names of rooms without a history.
    """

    def __init__(self, **limits: int) -> None:
        super().__init__(self._arrive)
        self.limits = limits
        self.frames: list[list[str]] = []
        self.members: set[str] = set()
        self.joins: list[Frame] = []
        self.refusing: dict[str, str] = {}
        self.filters: tuple[str, ...] = ()

    def _arrive(self, wire: FakeWire) -> None:
        self.members.clear()
        wire.heard = lambda frame: self._heard(wire, frame)
        wire.welcome(**self.limits)

    def _heard(self, wire: FakeWire, frame: Frame) -> None:
        if frame.get("type") == "join":
            rooms = frame.get("channels", [frame])
            self.frames.append([room["channel"] for room in rooms])
            for room in rooms:
                self._hear(wire, {"type": "join", **room})
        else:
            self._hear(wire, frame)

    def _hear(self, wire: FakeWire, frame: Frame) -> None:
        named = {key: frame[key] for key in ("channel", "request_id") if key in frame}
        code = self.refusing.get(frame.get("channel", ""))
        if frame.get("type") == "join" and code:
            wire.say({"type": "response", "action": "join", **named, "code": code, "errors": "no"})
        elif frame.get("type") == "join":
            self.joins.append(frame)
            self.members.add(frame["channel"])
            recovered = {"recovered": True} if "since" in frame else {}
            position = frame.get("since", "e:0")
            kept = {"position": position, "connection": "m", **recovered}
            wire.say({"type": "joined", **named, **({} if frame["channel"] in self.filters else kept)})
        elif frame.get("type") == "ping":
            wire.say({"type": "pong"})
        elif frame.get("type") == "leave":
            self.members.discard(frame["channel"])
            wire.say({"type": "left", **named})


@pytest.mark.parametrize(
    ("limits", "sizes"),
    [
        ({}, [1] * 99),
        ({"max_joins": 100}, [51, 48]),
        ({"max_joins": 40}, [40, 40, 19]),
        ({"max_joins": 100, "max_message_size": 1_000_000}, [99]),
        ({"max_joins": 100, "max_message_size": 1000}, [1] * 99),
    ],
)
@timeless
async def test_a_hundred_rooms_are_joined_again_each_from_where_it_was(
    limits: dict[str, int], sizes: list[int]
):
    """By one frame, or few, where the server takes that; an older one gets a frame for each."""
    world = Desk(**limits)
    async with world.client().socket("/desk") as socket:
        rooms = [socket.room(f"room:{number}") for number in range(100)]
        for room in rooms:
            await room.ready()
        for number, room in enumerate(rooms, 1):
            world.wire.say(
                {"type": "event", "event": "said", "channel": room.name, "position": f"e:{number}"}
            )
        await settle()
        world.wire.shut()
        await settle()
        assert {room.state for room in rooms} == {"joining"}
        await rooms[7].leave()
        world.joins.clear()
        world.frames.clear()
        await asyncio.sleep(2)
        assert [len(rooms) for rooms in world.frames] == sizes
        assert len(world.joins) == len(world.members) == 99
        assert {room.state for room in rooms if room.name != "room:7"} == {"joined"}
        assert "room:7" not in world.members
        assert all(
            (join["since"], join["connection"]) == (f"e:{int(join['channel'][5:]) + 1}", "m")
            for join in world.joins
        )


@timeless
async def test_a_room_on_a_socket_says_why_it_waits():
    world = Desk()
    world.refusing["full"] = "channel_full"
    async with world.client().socket("/desk") as socket:
        room = socket.room("full")
        await settle()
        assert (room.state, room.refusal and room.refusal.code) == ("joining", "channel_full")
        world.refusing.clear()
        await room.ready()
        assert room.refusal is None


@timeless
async def test_what_was_left_is_not_kept():
    world = World()
    client = world.client()
    for number in range(3):
        await (await client.room("/rooms/{channel}", channel=number).ready()).leave()
    await settle()
    gc.collect()
    assert len(client._lines) == 0


@timeless
async def test_an_event_on_a_topic_is_told_in_each_room_whose_filter_it_fits():
    world = Desk()
    async with world.client().socket("/desk") as socket:
        heard: list[str] = []
        names = world.filters = ("sport/+/7", "sport/#", "sport/golf/7", "#", "$SYS/#", "#general")
        gaps: list[str] = []
        for name in names:
            room = await socket.room(name).ready()
            room.on_any(lambda _, about, name=name: heard.append(f"{name} {about.channel}"))
            room.on_gap(lambda _, name=name: gaps.append(name))
        for topic, fitting in (
            ("sport/golf/7", {"sport/+/7", "sport/#", "sport/golf/7", "#"}),
            ("$SYS", {"$SYS/#"}),
            ("#general", {"#general", "#"}),
        ):
            heard.clear()
            world.wire.say({"type": "event", "event": "said", "channel": topic, "data": None})
            await settle()
            assert sorted(heard) == sorted(f"{name} {topic}" for name in fitting)
        world.wire.say({"type": "resync", "channel": "sport/#"})
        world.wire.say({"type": "event", "event": "said", "channel": 7, "data": None})
        await settle()
        assert gaps == ["sport/#"]


@timeless
async def test_a_room_with_a_history_is_no_filter_whatever_its_name():
    """Topics have none: so neither it, nor what is said in it, is about a topic."""
    world = Desk()
    world.filters = ("news/+",)
    async with world.client().socket("/desk") as socket:
        heard: list[str] = []
        for name in ("#", "news/+", "news/today"):
            room = await socket.room(name).ready()
            room.on_any(lambda _, about, name=name: heard.append(f"{name} {about.channel}"))
        said = {"type": "event", "event": "said", "data": None}
        world.wire.say({**said, "channel": "news/today", "position": "e:1"})
        await settle()
        assert heard == ["news/today news/today"]
        heard.clear()
        world.wire.say({**said, "channel": "#", "position": "f:1"})
        await settle()
        assert heard == ["# #"]
        heard.clear()
        world.wire.say({**said, "channel": "news/sport"})
        await settle()
        assert heard == ["news/+ news/sport"]


@timeless
async def test_what_comes_goes_to_the_room_that_it_names():
    world = Desk()
    async with world.client().socket("/desk") as socket:
        a, b = socket.room("a"), socket.room("b")
        heard: list[Any] = []
        for name, room in (("a", a), ("b", b), ("own", socket.own)):
            room.on("said", lambda data, name=name: heard.append((name, data)))
        await b.ready()
        for channel in ("a", "b", "*", "elsewhere"):
            world.wire.say({"type": "event", "event": "said", "channel": channel, "data": channel})
        call = asyncio.create_task(b.call("say"))
        await settle()
        assert heard == [("a", "a"), ("b", "b"), ("own", "*")]
        assert world.wire.sent[-1]["channel"] == "b"
        world.wire.answer(1)
        assert await call == 1
        assert socket.room("a") is a
        await a.leave()
        assert a.state == "joined"
        await a.leave()
        assert a.state == "left"


@timeless
async def test_a_room_that_is_left_and_asked_for_again_at_once_is_joined():
    """Whatever of the one before is answered then."""
    world = Desk()
    async with world.client().socket("/desk") as socket:
        before = socket.room("a")
        await before.ready()
        asked: list[Frame] = []
        world.wire.heard = asked.append

        async def answered(room: Room) -> list[str]:
            await settle()
            states = []
            for frame in asked:
                kind = "joined" if frame["type"] == "join" else "left"
                world.wire.say({"type": kind, "channel": room.name, "request_id": frame["request_id"]})
                await settle()
                states.append(f"{frame['type']} {room.state}")
            asked.clear()
            return states

        await before.leave()
        assert await answered(socket.room("a")) == ["leave joining", "join joined"]
        await socket.room("b").leave()
        again = socket.room("b")
        assert await answered(again) == ["join joining", "leave joining", "join joined"]
        world.wire.say({"type": "left", "channel": "b"})
        await settle()
        assert again.state == "left"


@timeless
async def test_a_room_that_refuses_and_one_that_is_full_now():
    world = Desk()
    world.refusing = {"a": "permission_denied", "b": "channel_full"}
    async with world.client().socket("/desk") as socket:
        never, later, third, fourth = (socket.room(name) for name in "abcd")
        with pytest.raises(Refused) as refused:
            await never.ready()
        assert refused.value.code == "permission_denied"
        with pytest.raises(NotSent):
            await never.call("say")
        world.refusing.clear()
        await later.ready()
        assert never.state == "refused"
        never.retry()
        await never.ready()
        world.wire.say(
            {"type": "left", "channel": "b", "close_code": 1013},
            {"type": "left", "channel": "c", "close_code": 4501, "reason": "language"},
            {"type": "left", "channel": "d"},
        )
        await settle()
        assert [room.state for room in (later, third, fourth)] == ["joining", "refused", "left"]
        await later.ready()


@pytest.mark.parametrize("seed", range(5))
@timeless
async def test_members_of_both_sides_agree_when_it_is_quiet(seed: int):
    chance = random.Random(seed)  # noqa: S311
    world = Desk()
    async with world.client().socket("/desk") as socket:
        here: dict[str, Room] = {}
        for _ in range(60):
            name = chance.choice("abcd")
            if chance.random() < 0.2:
                world.wire.shut()
            elif name in here:
                await here.pop(name).leave()
            else:
                here[name] = socket.room(name)
            await asyncio.sleep(chance.random() * 1.5)
        await asyncio.sleep(60)
        assert world.members == set(here)
        assert {room.state for room in here.values()} <= {"joined"}
