"""From the handshake to the leave handler: each join is left once, whatever happened between."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from fastapi import FastAPI, WebSocket
from websockets.frames import Opcode

from fastapi_channels import (
    Channel,
    ConfigurationError,
    Connection,
    WebSocketException,
    action,
)
from tests.support.live import (
    Client,
    RawClient,
    Site,
    application,
    each_implementation,
    process,
    serving,
    wait_until,
)


class Room(Channel):
    """Writes down who comes and goes."""

    finish_timeout = 0.2

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.events: list[str] = []
        self.codes: list[int | None] = []
        self.reasons: list[str | None] = []
        self.go_on = asyncio.Event()
        self.began = asyncio.Event()
        self.add_event_handler("join", self.note_join)
        self.add_event_handler("leave", self.note_leave)

    async def note_join(self, connection: Connection) -> None:
        self.events.append(f"join {connection.id}")

    async def note_leave(self, connection: Connection, code: int | None, reason: str | None) -> None:
        self.events.append(f"leave {connection.id}")
        self.codes.append(code)
        self.reasons.append(reason)

    @property
    def balanced(self) -> bool:
        """Whether each that joined has left, once and afterwards."""
        joined = [event[5:] for event in self.events if event.startswith("join")]
        left = [event[6:] for event in self.events if event.startswith("leave")]
        return bool(joined) and sorted(joined) == sorted(left) == sorted(set(joined))

    @action()
    async def echo(self, data: dict[str, Any]) -> Any:
        return data

    @action()
    async def say(self, text: str, connection: Connection) -> None:
        await self.broadcast(connection.room, "said", text)

    @action()
    async def bye(self, websocket: WebSocket) -> None:
        await websocket.close(4001, "as you wish")

    @action()
    async def fail(self) -> None:
        raise RuntimeError("on purpose")

    @action()
    async def refuse(self) -> None:
        raise WebSocketException(4002, "enough")

    @action()
    async def cancel(self) -> None:
        """As a server does that wants its task to end."""
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.Event().wait()

    @action()
    async def work(self) -> None:
        self.began.set()
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.events.append("cancelled")
            raise
        self.events.append("worked")

    @action(concurrent=3)
    async def three(self, request_id: int) -> int:
        return await self._at_once(request_id)

    @action(detached=True)
    async def many(self, request_id: int) -> int:
        return await self._at_once(request_id)

    async def _at_once(self, number: int) -> int:
        self.events.append(f"begin {number}")
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.events.append(f"cancelled {number}")
            raise
        return number


async def close(client: Client) -> None:
    await client.close(4321, "that was all")


async def reset(client: Client) -> None:
    client.reset()


def sending(frame: Any) -> Callable[[Client], Any]:
    async def send(client: Client) -> None:
        await client.send(frame)
        await client.closed()

    return send


async def fail_and_go(client: Client) -> None:
    await client.call("fail")
    await client.close()


async def reset_while_it_works(client: Client) -> None:
    await client.send({"action": "work"})
    client.reset()


async def flood_and_reset(client: Client) -> None:
    for number in range(100):
        await client.send({"action": "say", "text": str(number)})
    client.reset()


ENDINGS = {
    "the client closes": close,
    "its connection breaks": reset,
    "an action closes": sending({"action": "bye"}),
    "an error closes": sending({"action": "refuse"}),
    "an action fails, and the client closes": fail_and_go,
    "a binary frame": sending(b"{}"),
    "too big a message": sending("x" * 70_000),
    "the connection breaks while an action runs": reset_while_it_works,
    "the connection breaks before its messages are handled": flood_and_reset,
}


@each_implementation
@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS.keys())
async def test_each_join_is_left_once(ws: str, ending: Callable[[Client], Any]):
    room = Room()
    async with serving(application(room), ws=ws) as site, site.unharmed():
        for _ in range(3):
            async with site.connect("/r") as client:
                await ending(client)
    assert room.balanced


async def test_each_join_is_left_once_when_its_task_is_cancelled():
    room = Room()
    app = application(room)
    async with serving(app, may_complain=True) as site, site.unharmed(), site.connect("/r") as client:
        await client.send({"action": "cancel"})
        await client.closed()
    assert room.balanced


async def test_a_leave_handler_is_not_cancelled_with_the_task_of_its_connection():
    """However often that is done, as by a server that has waited long enough."""
    room, tasks, ended = Room(), list[asyncio.Task[Any] | None](), asyncio.Event()

    async def join() -> None:
        tasks.append(asyncio.current_task())

    async def leave() -> None:
        for _ in range(3):
            assert tasks[0] is not None
            tasks[0].cancel()
            await asyncio.sleep(0.01)
        ended.set()

    room.add_event_handler("join", join)
    room.add_event_handler("leave", leave)
    app = application(room)
    async with serving(app, may_complain=True) as site, site.unharmed(), site.connect("/r") as client:
        await client.send({"action": "cancel"})
        await client.closed()
        await wait_until(ended.is_set)
    assert room.balanced


@each_implementation
async def test_each_join_is_left_once_when_the_server_stops(ws: str):
    room = Room()
    async with contextlib.AsyncExitStack() as clients:
        async with serving(application(room), ws=ws) as site:
            connected = [await clients.enter_async_context(site.connect("/r")) for _ in range(5)]
            await connected[0].send({"action": "work"})
            await room.began.wait()
        assert room.balanced
        assert "cancelled" in room.events
        for client in connected:
            assert (await client.closed()).code == 1012


@pytest.mark.parametrize("option", ["add_event_handler", "lifespan"])
async def test_a_join_handler_that_raises_ends_the_connection_and_is_left(option: str):
    events: list[str] = []

    async def join(websocket: WebSocket) -> None:
        events.append("join")
        raise RuntimeError("a secret")

    async def leave(websocket: WebSocket) -> None:
        events.append("leave")

    @contextlib.asynccontextmanager
    async def lifespan(websocket: WebSocket) -> AsyncIterator[None]:
        await join(websocket)
        yield
        events.append("never")

    room = Channel(lifespan=lifespan) if option == "lifespan" else Channel(on_join=[join])
    room.add_event_handler("leave", leave)
    async with serving(application(room)) as site, site.unharmed(), site.connect("/r") as client:
        error = await client.receive()
        assert error["code"] == "internal_error"
        assert "secret" not in error["errors"]
        assert (await client.closed()).code == 1011
        await wait_until(lambda: "leave" in events)
    assert events == ["join", "leave"]


async def test_handlers_that_wait_for_what_was_cancelled_have_failed_like_others():
    """As opposed to being cancelled themselves."""
    ran: list[str] = []

    async def fail() -> None:
        ran.append("fail")
        raise asyncio.CancelledError

    room = Channel(on_join=[fail], on_leave=[fail, lambda: ran.append("last")])
    async with serving(application(room)) as site, site.unharmed(), site.connect("/r") as client:
        assert (await client.receive())["code"] == "internal_error"
        assert (await client.closed()).code == 1011
    assert ran == ["fail", "fail", "last"]


async def test_a_join_handler_may_refuse_with_its_own_words():
    async def join(connection: Connection) -> None:
        raise WebSocketException(4503, "not today", data={"until": "tomorrow"})

    room = Room(on_join=[join])
    async with serving(application(room)) as site, site.unharmed(), site.connect("/r") as client:
        error = await client.receive()
        assert (error["errors"], error["data"]) == ("not today", {"until": "tomorrow"})
        assert await client.closed() == (4503, "not today")


async def test_a_join_handler_may_close():
    async def join(websocket: WebSocket) -> None:
        await websocket.close(4510, "no")

    room = Room()
    room.add_event_handler("join", join)
    async with serving(application(room)) as site, site.unharmed(), site.connect("/r") as client:
        assert await client.closed() == (4510, "no")
    assert room.balanced


@each_implementation
async def test_a_client_that_is_gone_in_the_middle_of_its_join_is_left_once(ws: str):
    room, joining = Room(), asyncio.Event()

    async def join(connection: Connection) -> None:
        joining.set()
        await asyncio.Event().wait()

    room.add_event_handler("join", join)
    async with serving(application(room), ws=ws) as site, site.unharmed():
        async with RawClient.open(site, "/r") as client:
            await joining.wait()
            client.reset()
        await wait_until(lambda: room.balanced)
    assert len(room.events) == 2


async def test_a_leave_handler_learns_how_it_ended():
    room = Room()
    async with serving(application(room)) as site, site.unharmed(), site.connect("/r") as client:
        await client.close(4321, "that was all")
    assert (room.codes, room.reasons) == ([4321], ["that was all"])


async def test_a_leave_handler_may_broadcast_and_what_it_sends_to_the_gone_is_nothing():
    sent: list[Any] = []

    async def leave(websocket: WebSocket, channel: str, connection: Connection) -> None:
        sent.append(connection.closed)
        sent.append(await connection.send("to nobody"))
        sent.append(await connection.send_event("to nobody"))
        await room.broadcast_to_personal(websocket, "to nobody")
        await websocket.send_text("to nobody")
        await room.broadcast_to_channel(channel, "gone")
        await connection.close()
        await room.close(websocket)

    room = Room(on_leave=[leave])
    async with serving(application(room)) as site, site.unharmed(), site.connect("/r") as other:
        async with site.connect("/r") as client:
            await client.call("echo")
            client.reset()
        assert await other.read() == "gone"
        assert sent == [True, False, False]


async def test_what_a_leave_handler_sends_when_the_server_closed_is_nothing_either():
    async def leave(websocket: WebSocket, channel: str) -> None:
        await room.broadcast_to_personal(websocket, "to nobody")
        await room.broadcast_to_channel(channel, "gone")

    room = Room(on_leave=[leave])
    async with serving(application(room)) as site, site.unharmed(), site.connect("/r") as other:
        async with site.connect("/r") as client:
            await client.send({"action": "bye"})
            assert await client.rest() == []
        assert await other.read() == "gone"


async def test_every_leave_handler_runs_whatever_the_others_raise(caplog: pytest.LogCaptureFixture):
    ran: list[str] = []

    async def fail(websocket: WebSocket) -> None:
        ran.append("fail")
        raise RuntimeError("on purpose")

    @contextlib.asynccontextmanager
    async def lifespan(websocket: WebSocket) -> AsyncIterator[None]:
        yield
        await fail(websocket)

    room = Channel(lifespan=lifespan)
    room.add_event_handler("leave", fail)
    room.add_event_handler("leave", lambda: ran.append("last"))
    async with serving(application(room)) as site, site.unharmed(), site.connect("/r"):
        pass
    assert ran == ["fail", "fail", "last"]
    assert sum("leave handler failed" in record.getMessage() for record in caplog.records) == 2


async def test_a_leave_handler_that_does_not_end_is_ended(caplog: pytest.LogCaptureFixture):
    room = Room()
    room.leave_timeout = 0.1

    async def leave() -> None:
        await asyncio.Event().wait()

    room.add_event_handler("leave", leave)
    async with serving(application(room)) as site, site.unharmed(), site.connect("/r"):
        pass
    assert any("took more than 0.1 s" in record.getMessage() for record in caplog.records)


async def test_a_client_receives_what_its_own_join_handlers_broadcast():
    async def join(channel: str) -> None:
        await room.broadcast_to_channel(channel, "welcome")

    @contextlib.asynccontextmanager
    async def lifespan(channel: str) -> AsyncIterator[None]:
        await room.broadcast_to_channel(channel, "and again")
        yield

    room = Channel(lifespan=lifespan)
    room.add_event_handler("join", join)
    async with serving(application(room)) as site:
        for _ in range(20):
            async with site.connect("/r") as client:
                assert [await client.read(), await client.read()] == ["welcome", "and again"]
                await client.close()
                await wait_until(lambda: site.node.hub.count("r") == 0)


@each_implementation
async def test_everything_after_the_handshake_is_received(ws: str):
    room = Room()
    async with serving(application(room), ws=ws) as site, site.unharmed():
        for number in range(50):
            name = f"r{number % 5}"
            async with site.connect(f"/{name}") as client:
                await room.broadcast_to_channel(name, str(number))
                assert await client.read() == str(number)


# Lifespans and handlers


class Written(Channel):
    """Its lifespan is a method."""

    @contextlib.asynccontextmanager
    async def lifespan(self, websocket: WebSocket, channel: str) -> AsyncIterator[None]:
        await self.broadcast_to_channel(channel, "in")
        yield
        await self.broadcast_to_channel(channel, "out")


def given() -> Channel:
    """A lifespan is an argument, in upstream's form."""

    @contextlib.asynccontextmanager
    async def lifespan(self: Channel, websocket: WebSocket, channel: str) -> AsyncIterator[None]:
        await self.broadcast_to_channel(channel, "in")
        yield
        await self.broadcast_to_channel(channel, "out")

    return Channel(lifespan=lifespan)


