"""What a client may send, and what happens then: over a real server, beside a client that must not notice."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from fastapi import FastAPI, WebSocket
from websockets.frames import Opcode

from fastapi_channels import (
    BasePermission,
    Channel,
    Connection,
    WebSocketException,
    action,
    add_channel,
    limiter,
)
from tests.support.live import Client, Close, RawClient, Site, each_implementation, serving, wait_until

pytestmark = pytest.mark.asyncio(loop_scope="module")

LONG = 10_000


class Broken(BasePermission):
    def has_permission(self, websocket: WebSocket, action: str | None, **kwargs: Any) -> bool:
        raise RuntimeError("a secret of the permission")


class Room(Channel):
    @action()
    async def say(self, text: str, connection: Connection) -> None:
        await self.broadcast(connection.room, "said", text)

    @action()
    async def echo(self, data: dict[str, Any]) -> Any:
        return data

    @action()
    async def fail(self) -> None:
        raise RuntimeError("a secret of the handler")

    @action()
    async def unencodable(self) -> object:
        return object()

    @action()
    async def cancelled(self) -> None:
        """As when something that the handler waits for was cancelled."""
        raise asyncio.CancelledError

    @action(permission=Broken)
    async def guarded(self) -> None: ...

    @action()
    async def go(self, room: str, connection: Connection) -> str:
        await connection.join(room)
        return room

    @action()
    async def dismiss(self, code: int, reason: str, websocket: WebSocket) -> None:
        await websocket.close(code, reason)

    @action()
    async def refuse(self, reason: str) -> None:
        raise WebSocketException(4501, reason)

    @limiter(times=1, hours=1)
    @action()
    async def once(self, connection: Connection) -> str:
        return connection.address

    def _private(self) -> None:
        raise AssertionError("called by a client")


class Guarded(Channel):
    permission_classes = Broken


def make_app(**settings: Any) -> FastAPI:
    app = FastAPI()
    add_channel(app, **settings)
    Room().mount(app, "/rooms/{channel}")
    Guarded().mount(app, "/guarded")
    return app


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site() -> AsyncIterator[Site]:
    """One server for all: what one test does to it, the others would notice."""
    async with serving(make_app()) as site:
        yield site


@pytest_asyncio.fixture(loop_scope="module")
async def bystander(site: Site) -> AsyncIterator[Client]:
    """Somebody else in the room, who receives as before when the test is over; and nothing leaks."""
    async with site.unharmed(), site.connect("/rooms/r") as client:
        yield client
        await still_receives(client)


@asynccontextmanager
async def watched(app: FastAPI | None = None, **options: Any) -> AsyncIterator[Site]:
    """A server of a test's own, with a bystander who receives as before at its end; and nothing leaks."""
    async with (
        serving(app or make_app(), **options) as site,
        site.unharmed(),
        site.connect("/rooms/r") as client,
    ):
        yield site
        await wait_until(lambda: site.node.hub.count("r") == 1)
        await still_receives(client)


async def still_receives(client: Client) -> None:
    await client.send({"action": "say", "text": "still here"})
    await client.receive_until(lambda frame: frame.get("data") == "still here")


async def still_usable(client: Client) -> None:
    assert (await client.call("echo", request_id="next"))["request_id"] == "next"


def error(frame: Any, code: str, request_id: Any = None) -> str:
    """The text of an error frame, which must be one in all its fields."""
    assert frame["type"] == "response"
    assert frame["status"] == "bad"
    assert frame["code"] == code
    assert frame["request_id"] == request_id
    assert frame["data"] is None
    assert 0 < len(frame["errors"]) < 500
    return frame["errors"]


def short(text: str) -> str:
    """As the id of a test."""
    return ascii(text[:20])


