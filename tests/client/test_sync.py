"""The client for code without an event loop."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fastapi_channels import ConfigurationError
from fastapi_channels.client import ActionError, ClientError, ConnectionLost, Refused, SyncClient, Times
from tests.support.live import process

from .served import Confirm, Room, Said

TIMES = Times(first=0.05, gap=0.05, call=20.0)


def talk(url: str) -> None:
    with SyncClient(url, times=TIMES, proxy=None) as client:
        room = client.room("/rooms/{channel}", channel="lobby").ready()
        with room.events(Said) as events:
            assert room.call(Room.say, {"text": "hello"}) == 5
            assert next(events).text == "hello"
        with room.stream("count", {"upto": 3}) as items:
            assert list(items) == [0, 1, 2]
        with room.stream(Room.forever) as items:
            assert next(items) == 1
        while room.call("is_running"):
            pass
        room.answer(Confirm, lambda asked: len(asked.question))
        assert room.call("sure", {"question": "really?"}) == 7
        heard: list[Any] = []
        room.on_any(lambda data, about: heard.append(about.event))()
        stop = room.on("said", heard.append)
        room.call("say", {"text": "once"})
        stop()
        room.call("say", {"text": "not heard"})
        assert heard == [{"text": "once"}]
        pages = [[item["data"]["text"] for item in page.items] for page in room.history(limit=2)]
        assert pages == [["not heard", "once"], ["hello"]]
        with pytest.raises(ActionError, match="permission_denied"):
            room.call("refused")
        with pytest.raises(ConnectionLost):
            room.call("cut")
        assert (room.ready().state, bool(room.position)) == ("joined", True)
        assert room.call(Room.order, {"article": "tea"}, retry=True) == 1
        with pytest.raises(Refused, match="permission_denied"):
            client.room("/rooms/{channel}", channel="closed").ready()
        assert (room.line, room.refusal) == ("open", None)
        with pytest.raises(ConfigurationError, match="needs channel="):
            client.room("/rooms/{channel}")
        with pytest.raises(Refused, match="HTTP 40"):
            client.room("/nowhere").ready()
        socket = client.socket("/desk")
        assert socket.room("lobby").call("say", {"text": "many"}) == 4
        socket.close()
        assert socket.own.state == "left"
        room.leave()
        assert room.state == "left"


def others() -> set[threading.Thread]:
    """The threads that run; those of the event loop itself are its own."""
    return {thread for thread in threading.enumerate() if not thread.name.startswith(("asyncio", "uvloop"))}


async def test_all_of_it_and_no_thread_is_left():
    before = others()
    async with process("tests.client.served:create_app", "--factory") as server:
        # In a thread that ends: those of the event loop stay.
        with ThreadPoolExecutor(1) as pool:
            await asyncio.get_running_loop().run_in_executor(pool, talk, server.site.http)
    assert others() <= before


def test_it_ends_also_where_nobody_answers_and_the_block_fails():
    def fail() -> None:
        with SyncClient("http://127.0.0.1:1", proxy=None) as client:
            client.room("/a")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert not [thread for thread in threading.enumerate() if thread.name == "fastapi-channels client"]


def test_what_is_closed_is_closed():
    before = others()
    client = SyncClient("http://localhost")
    client.close()
    client.close()
    with pytest.raises(ClientError, match="was closed"):
        client.room("/rooms")
    with pytest.raises(TypeError):
        SyncClient("http://localhost", nonsense=True)
    assert others() <= before
