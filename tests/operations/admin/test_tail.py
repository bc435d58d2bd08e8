"""A room as its messages pass, for an operator who is in no room."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import Depends, FastAPI

from fastapi_channels import Admin, Channel, add_channel
from fastapi_channels.operations.admin import tail
from tests.support.events import Reader
from tests.support.live import Site, serving, unique, wait_until
from tests.support.servers import RedisServer

from .test_admin import application, operator, staff, two


class Listener:
    """A client that reads a stream of events."""

    def __init__(self, answer: httpx.Response) -> None:
        self._reader = Reader()
        self._parts = answer.aiter_bytes()
        self.passed = 0
        self.texts: list[str] = []

    async def hears(self, number: int) -> list[str]:
        """The messages, when so many have passed."""
        async with asyncio.timeout(30):
            while self.passed < number:
                for event in self._reader.read(await anext(self._parts)):
                    found = json.loads(event.data)
                    self.passed = found["passed"]
                    self.texts += [message["text"] for message in found["messages"]]
        return self.texts

    async def ends(self) -> None:
        """Returns when the server has said so, and closed."""
        names: list[str] = []
        async with asyncio.timeout(30):
            async for part in self._parts:
                names += [event.name for event in self._reader.read(part)]
        assert names[-1] == "end"


@asynccontextmanager
async def listening(http: httpx.AsyncClient, room: str, **query: Any) -> AsyncIterator[Listener]:
    async with http.stream("GET", f"/rooms/{room}/tail", params=query) as answer:
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"].startswith("no-store")
        yield Listener(answer)


async def test_what_is_said_in_another_process_is_heard_and_nobody_sees_who_listens(
    shared_redis: RedisServer, caplog: pytest.LogCaptureFixture
):
    async with two(shared_redis) as (one, other, http):
        async with listening(http, "a") as listener:
            async with other.connect("/rooms/a?user=ada") as ada:
                await ada.send({"action": "say", "text": "hello"})
                (text,) = await listener.hears(1)
                assert json.loads(text)["data"] == "hello"
                rooms = (await http.get("/rooms")).json()
                assert [room["members"] for room in rooms["items"]] == [1]
            # It goes on when the last member has left, and the room's subscription would end.
            async with one.connect("/rooms/a?user=bob") as bob:
                await bob.send({"action": "say", "text": "here"})
                assert len(await listener.hears(2)) == 2
            await one.node.publish("a", '{"event":"x"}')
            assert len(await listener.hears(3)) == 3
        await wait_until(lambda: one.node.listeners.receive == one.node.rooms.receive)
        await wait_until(lambda: one.node.rooms.topic("a") not in one.node.broker.topics)
    assert "grace listens to 'a'" in caplog.text


async def test_a_filter_of_topics_is_heard_as_its_subscribers_hear_it():
    class Feed(Channel):
        topics = True
        scope = "feed"

    app, feed = FastAPI(), Feed()
    add_channel(app)
    feed.mount(app, "/feed/{channel:path}")
    Admin(app, dependencies=[Depends(staff)], who=staff)
    async with serving(app) as site, operator(site) as http:
        async with site.connect("/feed/a%2F%2B"):
            (room,) = (await http.get("/rooms")).json()["items"]
            assert room == {"name": "a/+", "scope": "feed", "topics": True, "members": 1}
        async with listening(http, "a%2F%2B", channel="Feed") as listener:
            for topic in ("b/1", "a/1", "a/1/x", "a/2"):
                await feed.broadcast(topic, "said", topic)
            found = await listener.hears(2)
            assert [json.loads(text)["data"] for text in found] == ["a/1", "a/2"]
        await wait_until(lambda: not site.node.rooms.heard)


async def test_a_flood_is_counted_and_a_part_of_it_shown():
    async with (
        serving(application("memory://")) as site,
        operator(site) as http,
        listening(http, "a") as listener,
    ):
        for number in range(500):
            await site.node.publish("a", f'{{"event":"{number}"}}')
        texts = await listener.hears(500)
        assert 20 <= len(texts) <= 60  # 20 of each second in which they came
        assert texts[0] == '{"event":"0"}'


async def test_bytes_and_long_texts_are_cut():
    async with (
        serving(application("memory://")) as site,
        operator(site) as http,
        listening(http, "a") as listener,
    ):
        await site.node.publish("a", b"\x00\xff")
        await site.node.publish("a", "x" * 10_000)
        assert await listener.hears(2) == ["00ff", "x" * tail.MAX_SHOWN]


async def test_no_more_than_some_listen_and_who_goes_makes_room():
    async with serving(application("memory://")) as site, operator(site) as http:
        async with AsyncExitStack() as stack:
            for number in range(tail.MOST):
                await stack.enter_async_context(listening(http, f"r{number}"))
            refused = await http.get("/rooms/a/tail")
            assert refused.status_code == 503
        await wait_until(lambda: not site.node.rooms.heard)
        async with listening(http, "a"):
            pass
        assert (await http.get("/rooms/a/tail", params={"channel": "Nothing"})).status_code == 422


async def test_who_does_not_read_is_cut_off(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tail, "UNREAD", 0.2)
    monkeypatch.setattr(tail, "MAX_SHOWN", 2_000_000)
    async with (
        serving(application("memory://")) as site,
        operator(site) as http,
        listening(http, "a"),
    ):
        for _ in range(tail.PER_SECOND):  # more than what is between the two can hold
            await site.node.publish("a", "x" * tail.MAX_SHOWN)
        await wait_until(lambda: not site.node.rooms.heard)


async def test_it_ends_after_a_while_and_with_the_process(monkeypatch: pytest.MonkeyPatch):
    async with (
        serving(application("memory://")) as site,
        operator(site) as http,
        listening(http, "a") as listener,
    ):
        await site.node.drain(0)
        await listener.ends()
    monkeypatch.setattr(tail, "LONGEST", 0.0)
    async with (
        serving(application("memory://")) as site,
        operator(site) as http,
        listening(http, "a") as listener,
    ):
        await listener.ends()
        await wait_until(lambda: not site.node.rooms.heard)


async def test_a_room_that_cannot_be_heard(shared_redis: RedisServer):
    site: Site
    app = application("redis://127.0.0.1:1", unique())
    async with serving(app, may_complain=True) as site, operator(site) as http:
        assert (await http.get("/rooms/a/tail")).status_code == 503
        assert site.node.rooms.heard == set()