def bare() -> Channel:
    """A lifespan is a generator function."""

    async def lifespan(connection: Connection) -> AsyncIterator[None]:
        await channel.broadcast_to_channel(connection.room, "in")
        yield
        await channel.broadcast_to_channel(connection.room, "out")

    channel = Channel(lifespan=lifespan)
    return channel


def listed() -> Channel:
    async def join(websocket: WebSocket, room: str) -> None:
        await channel.broadcast_to_channel(room, "in")

    async def leave(websocket: WebSocket, room: str) -> None:
        await channel.broadcast_to_channel(room, "out")

    channel = Channel(on_join=[join], on_leave=[leave])
    return channel


def decorated() -> Channel:
    channel = Channel()

    @channel.on_event("join")
    async def join(**values: Any) -> None:
        await channel.broadcast_to_channel(values["channel"], "in")

    @channel.on_event("leave")
    async def leave(**values: Any) -> None:
        assert {"websocket", "channel", "connection", "code", "reason"} <= values.keys()
        await channel.broadcast_to_channel(values["channel"], "out")

    return channel


@pytest.mark.parametrize("make", [Written, given, bare, listed, decorated])
async def test_ways_to_say_what_happens_around_a_connection(make: Callable[[], Channel]):
    async with serving(application(make())) as site, site.unharmed(), site.connect("/r") as watcher:
        assert await watcher.read() == "in"
        async with site.connect("/r") as client:
            assert [await client.read(), await watcher.read()] == ["in", "in"]
        assert await watcher.read() == "out"


