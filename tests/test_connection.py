"""What leaves for one client: in which order, how much may wait, and how it ends."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.websockets import WebSocket

from fastapi_channels import Channel, ConfigurationError, Connection, Envelope, action
from fastapi_channels.testing.clock import now, timeless
from fastapi_channels.wire.outbox import OVERHEAD
from tests.support.wire import Close, Wire, dial, dialing, others, serving


class Room(Channel):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.joined: asyncio.Queue[Connection] = asyncio.Queue()
        self.add_event_handler("join", self._meet)

    async def _meet(self, connection: Connection) -> None:
        self.joined.put_nowait(connection)

    @action()
    async def echo(self, data: dict[str, Any]) -> Any:
        return data["text"]

    @action()
    async def raw(self, websocket: WebSocket) -> None:
        await websocket.send_text("raw")


def event(data: Any, room: str = "r") -> dict[str, Any]:
    return {"type": "event", "event": "said", "channel": room, "data": data}


async def fill(room: Room, count: int, body: str = "") -> None:
    """Broadcast, turn after turn."""
    for number in range(count):
        await room.broadcast_to_channel("r", f"{number}{body}")
        await asyncio.sleep(0)


# One stream


@timeless
async def test_everything_leaves_in_the_order_in_which_it_was_sent() -> None:
    room = Room()
    async with serving(room) as app, dial(app, "/r") as wire:
        connection = await room.joined.get()
        wire.block()
        sends: list[asyncio.Task[Any]] = []
        expected: list[str] = []
        for number in range(0, 50, 5):
            await room.broadcast_to_channel("r", f"{number}")
            sends.append(asyncio.create_task(connection.send(f"{number + 1}")))
            await asyncio.sleep(0)
            await room.broadcast_to_channel("r", f"{number + 2}")
            sends.append(asyncio.create_task(connection.websocket.send_text(f"{number + 3}")))
            await asyncio.sleep(0)
            sends.append(
                asyncio.create_task(room.broadcast_to_personal(connection.websocket, f"{number + 4}"))
            )
            await asyncio.sleep(0)
            expected += [str(number + offset) for offset in range(5)]
        assert not any(send.done() for send in sends), "they wait until their frame has left"
        wire.unblock()
        await asyncio.gather(*sends)
        assert wire.frames == expected


@timeless
async def test_replies_and_what_a_handler_sends_stay_behind_what_was_broadcast() -> None:
    room = Room()
    async with serving(room) as app, dial(app, "/r") as wire:
        await room.joined.get()
        wire.block()
        await room.broadcast_to_channel("r", "first")
        wire.call("raw")
        await wire.until(lambda: wire.blocked)
        await room.broadcast_to_channel("r", "third")
        wire.call("echo", text="fourth")
        wire.unblock()
        assert [await wire.read(), await wire.read(), await wire.read()] == ["first", "raw", "third"]
        assert (await wire.receive())["data"] == "fourth"


@timeless
async def test_texts_and_bytes_go_as_they_are_and_other_values_encoded() -> None:
    room = Room()
    async with serving(room) as app, dial(app, "/r") as wire:
        connection = await room.joined.get()
        for value in ("text", b"bytes", {"a": 1}, [1], None, 7):
            assert await connection.send(value) is True
        assert await connection.send_event("said", 7) is True
        assert wire.frames[:-1] == ["text", b"bytes", '{"a":1}', "[1]", "null", "7"]
        assert wire.frames[-1] == '{"type":"event","event":"said","channel":"r","data":7}'


class Shouting(Envelope):
    def encode(self, frame: Any) -> bytes:
        return repr(frame).upper().encode()


@timeless
async def test_the_channels_envelope_encodes() -> None:
    room = Room()
    room.envelope = Shouting(event="e")
    async with serving(room) as app, dial(app, "/r") as wire:
        connection = await room.joined.get()
        await connection.send_event("said")
        assert await wire.read() == b"{'TYPE': 'EVENT', 'E': 'SAID', 'CHANNEL': 'R', 'DATA': NONE}"


@timeless
async def test_what_cannot_be_encoded_is_told_to_who_sends_it() -> None:
    room = Room()
    async with serving(room) as app, dial(app, "/r"):
        connection = await room.joined.get()
        for value in (object(), "\ud800", ["\ud800"]):
            with pytest.raises(ValueError, match=r"surrogate|serializ"):
                await connection.send(value)
        assert await connection.send("still here")


@timeless
async def test_a_cancelled_send_leaves_the_others_alone() -> None:
    room = Room()
    async with serving(room) as app, dial(app, "/r") as wire:
        connection = await room.joined.get()
        wire.block()
        sends = [asyncio.create_task(connection.send(str(number))) for number in range(3)]
        await asyncio.sleep(0)
        sends[1].cancel()
        await asyncio.wait((sends[1],))
        wire.unblock()
        assert await sends[0] is await sends[2] is True
        assert wire.frames == ["0", "1", "2"]


# Who does not read


@timeless
async def test_a_slow_reader_is_told_to_come_back() -> None:
    class Strict(Room):
        outbox_limit = 3 * OVERHEAD

    room = Strict()
    async with serving(room) as app, dial(app, "/r") as wire:
        connection = await room.joined.get()
        wire.block()
        await fill(room, 10)
        assert connection.closed
        wire.unblock()
        assert await wire.closed() == Close(4000, "slow consumer")
        await wire.ended()
        assert wire.frames == ["0"], "what waited is not sent: the client comes back and reads on"


@pytest.mark.parametrize(
    ("policy", "frames"),
    [
        ("drop_oldest", ["0", 6, "7", "8", "9"]),
        ("drop_newest", ["0", "1", "2", "3", 6]),
    ],
)
@timeless
async def test_a_slow_reader_is_told_what_it_missed(policy: Any, frames: list[Any]) -> None:
    class Patient(Room):
        outbox_limit = 3 * OVERHEAD + 3
        slow_policy = policy

    room = Patient()
    async with serving(room) as app, dial(app, "/r") as wire:
        connection = await room.joined.get()
        wire.block()
        await fill(room, 10)
        assert not connection.closed
        wire.unblock()
        lagged = '{{"type":"lagged","channel":"r","dropped":{}}}'
        for expected in frames:
            assert await wire.read() == (expected if isinstance(expected, str) else lagged.format(expected))
        await room.broadcast_to_channel("r", "on")
        assert await wire.read() == "on"


@timeless
async def test_a_slow_reader_keeps_nobody_else_waiting() -> None:
    room = Room()
    async with serving(room) as app, dial(app, "/r") as slow, dial(app, "/r") as other:
        await room.joined.get()
        slow.block()
        await fill(room, 10)
        assert [await other.read() for _ in range(10)] == [str(number) for number in range(10)]
        assert slow.frames == []


@timeless
async def test_what_is_waited_for_is_not_dropped() -> None:
    class Patient(Room):
        outbox_limit = 1
        slow_policy = "drop_oldest"

    room = Patient()
    async with serving(room) as app, dial(app, "/r") as wire:
        connection = await room.joined.get()
        wire.block()
        sends = [asyncio.create_task(connection.send(f"reply {number}")) for number in range(3)]
        await fill(room, 10)
        wire.unblock()
        assert await asyncio.gather(*sends) == [True] * 3
        await wire.until(lambda: "9" in wire.frames)
        assert [frame for frame in wire.frames if str(frame).startswith("reply")] == [
            "reply 0",
            "reply 1",
            "reply 2",
        ]


@timeless
async def test_a_client_that_takes_no_frame_is_cut_off(caplog: pytest.LogCaptureFixture) -> None:
    class Hasty(Room):
        send_timeout = 7.0

    room = Hasty()
    async with serving(room) as app, dial(app, "/r") as wire:
        connection = await room.joined.get()
        wire.block()
        began = now()
        assert await connection.send("never") is False
        assert now() - began == pytest.approx(7.0, abs=0.5)
        assert connection.closed
        await wire.ended()
        assert wire.frames == []
    assert "a client took no frame for 7 s: cut off" in caplog.text


@timeless
async def test_the_deadline_is_for_each_frame() -> None:
    class Hasty(Room):
        send_timeout = 7.0

    room = Hasty()
    async with serving(room) as app, dial(app, "/r") as wire:
        connection = await room.joined.get()
        for _ in range(5):
            wire.block()
            send = asyncio.create_task(connection.send("slow"))
            await asyncio.sleep(6)
            wire.unblock()
            assert await send is True
        wire.block()
        sends = [asyncio.create_task(connection.send(str(number))) for number in range(5)]
        for _ in sends:
            await asyncio.sleep(6)
            wire.unblock()
            await wire.read()
            wire.block()
        wire.unblock()
        assert await asyncio.gather(*sends) == [True] * 5


@timeless
async def test_a_slow_reader_gets_a_moment_for_its_close_frame() -> None:
    class Strict(Room):
        outbox_limit = 1
        send_timeout = 60.0

    room = Strict()
    async with serving(room) as app, dial(app, "/r") as wire:
        await room.joined.get()
        wire.block()
        began = now()
        await fill(room, 3)
        await wire.ended()
        assert now() - began < 10
        assert wire.events == ["accept"]


# Closing


@pytest.mark.parametrize(
    ("code", "sent"),
    [
        *((code, code) for code in (1000, 1001, 1003, 1007, 1008, 1011, 1013, 1014, 3000, 4000, 4999)),
        *((code, 1011) for code in (-1, 0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 70_000)),
        (None, 1000),
    ],
)
@timeless
async def test_only_codes_that_may_be_sent_are_sent(code: Any, sent: int) -> None:
    room = Room()
    async with serving(room) as app:
        for close in (Connection.close, lambda connection, code: connection.websocket.close(code)):
            async with dial(app, "/r") as wire:
                await close(await room.joined.get(), code)
                assert await wire.closed() == Close(sent, "")
                await wire.ended()


REASONS = [
    ("", ""),
    ("why", "why"),
    ("x" * 123, "x" * 123),
    ("x" * 124, "x" * 120 + "…"),
    ("x" * 500, "x" * 120 + "…"),
    ("é" * 61, "é" * 61),
    ("é" * 62, "é" * 60 + "…"),
    ("满" * 41, "满" * 41),
    ("满" * 42, "满" * 40 + "…"),
    ("x" + "满" * 41, "x" + "满" * 39 + "…"),
    ("😀" * 31, "😀" * 30 + "…"),
    ("x😀" * 31, "x😀" * 24 + "…"),
    ("\ud800", "?"),
]


@pytest.mark.parametrize(("reason", "sent"), REASONS)
@timeless
async def test_a_reason_is_cut_at_a_character(reason: str, sent: str) -> None:
    room = Room()
    async with serving(room) as app, dial(app, "/r") as wire:
        connection = await room.joined.get()
        await connection.close(4000, reason)
        assert await wire.closed() == Close(4000, sent)
        assert len(sent.encode()) <= 123


@timeless
async def test_a_close_goes_behind_what_is_queued() -> None:
    room = Room()
    async with serving(room) as app, dial(app, "/r") as wire:
        connection = await room.joined.get()
        wire.block()
        await room.broadcast_to_channel("r", "1")
        send = asyncio.create_task(connection.send("2"))
        await asyncio.sleep(0)
        close = asyncio.create_task(connection.close())
        await asyncio.sleep(0)
        assert connection.closed
        await room.broadcast_to_channel("r", "too late")
        assert await connection.send("too late") is False
        assert not close.done()
        wire.unblock()
        await close
        assert await send is True
        assert wire.frames == ["1", "2"]
        assert wire.events == ["accept", "send", "send", "close"]


@timeless
async def test_closing_twice_closes_once() -> None:
    room = Room()
    async with serving(room) as app, dial(app, "/r") as wire:
        connection = await room.joined.get()
        await asyncio.gather(connection.close(4001, "first"), connection.close(4002), connection.close())
        await room.close(connection.websocket)
        await room.disconnect(connection.websocket)
        await wire.ended()
        assert await wire.closed() == Close(4001, "first")


@pytest.mark.parametrize(
    ("event", "close"),
    [
        ({}, Close(1000, "")),
        ({"code": 4001}, Close(4001, "")),
        ({"reason": "x" * 200}, Close(1000, "x" * 120 + "…")),
        ({"code": 1006, "reason": None}, Close(1011, "")),
    ],
)
@timeless
async def test_a_raw_close_message_may_leave_out_what_asgi_lets_it(
    event: dict[str, Any], close: Close
) -> None:
    room = Room()
    async with serving(room) as app, dial(app, "/r") as wire:
        connection = await room.joined.get()
        await connection.websocket.send({"type": "websocket.close", **event})
        assert connection.closed
        assert await wire.closed() == close


@timeless
async def test_a_connection_may_be_closed_before_it_is_accepted() -> None:
    class Refusing(Room):
        permission_classes = [lambda websocket, connection: connection.close(4003, "not now")]

    async with serving(Refusing()) as app, dialing(app, "/r") as wire:
        await wire.ended()
        assert "accept" not in wire.events
        assert await wire.closed() == Close(4003, "not now")


# The client has gone


def _send(connection: Connection) -> Awaitable[Any]:
    return connection.send({"a": 1})


def _send_text(connection: Connection) -> Awaitable[Any]:
    return connection.websocket.send_text("text")


def _close(connection: Connection) -> Awaitable[Any]:
    return connection.close(4000)


def _send_personal(connection: Connection) -> Awaitable[Any]:
    assert isinstance(connection.channel, Room)
    return connection.channel.broadcast_to_personal(connection.websocket, "text")


def _broadcast(connection: Connection) -> Awaitable[Any]:
    assert isinstance(connection.channel, Room)
    return connection.channel.broadcast_to_channel("r", "text")


WAYS = [_send, _send_text, _close, _send_personal, _broadcast]


@pytest.mark.parametrize("way", WAYS)
@timeless
async def test_nothing_is_raised_for_a_client_that_has_gone(
    way: Callable[[Connection], Awaitable[Any]],
) -> None:
    room = Room()
    results: list[Any] = []

    @room.on_event("leave")
    async def left(connection: Connection) -> None:
        results.append(await way(connection))

    async with serving(room) as app:
        async with dial(app, "/r") as wire:
            connection = await room.joined.get()
            wire.leave()
            await wire.ended()
            assert connection.closed
            assert wire.events == ["accept"]
        results.append(await way(connection))
    assert results in ([None, None], [False, False])


@pytest.mark.parametrize(
    "failure",
    [RuntimeError("gone"), OSError("gone"), ConnectionResetError(), ValueError("odd"), KeyError("odd")],
)
@pytest.mark.parametrize("way", WAYS)
@timeless
async def test_a_server_that_fails_to_send_ends_the_connection(
    way: Callable[[Connection], Awaitable[Any]], failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    room = Room()
    async with serving(room) as app, dial(app, "/r") as wire:
        connection = await room.joined.get()
        wire.fail(failure)
        assert await way(connection) in (None, False)
        await wire.ended()
        assert connection.closed
        assert await connection.send("more") is False
    assert ("the server failed to send" in caplog.text) is isinstance(failure, ValueError | KeyError)


@timeless
async def test_a_failing_send_releases_everybody_who_waits() -> None:
    room = Room()
    async with serving(room) as app, dial(app, "/r") as wire:
        connection = await room.joined.get()
        wire.block()
        sends = [asyncio.create_task(connection.send(str(number))) for number in range(3)]
        await asyncio.sleep(0)
        wire.fail(OSError("gone"))
        assert await asyncio.gather(*sends) == [False] * 3


@timeless
async def test_an_envelope_that_fails_ends_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Envelope):
        def lagged(self, channel: str, dropped: int, since: str = "") -> dict[str, Any]:
            raise LookupError("no words")

    class Patient(Room):
        envelope = Broken()
        outbox_limit = 1
        slow_policy = "drop_newest"

    room = Patient()
    async with serving(room) as app, dial(app, "/r") as wire:
        connection = await room.joined.get()
        wire.block()
        await fill(room, 5)
        wire.unblock()
        await wire.ended()
        assert connection.closed
    assert "no words" in caplog.text


@timeless
async def test_what_waits_is_not_waited_for_when_the_client_leaves() -> None:
    room = Room()
    async with serving(room) as app, dial(app, "/r") as wire:
        connection = await room.joined.get()
        before = others()
        wire.block()
        send = asyncio.create_task(connection.send("never"))
        await wire.until(lambda: wire.blocked)
        wire.leave()
        await wire.ended()
        assert await send is False
        assert others() < before
        assert wire.blocked == 0


# Who it is


@timeless
async def test_what_a_connection_knows(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "fastapi_channels")
    room = Room()
    async with serving(room) as app, dial(app, "/r?user=ada&lang=zh") as wire, dial(app, "/r") as other:
        ada, stranger = await room.joined.get(), await room.joined.get()
        assert ada.id != stranger.id
        assert (ada.user, stranger.user) == ("ada", None)
        assert (ada.language, stranger.language) == ("zh", "en")
        assert ada.room == "r"
        assert ada.rooms == {"r"}
        assert ada.address == "192.0.2.1"
        assert ada.channel is room
        ada.state.seen = 7
        assert ada.state.seen == 7
        assert not hasattr(stranger.state, "seen")
        assert repr(ada) == f"<Connection {ada.id} in 'r'>"
        await ada.close()
        assert repr(ada) == f"<Connection {ada.id} in 'r' closed>"
        assert wire.done is other.done is False
    ids = {getattr(record, "connection", None) for record in caplog.records}
    assert {ada.id, stranger.id} <= ids


@timeless
async def test_a_user_who_is_known_later_is_found() -> None:
    room = Room()
    async with serving(room) as app, dial(app, "/r") as wire:
        connection = await room.joined.get()
        for name in ("ada", "bob"):
            connection.user = name
            await room.send_to_user(name, "said", name)
            assert (await wire.receive())["data"] == name
        await room.send_to_user("ada", "said")
        connection.user = None
        await room.send_to_user("bob", "said")
        await connection.send("last")
        assert await wire.read() == "last"


@timeless
async def test_further_rooms() -> None:
    room = Room()
    async with serving(room) as app, dial(app, "/r") as wire:
        connection = await room.joined.get()
        await connection.join("s")
        await connection.join("s")
        assert connection.rooms == {"r", "s"}
        await room.broadcast(["r", "s", "t"], "said", 1)
        assert [await wire.receive(), await wire.receive()] == [event(1), event(1, "s")]
        await connection.leave("s")
        await connection.leave("s")
        await connection.leave("never")
        await room.broadcast("s", "said", 2)
        await room.broadcast("r", "said", 3)
        assert await wire.receive() == event(3)


@timeless
async def test_a_websocket_that_is_not_connected_has_no_connection() -> None:
    room = Room()

    async def send(event: Any) -> None: ...

    async def receive() -> Any: ...

    async with serving(room):
        with pytest.raises(ConfigurationError, match="not connected to a channel"):
            await room.broadcast_to_personal(WebSocket({"type": "websocket"}, receive, send), "text")


async def test_the_double_tells_what_it_sees() -> None:
    """The other tests rest on it."""
    wire = Wire()
    for event in ({"type": "websocket.accept"}, {"type": "websocket.send", "text": "", "bytes": None}):
        await wire._send(event)
    assert (wire.events, wire.frames, wire.unread) == (["accept", "send"], [""], [""])