UNREADABLE = {
    "nothing": "",
    "not JSON": "hello",
    "half of JSON": '{"action": "echo"',
    "two values": '{"action": "echo"} {"action": "echo"}',
    "a list": "[]",
    "a number": "7",
    "a text": '"echo"',
    "null": "null",
    "nested 50,000 deep": "[" * 50_000,
    "nested objects": '{"a":' * 10_000,
    "NaN": '{"action": "echo", "x": NaN}',
    "Infinity": '{"action": "echo", "x": -Infinity}',
    "a lone surrogate": '{"action": "echo", "x": "\\ud800"}',
    "a 5000-digit integer": f'{{"action": "echo", "x": {"9" * 5000}}}',
    "a 5000-digit request id": f'{{"action": "echo", "request_id": {"9" * 5000}}}',
    "a NUL byte": '{"action": "echo"}\0',
    "no action": "{}",
    "an action that is null": '{"action": null}',
    "an action that is a number": '{"action": 7}',
    "an action that is a list": '{"action": ["echo"]}',
    "a request id that is a list": '{"action": "echo", "request_id": [1]}',
    "a request id that is an object": '{"action": "echo", "request_id": {"a": 1}}',
    "a request id that is a boolean": '{"action": "echo", "request_id": true}',
    "a long request id": json.dumps({"action": "echo", "request_id": "x" * LONG}),
}


@pytest.mark.parametrize("frame", UNREADABLE.values(), ids=UNREADABLE.keys())
async def test_a_frame_that_cannot_be_read_is_an_error(site: Site, bystander: Client, frame: str):
    async with site.connect("/rooms/r") as client:
        await client.send(frame)
        error(await client.receive(), "parse_error")
        await still_usable(client)


async def test_100_000_nested_lists_are_an_error_where_a_message_may_be_so_long():
    class Roomy(Room):
        max_message_size = 1_000_000

    app = FastAPI()
    add_channel(app)
    Roomy().mount(app, "/roomy")
    async with serving(app) as site, site.unharmed(), site.connect("/roomy") as client:
        await client.send("[" * 100_000)
        error(await client.receive(), "parse_error")
        await client.send('{"action": "echo", "x": ' + "[" * 100_000 + "]" * 100_000 + "}")
        error(await client.receive(), "parse_error")
        await still_usable(client)


@pytest.mark.parametrize("fields", [{}, {"action": None}, {"action": 7}])
async def test_what_is_wrong_with_an_action_comes_back_with_the_request_id(
    site: Site, bystander: Client, fields: dict[str, Any]
):
    async with site.connect("/rooms/r") as client:
        await client.send({"request_id": "r-1", **fields})
        assert "action" in error(await client.receive(), "parse_error", "r-1")
        await still_usable(client)


@pytest.mark.parametrize("request_id", [0, 7, -1.5, "", "seven", "七"])
async def test_a_request_id_comes_back_as_it_was_sent(site: Site, bystander: Client, request_id: Any):
    async with site.connect("/rooms/r") as client:
        reply = await client.call("echo", request_id=request_id)
        assert reply["request_id"] == request_id
        assert type(reply["request_id"]) is type(request_id)
        error(await client.call("no", request_id=request_id), "unknown_action", request_id)


@pytest.mark.parametrize(
    "name",
    [
        *("", "nothing", "__init__", "__class__", "_private", "_encode", "connect", "close", "disconnect"),
        *("broadcast", "broadcast_to_channel", "send_error", "actions", "Echo", " echo", "échо", "x" * LONG),
    ],
    ids=short,
)
async def test_only_actions_can_be_called(site: Site, bystander: Client, name: str):
    async with site.connect("/rooms/r") as client:
        text = error(await client.call(name, request_id=1), "unknown_action", 1)
        assert len(text) < 200
        await still_usable(client)


@each_implementation
async def test_a_binary_frame_on_a_json_channel_closes(ws: str):
    async with watched(ws=ws) as site, site.connect("/rooms/r") as client:
        await client.send(b'{"action": "echo"}')
        assert (await client.closed()).code == 1003


