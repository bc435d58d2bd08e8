"""What a first user found: each a promise of the documents, kept over a real server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi import WebSocketException as FastAPIWebSocketException
from pydantic import BaseModel

from fastapi_channels import (
    Channel,
    ConfigurationError,
    Connection,
    IsAuthenticated,
    Socket,
    WebSocketException,
    action,
    add_channel,
)
from fastapi_channels.brokers import MemoryBackend
from tests.support.live import RawClient, application, serving, wait_until


class Number(BaseModel):
    n: int


class Room(Channel):
    finish_timeout = 0.05

    def __init__(self) -> None:
        super().__init__()
        self.jobs: list[asyncio.Task[Any]] = []
        self.endings: list[tuple[Any, Any]] = []
        self.connections: list[Connection] = []
        self.add_event_handler("join", self.remember)
        self.add_event_handler("leave", self.ended)

    async def remember(self, connection: Connection) -> None:
        self.connections.append(connection)

    async def ended(self, code: int | None, reason: str | None) -> None:
        self.endings.append((code, reason))

    async def work(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.jobs.append(task)
        await asyncio.Event().wait()

    @action(detached=True)
    async def job(self) -> None:
        await self.work()

    @action()
    async def wait(self) -> None:
        await self.work()

    @action()
    async def refuse(self) -> None:
        raise FastAPIWebSocketException(4321, "bye")

    @action()
    async def secret(self, text: str) -> Number:
        return {"n": text}  # type: ignore[return-value]  # that is the point

    @action()
    async def unencodable(self) -> None:
        raise WebSocketException(close=False, data=object())

    @action()
    async def kick(self) -> None:
        raise WebSocketException(4200, "exc")

    @action()
    async def echo(self, text: str) -> str:
        return text


async def test_a_job_that_the_application_cancels_is_told_of_and_ends_alone() -> None:
    room = Room()
    async with serving(application(room)) as site, site.unharmed(), site.connect("/r") as client:
        await client.send({"action": "job", "request_id": 7})
        await wait_until(lambda: room.jobs)
        room.jobs[0].cancel()
        told = await client.receive()
        assert (told["request_id"], told["code"]) == (7, "internal_error")
        assert (await client.call("echo", text="still here"))["data"] == "still here"


@pytest.mark.parametrize("busy", [False, True])
async def test_a_leave_handler_learns_how_the_client_left(busy: bool) -> None:
    room = Room()
    async with serving(application(room)) as site:
        async with site.connect("/r") as client:
            if busy:
                await client.send({"action": "wait"})
                await wait_until(lambda: room.jobs)
            await client.close(4321, "bye")
        await wait_until(lambda: room.endings)
    assert room.endings == [(4321, "bye")]


async def test_a_leave_handler_learns_how_the_server_closed() -> None:
    room = Room()
    async with serving(application(room)) as site:
        async with site.connect("/r") as client:
            await client.send({"action": "kick"})
            assert (await client.closed()).code == 4200
        async with site.connect("/r") as client:
            await wait_until(lambda: len(room.connections) == 2)
            await room.connections[1].close(4100, "kicked")
            assert (await client.closed()).code == 4100
        await wait_until(lambda: len(room.endings) == 2)
    assert room.endings == [(4200, "exc"), (4100, "kicked")]


async def test_an_exception_of_fastapi_closes_as_it_says() -> None:
    async with serving(application(Room())) as site, site.connect("/r") as client:
        await client.send({"action": "refuse", "request_id": 1})
        assert (await client.receive())["errors"] == "bye"
        assert await client.closed() == (4321, "bye")


async def test_an_error_that_cannot_be_encoded_is_an_internal_one() -> None:
    async with serving(application(Room())) as site, site.connect("/r") as client:
        told = await client.call("unencodable", request_id=3)
        assert (told["request_id"], told["code"]) == (3, "internal_error")
        assert (await client.call("echo", text="x"))["data"] == "x"


async def test_what_a_client_sent_is_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "fastapi_channels"):
        async with serving(application(Room())) as site, site.connect("/r") as client:
            assert (await client.call("secret", text="hunter2"))["code"] == "internal_error"
    assert "int_parsing" in caplog.text
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize("user", ["", 0, False, {}, [], None])
async def test_a_user_that_is_nobody_is_not_authenticated(user: Any) -> None:
    room = Channel(permission_classes=IsAuthenticated)
    app = application(Channel())
    room.mount(app, "/in/{channel}", user=lambda: user)
    async with serving(app) as site:
        assert (await site.refusal("/in/r")).status == 403


def test_one_function_is_enough_for_an_event() -> None:
    async def join(websocket: Any, channel: str) -> None: ...

    class Joining(Channel):
        async def on_join(self, connection: Connection) -> None: ...

    Channel(on_join=join, on_leave=[join])
    Joining()
    for wrong in (5, "join"):
        with pytest.raises(ConfigurationError):
            Channel(on_join=[wrong])
    with pytest.raises(ConfigurationError, match="expected a function"):
        Channel(lifespan=5)


def test_two_functions_of_one_name_are_one_too_many() -> None:
    room = Channel()

    @room.action("say")
    async def one() -> None: ...

    with pytest.raises(ConfigurationError, match="'say' already"):

        @room.action("say")
        async def other() -> None: ...


def test_a_backend_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(ConfigurationError, match="BroadcastBackend"):
        add_channel(FastAPI(), backend=object())  # type: ignore[arg-type]
    add_channel(FastAPI(), backend=MemoryBackend())


@pytest.mark.parametrize(
    ("lang", "header", "text"), [("xx", "zh", "权限不足"), ("en", "zh", "Permission Denied")]
)
async def test_a_language_that_is_not_there_leaves_it_to_the_header(
    lang: str, header: str, text: str
) -> None:
    app = application(Channel(permission_classes=False))
    async with serving(app) as site:
        headers = {"accept-language": header}
        refusal = await site.refusal(f"/r?lang={lang}", additional_headers=headers)
        assert refusal.body["errors"] == text


async def test_a_client_that_resets_while_an_action_runs_has_left_too() -> None:
    room = Room()
    async with serving(application(room)) as site, RawClient.open(site, "/r") as client:
        await wait_until(lambda: room.connections)
        client.reset()
        await wait_until(lambda: room.endings)
    assert room.endings[0][0] in (1005, 1006)


async def test_what_is_sent_before_the_handshake_comes_after_it() -> None:
    async def greet(websocket: Any, action: str | None, connection: Connection) -> bool:
        return await connection.send("hello")

    async with (
        serving(application(Channel(permission_classes=greet))) as site,
        site.connect("/r") as client,
    ):
        assert await client.read() == "hello"


async def test_a_text_that_utf8_cannot_hold_is_told_to_who_broadcasts_it() -> None:
    room = Channel()
    app = application(room)
    async with serving(app):
        room.bind(app)
        with pytest.raises(ValueError, match="surrogates"):
            await room.broadcast_to_channel("r", "\ud800")


async def test_a_room_is_full_for_who_joins_it_later_too() -> None:
    class Small(Channel):
        max_connection = 1

        @action()
        async def enter(self, room: str, connection: Connection) -> str:
            await connection.join(room)
            return "in"

    async with serving(application(Small())) as site, site.connect("/a"), site.connect("/b") as second:
        assert (await second.call("enter", room="a"))["code"] == "channel_full"
        assert (await second.call("enter", room="c"))["data"] == "in"


async def test_a_task_group_that_fails_leaves_no_cancel_behind() -> None:
    """CPython does up to 3.12: what is cancelled later would be taken for the end of the connection."""

    class Grouping(Channel):
        @action()
        async def load(self) -> str:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.fail())
            return "loaded"

        async def fail(self) -> None:
            raise LookupError

        @action()
        async def slow(self) -> None:
            await asyncio.Event().wait()

        @action()
        async def give_up(self) -> None:
            raise asyncio.CancelledError

    async with serving(application(Grouping())) as site, site.connect("/r") as client:
        assert (await client.call("load", request_id=1))["code"] == "internal_error"
        await client.send({"action": "slow", "request_id": 2})
        await client.send({"type": "cancel", "request_id": 2})
        assert (await client.receive())["code"] == "cancelled"
        assert (await client.call("load", request_id=3))["code"] == "internal_error"
        assert (await client.call("give_up", request_id=4))["request_id"] == 4


async def test_an_optional_model_takes_the_whole_message_too() -> None:
    class Paying(Channel):
        @action()
        async def pay(self, number: Number | None = None) -> int:
            return -1 if number is None else number.n

    async with serving(application(Paying())) as site, site.connect("/r") as client:
        assert (await client.call("pay", n=3))["data"] == 3
        assert (await client.call("pay"))["data"] == -1
        assert (await client.call("pay", n="x"))["code"] == "invalid_payload"


async def test_who_leaves_a_room_is_told_of_what_ended_with_it() -> None:
    class Lasting(Channel):
        finish_timeout = 0.05

        @action()
        async def count(self) -> AsyncIterator[int]:
            for number in range(10**6):
                yield number
                await asyncio.sleep(0.001)

        @action(detached=True)
        async def job(self) -> None:
            await asyncio.Event().wait()

    app = FastAPI()
    add_channel(app)
    Socket(Lasting()).mount(app, "/socket")
    async with serving(app) as site, site.unharmed(), site.connect("/socket") as client:
        await client.send({"type": "join", "channel": "r"})
        assert (await client.receive())["type"] == "joined"
        await client.send({"action": "job", "channel": "r", "request_id": "job"})
        await client.send({"action": "count", "channel": "r", "request_id": "count"})
        assert (await client.receive())["more"] is True
        await client.send({"type": "leave", "channel": "r", "request_id": "leave"})
        last: dict[str, Any] = {}
        async with asyncio.timeout(30):
            while (frame := await client.receive())["type"] != "left":
                last[frame["request_id"]] = frame.get("code")
        assert last == {"count": "cancelled", "job": "cancelled"}
        await client.send({"type": "join", "channel": "r"})
        assert (await client.receive())["type"] == "joined"