async def test_a_lifespan_may_hold_a_task_group():
    """Which demands to be left by the task that entered it."""
    ended = asyncio.Event()

    @contextlib.asynccontextmanager
    async def lifespan(connection: Connection) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tick, connection)
            yield
            tasks.cancel_scope.cancel()
        ended.set()

    async def tick(connection: Connection) -> None:
        while True:
            await connection.send("tick")
            await asyncio.sleep(0.01)

    app = application(Channel(lifespan=lifespan))
    async with serving(app) as site, site.unharmed(), site.connect("/r") as client:
        assert [await client.read() for _ in range(3)] == ["tick"] * 3
    assert ended.is_set()


async def test_plain_functions_run_in_a_thread():
    threads: list[threading.Thread] = []

    def note(channel: str) -> None:
        threads.append(threading.current_thread())

    room = Channel(on_join=[note], on_leave=[note])
    async with serving(application(room)) as site, site.unharmed(), site.connect("/r"):
        pass
    assert len(threads) == 2
    assert threading.main_thread() not in threads


def test_an_event_that_does_not_exist():
    with pytest.raises(ConfigurationError, match="'jion'"):
        Channel().add_event_handler("jion", print)  # type: ignore[arg-type]  # on purpose


def test_a_handler_that_cannot_be_called():
    def handler(websocket: WebSocket, channel: str, colour: str) -> None: ...

    with pytest.raises(ConfigurationError, match="'colour'"):
        Channel(on_join=[handler])


