"""Time that passes at once, for whatever goes by time."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from fastapi import FastAPI

from fastapi_channels import Channel, Connection, action, add_channel, history_router, limiter
from fastapi_channels.testing import clock as clocks
from fastapi_channels.testing import refused, running, timeless

TOMORROW = (datetime.now(UTC) + timedelta(days=1)).date()


class Room(Channel):
    history = 10
    history_ttl = 300.0
    idle_timeout = 7200.0
    routers = (history_router,)

    @limiter(times=1, seconds=60)
    @action()
    async def say(self, text: str, connection: Connection) -> None:
        await self.broadcast(connection.room, "said", text)

    @action(sunset=TOMORROW)
    async def old(self) -> str:
        return "still here"


@timeless
async def test_limits_histories_and_sunsets_go_by_it():
    app = FastAPI()
    add_channel(app)
    Room().mount(app, "/rooms/{channel}")
    async with running(app) as site:
        ann = await site.client("/rooms/lobby")
        await ann.call("say", text="one")
        assert 59 <= ((await refused(ann.call("say", text="two"))).retry_after or 0) <= 60
        await asyncio.sleep(60)
        await ann.call("say", text="two")
        await asyncio.sleep(250)
        kept = await ann.call("history")
        assert [item["data"] for item in kept["items"]] == ["two"]
        assert await ann.call("old") == "still here"
        await asyncio.sleep(7300)
        assert (await ann.expect_close(4008)).reason
        await asyncio.sleep(86_400)
        bob = await site.client("/rooms/lobby")
        assert (await refused(bob.call("old"))).code == "deprecated"


@pytest.mark.parametrize("after", [0.0001, 0.0004, 0.1, 1 / 3, 7.7777])
@timeless
async def test_who_waits_as_long_as_it_was_told_is_let_through(after: float):
    app = FastAPI()
    add_channel(app)
    Room().mount(app, "/rooms/{channel}")
    async with running(app) as site:
        ann = await site.client("/rooms/lobby")
        for _ in range(20):
            await ann.call("say", text="x")
            await asyncio.sleep(after)
            await asyncio.sleep((await refused(ann.call("say", text="x"))).retry_after or 0)


def test_it_ends_with_the_test():
    before, clock = time.monotonic(), time.monotonic

    @timeless
    async def sleeps() -> float:
        begun = time.time()
        await asyncio.sleep(3600)
        for clock, same in ((time.CLOCK_REALTIME, time.time), (time.CLOCK_MONOTONIC, time.monotonic)):
            assert abs(time.clock_gettime(clock) - same()) < 60
        return time.time() - begun

    assert round(sleeps()) == 3600
    assert time.monotonic is clock
    assert time.monotonic() - before < 600


def test_what_nobody_ever_comes_to_is_told_of(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(clocks, "PATIENCE", 0.05)
    app = FastAPI()
    add_channel(app)
    ended: list[str] = []

    @timeless
    async def waits() -> None:
        async with running(app, within=60):
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                ended.append("the test")

    with pytest.raises(AssertionError, match=r"nothing is due.* for 0.05 s. What waits:(.|\n)*waits\(\)"):
        waits()
    assert ended == ["the test"]


@pytest.mark.parametrize(("pause", "passed"), [(0.25, "1.+ s"), (0, "0 s")])
def test_what_goes_round_for_ever_is_told_of(monkeypatch: pytest.MonkeyPatch, pause: float, passed: str):
    monkeypatch.setattr(clocks, "TURNS", 10_000)
    ended: list[str] = []

    async def asks_again() -> None:
        try:
            while True:
                await asyncio.sleep(pause)
        finally:
            await asyncio.sleep(60)
            ended.append("what goes round")

    @timeless
    async def waits() -> None:
        asking = asyncio.create_task(asks_again())
        await asyncio.sleep(1)
        await asyncio.get_running_loop().create_future()
        await asking

    with pytest.raises(AssertionError) as raised:
        waits()
    assert re.search(rf"turned 10000 times, and {passed} have passed in it", str(raised.value))
    timed, waiting = str(raised.value).split("What waits:")
    assert (".asks_again" in timed) == (pause > 0)
    assert "waits()" in waiting
    assert "asks_again()" in waiting
    assert ended == ["what goes round"]


@timeless
async def test_a_thread_may_come_back_where_no_timer_runs():
    loop, called, begun = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def call_back() -> None:
        begun.wait()
        loop.call_soon_threadsafe(called.set)

    thread = threading.Thread(target=call_back)
    thread.start()
    loop.call_soon(begun.set)
    await called.wait()
    thread.join()
