"""A stream of events, and one request, as the WebSocket that a session knows."""

import json
from base64 import b64decode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import JSONResponse
from starlette.websockets import WebSocketDisconnect, WebSocketState

from fastapi_channels.exceptions import MessageTooLarge
from fastapi_channels.wire.messages import Body, Frame
from fastapi_channels.wire.stream import NEVER, Exchange, Stream, encoded, farewell
from tests.support.events import Reader

SCOPE = {"type": "http", "method": "GET", "path": "/", "headers": [(b"x-name", b"ada")], "query_string": b""}


class Server:
    """The server's side of one request.

    Args:
        comes: what it brings; then the client goes.
    """

    def __init__(self, *comes: bytes) -> None:
        self.sent: list[Any] = []
        self._comes = list(comes)

    async def receive(self) -> Any:
        if not self._comes:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": self._comes.pop(0), "more_body": bool(self._comes)}

    async def send(self, event: Any) -> None:
        self.sent.append(event)

    @property
    def status(self) -> int:
        start: dict[str, Any] = self.sent[0]
        assert start["type"] == "http.response.start"
        return int(start["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(event["body"] for event in self.sent[1:])

    @property
    def is_complete(self) -> bool:
        ends = [not event.get("more_body") for event in self.sent[1:]]
        return ends.count(True) == 1 and ends[-1]


@given(
    st.text() | st.binary(),
    st.from_regex(r"[a-z0-9]{1,8}:[0-9]{1,5}", fullmatch=True) | st.just(""),
)
def test_a_browser_reads_what_was_sent(body: Body, position: str) -> None:
    reader = Reader()
    events = reader.read(encoded(body, position) + encoded("the end"))
    assert len(events) == 2
    assert events[0].id == events[1].id == position
    if isinstance(body, bytes):
        assert (events[0].name, b64decode(events[0].data)) == ("binary", body)
    else:
        lines = body.encode(errors="replace").decode().replace("\r\n", "\n").replace("\r", "\n")
        assert events[0][:2] == ("message", lines)


@pytest.mark.parametrize(
    ("code", "reason", "retry"),
    [
        (1012, "restart; retry_after=1.5", 1500),
        (4010, "lifetime over; retry_after=0", 0),
        (4000, "slow consumer", None),
        (1000, "", NEVER),
        (1008, "retry_after=1", NEVER),
        (4000, "retry_after=1.2.3", None),
        (4501, "", NEVER),
    ],
)
def test_who_is_closed_is_told_whether_to_come_back(code: int, reason: str, retry: int | None) -> None:
    reader = Reader()
    (event,) = reader.read(farewell(code, reason))
    assert (event.name, event.frame) == ("close", {"code": code, "reason": reason})
    assert reader.retry == retry


def test_what_goes_to_many_is_made_once() -> None:
    frame = Frame("{}", "room", "e:1")
    assert frame.streamed is None
    assert Reader().read(encoded(frame.body, frame.position)) == [("message", "{}", "e:1")]


async def test_a_stream_is_a_websocket_to_the_session() -> None:
    server = Server(b"a body that nobody wants", b"and more of it")
    stream = Stream(SCOPE, server.receive, server.send)
    websocket = stream.websocket
    await websocket.accept(headers=[(b"x-more", b"1")])
    assert websocket.headers["x-name"] == "ada"
    assert server.headers["cache-control"] == "no-store, no-transform"
    assert (server.headers["x-accel-buffering"], server.headers["x-more"]) == ("no", "1")
    assert server.body.startswith(b"retry: "), "something at once"
    await websocket.send_text("one")
    await websocket.send_bytes(b"two")
    assert (await websocket.receive())["type"] == "websocket.disconnect", "the body is passed by"
    reader = Reader()
    assert [event.data for event in reader.read(server.body)] == ["one", "dHdv"]
    assert 1000 <= (reader.retry or 0) <= 3000
    await stream.end()
    assert not server.is_complete, "there is nobody"


async def test_a_stream_is_closed_behind_what_was_sent() -> None:
    server = Server()
    stream = Stream(SCOPE, server.receive, server.send)
    await stream.websocket.accept()
    await stream.websocket.send_text("one")
    await stream.websocket.close(4000, "slow consumer")
    await stream.end()
    assert [event.name for event in Reader().read(server.body)] == ["message", "close"]
    assert server.is_complete


@pytest.mark.parametrize("kind", [Stream, Exchange])
async def test_a_refusal_is_a_response(kind: type[Stream]) -> None:
    server = Server()
    stream = kind(SCOPE, server.receive, server.send)
    await stream.websocket.receive()
    await stream.websocket.send_denial_response(JSONResponse({"code": "no"}, 429, {"retry-after": "3"}))
    await stream.end()
    assert (server.status, json.loads(server.body)) == (429, {"code": "no"})
    assert server.headers["retry-after"] == "3"
    assert server.is_complete
    assert stream.websocket.application_state is WebSocketState.DISCONNECTED


async def test_who_closes_what_is_not_accepted_refuses() -> None:
    server = Server()
    stream = Stream(SCOPE, server.receive, server.send)
    await stream.websocket.close()
    await stream.end()
    assert server.status == 403
    assert server.is_complete


async def accepted(*comes: bytes) -> tuple[Server, Exchange]:
    server = Server(*comes)
    exchange = Exchange({**SCOPE, "method": "POST"}, server.receive, server.send)
    await exchange.websocket.accept()
    assert not server.sent
    return server, exchange


@pytest.mark.parametrize(
    ("said", "status", "kind", "body"),
    [
        ([], 204, None, b""),
        (['{"a": 1}'], 200, "application/json", b'{"a": 1}'),
        (["an event", '{"status": "ok"}'], 200, "application/json", b'{"status": "ok"}'),
        (["<b>"], 200, "text/plain; charset=utf-8", b"<b>"),
        ([b"\x00"], 200, "application/octet-stream", b"\x00"),
    ],
)
async def test_what_was_said_last_is_the_answer(
    said: list[Body], status: int, kind: str | None, body: bytes
) -> None:
    server, exchange = await accepted()
    for one in said:
        await exchange.websocket.send(
            {"type": "websocket.send", "text" if isinstance(one, str) else "bytes": one}
        )
    await exchange.end()
    await exchange.end()
    assert (server.status, server.headers.get("content-type"), server.body) == (status, kind, body)
    assert server.is_complete


async def test_an_error_has_its_status() -> None:
    server, exchange = await accepted()
    exchange.fail(429, {"retry-after": "2"})
    await exchange.websocket.send_text("{}")
    await exchange.end()
    assert (server.status, server.headers["retry-after"], server.body) == (429, "2", b"{}")


@pytest.mark.parametrize(("said", "status"), [(None, 499), ("{}", 200)])
async def test_who_has_left_is_answered_for_whoever_stands_between(said: str | None, status: int) -> None:
    server, exchange = await accepted()
    if said is not None:
        await exchange.websocket.send_text(said)
    assert (await exchange.websocket.receive())["type"] == "websocket.disconnect"
    await exchange.end()
    await exchange.end()
    assert server.status == status
    assert server.is_complete


async def test_a_server_may_refuse_an_answer_for_nobody() -> None:
    async def refuse(event: Any) -> None:
        raise OSError("gone")

    exchange = Exchange({**SCOPE, "method": "POST"}, Server().receive, refuse)
    await exchange.websocket.accept()
    await exchange.websocket.receive()
    await exchange.end()


async def test_a_status_may_be_one_without_content() -> None:
    server, exchange = await accepted()
    exchange.fail(304, {})
    await exchange.websocket.send_text("{}")
    await exchange.end()
    assert (server.status, server.headers, server.body) == (304, {}, b"")


async def test_an_answer_that_streams_begins_with_its_first_frame() -> None:
    server, exchange = await accepted()
    exchange.streams = True
    await exchange.websocket.send_text("1")
    assert server.status == 200
    assert server.headers["content-type"].startswith("text/event-stream")
    exchange.fail(500, {})
    await exchange.websocket.send_text("2")
    await exchange.end()
    assert [event.data for event in Reader().read(server.body)] == ["1", "2"]
    assert server.is_complete


async def test_what_goes_wrong_before_that_is_no_stream() -> None:
    server, exchange = await accepted()
    exchange.streams = True
    exchange.fail(403, {})
    await exchange.websocket.send_text("{}")
    await exchange.end()
    assert (server.status, server.headers["content-type"]) == (403, "application/json")


async def test_a_body_is_bounded() -> None:
    _, exchange = await accepted(b"12", b"34")
    assert await exchange.body(4) == b"1234"
    _, exchange = await accepted(b"12", b"34", b"5")
    with pytest.raises(MessageTooLarge):
        await exchange.body(4)
    server, exchange = await accepted(b"12")
    server._comes.append(b"")
    await exchange._receive()
    server._comes.clear()
    with pytest.raises(WebSocketDisconnect):
        await exchange.body(4)
