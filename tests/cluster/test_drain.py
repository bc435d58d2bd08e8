"""Letting the WebSockets of a process go: a few at a time, told before, with what runs finished."""

from __future__ import annotations

import asyncio
import json
import math
from collections import Counter
from typing import Any

import pytest
from fastapi import FastAPI

from fastapi_channels import BaseChannel, Channel, ConfigurationError, Connection, Socket, action, add_channel
from fastapi_channels.cluster.drain import TICK, Drain
from fastapi_channels.testing.clock import now, timeless
from tests.support.live import serving, wait_until


class Room(Channel):
    def __init__(self) -> None:
        super().__init__()
        self.left: list[int | None] = []
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()
        self.add_event_handler("leave", self.remember)

    async def remember(self, connection: Connection, code: int | None) -> None:
        self.left.append(code)

    @action()
    async def work(self) -> str:
        self.begun.set()
        await self.go_on.wait()
        return "done"

    @action()
    async def quick(self) -> str:
        return "quick"


def application(room: BaseChannel | None = None, **settings: Any) -> FastAPI:
    app = FastAPI()
    add_channel(app, health_url="/health", **settings)
    (room or Room()).mount(app, "/{channel}")
    Socket(Room()).mount(app, "/many/rooms")
    return app


async def test_a_client_is_told_then_closed_with_1012():
    room = Room()
    async with serving(application(room)) as site, site.connect("/tea") as ada:
        await site.node.drain(0.2)
        told = await ada.receive()
        delay = told.pop("retry_after")
        assert told == {"type": "drain", "within": 1.01}, "the window, and what an action gets to finish"
        assert 1.0 <= delay <= 2.0
        assert await ada.closed() == (1012, f"restart; retry_after={delay:g}")
        await wait_until(lambda: room.left == [1012])
        assert not site.node.sessions


async def test_a_client_of_many_rooms_is_told_too():
    async with serving(application()) as site, site.connect("/many/rooms") as ada:
        await ada.send({"type": "join", "channel": "tea"})
        assert (await ada.receive())["type"] == "joined"
        await site.node.drain(0.2)
        assert (await ada.receive())["type"] == "drain"
        assert (await ada.closed()).code == 1012


async def test_a_room_that_relays_gets_no_frame_of_ours():
    async with serving(application(BaseChannel())) as site, site.connect("/tea") as ada:
        await site.node.drain(0.2)
        assert await ada.rest() == []
        assert ada.socket.close_code == 1012


async def test_what_runs_is_finished_and_replied_to():
    room = Room()
    async with serving(application(room)) as site, site.connect("/tea") as ada:
        await ada.send({"action": "work", "request_id": 1})
        await asyncio.wait_for(room.begun.wait(), 30)
        drain = asyncio.create_task(site.node.drain(0.2))
        assert (await ada.receive())["type"] == "drain"
        room.go_on.set()
        assert (await ada.receive())["data"] == "done"
        assert (await ada.closed()).code == 1012
        await drain


async def test_what_does_not_finish_is_not_waited_for():
    room = Room()
    room.finish_timeout = 0.05
    async with serving(application(room)) as site, site.connect("/tea") as ada:
        await ada.send({"action": "work", "request_id": 1})
        await asyncio.wait_for(room.begun.wait(), 30)
        await asyncio.wait_for(site.node.drain(0.2), 30)
        assert (await ada.closed()).code == 1012


async def test_nobody_comes_in_any_more_and_is_told_when_to_come_back():
    async with serving(application(retry_after=2.5)) as site:
        await site.node.drain(0)
        refusal = await site.refusal("/tea")
        assert refusal.status == 503
        assert (refusal.body["code"], refusal.body["retry_after"]) == ("unavailable", 2.5)