@each_implementation
@pytest.mark.parametrize("filler", ["x", "字"])
async def test_an_oversize_message_closes(ws: str, filler: str):
    """Measured in bytes, whatever the characters."""
    head, tail = '{"action": "echo", "x": "', '"}'
    fits = filler * ((65_536 - len(head + tail)) // len(filler.encode()))
    async with watched(ws=ws) as site, site.connect("/rooms/r") as client:
        await client.send(head + fits + tail)
        assert (await client.receive())["data"]["x"] == fits
        await client.send(head + fits + filler + tail)
        assert (await client.closed()).code == 1009


async def test_a_message_beyond_what_the_server_takes_closes():
    async with watched(ws_max_size=100_000) as site, site.connect("/rooms/r") as client:
        await client.send("x" * 100_001)
        assert (await client.closed()).code == 1009


@each_implementation
async def test_a_text_that_is_not_utf8_closes(ws: str):
    """It is the server that reads it: one of them cuts the connection without a close frame."""
    async with watched(ws=ws) as site, RawClient.open(site, "/rooms/r") as client:
        await client.send(Opcode.TEXT, b'{"action": "\xff\xfe"}')
        assert (await client.closed()).code == (None if ws == "wsproto" else 1007)


@pytest.mark.parametrize(
    "room", ["%00", "a%00b", "a%0Ab", "%7F", "%E2%80%AE", "fastapi-channels:nodes", "x" * 5000], ids=short
)
async def test_a_room_name_in_a_path_that_is_not_usable_is_refused(site: Site, bystander: Client, room: str):
    """A path of more than 8 kB never comes as far as this."""
    refusal = await site.refusal(f"/rooms/{room}")
    assert refusal.status == 400
    error(refusal.body, "invalid_room")


@pytest.mark.parametrize(
    "room", ["", "\0", "a\0b", "a\nb", "a\u202eb", "fastapi-channels:nodes", "x" * LONG], ids=short
)
async def test_a_room_name_in_a_message_that_is_not_usable_is_an_error(
    site: Site, bystander: Client, room: str
):
    async with site.connect("/rooms/r") as client:
        error(await client.call("go", room=room, request_id=5), "invalid_room", 5)
        await still_usable(client)


@pytest.mark.parametrize("room", ["../../etc", "**", "a:b", "{a}", "房间", "%s", "a b", "x" * 255], ids=short)
async def test_any_other_room_name_is_only_a_name(site: Site, bystander: Client, room: str):
    async with site.connect("/rooms/r") as client:
        assert (await client.call("go", room=room))["data"] == room


async def test_100_000_bad_frames_are_throttled_and_then_end_it(site: Site, bystander: Client):
    delays: list[float] = []
    done = asyncio.Event()

    async def go_on() -> None:
        while not done.is_set():
            began = time.process_time()
            await still_receives(bystander)
            delays.append(time.process_time() - began)

    async with RawClient.open(site, "/rooms/r") as client:
        other = asyncio.create_task(go_on())
        flood = asyncio.create_task(client.write(bad_frames(100_000)))
        answers = [frame async for frame in client.receive_all()]
        await flood
        done.set()
        await other
    texts = [json.loads(payload) for opcode, payload in answers if opcode is Opcode.TEXT]
    errors = [frame["code"] for frame in texts if frame["type"] == "response"]
    assert errors == ["parse_error"] * (len(errors) - 1) + ["too_many_errors"]
    assert 10 <= len(errors) <= 30
    assert answers[-1][0] is Opcode.CLOSE
    assert int.from_bytes(answers[-1][1][:2]) == 1008
    assert max(delays) < 10.0, "seconds of this process alone, whoever else uses the machine"


def bad_frames(count: int) -> bytes:
    """Masked with zeros, which leaves the text as it is."""
    return (b"\x81\x82" + bytes(4) + b"no") * count


async def test_a_few_bad_frames_now_and_then_are_borne(site: Site, bystander: Client):
    async with site.connect("/rooms/r") as client:
        for _ in range(15):
            await client.send("no")
            error(await client.receive(), "parse_error")
        await still_usable(client)


async def test_a_handler_that_raises_tells_an_id_and_nothing_else(
    site: Site, bystander: Client, caplog: pytest.LogCaptureFixture
):
    async with site.connect("/rooms/r") as client:
        text = error(await client.call("fail", request_id=1), "internal_error", 1)
        assert "secret" not in text
        (record,) = [r for r in caplog.records if r.levelno == logging.ERROR]
        assert record.name == "fastapi_channels"
        assert record.getMessage().split()[1] in text
        assert "a secret of the handler" in str(record.exc_info)
        await still_usable(client)


async def test_a_handler_that_returns_what_cannot_be_encoded_is_our_fault(site: Site, bystander: Client):
    async with site.connect("/rooms/r") as client:
        error(await client.call("unencodable", request_id=1), "internal_error", 1)
        await still_usable(client)


async def test_a_handler_whose_work_was_cancelled_is_our_fault(site: Site, bystander: Client):
    async with site.connect("/rooms/r") as client:
        error(await client.call("cancelled", request_id=1), "internal_error", 1)
        await still_usable(client)


async def test_a_permission_that_raises_refuses(
    site: Site, bystander: Client, caplog: pytest.LogCaptureFixture
):
    async with site.connect("/rooms/r") as client:
        text = error(await client.call("guarded", request_id=1), "permission_denied", 1)
        assert "secret" not in text
        await still_usable(client)
    refusal = await site.refusal("/guarded")
    assert refusal.status == 403
    error(refusal.body, "permission_denied")
    assert len([r for r in caplog.records if "permission failed" in r.getMessage()]) == 2


@each_implementation
async def test_a_page_of_another_origin_is_refused(ws: str):
    async with watched(ws=ws) as site:
        near = f"{site.http}.evil.example"
        for origin in ("https://evil.example", "null", near, "http://[", ""):
            refusal = await site.refusal("/rooms/r", origin=origin)
            assert refusal.status == 403
            error(refusal.body, "origin_denied")
        async with site.connect("/rooms/r", origin=site.http) as client:
            await still_usable(client)


@each_implementation
async def test_an_address_cannot_be_forged(ws: str):
    """`proxy_headers` is uvicorn's own belief in whoever connects from 127.0.0.1."""
    async with watched(ws=ws, proxy_headers=False) as site:
        for number, expected in enumerate(["ok", "bad", "bad"]):
            headers = {"X-Forwarded-For": f"10.0.0.{number}", "X-Real-IP": f"10.0.0.{number}"}
            async with site.connect("/rooms/r", additional_headers=headers) as client:
                reply = await client.call("once", request_id=number)
                assert reply["status"] == expected
                assert reply["data"] in ("127.0.0.1", None)


async def test_an_address_is_believed_of_a_named_proxy():
    async with watched(make_app(trusted_proxies=["127.0.0.0/8"]), proxy_headers=False) as site:
        for address in ("10.0.0.1", "10.0.0.2"):
            headers = {"X-Forwarded-For": f"1.2.3.4, {address}"}
            async with site.connect("/rooms/r", additional_headers=headers) as client:
                assert (await client.call("once"))["data"] == address


@each_implementation
@pytest.mark.parametrize("call", ["dismiss", "refuse"])
async def test_a_long_reason_is_cut_between_two_characters(ws: str, call: str):
    async with watched(ws=ws) as site, site.connect("/rooms/r") as client:
        await client.send({"action": call, "code": 4501, "reason": "é" * 200})
        code, reason = await client.closed()
        assert code == 4501
        assert reason is not None
        assert reason.startswith("é" * 50)
        assert len(reason.encode()) <= 123


@each_implementation
async def test_a_close_code_that_nobody_may_send_becomes_our_fault(ws: str):
    async with watched(ws=ws) as site:
        for code in (0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 70_000):
            async with site.connect("/rooms/r") as client:
                await client.send({"action": "dismiss", "code": code, "reason": "why"})
                assert await client.closed() == Close(1011, "why")


@each_implementation
async def test_a_client_that_is_gone_before_it_was_admitted_leaves_nothing(ws: str):
    asked, answer = asyncio.Event(), asyncio.Event()
    answer.set()

    async def slow(websocket: WebSocket) -> bool:
        asked.set()
        return await answer.wait()

    async with watched(make_app(permission_classes=slow), ws=ws) as site:
        asked.clear()
        answer.clear()
        client = RawClient()
        await client.send_handshake(site, "/rooms/r")
        await asked.wait()
        client.reset()
        answer.set()


@each_implementation
async def test_what_is_no_websocket_frame_ends_that_client_alone(ws: str):
    async with watched(ws=ws) as site:
        half, reserved_opcode, unmasked = b"\x81", b"\x83\x80" + bytes(4), b"\x81\x01x"
        for frame in (half, reserved_opcode, unmasked, b"\xf1\x80" + bytes(4), b"\xff" * 20):
            async with RawClient.open(site, "/rooms/r") as client:
                await client.write(frame)
                if frame is not half:
                    assert (await client.closed()).code in (1002, 1009, None)