def test_a_lifespan_takes_the_place_of_join_and_leave():
    with pytest.raises(ConfigurationError, match="not both"):
        Channel(lifespan=contextlib.nullcontext, on_join=[print])


# While actions run


async def test_who_leaves_is_noticed_while_an_action_runs():
    room = Room()
    async with serving(application(room)) as site, site.unharmed():
        async with site.connect("/r") as client:
            await client.send({"action": "work"})
            await room.began.wait()
        await wait_until(lambda: room.balanced)
    assert room.events[1] == "cancelled"


async def test_an_action_that_still_finishes_in_time_is_not_cancelled():
    room = Room()
    room.finish_timeout = 10
    async with serving(application(room)) as site, site.unharmed():
        async with site.connect("/r") as client:
            await client.send({"action": "work"})
            await room.began.wait()
        room.go_on.set()
        await wait_until(lambda: room.balanced)
    assert room.events[1] == "worked"


@each_implementation
async def test_messages_sent_right_before_the_close_are_handled(ws: str):
    room = Room()
    async with serving(application(room), ws=ws) as site, site.unharmed(), site.connect("/r") as other:
        async with site.connect("/r") as client:
            for number in range(20):
                await client.send({"action": "say", "text": str(number)})
        assert [(await other.receive())["data"] for _ in range(20)] == [str(n) for n in range(20)]


@each_implementation
async def test_messages_that_arrive_together_with_the_close_are_handled(ws: str):
    room = Room()
    frames = [RawClient.frame(Opcode.TEXT, b'{"action": "say", "text": "%d"}' % n) for n in range(20)]
    async with serving(application(room), ws=ws) as site, site.unharmed(), site.connect("/r") as other:
        async with RawClient.open(site, "/r") as client:
            await client.write(b"".join(frames) + RawClient.frame(Opcode.CLOSE, b"\x03\xe8"))
        assert [(await other.receive())["data"] for _ in range(20)] == [str(n) for n in range(20)]


