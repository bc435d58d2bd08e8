"""Many rooms and channels over one WebSocket."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, HTTPException, WebSocket
from hypothesis import given, settings
from hypothesis import strategies as st

from fastapi_channels import (
    BaseChannel,
    BasePermission,
    Channel,
    ConfigurationError,
    Connection,
    Disconnected,
    Envelope,
    Event,
    NotFound,
    Socket,
    WebSocketException,
    action,
    add_channel,
    limiter,
)
from fastapi_channels.sessions.socket_session import IN_FLIGHT
from fastapi_channels.testing.clock import TimelessLoop, timeless
from tests.support.wire import Close, Wire, dial, dialing, node_of, others


class Said(Event):
    text: str


class Room(Channel):
    """Rooms `room:1`, `room:2` and so on."""

    room_pattern = "room:{number:int}"
    event_types = (Said,)
    ack = True

    def __init__(self) -> None:
        super().__init__()
        self.events: list[tuple[str, str]] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.waiting: dict[str, Connection] = {}
        self.add_event_handler("join", self.on_joined)
        self.add_event_handler("leave", self.on_left)

    async def on_joined(self, connection: Connection) -> None:
        self.events.append(("join", connection.room))

    async def on_left(self, connection: Connection) -> None:
        self.events.append(("leave", connection.room))

    @action()
    async def say(self, text: str, number: int, connection: Connection) -> None:
        await self.broadcast(connection.room, Said(text=f"{number}: {text}"))

    @action()
    async def wait(self, connection: Connection) -> str:
        """Until the test opens the gate of the room."""
        self.waiting[connection.room] = connection
        await self.gates.setdefault(connection.room, asyncio.Event()).wait()
        return "waited"

    @action()
    async def count(self, to: int) -> AsyncIterator[int]:
        for number in range(to):
            yield number

    @action()
    async def forever(self) -> AsyncIterator[int]:
        yield 0
        await asyncio.Event().wait()

    @action()
    async def stop(self, connection: Connection) -> None:
        await connection.close(4001, "stopped")

    @action()
    async def stop_by_websocket(self, websocket: WebSocket) -> None:
        await self.close(websocket, 4002, "stopped too")

    @action()
    async def stop_all(self, websocket: WebSocket) -> None:
        await websocket.close(4003, "all of it")

    @action()
    async def whisper(self, websocket: WebSocket) -> None:
        await self.broadcast_to_personal(websocket, "psst")

    @action()
    async def fail(self) -> None:
        raise RuntimeError("a secret")

    @action()
    async def ban(self) -> None:
        raise WebSocketException(4010, "banned")

    @action()
    async def strict(self, data: dict[str, Any]) -> dict[str, Any]:
        return data


class Lobby(Channel):
    """Every other room."""

    ack = True

    @action()
    async def who(self, connection: Connection) -> Any:
        return [type(connection.channel).__name__, connection.room, connection.user]


@asynccontextmanager
async def running(socket: Socket, **settings: Any) -> AsyncIterator[FastAPI]:
    """An application with `socket` at `/`, which must hold nothing in the end."""
    app = FastAPI()
    add_channel(app, **settings)

    @app.websocket("/")
    async def endpoint(websocket: WebSocket, user: str | None = None) -> None:
        await socket.connect(websocket, user=user)

    async with app.router.lifespan_context(app):
        yield app
        node = node_of(app)
        assert not node.hub.rooms
        assert not node.rooms.connections
        assert not node.users
        assert len(node.rooms.roster or ()) == 0


@asynccontextmanager
async def connected(*channels: Channel, join: tuple[str, ...] = ()) -> AsyncIterator[Wire]:
    """A client of a socket with these channels, who has joined some rooms."""
    async with running(Socket(*(channels or (Room(), Lobby())))) as app, dial(app, "/") as wire:
        for room in join:
            await joined(wire, room)
        yield wire


async def joined(wire: Wire, room: str) -> None:
    wire.send({"type": "join", "channel": room})
    frame = await wire.receive()
    assert frame == {"type": "joined", "channel": room, "request_id": None}


# Joining, calling and leaving


async def test_a_client_joins_calls_and_leaves():
    room = Room()
    async with connected(room) as wire:
        wire.send({"type": "join", "channel": "room:7", "request_id": 1})
        assert await wire.receive() == {"type": "joined", "channel": "room:7", "request_id": 1}
        wire.call("say", channel="room:7", request_id=2, text="hi")
        event, reply = await wire.receive(), await wire.receive()
        assert event == {"type": "event", "event": "said", "channel": "room:7", "data": {"text": "7: hi"}}
        assert (reply["request_id"], reply["channel"], reply["status"]) == (2, "room:7", "ok")
        wire.send({"type": "leave", "channel": "room:7", "request_id": 3})
        assert await wire.receive() == {"type": "left", "channel": "room:7", "request_id": 3}
        assert room.events == [("join", "room:7"), ("leave", "room:7")]
        await room.broadcast("room:7", Said(text="nobody hears"))
        wire.call("say", channel="room:7", request_id=4, text="hi")
        assert (await wire.receive())["code"] == "not_joined"
    assert room.events == [("join", "room:7"), ("leave", "room:7")]


async def test_the_first_channel_whose_pattern_fits_has_the_room():
    async with connected(join=("room:1", "room:x")) as wire:
        wire.call("who", channel="room:1")
        assert (await wire.receive())["code"] == "unknown_action"
        wire.call("who", channel="room:x")
        assert (await wire.receive())["data"] == ["Lobby", "room:x", None]


async def test_only_members_of_a_room_hear_what_is_said_there():
    room = Room()
    async with running(Socket(room)) as app, AsyncExitStack() as stack:
        ann, bob = [await stack.enter_async_context(dial(app, "/")) for _ in range(2)]
        await joined(ann, "room:1")
        await joined(ann, "room:2")
        await joined(bob, "room:2")
        await room.broadcast("room:1", Said(text="to one"))
        await room.broadcast("room:2", Said(text="to both"))
        assert [(await ann.receive())["data"]["text"] for _ in range(2)] == ["to one", "to both"]
        assert (await bob.receive())["data"]["text"] == "to both"


async def test_an_action_may_be_named_like_a_control_frame():
    class Named(Channel):
        @action()
        async def join(self, type: str) -> str:
            return f"the action join, {type}"

        @action()
        async def leave(self) -> str:
            return "the action leave"

    async with connected(Named(), join=("r",)) as wire:
        wire.call("join", channel="r", type="join")
        wire.call("leave", channel="r")
        assert (await wire.receive())["data"] == "the action join, join"
        assert (await wire.receive())["data"] == "the action leave"


async def test_the_room_is_no_field_of_the_payload():
    async with connected(join=("room:1",)) as wire:
        wire.call("strict", channel="room:1", x=1)
        assert (await wire.receive())["data"] == {"action": "strict", "x": 1}


# What cannot be done is told, with the request's id, and changes nothing


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ({"action": "say", "channel": "room:2", "text": "hi"}, "not_joined"),
        ({"action": "say", "text": "hi"}, "not_joined"),
        ({"action": "say", "channel": 5}, "not_joined"),
        ({"action": "say", "channel": ["room:1"]}, "not_joined"),
        ({"action": "missing", "channel": "room:1"}, "unknown_action"),
        ({"action": "say", "channel": "room:1"}, "invalid_payload"),
        ({"action": "fail", "channel": "room:1"}, "internal_error"),
        ({"type": "leave", "channel": "room:2"}, "not_joined"),
        ({"type": "leave"}, "not_joined"),
        ({"type": "join", "channel": "room:1"}, "already_joined"),
        ({"type": "join", "channel": "hall"}, "not_found"),
        ({"type": "join", "channel": "room:01"}, "not_found"),
        ({"type": "join", "channel": ""}, "invalid_room"),
        ({"type": "join", "channel": "x" * 256}, "invalid_room"),
        ({"type": "join", "channel": 5}, "invalid_room"),
        ({"type": "join"}, "invalid_room"),
        ({"type": ["join"], "channel": "room:2"}, "parse_error"),
        ({"type": "knock", "channel": "room:2"}, "parse_error"),
        ({"type": "presence"}, "not_joined"),
        ({"type": "presence", "channel": 5}, "not_joined"),
        ({"type": "presence", "channel": "room:2"}, "not_joined"),
        ({"type": "presence", "channel": "room:1"}, "parse_error"),
    ],
)
async def test_what_cannot_be_done(frame: dict[str, Any], code: str):
    room = Room()
    async with connected(room, join=("room:1",)) as wire:
        wire.send({**frame, "request_id": 9})
        answer = await wire.receive()
        assert (answer["code"], answer["request_id"]) == (code, 9)
        if "action" in frame or "join" in str(frame.get("type")):
            assert answer.get("action") in (frame.get("action", "join"), None)
        wire.call("say", channel="room:1", text="still here")
        assert (await wire.receive())["event"] == "said"
    assert room.events == [("join", "room:1"), ("leave", "room:1")]


@pytest.mark.parametrize("frame", ["[]", "{", '"join"', '{"type": "join", "request_id": []}'])
async def test_what_cannot_be_read(frame: str):
    async with connected() as wire:
        wire.send(frame)
        assert (await wire.receive())["code"] == "parse_error"


async def test_a_binary_frame_closes_the_websocket():
    async with connected(join=("room:1",)) as wire:
        wire.send(b"{}")
        assert (await wire.closed()).code == 1003


async def test_no_more_than_max_rooms():
    class Few(Socket):
        max_rooms = 2

    async with running(Few(Lobby())) as app, dial(app, "/") as wire:
        await joined(wire, "a")
        await joined(wire, "b")
        wire.send({"type": "join", "channel": "c", "request_id": 1})
        assert (await wire.receive())["code"] == "too_many_rooms"
        wire.send({"type": "leave", "channel": "a"})
        await wire.receive()
        await joined(wire, "c")


# Each channel has its own rules


class IsAda(BasePermission):
    def has_permission(self, websocket: WebSocket, action: str | None, connection: Any) -> bool:
        return connection.user == "ada"


class Private(Lobby):
    room_pattern = "private:{name}"
    permission_classes = IsAda
    max_connection = 1
    max_message_size = 200

    def __init__(self) -> None:
        super().__init__()
        self.handled: list[str] = []

    @limiter(times=1, seconds=3600)
    @action()
    async def rare(self) -> str:
        return "rare"

    @action()
    async def lost(self) -> None:
        raise LookupError("not there")

    @action()
    async def echo(self, text: str) -> str:
        return text


private = Private()


@private.exception_handler(LookupError)
async def not_there(websocket: WebSocket, exc: Exception) -> None:
    await private.broadcast_to_personal(websocket, {"type": "sorry", "about": str(exc)})


async def test_permissions_are_those_of_the_channel():
    async with running(Socket(private, Lobby())) as app:
        async with dial(app, "/?user=bob") as wire:
            wire.send({"type": "join", "channel": "private:a", "request_id": 1})
            refused = await wire.receive()
            assert (refused["code"], refused["channel"]) == ("permission_denied", "private:a")
            await joined(wire, "lobby")
        async with dial(app, "/?user=ada") as wire:
            await joined(wire, "private:a")
            wire.call("who", channel="private:a")
            assert (await wire.receive())["data"] == ["Private", "private:a", "ada"]


async def test_limits_and_handlers_of_exceptions_are_those_of_the_channel():
    async with running(Socket(private, Lobby())) as app, dial(app, "/?user=ada") as wire:
        await joined(wire, "private:a")
        await joined(wire, "private:b")
        wire.call("rare", channel="private:a")
        assert (await wire.receive())["data"] == "rare"
        wire.call("rare", channel="private:a")
        assert (await wire.receive())["code"] == "rate_limited"
        wire.call("rare", channel="private:b")
        assert (await wire.receive())["data"] == "rare"
        wire.call("lost", channel="private:b")
        assert await wire.receive() == {"type": "sorry", "about": "not there"}


async def test_a_room_that_is_full():
    async with running(Socket(private, Lobby())) as app, dial(app, "/?user=ada") as first:
        await joined(first, "private:a")
        async with dial(app, "/?user=ada") as second:
            second.send({"type": "join", "channel": "private:a"})
            assert (await second.receive())["code"] == "channel_full"
            await joined(second, "private:b")
        first.send({"type": "leave", "channel": "private:a"})
        await first.receive()
        async with dial(app, "/?user=ada") as third:
            await joined(third, "private:a")


async def test_a_message_too_big_for_a_channel_ends_that_room():
    async with running(Socket(private, Lobby())) as app, dial(app, "/?user=ada") as wire:
        await joined(wire, "private:a")
        await joined(wire, "lobby")
        wire.call("echo", channel="private:a", text="ä" * 99)
        assert (await wire.receive())["errors"] == "a message may have 200 bytes"
        left = await wire.receive()
        assert left == {
            "type": "left",
            "channel": "private:a",
            "close_code": 1009,
            "reason": "a message may have 200 bytes",
        }
        wire.call("who", channel="lobby", text="x" * 1000)
        assert (await wire.receive())["data"][1] == "lobby"
        wire.call("who", channel="lobby", text="x" * Socket.max_message_size)
        assert (await wire.closed()).code == 1009


async def test_dependencies_see_the_room_they_are_resolved_for():
    async def place(websocket: WebSocket) -> Any:
        return websocket.scope["fastapi_channels.connection"].room

    class Placed(Channel):
        @action()
        async def where(self, place: Annotated[str, Depends(place)]) -> str:
            return place

    async with connected(Placed(), join=("a", "b")) as wire:
        for room in "ab":
            wire.call("where", channel=room)
            assert (await wire.receive())["data"] == room


# What ends a room leaves the others


@pytest.mark.parametrize(
    ("name", "close_code", "reason"),
    [("stop", 4001, "stopped"), ("stop_by_websocket", 4002, "stopped too"), ("ban", 4010, "banned")],
)
async def test_what_closes_a_connection_elsewhere_ends_one_room(name: str, close_code: int, reason: str):
    room = Room()
    async with connected(room, join=("room:1", "room:2")) as wire:
        wire.call(name, channel="room:1")
        if name == "ban":
            assert (await wire.receive())["channel"] == "room:1"
        ended = {"close_code": close_code, "reason": reason}
        assert await wire.receive() == {"type": "left", "channel": "room:1", **ended}
        assert room.events[-1] == ("leave", "room:1")
        wire.call("say", channel="room:2", text="still here")
        assert (await wire.receive())["event"] == "said"
        await joined(wire, "room:1")


@timeless
async def test_closing_the_websocket_ends_them_all():
    room = Room()
    async with connected(room, join=("room:1", "room:2")) as wire:
        wire.call("stop_all", channel="room:1")
        assert await wire.closed() == Close(4003, "all of it")
        await wire.ended()
    assert sorted(room.events) == [
        *(("join", f"room:{n}") for n in (1, 2)),
        *(("leave", f"room:{n}") for n in (1, 2)),
    ]


async def test_a_join_handler_that_fails_ends_its_room():
    class Failing(Room):
        async def on_joined(self, connection: Connection) -> None:
            await super().on_joined(connection)
            if connection.room == "room:2":
                raise RuntimeError("no")

    room = Failing()
    async with connected(room, join=("room:1",)) as wire:
        wire.send({"type": "join", "channel": "room:2", "request_id": 1})
        assert (await wire.receive())["type"] == "joined"
        assert (await wire.receive())["code"] == "internal_error"
        left = await wire.receive()
        assert (left["type"], left["channel"], left["close_code"]) == ("left", "room:2", 1011)
        assert room.events == [("join", "room:1"), ("join", "room:2"), ("leave", "room:2")]


async def test_ending_twice_is_ending_once():
    class Twice(Room):
        @action()
        async def twice(self, connection: Connection) -> None:
            await connection.close(4001)
            await connection.close(4002)
            assert connection.closed
            assert not await connection.send("nobody is there")

    async with connected(Twice(), join=("room:1", "room:2")) as wire:
        wire.call("twice", channel="room:1", request_id=5)
        assert (await wire.receive())["request_id"] == 5
        assert (await wire.receive())["close_code"] == 4001
        wire.call("say", channel="room:2", text="nothing else came")
        assert (await wire.receive())["event"] == "said"


@timeless
async def test_who_is_expelled_while_an_action_runs_goes_when_its_moment_is_over():
    room = Room()
    async with connected(room, join=("room:1", "room:2")) as wire:
        wire.call("wait", channel="room:1", request_id=1)
        wire.call("say", channel="room:1", request_id=2, text="waits for its turn")
        await asyncio.sleep(0.1)
        await room.waiting["room:1"].close(4001, "out")
        frames = [await wire.receive() for _ in range(3)]
        assert [frame.get("code", frame["type"]) for frame in frames] == ["cancelled", "left", "not_joined"]
        assert [frame.get("request_id") for frame in frames] == [1, None, 2]


# Order


async def test_a_room_keeps_its_order_and_waits_for_no_other():
    room = Room()
    async with connected(room, join=("room:1", "room:2")) as wire:
        wire.call("wait", channel="room:1", request_id=1)
        wire.call("say", channel="room:1", request_id=2, text="after it")
        wire.send({"type": "leave", "channel": "room:1", "request_id": 3})
        wire.send({"type": "join", "channel": "room:1", "request_id": 4})
        wire.call("say", channel="room:1", request_id=5, text="again")
        wire.call("say", channel="room:2", request_id=6, text="beside it")
        assert [(await wire.receive()).get("request_id") for _ in range(2)] == [None, 6]
        room.gates["room:1"].set()
        frames = [await wire.receive() for _ in range(7)]
        assert [frame.get("request_id", frame.get("event")) for frame in frames] == [
            1,
            "said",
            2,
            3,
            4,
            "said",
            5,
        ]
        assert room.events[2:] == [("leave", "room:1"), ("join", "room:1")]


async def test_a_message_may_follow_its_join_at_once():
    async with connected() as wire:
        wire.send({"type": "join", "channel": "room:1", "request_id": 1})
        wire.call("say", channel="room:1", request_id=2, text="hi")
        wire.send({"type": "leave", "channel": "room:1", "request_id": 3})
        frames = [await wire.receive() for _ in range(4)]
        assert [frame["type"] for frame in frames] == ["joined", "event", "response", "left"]


async def test_messages_behind_a_refused_join_are_refused():
    async with running(Socket(private)) as app, dial(app, "/?user=bob") as wire:
        wire.send({"type": "join", "channel": "private:a", "request_id": 1})
        wire.call("who", channel="private:a", request_id=2)
        wire.send({"type": "leave", "channel": "private:a", "request_id": 3})
        frames = [await wire.receive() for _ in range(3)]
        assert [frame["code"] for frame in frames] == ["permission_denied", "not_joined", "not_joined"]
        assert [frame["request_id"] for frame in frames] == [1, 2, 3]


async def test_what_is_said_while_a_client_joins_comes_behind_joined():
    class Slow(Room):
        def __init__(self) -> None:
            super().__init__()
            self.asked, self.may_go_on = asyncio.Event(), asyncio.Event()

        async def on_joined(self, connection: Connection) -> None:
            self.asked.set()
            await self.may_go_on.wait()

    room = Slow()
    async with connected(room) as wire:
        wire.send({"type": "join", "channel": "room:1"})
        await room.asked.wait()
        await room.broadcast("room:1", Said(text="early"))
        assert [(await wire.receive())["type"] for _ in range(2)] == ["joined", "event"]
        room.may_go_on.set()


@timeless
async def test_no_more_than_so_many_messages_are_taken_at_a_time():
    room = Room()
    async with connected(room, join=("room:1",)) as wire:
        for number in range(IN_FLIGHT + 50):
            wire.call("wait", channel="room:1", request_id=number)
        await asyncio.sleep(0)
        await wire.until(lambda: wire.waiting <= 50)
        # One more was read, and waits; the rest is read ahead of it, in case the client leaves.
        wire.send({"type": "cancel", "request_id": IN_FLIGHT + 10})
        await asyncio.sleep(1)
        assert wire.waiting == 0
        room.gates["room:1"].set()
        frames = [await wire.receive() for _ in range(IN_FLIGHT + 50)]
        assert [frame["request_id"] for frame in frames] == list(range(IN_FLIGHT + 50))
        assert [f["request_id"] for f in frames if f["status"] == "bad"] == [IN_FLIGHT + 10]


async def test_a_join_that_waits_to_be_taken_while_its_room_is_being_left():
    class Slow(Room):
        async def on_left(self, connection: Connection) -> None:
            await self.gates[connection.room].wait()

    room = Slow()
    room.gates["room:2"] = asyncio.Event()
    async with connected(room, join=("room:1", "room:2")) as wire:
        for number in range(IN_FLIGHT - 1):
            wire.call("wait", channel="room:1", request_id=number)
        wire.send({"type": "leave", "channel": "room:2"})
        wire.send({"type": "join", "channel": "room:2"})
        wire.call("say", channel="room:2", request_id="behind", text="hi")
        await wire.until(lambda: wire.waiting == 0)
        room.gates["room:2"].set()
        frames = [await wire.receive() for _ in range(4)]
        assert [frame["type"] for frame in frames] == ["left", "joined", "event", "response"]
        room.gates["room:1"].set()


Request = tuple[str, str]
"""What is asked, and of which room."""


def outcomes_of(requests: Sequence[Request]) -> dict[int, str]:
    """What each request must be answered with: its room alone decides."""
    inside: set[str] = set()
    found: dict[int, str] = {}
    for number, (kind, room) in enumerate(requests):
        if kind == "join":
            found[number] = "already_joined" if room in inside else "joined"
            inside.add(room)
        elif room not in inside:
            found[number] = "not_joined"
        else:
            found[number] = "left" if kind == "leave" else "ok"
            if kind in ("leave", "stop"):
                inside.discard(room)
    return found


@settings(max_examples=80)
@given(
    st.lists(
        st.tuples(st.sampled_from(["join", "join", "leave", "stop", "nap", "who"]), st.sampled_from("abc")),
        max_size=40,
    )
)
def test_any_requests_are_answered_once_and_room_by_room(requests: list[Request]):
    class Restless(Channel):
        ack = True

        @action()
        async def who(self) -> str:
            return "ok"

        @action()
        async def nap(self) -> None:
            await asyncio.sleep(0.001)

        @action()
        async def stop(self, connection: Connection) -> None:
            await connection.close(4001)

    async def talk() -> list[Any]:
        async with running(Socket(Restless())) as app, dial(app, "/") as wire:
            for number, (kind, room) in enumerate(requests):
                control = {"type": kind} if kind in ("join", "leave") else {"action": kind}
                wire.send({**control, "channel": room, "request_id": number})
            frames: list[Any] = []
            while sum(frame.get("request_id") is not None for frame in frames) < len(requests):
                frames.append(await wire.receive())
            return [frame for frame in frames if frame.get("request_id") is not None]

    with asyncio.Runner(loop_factory=TimelessLoop) as runner:
        answers = runner.run(talk())
    told = {answer["request_id"]: answer.get("code", answer["type"]) for answer in answers}
    assert {number: {"response": "ok"}.get(kind, kind) for number, kind in told.items()} == outcomes_of(
        requests
    )
    for room in "abc":
        numbers = [answer["request_id"] for answer in answers if requests[answer["request_id"]][1] == room]
        assert numbers == sorted(numbers)


# Streams and cancels


async def test_streams_of_rooms_run_beside_each_other():
    async with connected(join=("room:1", "room:2")) as wire:
        wire.call("forever", channel="room:1", request_id=1)
        assert (await wire.receive())["data"] == 0
        wire.call("count", channel="room:2", request_id=2, to=2)
        frames = [await wire.receive() for _ in range(3)]
        assert [(f["channel"], f["data"], f["more"]) for f in frames] == [
            ("room:2", 0, True),
            ("room:2", 1, True),
            ("room:2", None, False),
        ]
        wire.send({"type": "cancel", "request_id": 1})
        cancelled = await wire.receive()
        assert (cancelled["code"], cancelled["channel"]) == ("cancelled", "room:1")


async def test_a_request_is_cancelled_while_it_runs_or_waits():
    room = Room()
    async with connected(room, join=("room:1",)) as wire:
        wire.call("wait", channel="room:1", request_id="runs")
        wire.call("say", channel="room:1", request_id="waits", text="not said")
        wire.call("say", channel="room:1", request_id="last", text="said")
        wire.send({"type": "cancel", "request_id": "waits"}, {"type": "cancel", "request_id": "runs"})
        frames = [await wire.receive() for _ in range(4)]
        ids = [(frame.get("request_id"), frame.get("code")) for frame in frames]
        assert ids == [("runs", "cancelled"), ("waits", "cancelled"), (None, None), ("last", None)]


@timeless
async def test_who_leaves_a_room_ends_its_streams():
    room = Room()
    async with connected(room, join=("room:1",)) as wire:
        wire.call("forever", channel="room:1", request_id=1)
        assert (await wire.receive())["data"] == 0
        wire.send({"type": "leave", "channel": "room:1"})
        end = await wire.receive()
        assert (end["request_id"], end["code"]) == (1, "cancelled")
        assert (await wire.receive())["type"] == "left"


async def test_an_answer_to_a_call_of_one_room():
    class Asking(Channel):
        @action()
        async def ask(self, connection: Connection) -> Any:
            return await connection.call("sure", {"n": 1})

    async with connected(Asking(), join=("a",)) as wire:
        wire.call("ask", channel="a")
        call = await wire.receive()
        assert (call["type"], call["channel"], call["data"]) == ("call", "a", {"n": 1})
        wire.send({"type": "answer", "call_id": call["call_id"], "data": "yes"})
        assert (await wire.receive())["data"] == "yes"


# Leaving without a word


async def test_leaving_the_websocket_leaves_every_room_once():
    room, lobby = Room(), Lobby()
    names = [f"room:{number}" for number in range(40)]
    async with connected(room, lobby, join=(*names, "lobby")) as wire:
        wire.leave()
        await wire.ended()
    assert room.events == [*(("join", name) for name in names), *(("leave", name) for name in names)]


@timeless
async def test_slow_leave_handlers_of_many_rooms_run_beside_each_other():
    class Slow(Room):
        async def on_left(self, connection: Connection) -> None:
            await asyncio.sleep(5)
            await super().on_left(connection)

    room = Slow()
    async with connected(room, join=tuple(f"room:{number}" for number in range(40))) as wire:
        start = asyncio.get_running_loop().time()
        wire.leave()
        await wire.ended()
        assert asyncio.get_running_loop().time() - start < 10
    assert sum(kind == "leave" for kind, _ in room.events) == 40


@timeless
async def test_who_goes_while_a_room_is_being_left_still_leaves_it_once():
    class Slow(Room):
        async def on_left(self, connection: Connection) -> None:
            await asyncio.sleep(5)
            await super().on_left(connection)

    room = Slow()
    async with connected(room, join=("room:1",)) as wire:
        wire.send({"type": "leave", "channel": "room:1"})
        await asyncio.sleep(0.1)
        wire.leave()
        await wire.ended()
    assert room.events == [("join", "room:1"), ("leave", "room:1")]


@timeless
async def test_who_goes_while_an_action_runs_ends_it():
    room = Room()
    async with connected(room, join=("room:1", "room:2")) as wire:
        wire.call("wait", channel="room:1")
        wire.call("forever", channel="room:2")
        await wire.receive()
        wire.leave()
        await wire.ended()
    assert sum(kind == "leave" for kind, _ in room.events) == 2


@timeless
async def test_who_goes_while_being_let_in_is_in_no_room():
    class Slow(Room):
        async def authorize(self, connection: Connection, number: int) -> bool:
            await asyncio.sleep(60)
            return True

    room = Slow()
    async with connected(room) as wire:
        wire.send({"type": "join", "channel": "room:1"})
        await asyncio.sleep(0.1)
        wire.leave()
        await wire.ended()
    assert room.events == []


@timeless
async def test_no_task_is_left():
    async with running(Socket(Room())) as app:
        before = others()
        async with dial(app, "/") as wire:
            for number in range(20):
                wire.send({"type": "join", "channel": f"room:{number}"})
                wire.call("say", channel=f"room:{number}", text="hi")
                wire.call("forever", channel=f"room:{number}")
            await wire.until(lambda: len(wire.frames) == 60)
        assert others() <= before


# The WebSocket as a whole


async def test_a_user_hears_once_whatever_the_number_of_rooms():
    lobby = Lobby()
    async with running(Socket(lobby)) as app, AsyncExitStack() as stack:
        two = [await stack.enter_async_context(dial(app, "/?user=ada")) for _ in range(2)]
        for wire in two:
            for room in "abc":
                await joined(wire, room)
        await lobby.send_to_user("ada", "news", 1)
        await lobby.broadcast("a", "end")
        for wire in two:
            assert [(await wire.receive())["event"] for _ in range(2)] == ["news", "end"]


class Asked(BasePermission):
    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def has_permission(self, websocket: WebSocket, action: str | None, channel: Any, connection: Any) -> Any:
        assert (action, channel, connection) == (None, None, None)
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (False, 403),
        (1, 403),
        (RuntimeError("a secret"), 403),
        (asyncio.CancelledError(), 403),
        (HTTPException(402, "pay"), 402),
        (NotFound(), 404),
    ],
)
async def test_permissions_of_the_socket_are_asked_before_the_handshake_is_accepted(answer: Any, status: int):
    extension = ["websocket.http.response"]
    for socket, options in (
        (Socket(Lobby(), permission_classes=Asked(answer)), {}),
        (Socket(Lobby()), {"permission_classes": Asked(answer)}),
    ):
        async with running(socket, **options) as app, dialing(app, "/", extensions=extension) as wire:
            await wire.ended()
            assert wire.sent[0]["status"] == status


async def test_a_server_that_stops_while_a_permission_is_asked():
    asked = asyncio.Event()

    class Slow(BasePermission):
        async def has_permission(self, websocket: WebSocket, action: str | None) -> bool:
            asked.set()
            await asyncio.Event().wait()
            return True

    async with running(Socket(Lobby(), permission_classes=Slow)) as app, dialing(app, "/") as wire:
        await asked.wait()
        wire.task.cancel()
        await wire.ended()
        assert wire.task.cancelled()
        assert wire.sent == []


async def test_a_class_of_sockets_may_have_permissions():
    class Guarded(Socket):
        permission_classes = Asked(False)

    async with running(Guarded(Lobby())) as app, dialing(app, "/") as wire:
        await wire.ended()
        assert wire.sent == [{"type": "websocket.close", "code": 1008, "reason": "Permission Denied"}]


async def test_mounting_a_socket():
    app = FastAPI()
    add_channel(app)
    router = APIRouter(prefix="/api")
    Socket(Lobby()).mount(router, "/socket", name="desk")
    app.include_router(router)
    assert app.url_path_for("desk") == "/api/socket"
    async with app.router.lifespan_context(app), dial(app, "/api/socket") as wire:
        await joined(wire, "lobby")


async def test_a_channel_knows_its_application_from_the_first_client_on():
    lobby = Lobby()
    async with running(Socket(lobby)) as app:
        async with dial(app, "/"):
            pass
        async with dial(app, "/") as wire:
            await joined(wire, "lobby")
            await asyncio.create_task(lobby.broadcast("lobby", "news"))
            assert (await wire.receive())["event"] == "news"


async def test_a_message_for_a_personal_websocket_comes_in_its_turn():
    async with connected(join=("room:1",)) as wire:
        wire.call("whisper", channel="room:1", request_id=1)
        assert await wire.read() == "psst"
        assert (await wire.receive())["request_id"] == 1


async def test_a_room_that_was_left_reaches_nobody():
    class Keeping(Room):
        @action()
        async def keep(self, websocket: WebSocket, connection: Connection) -> None:
            self.kept = websocket, connection

    room = Keeping()
    async with connected(room, join=("room:1", "room:2")) as wire:
        wire.call("keep", channel="room:1", request_id=1)
        await wire.receive()
        wire.send({"type": "leave", "channel": "room:1"})
        await wire.receive()
        websocket, connection = room.kept
        await room.broadcast_to_personal(websocket, "nobody is there")
        await room.close(websocket)
        await connection.close()
        assert not await connection.send_event(Said(text="nobody is there"))
        with pytest.raises(Disconnected):
            await connection.call("anybody")
        wire.call("say", channel="room:2", text="still here")
        assert (await wire.receive())["event"] == "said"


async def test_another_envelope():
    class Other(Lobby):
        envelope = Envelope(action="do", channel="room", request_id="id", payload="with")

    async with connected(Other()) as wire:
        wire.send({"type": "join", "room": "a", "id": 1})
        assert await wire.receive() == {"type": "joined", "room": "a", "id": 1}
        wire.send({"do": "who", "room": "a", "id": 2, "with": {}})
        assert (await wire.receive())["data"] == ["Other", "a", None]


async def test_an_envelope_may_end_the_websocket():
    class Checking(Envelope):
        def decode(self, body: str | bytes) -> Any:
            raise WebSocketException(4008, "not signed")

    class Signed(Lobby):
        envelope = Checking()

    async with connected(Signed()) as wire:
        wire.send({"type": "join", "channel": "a"})
        assert (await wire.receive())["errors"] == "not signed"
        assert await wire.closed() == Close(4008, "not signed")


# What cannot work is told at once


class OtherNames(Channel):
    envelope = Envelope(action="do")


class OwnCodec(Channel):
    async def decode_json(self, message: str | bytes) -> Any: ...


@pytest.mark.parametrize(
    ("channels", "problem"),
    [
        ((), "at least one channel"),
        ((Lobby,), "takes instances of Channel, got <class"),
        ((BaseChannel(),), "takes instances of Channel"),
        ((Lobby(), OtherNames()), "OtherNames has another envelope than Lobby"),
        ((Lobby(), OwnCodec()), "decode_json of OwnCodec is not called"),
    ],
)
def test_what_cannot_share_a_websocket(channels: Any, problem: str):
    with pytest.raises(ConfigurationError, match=problem):
        Socket(*channels)


async def test_an_application_is_needed(caplog: pytest.LogCaptureFixture):
    app = FastAPI()
    Socket(Lobby()).mount(app, "/")
    with pytest.raises(ConfigurationError, match="add_channel"):
        async with dialing(app, "/") as wire:
            await wire.ended()
    assert not [r for r in caplog.records if r.levelno >= logging.ERROR]
