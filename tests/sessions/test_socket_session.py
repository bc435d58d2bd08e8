"""Many rooms in one join frame: each is joined, or refused, for itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import pytest
from fastapi import FastAPI, WebSocket

from fastapi_channels import Channel, ConfigurationError, Connection, Envelope, Socket, action, add_channel
from fastapi_channels.sessions.socket_session import IN_FLIGHT, JOINS_AT_ONCE
from fastapi_channels.testing.asgi import living
from fastapi_channels.testing.broker import FaultyBroker
from fastapi_channels.testing.clock import timeless
from fastapi_channels.testing.store import FaultyStore
from tests.support.wire import Wire, dial, nothing_is_held

HUNDRED: Final = [f"room:{number}" for number in range(100)]


class Room(Channel):
    """Lets everybody in, but into one."""

    room_pattern = "room:{number:int}"
    history = 100
    max_connection: int | None = None

    def __init__(self) -> None:
        super().__init__()
        self.asking = 0
        self.peak = 0
        self.asked = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def authorize(self, connection: Connection, number: int) -> bool:
        self.asked += 1
        self.asking += 1
        self.peak = max(self.peak, self.asking)
        await self.gate.wait()
        self.asking -= 1
        return number != 13

    @action()
    async def say(self, text: str, connection: Connection) -> str:
        await self.broadcast(connection.room, "said", text)
        return text


@asynccontextmanager
async def serving(socket: Socket, **settings: Any) -> AsyncIterator[FastAPI]:
    app = FastAPI()
    add_channel(app, **settings)

    @app.websocket("/")
    async def endpoint(websocket: WebSocket, user: str | None = None) -> None:
        await socket.connect(websocket, user=user)

    async with living(app):
        yield app
        nothing_is_held(app)


def join(rooms: Iterable[Any], **more: Any) -> dict[str, Any]:
    named = [{"channel": room} if isinstance(room, str) else room for room in rooms]
    return {"type": "join", "channels": named, **more}


async def answers(wire: Wire, count: int) -> dict[str, Any]:
    """So many results, by the room."""
    found = [await wire.receive() for _ in range(count)]
    assert len({frame["channel"] for frame in found}) == count
    return {frame["channel"]: frame for frame in found}


@timeless
async def test_a_hundred_rooms_are_joined_by_one_frame_and_a_ping_waits_for_none_of_them():
    room = Room()
    room.gate.clear()
    async with serving(Socket(room)) as app, dial(app, "/") as wire:
        wire.send(join(HUNDRED, request_id=7), {"type": "ping"})
        assert await wire.receive() == {"type": "pong"}
        await wire.until(lambda: room.asking == JOINS_AT_ONCE)
        room.gate.set()
        found = await answers(wire, 100)
        assert {frame["request_id"] for frame in found.values()} == {7}
        refused = found.pop("room:13")
        assert (refused["action"], refused["code"]) == ("join", "permission_denied")
        assert {frame["type"] for frame in found.values()} == {"joined"}
        assert room.peak == JOINS_AT_ONCE
        wire.call("say", channel="room:99", text="hi", request_id=1)
        assert {(await wire.receive())["type"] for _ in range(2)} == {"event", "response"}


@timeless
async def test_each_has_its_own_id_and_position_where_it_says_them():
    room = Room()
    async with serving(Socket(room)) as app, dial(app, "/") as wire, dial(app, "/") as other:
        other.send(join(["room:1", "room:2"]))
        positions = {name: frame["position"] for name, frame in (await answers(other, 2)).items()}
        await room.broadcast("room:1", "said", "one")
        rooms = [
            {"channel": "room:1", "request_id": "a", "since": positions["room:1"]},
            {"channel": "room:2", "since": "0ther:7", "connection": "1.1"},
            {"channel": "room:3", "request_id": None},
            {"channel": "room:4", "since": "nowhere", "request_id": 4},
        ]
        wire.send(join(rooms, request_id="all"))
        found: dict[str, Any] = {}
        events = []
        for _ in range(5):
            frame = await wire.receive()
            if frame["type"] == "event":
                events.append(frame["data"])
            else:
                found[frame["channel"]] = frame
        assert (events, found["room:1"]["recovered"], found["room:1"]["request_id"]) == (["one"], True, "a")
        assert (found["room:2"]["reason"], found["room:2"]["request_id"]) == ("epoch", "all")
        assert (found["room:3"]["type"], found["room:3"]["request_id"]) == ("joined", None)
        assert (found["room:4"]["code"], found["room:4"]["request_id"]) == ("invalid_position", 4)


@timeless
async def test_what_a_room_refuses_it_alone_refuses():
    class Small(Room):
        max_connection = 1

    class Few(Socket):
        max_rooms = 4

    async with serving(Few(Small())) as app, dial(app, "/") as wire, dial(app, "/") as other:
        other.send({"type": "join", "channel": "room:2"})
        await other.receive()
        rooms = ["room:1", "room:2", "kitchen", "", "x" * 256, "room:3", "room:13", "room:5", "room:6"]
        wire.send(join(rooms, request_id=1))
        found = await answers(wire, len(rooms))
        assert {name: frame.get("code", frame["type"]) for name, frame in found.items()} == {
            "room:1": "joined",
            "room:2": "channel_full",
            "kitchen": "not_found",
            "": "invalid_room",
            "x" * 256: "invalid_room",
            "room:3": "joined",
            "room:13": "permission_denied",
            "room:5": "too_many_rooms",
            "room:6": "too_many_rooms",
        }
        assert {frame["request_id"] for frame in found.values()} == {1}
        wire.send(join(["room:3", "room:5", "room:6"], request_id=2))
        codes = [(await wire.receive()).get("code", "joined") for _ in range(3)]
        assert sorted(codes) == ["already_joined", "joined", "joined"]


@pytest.mark.parametrize(
    ("channels", "problem"),
    [
        ([], "'channels' must be a list of 1 to 3 rooms, got 0 of them"),
        (["room:1"], r"channels[0] must be an object with a text as 'channel'"),
        (
            [{"channel": "room:1"}, {"since": "e:1"}],
            r"channels[1] must be an object with a text as 'channel'",
        ),
        ([{"channel": "room:1"}, {"channel": 2}], r"channels[1] must be an object with a text as 'channel'"),
        ([{"channel": "room:1", "request_id": []}], "'request_id' must be a text or a number, got a list"),
        (
            [{"channel": "room:1"}, {"channel": "room:2"}, {"channel": "room:1", "since": "e:1"}],
            "channels[2] names 'room:1' once more: each room is joined once",
        ),
        (
            [{"channel": f"room:{n}"} for n in range(4)],
            "'channels' must be a list of 1 to 3 rooms, got 4 of them",
        ),
        ("room:1", "'channels' must be a list of 1 to 3 rooms, got no list"),
        (None, "'channels' must be a list of 1 to 3 rooms, got no list"),
    ],
)
@timeless
async def test_of_a_frame_that_cannot_be_read_nothing_is_joined(channels: Any, problem: str):
    class Three(Socket):
        max_joins = 3

    room = Room()
    async with serving(Three(room)) as app, dial(app, "/") as wire:
        wire.send({"type": "join", "channels": channels, "request_id": 5})
        frame = await wire.receive()
        assert (frame["code"], frame["action"], frame["request_id"]) == ("parse_error", "join", 5)
        assert problem in frame["errors"]
        wire.call("say", channel="room:1", text="hi")
        assert (await wire.receive())["code"] == "not_joined"
        assert room.asked == 0


@pytest.mark.parametrize("channels", [[{"channel": "room:2"}], [], None, "room:2"])
@timeless
async def test_a_frame_that_names_one_room_beside_others_joins_none(channels: Any):
    room = Room()
    async with serving(Socket(room)) as app, dial(app, "/") as wire:
        wire.send({"type": "join", "channel": "room:1", "channels": channels, "request_id": 5})
        frame = await wire.receive()
        assert (frame["code"], frame["action"], frame["request_id"]) == ("parse_error", "join", 5)
        assert "'channel' for one room, or 'channels' for several, got both" in frame["errors"]
        for name in ("room:1", "room:2"):
            wire.call("say", channel=name, text="hi")
            assert (await wire.receive())["code"] == "not_joined"
        assert room.asked == 0


@timeless
async def test_such_frames_take_no_place_of_others_for_ever():
    """Refused, cancelled or not: whoever sends many of them is heard as before."""
    async with serving(Socket(Room())) as app, dial(app, "/") as wire:
        for id in range(2 * IN_FLIGHT):
            wire.send(join(["kitchen", "hall"], request_id=id))
        found = [await wire.receive() for _ in range(4 * IN_FLIGHT)]
        assert [frame["request_id"] for frame in found] == [id for id in range(2 * IN_FLIGHT) for _ in "ab"]
        wire.send({"type": "join", "channel": "room:1"})
        assert (await wire.receive())["type"] == "joined"


@timeless
async def test_one_of_them_or_all_are_cancelled_while_they_wait_or_are_under_way():
    room = Room()
    room.gate.clear()
    async with serving(Socket(room)) as app, dial(app, "/") as wire:
        rooms = [{"channel": name, "request_id": name} for name in HUNDRED[:10]]
        wire.send(join([*rooms, *HUNDRED[20:80]], request_id=1))
        await wire.until(lambda: room.asking == JOINS_AT_ONCE)
        for id in ("room:1", 1):
            wire.send({"type": "cancel", "request_id": id})
        wire.send({"type": "ping"})
        assert await wire.receive() == {"type": "pong"}
        room.gate.set()
        found = await answers(wire, 70)
        codes = {name: frame.get("code", frame["type"]) for name, frame in found.items()}
        wanted = {f"room:{number}" for number in range(10) if number != 1}
        assert codes == {name: "joined" if name in wanted else "cancelled" for name in codes}
        assert room.asked == JOINS_AT_ONCE, "nobody asks for who has cancelled"
        assert found["room:1"]["action"] == "join"


@timeless
async def test_one_that_is_cancelled_before_it_is_read():
    room = Room()
    room.gate.clear()
    async with serving(Socket(room)) as app, dial(app, "/") as wire:
        wire.send({"type": "join", "channel": "room:0", "request_id": "x"})
        for _ in range(IN_FLIGHT):
            wire.send({"type": "leave", "channel": "room:0", "request_id": "y"})
        wire.send(join([{"channel": "room:2", "request_id": 2}, "room:4"], request_id=3))
        wire.send({"type": "cancel", "request_id": 2})
        await asyncio.sleep(1)
        room.gate.set()
        found = {frame["request_id"]: frame for frame in [await wire.receive() for _ in range(IN_FLIGHT + 3)]}
        assert (found[2]["channel"], found[2]["code"]) == ("room:2", "cancelled")
        assert (found[3]["channel"], found[3]["type"]) == ("room:4", "joined")


@timeless
async def test_what_cancelled_one_of_them_cancels_nothing_later():
    room = Room()
    room.gate.clear()
    async with serving(Socket(room)) as app, dial(app, "/") as wire:
        wire.send({"type": "join", "channel": "room:0", "request_id": "x"})
        for _ in range(IN_FLIGHT):
            wire.send({"type": "leave", "channel": "room:0", "request_id": "y"})
        wire.send(join([{"channel": "room:2", "request_id": 2}], request_id=3))
        wire.send({"type": "cancel", "request_id": 2})
        wire.send({"type": "join", "channel": "room:4", "request_id": 2})
        wire.send({"type": "ping"})
        await asyncio.sleep(1)
        room.gate.set()
        frames = [await wire.receive() for _ in range(IN_FLIGHT + 4)]
        codes = {frame.get("channel"): frame.get("code", frame["type"]) for frame in frames}
        assert (codes["room:2"], codes["room:4"]) == ("cancelled", "joined")


@timeless
async def test_who_leaves_one_of_them_at_once_has_left_it():
    room = Room()
    async with serving(Socket(room)) as app, dial(app, "/") as wire:
        wire.send(join(HUNDRED[:3]), {"type": "leave", "channel": "room:1", "request_id": 1})
        found = [await wire.receive() for _ in range(4)]
        assert sorted(frame["type"] for frame in found) == ["joined", "joined", "joined", "left"]
        assert [frame["channel"] for frame in found if frame["type"] == "left"] == ["room:1"]
        wire.send({"type": "leave", "channel": "room:2", "request_id": 2})
        assert (await wire.receive())["type"] == "left"


@timeless
async def test_who_goes_meanwhile_is_in_no_room():
    room = Room()
    room.gate.clear()
    async with serving(Socket(room)) as app, dial(app, "/") as wire:
        wire.send(join(HUNDRED))
        await wire.until(lambda: room.asking == JOINS_AT_ONCE)


@timeless
async def test_a_herd_that_comes_back_to_many_rooms_reads_each_once():
    room, store = Room(), FaultyStore()
    names = HUNDRED[:10]
    async with (
        serving(Socket(room), backend=FaultyBroker().backend(), store=store) as app,
        dial(app, "/") as other,
        AsyncExitStack() as stack,
    ):
        other.send(join(names))
        positions = {name: frame["position"] for name, frame in (await answers(other, 10)).items()}
        for name in names:
            for text in ("one", "two"):
                await room.broadcast(name, "said", text)
        again = join([{"channel": name, "since": since} for name, since in positions.items()])
        wires = [await stack.enter_async_context(dial(app, "/")) for _ in range(20)]
        for wire in wires:
            wire.send(again)
        for wire in wires:
            found = [await wire.receive() for _ in range(30)]
            for name in names:
                mine = [frame for frame in found if frame["channel"] == name]
                assert [frame.get("data", frame.get("recovered")) for frame in mine] == [True, "one", "two"]
        assert store.calls.count("read") == len(names)


@timeless
async def test_names_of_ones_own():
    class Own(Room):
        envelope = Envelope(channel="room", request_id="id", type="kind")

    async with serving(Socket(Own())) as app, dial(app, "/") as wire:
        rooms = [{"room": "room:1", "id": 1}, {"room": "kitchen"}]
        wire.send({"kind": "join", "channels": rooms, "id": 2})
        found = {frame["room"]: frame for frame in [await wire.receive() for _ in range(2)]}
        assert (found["room:1"]["kind"], found["room:1"]["id"]) == ("joined", 1)
        assert (found["kitchen"]["code"], found["kitchen"]["id"]) == ("not_found", 2)


@timeless
async def test_how_many_a_frame_may_name_is_said_to_who_asks():
    class Three(Socket):
        max_joins = 3

    async with serving(Three(Room())) as app, dial(app, "/", subprotocols=["fastapi-channels.1"]) as wire:
        welcome = await wire.receive()
        assert (welcome["type"], welcome["max_joins"]) == ("welcome", 3)


@pytest.mark.parametrize("count", [0, -1, None, True, "3"])
def test_it_is_a_number(count: Any):
    kind = type("Some", (Socket,), {"max_joins": count})
    with pytest.raises(ConfigurationError, match=r"max_joins must be 1 or more"):
        kind(Room())
