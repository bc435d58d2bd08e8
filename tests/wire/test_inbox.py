"""How the messages of one client are read: in order, and ahead of an action only while it is slow."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.websockets import WebSocket

from fastapi_channels import Channel, action
from fastapi_channels.testing.clock import now, timeless
from fastapi_channels.wire.inbox import OVERHEAD, TICK
from tests.support.wire import Wire, dial, node_of, others, serving

SLOW = 10 * TICK


class Room(Channel):
    """Keeps what it handles; `slow` lasts until it is let go on."""

    finish_timeout = 100 * TICK

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.handled: list[Any] = []
        self.go_on = asyncio.Event()

    @action()
    async def quick(self, data: dict[str, Any]) -> None:
        self.handled.append(data["n"])

    @action()
    async def slow(self, data: dict[str, Any]) -> str:
        self.handled.append(data["n"])
        await self.go_on.wait()
        return "done"


@asynccontextmanager
async def connected(room: Room) -> AsyncIterator[Wire]:
    async with serving(room) as app, dial(app, "/r") as wire:
        await wire.until(lambda: wire.reading)
        yield wire


@timeless
async def test_messages_are_handled_in_order() -> None:
    room = Room()
    async with connected(room) as wire:
        for n in range(200):
            wire.call("quick", n=n)
        await wire.until(lambda: len(room.handled) == 200)
        assert room.handled == list(range(200))
        assert wire.peak == 1


@timeless
async def test_a_quick_action_is_not_read_ahead_of() -> None:
    """No task and no second read: that would cost each message two switches."""
    room = Room()
    async with connected(room) as wire:
        wire.call("quick", n=-1)
        await wire.until(lambda: room.handled == [-1])
        room.handled.clear()
        tasks = others()
        for n in range(10):
            wire.call("slow", n=n)
            await wire.until(lambda n=n: len(room.handled) > n)
            assert wire.reading == 0
            assert others() == tasks
            room.go_on.set()
            await wire.receive()
            room.go_on.clear()


@timeless
async def test_a_slow_action_is_read_ahead_of() -> None:
    room = Room()
    async with connected(room) as wire:
        wire.call("slow", n=0)
        began = now()
        await wire.until(lambda: room.handled)
        await wire.until(lambda: wire.reading)
        assert TICK <= now() - began <= 3 * TICK
        for n in range(1, 5):
            wire.call("quick", n=n)
        await asyncio.sleep(SLOW)
        assert room.handled == [0], "what is read ahead waits for its turn"
        assert wire.reading == 1
        room.go_on.set()
        await wire.until(lambda: len(room.handled) == 5)
        assert room.handled == [0, 1, 2, 3, 4]
        assert wire.peak == 1


@timeless
async def test_after_a_slow_action_everything_is_inline_again() -> None:
    room = Room()
    async with connected(room) as wire:
        wire.call("quick", n=-1)
        await wire.until(lambda: room.handled == [-1])
        room.handled.clear()
        tasks = others()
        wire.call("slow", n=0)
        await asyncio.sleep(SLOW)
        room.go_on.set()
        await wire.receive()
        for n in range(1, 10):
            wire.call("quick", n=n)
            await wire.until(lambda n=n: len(room.handled) > n)
        await wire.until(lambda: wire.reading)
        assert others() == tasks
        assert room.handled == list(range(10))


@timeless
async def test_who_leaves_during_a_slow_action_is_noticed() -> None:
    room = Room()
    async with connected(room) as wire:
        wire.call("slow", n=0)
        await wire.until(lambda: room.handled)
        wire.leave(4001)
        began = now()
        await wire.ended()
        assert now() - began == pytest.approx(room.finish_timeout, abs=5 * TICK)
        assert wire.frames == []


@timeless
async def test_an_action_may_finish_when_its_client_has_left() -> None:
    room = Room()
    finished: list[str] = []

    @room.action()
    async def save() -> None:
        await asyncio.sleep(SLOW)
        finished.append("saved")

    async with connected(room) as wire:
        wire.call("save")
        wire.call("quick", n="sent before")
        wire.leave()
        await wire.ended()
    assert finished == ["saved"]
    assert room.handled == ["sent before"]


@timeless
async def test_the_code_of_who_left_meanwhile_is_known() -> None:
    room = Room()
    left: list[Any] = []

    @room.on_event("leave")
    async def leave(code: int, reason: str) -> None:
        left.append((code, reason))

    async with connected(room) as wire:
        wire.call("slow", n=0)
        await asyncio.sleep(SLOW)
        wire.leave(4001, "bye")
        await asyncio.sleep(SLOW)
        room.go_on.set()
        await wire.ended()
    assert left == [(4001, "bye")]


@pytest.mark.parametrize("body", ["", "x" * 100, "x" * 1000])
@timeless
async def test_what_is_read_ahead_is_bounded(body: str) -> None:
    class Small(Room):
        max_message_size = 1024

    room = Small()
    limit = 4 * 1024
    async with connected(room) as wire:
        wire.call("slow", n=0)
        await asyncio.sleep(SLOW)
        wire.send(*[body] * 200)
        await asyncio.sleep(SLOW)
        read = 200 - wire.waiting
        assert limit <= read * (OVERHEAD + len(body)) <= limit + OVERHEAD + len(body)
        assert wire.reading == 0, "the client has to wait"
        room.go_on.set()
        await wire.until(lambda: wire.waiting == 0 or "close" in wire.events)


@timeless
async def test_what_was_read_ahead_makes_room_again() -> None:
    class Small(Room):
        max_message_size = 1024

    room = Small()
    async with connected(room) as wire:
        for n in range(0, 100, 10):
            wire.call("slow", n=n)
            for ahead in range(1, 10):
                wire.call("quick", n=n + ahead)
            await asyncio.sleep(SLOW)
            assert wire.waiting == 0, "it is read ahead each time"
            room.go_on.set()
            await wire.until(lambda n=n: len(room.handled) == n + 10)
            room.go_on.clear()
        assert room.handled == list(range(100))


@timeless
async def test_the_watch_can_be_stopped_and_goes_on() -> None:
    """As a node does that is stopped and started again under its connections."""
    room = Room()
    async with serving(room) as app, dial(app, "/r") as wire:
        for n in range(3):
            wire.call("slow", n=n)
            await wire.until(lambda n=n: len(room.handled) > n)
            node_of(app).watch.stop()
            room.go_on.set()
            await wire.receive()
            room.go_on.clear()
        wire.call("slow", n=3)
        await asyncio.sleep(SLOW)
        assert wire.reading


@timeless
async def test_what_is_for_the_running_action_does_not_wait() -> None:
    room = Room()
    async with connected(room) as wire:
        wire.call("slow", n=0, request_id=1)
        wire.call("quick", n=1)
        wire.send({"type": "cancel", "request_id": 1})
        assert (await wire.receive())["code"] == "cancelled"
        await wire.until(lambda: room.handled == [0, 1])
        assert wire.peak == 1


@timeless
async def test_a_handler_may_receive_by_itself() -> None:
    room = Room()

    @room.action()
    async def next_one(websocket: WebSocket) -> str:
        return await websocket.receive_text()

    async with connected(room) as wire:
        wire.call("next_one")
        wire.send("for the handler")
        assert (await wire.receive())["data"] == "for the handler"
        wire.call("quick", n=1)
        await wire.until(lambda: room.handled == [1])


@timeless
async def test_a_handler_may_receive_the_end_by_itself() -> None:
    room = Room()
    left: list[Any] = []

    @room.on_event("leave")
    async def leave(code: int) -> None:
        left.append(code)

    @room.action()
    async def drink_up(websocket: WebSocket) -> None:
        while (await websocket.receive())["type"] != "websocket.disconnect":
            pass

    async with connected(room) as wire:
        wire.call("drink_up")
        wire.leave(4001)
        await wire.ended()
    assert left == [4001]


@timeless
async def test_nothing_is_left_reading() -> None:
    room = Room()
    async with serving(room) as app:
        before = others()
        async with dial(app, "/r") as slow, dial(app, "/r") as closed, dial(app, "/r") as cancelled:
            for wire in (slow, closed, cancelled):
                wire.call("slow", n=0)
            await asyncio.sleep(SLOW)
            assert slow.reading == closed.reading == cancelled.reading == 1
            slow.leave()
            cancelled.task.cancel()
            for member in node_of(app).hub.members("r"):
                if member.websocket.scope["path"] == "/r":
                    await member.close()
            await closed.ended()
            await cancelled.ended()
            await slow.ended()
            assert slow.reading == closed.reading == cancelled.reading == 0
        assert others() == before
        await asyncio.sleep(SLOW)
        assert node_of(app).watch._timer is None, "the watch does not tick for nobody"