async def test_messages_behind_a_close_by_the_server_are_not_handled():
    room = Room()
    async with serving(application(room)) as site, site.unharmed(), site.connect("/r") as other:
        async with RawClient.open(site, "/r") as client:
            calls = [b'{"action": "bye"}', *[b'{"action": "say", "text": "too late"}'] * 20]
            await client.write(b"".join(RawClient.frame(Opcode.TEXT, call) for call in calls))
            assert (await client.closed()).code == 4001
        await wait_until(lambda: room.balanced or len(room.events) == 3)
        assert (await other.call("echo", request_id=1))["request_id"] == 1


async def test_messages_behind_a_slow_action_are_handled_although_the_client_has_gone():
    room = Room()
    room.finish_timeout = 10
    async with serving(application(room)) as site, site.unharmed(), site.connect("/r") as other:
        async with site.connect("/r") as client:
            await client.send({"action": "work"})
            for number in range(20):
                await client.send({"action": "say", "text": str(number)})
            await room.began.wait()
        room.go_on.set()
        assert [(await other.receive())["data"] for _ in range(20)] == [str(n) for n in range(20)]


@each_implementation
async def test_actions_of_one_connection_run_in_order(ws: str):
    async with serving(application(Room()), ws=ws) as site, site.unharmed(), site.connect("/r") as client:
        for number in range(300):
            await client.send({"action": "echo", "request_id": number})
        assert [(await client.receive())["request_id"] for _ in range(300)] == list(range(300))


@pytest.mark.parametrize(("name", "limit"), [("three", 3), ("many", 32)])
async def test_concurrent_actions_are_bounded_and_cancelled_with_their_connection(name: str, limit: int):
    room = Room()
    async with serving(application(room)) as site, site.unharmed():
        async with site.connect("/r") as client:
            for number in range(limit + 5):
                await client.send({"action": name, "request_id": number})
            await wait_until(lambda: f"begin {limit - 1}" in room.events)
            await client.socket.ping()
        await wait_until(lambda: room.balanced)
    assert f"begin {limit}" not in room.events
    assert sum(event.startswith("cancelled") for event in room.events) == limit


async def test_concurrent_actions_reply_when_they_are_done_and_make_room_for_others():
    room = Room()
    async with serving(application(room)) as site, site.unharmed(), site.connect("/r") as client:
        for number in range(8):
            await client.send({"action": "three", "request_id": number})
        await wait_until(lambda: "begin 2" in room.events)
        room.go_on.set()
        assert sorted([(await client.receive())["data"] for _ in range(8)]) == list(range(8))


async def test_a_detached_action_holds_up_no_other():
    room = Room()
    async with serving(application(room)) as site, site.unharmed(), site.connect("/r") as client:
        await client.send({"action": "many", "request_id": 1})
        assert (await client.call("echo", request_id=2))["request_id"] == 2
        room.go_on.set()
        assert (await client.receive())["request_id"] == 1


# A whole process


def create_app() -> FastAPI:
    """What the process serves: it writes into the file that the environment names."""
    journal = Path(os.environ["JOURNAL"])

    async def join(connection: Connection) -> None:
        note(f"join {connection.id}")

    async def leave(connection: Connection) -> None:
        await asyncio.sleep(0)
        note(f"leave {connection.id}")

    def note(line: str) -> None:
        with journal.open("a") as file:
            file.write(line + "\n")

    class Slow(Channel):
        @action()
        async def work(self) -> None:
            note("work")
            await asyncio.Event().wait()

    return application(Slow(on_join=[join], on_leave=[leave]))


async def test_a_process_that_is_terminated_leaves_every_join(tmp_path: Path):
    journal = tmp_path / "journal"
    command = ("tests.sessions.test_lifecycle:create_app", "--factory", "--timeout-graceful-shutdown", "5")
    async with process(*command, environment={"JOURNAL": str(journal)}) as server:
        site: Site = server.site
        async with site.connect("/r") as idle, site.connect("/r") as busy, site.connect("/s"):
            await busy.send({"action": "work"})
            await wait_until(lambda: journal.exists() and "work" in journal.read_text())
            await server.terminate()
            assert (await idle.closed()).code == 1012
    lines = journal.read_text().split("\n")
    joined = sorted(line[5:] for line in lines if line.startswith("join"))
    left = sorted(line[6:] for line in lines if line.startswith("leave"))
    assert joined == left
    assert len(joined) == 3
    assert not [line for line in server.lines if "Traceback" in line or "Cancel " in line]
