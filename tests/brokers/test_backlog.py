import asyncio
from typing import Any

import pytest
from broadcaster import Event

from fastapi_channels.brokers.backlog import OVERHEAD, Backlog


@pytest.fixture
def backlog() -> Backlog:
    return Backlog()


async def test_messages_are_taken_one_by_one(backlog: Backlog):
    backlog.put("room", "first")
    backlog.put("room", b"second")
    assert await backlog.get() == Event("room", "first")
    assert (await backlog.get()).message == b"second"


async def test_get_waits_for_a_message(backlog: Backlog):
    waiting = asyncio.create_task(backlog.get())
    await asyncio.sleep(0)
    backlog.put("room", "late")
    backlog.put("room", "later")
    assert await waiting == Event("room", "late")
    assert await backlog.get() == Event("room", "later")


async def test_a_get_that_is_given_up_takes_nothing(backlog: Backlog):
    waiting = asyncio.create_task(backlog.get())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait((waiting,))
    backlog.put("room", "kept")
    assert await backlog.get() == Event("room", "kept")


async def test_a_listener_gets_what_is_there_and_what_comes(backlog: Backlog):
    received: list[tuple[str, Any]] = []
    backlog.put("room", "before")
    listening = asyncio.create_task(backlog.listen(lambda *message: received.append(message)))
    await asyncio.sleep(0)
    message = object()
    backlog.put("room", message)
    assert received == [("room", "before"), ("room", message)]
    listening.cancel()
    await asyncio.wait((listening,))
    backlog.put("room", "after")
    assert await backlog.get() == Event("room", "after")
    assert len(received) == 2


async def test_the_oldest_are_dropped_and_the_log_says_so_once(caplog: pytest.LogCaptureFixture):
    backlog = Backlog(limit=3 * (OVERHEAD + 10))
    for number in range(10):
        backlog.put("room", f"{number:010}")
    assert backlog.dropped == 7
    assert [int((await backlog.get()).message) for _ in range(3)] == [7, 8, 9]
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_a_message_beyond_the_limit_is_kept_alone():
    backlog = Backlog(limit=10)
    backlog.put("room", "small")
    backlog.put("room", "x" * 1000)
    assert (await backlog.get()).message == "x" * 1000
    assert backlog.dropped == 1
    backlog.put("room", "small")
    assert (await backlog.get()).message == "small"


async def test_a_failure_comes_after_what_is_there(backlog: Backlog):
    backlog.put("room", "last")
    backlog.fail(ConnectionError("gone"))
    assert await backlog.get() == Event("room", "last")
    for _ in range(2):
        with pytest.raises(ConnectionError, match="gone"):
            await backlog.get()
    backlog.open()
    backlog.put("room", "again")
    assert await backlog.get() == Event("room", "again")


async def test_a_failure_wakes_who_waits(backlog: Backlog):
    waiting = asyncio.create_task(backlog.get())
    await asyncio.sleep(0)
    backlog.fail(ConnectionError("gone"))
    with pytest.raises(ConnectionError, match="gone"):
        await waiting


async def test_a_failure_ends_listening(backlog: Backlog):
    listening = asyncio.create_task(backlog.listen(lambda *_: None))
    await asyncio.sleep(0)
    backlog.fail(ConnectionError("gone"))
    with pytest.raises(ConnectionError, match="gone"):
        await listening


async def test_opening_forgets(backlog: Backlog):
    backlog.put("room", "old")
    backlog.open()
    backlog.put("room", "new")
    assert await backlog.get() == Event("room", "new")
