"""One client in one room: from the question whether it may, to the last leave handler."""

import asyncio
from typing import Any

import pytest
from fastapi import HTTPException, WebSocket

from fastapi_channels import BasePermission, Channel, Connection, NotFound, action
from fastapi_channels.testing.clock import now, timeless
from tests.support.wire import dial, dialing, node_of, others, serving

Log = list[Any]


class Asked(BasePermission):
    async def has_permission(self, websocket: WebSocket, action: str | None, **extras: Any) -> bool:
        connection: Connection = extras["connection"]
        assert isinstance(connection.channel, Room)
        connection.channel.log.append(("permission", connection.params))
        return connection.user != "eve"


class Room(Channel):
    """Keeps what happens."""

    room_pattern = "room:{number:int}"
    permission_classes = [Asked]
    max_connection = 2
    leave_timeout = 5.0

    def __init__(self) -> None:
        super().__init__()
        self.log: Log = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.add_event_handler("join", self.on_joined)
        self.add_event_handler("leave", self.on_left)

    async def authorize(self, connection: Connection, number: int) -> bool:
        self.log.append(("authorize", number))
        return number < 10

    async def on_joined(self, connection: Connection) -> None:
        self.log.append(("join", self._count(connection)))
        await self.gate.wait()
        if connection.user == "mallory":
            raise HTTPException(403, "you cannot join")

    async def on_left(self, connection: Connection, code: int | None) -> None:
        self.log.append(("leave", code))
        assert connection.closed
        assert connection.rooms == set()
        assert not await connection.send("nobody is there")

    def _count(self, connection: Connection) -> int:
        return len(connection.rooms)

    @action()
    async def say(self, text: str, connection: Connection) -> None:
        await self.broadcast(connection.room, "said", text)

    @action(detached=True)
    async def linger(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.log.append("ended")

    def only(self, *kinds: str) -> Log:
        return [kind for kind, _ in self.log if kind in kinds]


async def test_a_whole_life():
    room = Room()
    async with serving(room) as app, dial(app, "/room:5") as wire:
        wire.call("say", text="hi")
        assert (await wire.receive())["data"] == "hi"
        wire.leave(4000)
        await wire.ended()
    assert room.log == [
        ("permission", {"number": 5}),
        ("authorize", 5),
        ("join", 1),
        ("permission", {"number": 5}),
        ("leave", 4000),
    ]


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/hall", []),
        ("/room:5?user=eve", ["permission"]),
        ("/room:10", ["permission", "authorize"]),
    ],
)
async def test_a_refusal_ends_the_questions(path: str, asked: Log):
    room = Room()
    async with serving(room) as app, dialing(app, path) as wire:
        await wire.ended()
        assert wire.events == ["close"]
        assert node_of(app).hub.count("room:5") == 0
    assert room.only("permission", "authorize", "join", "leave") == asked


async def test_a_full_room_is_asked_for_last_and_keeps_no_place_for_who_is_refused():
    room = Room()
    async with serving(room) as app, dial(app, "/room:5"), dialing(app, "/room:10") as refused:
        await refused.ended()
        async with dial(app, "/room:5"), dialing(app, "/room:5") as third:
            await third.ended()
            assert third.sent[0]["code"] == 1013
        async with dial(app, "/room:5"):
            pass
    assert len(room.only("join")) == len(room.only("leave")) == 3


async def test_who_fails_in_joining_leaves_too():
    room = Room()
    async with serving(room) as app, dial(app, "/room:5?user=mallory") as wire:
        assert (await wire.receive())["errors"] == "you cannot join"
        assert (await wire.closed()).code == 1011
        await wire.ended()
    assert room.only("join", "leave") == ["join", "leave"]


async def test_what_is_said_while_join_handlers_run_is_heard():
    room = Room()
    room.gate.clear()
    async with serving(room) as app, dial(app, "/room:5") as wire:
        await wire.until(lambda: room.only("join"))
        wire.call("say", text="mine")
        await room.broadcast("room:5", "said", "from outside")
        assert (await wire.receive())["data"] == "from outside"
        room.gate.set()
        assert (await wire.receive())["data"] == "mine"


@timeless
async def test_who_goes_while_join_handlers_run_leaves_too():
    room = Room()
    room.gate.clear()
    before = others()
    async with serving(room) as app, dial(app, "/room:5") as wire:
        await wire.until(lambda: room.only("join"))
        wire.leave()
        await wire.ended()
    assert room.only("join", "leave") == ["join", "leave"]
    assert others() <= before


@timeless
async def test_what_runs_is_ended_before_the_leave_handlers_are_called():
    room = Room()
    async with serving(room) as app, dial(app, "/room:5") as wire:
        wire.call("linger")
        await wire.until(lambda: not wire.waiting)
    assert [entry if isinstance(entry, str) else entry[0] for entry in room.log[-2:]] == ["ended", "leave"]


@timeless
async def test_leave_handlers_have_their_time_and_no_more(caplog: pytest.LogCaptureFixture):
    class Slow(Room):
        async def on_left(self, connection: Connection, code: int | None) -> None:
            await asyncio.sleep(60)
            raise AssertionError("cancelled before")

    async with serving(Slow()) as app, dial(app, "/room:5") as wire:
        start = now()
        wire.leave()
        await wire.ended()
        assert 5 <= now() - start < 10
    assert "the leave handlers took more than 5 s" in caplog.text


@pytest.mark.parametrize("trouble", [RuntimeError("a secret"), asyncio.CancelledError()])
async def test_authorize_that_fails_refuses(trouble: BaseException, caplog: pytest.LogCaptureFixture):
    class Failing(Channel):
        async def authorize(self, connection: Connection) -> bool:
            raise trouble

    async with serving(Failing()) as app, dialing(app, "/r") as wire:
        await wire.ended()
        assert wire.sent == [{"type": "websocket.close", "code": 1008, "reason": "Permission Denied"}]
    assert "a permission failed, and so refuses" in caplog.text


async def test_authorize_may_say_why():
    class Telling(Channel):
        async def authorize(self, connection: Connection) -> bool:
            raise NotFound(4404, "no such room")

    async with serving(Telling()) as app, dialing(app, "/r") as wire:
        await wire.ended()
        assert wire.sent == [{"type": "websocket.close", "code": 4404, "reason": "no such room"}]


async def test_a_channel_without_handlers_lets_in_and_out_quietly():
    before = others()
    async with serving(Channel()) as app, dial(app, "/r") as wire:
        wire.leave()
        await wire.ended()
        assert wire.events == ["accept"]
    assert others() <= before