async def test_who_was_let_in_meanwhile_is_closed_at_once():
    """Whether a client may come in can take longer than all of the drain."""
    asked, go_on = asyncio.Event(), asyncio.Event()

    class Slow(Room):
        async def authorize(self, connection: Connection) -> bool:
            asked.set()
            await go_on.wait()
            return True

    room = Slow()
    async with serving(application(room)) as site:
        entering = asyncio.create_task(site.connect("/tea").__aenter__())
        await asked.wait()
        await site.node.drain(0)
        go_on.set()
        ada = await entering
        assert await ada.closed() == (1012, "restart; retry_after=1")
        await wait_until(lambda: not site.node.sessions)
        assert room.left == []


class Leaver:
    """A client, and when it was told and closed."""

    finish_timeout = 1.0
    works = False

    def __init__(self, open_ones: set[Leaver]) -> None:
        self._open = open_ones
        open_ones.add(self)
        self.told = (0.0, 0.0)
        self.gone = math.inf
        self.asked_when_gone = 0

    @property
    def is_working(self) -> bool:
        self.asked_when_gone += self not in self._open
        return self.works

    def announce(self, within: float, retry_after: float) -> None:
        self.told = (within, retry_after)

    async def go(self, retry_after: float) -> None:
        assert retry_after == self.told[1]
        assert self in self._open, "it has gone already"
        self.gone = now()
        self._open.discard(self)


@timeless
@pytest.mark.parametrize(
    ("count", "seconds", "window"), [(3000, 10.0, 10.0), (300, 10.0, 3.0), (1000, 0.5, 0.5), (1, 10.0, 0.01)]
)
async def test_many_are_spread_over_the_window(count: int, seconds: float, window: float):
    """At least a hundred a second, so that few do not wait for nothing; within the window however many."""
    open_ones: set[Leaver] = set()
    leavers = [Leaver(open_ones) for _ in range(count)]
    began = now()
    await Drain(open_ones, 5.0).run(seconds)
    assert not open_ones
    assert all(leaver.told[0] == pytest.approx(window + leaver.finish_timeout) for leaver in leavers)
    delays = [leaver.told[1] for leaver in leavers]
    assert 5.0 <= min(delays) <= max(delays) <= 10.0
    assert len(set(delays)) > count / 10, "by chance, so that they do not come back in one moment"
    batches = Counter(round(leaver.gone - began, 3) for leaver in leavers)
    assert max(batches) <= window
    assert max(batches.values()) <= max(1, 1.5 * count * TICK / window)


@timeless
async def test_who_works_is_waited_for_no_longer_than_it_may():
    open_ones: set[Leaver] = set()
    leaver = Leaver(open_ones)
    leaver.works = True
    began = now()
    await Drain(open_ones, 1.0).run(10.0)
    assert leaver.gone - began == pytest.approx(leaver.finish_timeout, abs=TICK)


@timeless
async def test_who_has_left_meanwhile_is_asked_nothing():
    """As all have, when a second SIGTERM lets uvicorn close them at once."""
    open_ones: set[Leaver] = set()
    leavers = [Leaver(open_ones) for _ in range(300)]
    for leaver in leavers:
        leaver.works = True
    drain = asyncio.create_task(Drain(open_ones, 1.0).run(10.0))
    await asyncio.sleep(0.5)
    open_ones.clear()
    await drain
    assert [leaver for leaver in leavers if leaver.asked_when_gone or leaver.gone < math.inf] == []


async def test_a_second_call_waits_for_the_first():
    async with serving(application()) as site, site.connect("/tea") as ada:
        await asyncio.gather(site.node.drain(0.1), site.node.drain(5.0))
        assert [json.loads(frame)["type"] for frame in await ada.rest()] == ["drain"]


@pytest.mark.parametrize("seconds", [-1, math.inf, math.nan, "10", True])
@pytest.mark.parametrize("name", ["drain_seconds", "retry_after"])
def test_seconds_that_are_none(name: str, seconds: Any):
    with pytest.raises(ConfigurationError, match=f"{name} must be 0 or more seconds"):
        add_channel(FastAPI(), **{name: seconds})
