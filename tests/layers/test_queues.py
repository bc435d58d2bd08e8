"""Messages that wait in their channels."""

import asyncio

import pytest

from fastapi_channels.layers.queues import Queues
from tests.support.live import wait_until


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queues(clock: Clock) -> Queues:
    return Queues(lambda channel: 1 if channel == "tiny" else 3, 100, 10.0, clock)


def test_messages_come_in_order_and_leave_nothing(queues: Queues):
    assert [queues.put("a", text) for text in "123"] == [True, True, True]
    assert [queues.take("a") for _ in range(4)] == ["1", "2", "3", None]
    assert len(queues) == 0


def test_a_full_channel_takes_no_more_and_others_do(queues: Queues):
    assert [queues.put("tiny", "1"), queues.put("tiny", "2"), queues.put("a", "1")] == [True, False, True]
    assert queues.take("tiny") == "1"
    assert queues.put("tiny", "3")


def test_a_channel_is_full_of_bytes_too(queues: Queues, clock: Clock):
    """Those that are taken, or have expired, do not count; text counts as UTF-8."""
    assert [queues.put("a", "é" * 30), queues.put("a", b"x" * 41), queues.put("a", b"x" * 40)] == [
        True,
        False,
        True,
    ]
    assert queues.put("b", "x" * 100)
    assert queues.take("a") == "é" * 30
    queues.put_back("a", "é" * 30)
    assert not queues.put("a", "x")
    queues.take("a")
    assert queues.put("a", "x" * 60)
    clock.now = 10.0
    assert queues.put("a", "x" * 100)


def test_what_no_channel_takes_leaves_nothing(queues: Queues):
    assert not queues.put("a", "x" * 101)
    assert len(queues) == 0


def test_what_has_expired_takes_no_place(queues: Queues, clock: Clock):
    queues.put("tiny", "old")
    clock.now = 10.0
    assert queues.put("tiny", "new")
    assert queues.take("tiny") == "new"


def test_what_has_expired_is_not_received(queues: Queues, clock: Clock):
    queues.put("a", "old")
    clock.now = 5.0
    queues.put("a", "new")
    clock.now = 12.0
    assert [queues.take("a"), queues.take("a")] == ["new", None]


def test_what_nobody_reads_is_dropped_with_time(queues: Queues, clock: Clock):
    queues.put("unread", "old")
    clock.now = 20.0
    queues.put("a", "new")
    assert "unread" not in queues
    assert "a" in queues


def test_what_is_put_back_is_the_next_also_where_it_is_full(queues: Queues):
    queues.put("tiny", "2")
    queues.put_back("tiny", "1")
    assert [queues.take("tiny"), queues.take("tiny")] == ["1", "2"]


def test_what_is_forgotten_is_gone(queues: Queues):
    queues.put("a", "1")
    queues.put("b", "1")
    queues.forget("a")
    assert ("a" in queues, "b" in queues) == (False, True)
    queues.clear()
    assert len(queues) == 0


async def test_who_waits_longest_gets_it(queues: Queues):
    one, two = (asyncio.create_task(queues.get("a")) for _ in range(2))
    await asyncio.sleep(0)
    assert queues.wanted == ["a"]
    assert queues.put("a", "1")
    assert queues.put("a", "2")
    assert [await one, await two] == ["1", "2"]
    assert queues.wanted == []


async def test_who_is_cancelled_loses_nothing(queues: Queues):
    """Also at the moment at which it has been given the message, and has not seen it."""
    waiting = asyncio.create_task(queues.get("a"))
    await wait_until(lambda: queues.wanted)
    queues.put("a", "1")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await queues.get("a") == "1"


async def test_who_waits_in_vain_leaves_nothing(queues: Queues):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await queues.get("a")
    assert queues.wanted == []
    queues.put("a", "1")
    assert queues.take("a") == "1"
