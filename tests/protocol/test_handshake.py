"""Handshakes, right and wrong, on our protocol and on uvicorn's own: application and client must see the
same. It runs on the lowest uvicorn and on the newest, so it is also what holds us to both."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
from fastapi import FastAPI, WebSocket
from websockets.frames import Opcode

from fastapi_channels.uvicorn import Protocol
from fastapi_channels.uvicorn.handshake import acceptance, read, refusal
from tests.support.live import DEADLINE, PROTOCOL, RawClient, Site, serving, wait_until

THEIRS: Final = "websockets-sansio"
KEY: Final = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE: Final = ("Upgrade: websocket", "Connection: Upgrade")
VERSION: Final = "Sec-WebSocket-Version: 13"
RIGHT: Final = (*UPGRADE, VERSION, KEY)


class Recorder:
    """An application that keeps what it was called with, and answers with what it was given.

    Attributes:
        answers: messages to send, one after the other; an exception is raised.
    """

    def __init__(self, *answers: dict[str, Any] | Exception) -> None:
        self.answers = answers
        self.scope: dict[str, Any] = {}
        self.received: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            return
        self.scope = dict(scope)
        self.received.append(await receive())
        for answer in self.answers:
            if isinstance(answer, Exception):
                raise answer
            await send(answer)
        if self.answers and self.answers[0]["type"] == "websocket.accept":  # type: ignore[index]
            self.received.append(await receive())


ACCEPT: Final[dict[str, Any]] = {"type": "websocket.accept"}


@asynccontextmanager
async def connected(site: Site) -> AsyncIterator[RawClient]:
    client = RawClient()
    try:
        await asyncio.get_running_loop().sock_connect(client._socket, ("127.0.0.1", site.port))
        yield client
    finally:
        client.close()


def request(*lines: str, first: str = "GET /a HTTP/1.1") -> bytes:
    return "\r\n".join([first, "Host: test", *lines, "", ""]).encode("latin-1")


async def all_of(client: RawClient) -> bytes:
    """What the server sends until it closes."""
    data, loop = b"", asyncio.get_running_loop()
    async with asyncio.timeout(DEADLINE):
        while more := await loop.sock_recv(client._socket, 65536):
            data += more
    return data


def without_date(answer: bytes) -> tuple[bytes, list[bytes], bytes]:
    """The first line, the headers in any order and case, and the body."""
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *headers = head.split(b"\r\n")
    return first, sorted(line.lower() for line in headers if not line.lower().startswith(b"date:")), body


async def answered(ws: str, data: bytes, recorder: Recorder, **options: Any) -> bytes:
    """What a server answers to a client that then says that nothing more comes."""
    async with serving(recorder, ws=ws, may_complain=True, **options) as site, connected(site) as client:
        await client.write(data)
        if recorder.answers and recorder.answers[0] == ACCEPT:
            head = await client.read_head()
            return head.encode() + b"\r\n\r\n"
        return await all_of(client)


REQUESTS: Final = {
    "as a library": request(*RIGHT),
    "as a browser": request(
        *("Connection: keep-alive, Upgrade", "Upgrade: WebSocket", VERSION, KEY),
        *("Origin: http://test", "Cookie: a=b; c=d", "User-Agent: Mozilla/5.0 (X11; Linux x86_64)"),
        "Sec-WebSocket-Extensions: x-webkit-deflate-frame",
    ),
    "query": request(*RIGHT, first="GET /a/b?x=1&y=%20 HTTP/1.1"),
    "escapes": request(*RIGHT, first="GET /a%2Fb/%C3%A9/%zz HTTP/1.1"),
    "subprotocols": request(*RIGHT, "Sec-WebSocket-Protocol: chat, superchat,x"),
    "subprotocols in two headers": request(
        *RIGHT, "Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Protocol: superchat"
    ),
    "two of a name": request(*RIGHT, "X-Name: a", "X-Name: b"),
    "latin-1": request(*RIGHT, "X-Name: Zoë"),
    "empty value": request(*RIGHT, "X-Empty:"),
    "spaces": request(*RIGHT, "X-Spaces: \t a b \t"),
    "no body": request(*RIGHT, "Content-Length: 0"),
    "expects": request(*RIGHT, "Expect: 100-continue"),
    "many headers": request(*RIGHT, *(f"X-{number}: {number}" for number in range(90))),
    "long": request(*RIGHT, "Cookie: " + "x" * 7000, "X-Other: " + "y" * 7000),
}


@pytest.mark.parametrize("name", REQUESTS)
async def test_the_application_sees_the_scope_that_uvicorn_makes(name: str) -> None:
    scopes: list[dict[str, Any]] = []
    answers: list[bytes] = []
    for ws in (THEIRS, PROTOCOL):
        recorder = Recorder(ACCEPT)
        answers.append(
            await answered(ws, REQUESTS[name], recorder, root_path="/root", ws_per_message_deflate=False)
        )
        scopes.append(recorder.scope)
        assert recorder.received[0] == {"type": "websocket.connect"}
    theirs, ours = scopes
    assert theirs.pop("client")[0] == ours.pop("client")[0] == "127.0.0.1"
    assert theirs.pop("server")[0] == ours.pop("server")[0] == "127.0.0.1"
    assert {**ours, "headers": lower(ours)} == {**theirs, "headers": lower(theirs)}
    assert without_date(answers[1]) == without_date(answers[0])


def lower(scope: dict[str, Any]) -> list[Any]:
    return [(name.lower(), value) for name, value in scope["headers"]]


@pytest.mark.parametrize("http", ["h11", "httptools"])
async def test_each_of_uvicorns_http_protocols_hands_over(http: str) -> None:
    recorder = Recorder(ACCEPT)
    answer = await answered(PROTOCOL, REQUESTS["as a browser"], recorder, http=http)
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert recorder.scope["client"][0] == recorder.scope["server"][0] == "127.0.0.1"
    assert (b"cookie", b"a=b; c=d") in recorder.scope["headers"]


async def test_the_application_sees_whom_a_proxy_names() -> None:
    for ws in (THEIRS, PROTOCOL):
        recorder = Recorder(ACCEPT)
        data = request(*RIGHT, "X-Forwarded-For: 192.0.2.7", "X-Forwarded-Proto: https")
        await answered(ws, data, recorder)
        assert recorder.scope["client"] == ("192.0.2.7", 0)
        assert recorder.scope["scheme"] == "wss"


WRONG: Final = {
    "no key": request(*UPGRADE, VERSION),
    "short key": request(*UPGRADE, VERSION, "Sec-WebSocket-Key: dGhl"),
    "bad key": request(*UPGRADE, VERSION, "Sec-WebSocket-Key: ***********************="),
    "two keys": request(*UPGRADE, VERSION, KEY, KEY),
    "no version": request(*UPGRADE, KEY),
    "old version": request(*UPGRADE, KEY, "Sec-WebSocket-Version: 8"),
    "new version": request(*UPGRADE, KEY, "Sec-WebSocket-Version: 14"),
    "two versions": request(*UPGRADE, KEY, VERSION, VERSION),
    "posted": request(*RIGHT, first="POST /a HTTP/1.1"),
    "two origins": request(*RIGHT, "Origin: http://a", "Origin: http://b"),
    "bad subprotocol": request(*RIGHT, "Sec-WebSocket-Protocol: a/b"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_what_is_wrong_is_answered_as_uvicorn_does(name: str) -> None:
    recorder = Recorder(ACCEPT)
    answers: list[bytes] = []
    for ws in (THEIRS, PROTOCOL):
        async with serving(recorder, ws=ws) as site, connected(site) as client:
            await client.write(WRONG[name])
            answers.append(await all_of(client))
    assert without_date(answers[1]) == without_date(answers[0])
    assert answers[1].startswith(b"HTTP/1.1 4")
    assert not recorder.received


def start(status: int, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "websocket.http.response.start", "status": status, "headers": list(headers)}


def body(data: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "websocket.http.response.body", "body": data, "more_body": more}


ANSWERS: Final[dict[str, list[Any]]] = {
    "accepts": [ACCEPT],
    "accepts with more": [
        {
            **ACCEPT,
            "subprotocol": "chat",
            "headers": [(b"X-One", b"1"), (b"set-cookie", b"a=b")],
        }
    ],
    "refuses": [{"type": "websocket.close", "code": 4001}],
    "refuses with a response": [start(404, (b"content-type", b"text/html")), body(b"<p>no")],
    "refuses in parts": [start(599), body(b"a", True), body(b"b", True), body(b"")],
    "raises": [ValueError("on purpose")],
    "says nothing": [],
    "raises amid a response": [start(403), ValueError("on purpose")],
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_what_the_application_answers_is_what_the_client_gets(name: str) -> None:
    answers: list[Any] = []
    for ws in (THEIRS, PROTOCOL):
        recorder = Recorder(*ANSWERS[name])
        async with (
            serving(recorder, ws=ws, may_complain=True, ws_per_message_deflate=False) as site,
            connected(site) as client,
        ):
            await client.write(request(*RIGHT, "Sec-WebSocket-Protocol: chat"))
            if name.startswith("accepts"):
                answers.append(without_date((await client.read_head()).encode("latin-1")))
            else:
                answers.append(without_date(await all_of(client)))
    assert answers[1] == answers[0]


NOT_NOW: Final[dict[str, list[Any]]] = {
    "sends before it accepts": [{"type": "websocket.send", "text": "x"}],
    "no status": [start(99)],
    "a body before a response": [body(b"x")],
    "accepts amid a response": [start(403), ACCEPT],
    "a header of two lines": [{**ACCEPT, "headers": [(b"x", b"1\r\ny: 2")]}],
    "a header without a name": [{**ACCEPT, "headers": [(b"", b"1")]}],
    "a subprotocol of two lines": [{**ACCEPT, "subprotocol": "a\r\nb: c"}],
}


@pytest.mark.parametrize("name", NOT_NOW)
async def test_an_application_that_says_what_it_may_not_is_told(name: str) -> None:
    class Told(Recorder):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "websocket":
                with pytest.raises(RuntimeError):
                    await super().__call__(scope, receive, send)
                self.scope["told"] = True

    recorder = Told(*NOT_NOW[name])
    async with serving(recorder, ws=PROTOCOL, may_complain=True) as site, connected(site) as client:
        await client.write(request(*RIGHT))
        answer = await all_of(client)
    assert recorder.scope["told"]
    assert answer.startswith(b"HTTP/1.1 500 ") or (recorder.answers[0] == start(403) and not answer)


def echo() -> FastAPI:
    app = FastAPI()

    @app.websocket("/a")
    async def endpoint(websocket: WebSocket) -> None:
        if app.state.takes_connect:
            await websocket.receive()
        await app.state.gate.wait()
        await websocket.accept()
        while (message := await websocket.receive())["type"] == "websocket.receive":
            await websocket.send({**message, "type": "websocket.send"})

    app.state.takes_connect = False
    app.state.gate = asyncio.Event()
    app.state.gate.set()
    return app


async def test_a_request_in_two_pieces_cut_anywhere() -> None:
    data = REQUESTS["as a browser"]
    async with serving(echo(), ws=PROTOCOL) as site:
        for cut in range(1, len(data)):
            async with connected(site) as client:
                await client.write(data[:cut])
                await asyncio.sleep(0)
                await client.write(data[cut:])
                assert (await client.read_head()).startswith("HTTP/1.1 101 "), cut
                await client.send(Opcode.TEXT, b"hi")
                assert await client.receive() == (Opcode.TEXT, b"hi")


async def test_frames_that_do_not_wait_for_the_answer_are_read_behind_it() -> None:
    app = echo()
    app.state.gate.clear()
    frames = [
        RawClient.frame(Opcode.TEXT, b"one"),
        RawClient.frame(Opcode.PING, b"p"),
        RawClient.frame(Opcode.TEXT, b"tw", fin=False),
        RawClient.frame(Opcode.CONT, b"o"),
    ]
    async with serving(app, ws=PROTOCOL) as site, connected(site) as client:
        await client.write(request(*RIGHT))
        await wait_until(lambda: site.open_connections == 1 and opened(site))
        assert site._server is not None
        (protocol,) = site._server.server_state.connections
        assert isinstance(protocol, Protocol)
        for number, frame in enumerate(frames, 1):
            await client.write(frame)
            await wait_until(lambda number=number: protocol._rest == b"".join(frames[:number]))
        app.state.gate.set()
        assert (await client.read_head()).startswith("HTTP/1.1 101 ")
        said = [await client.receive() for _ in range(3)]
    assert [data for opcode, data in said if opcode is Opcode.TEXT] == [b"one", b"two"]
    assert (Opcode.PONG, b"p") in said


def opened(site: Site) -> bool:
    """Whether the server has read the request."""
    assert site._server is not None
    return bool(site._server.server_state.tasks)


@pytest.mark.parametrize("takes_connect", [False, True])
async def test_a_flood_that_does_not_wait_for_the_answer_is_not_read(takes_connect: bool) -> None:
    """Whether the application has been told of it or not."""
    app = echo()
    app.state.takes_connect = takes_connect
    app.state.gate.clear()
    async with serving(app, ws=PROTOCOL) as site, connected(site) as client:
        await client.write(request(*RIGHT))
        await wait_until(lambda: opened(site))
        assert site._server is not None
        (protocol,) = site._server.server_state.connections
        assert isinstance(protocol, Protocol)
        frame = RawClient.frame(Opcode.BINARY, bytes(60_000))
        sending = asyncio.create_task(client.write(frame * 100))
        await wait_until(lambda: protocol._read_paused)
        assert len(protocol._rest) < 1_000_000
        app.state.gate.set()
        assert (await client.read_head()).startswith("HTTP/1.1 101 ")
        for _ in range(100):
            assert await client.receive() == (Opcode.BINARY, bytes(60_000))
        await sending


LARGE: Final = {
    "64 kB in one header": (["Cookie: " + "x" * 65_536], b"431"),
    "64 kB in 64 headers": ([f"X-{number}: " + "x" * 1000 for number in range(64)], b"101"),
    "200 headers": ([f"X-{number}: x" for number in range(200)], b"431"),
}


@pytest.mark.parametrize("name", LARGE)
async def test_large_requests_are_answered_and_nobody_else_is_harmed(name: str) -> None:
    """uvicorn's own protocol never answers what is too large, and keeps the connection."""
    lines, status = LARGE[name]
    async with serving(echo(), ws=PROTOCOL) as site, RawClient.open(site, "/a") as other:
        async with connected(site) as client:
            await client.write(request(*RIGHT, *lines))
            head = await client.read_head()
            assert head.encode().startswith(b"HTTP/1.1 " + status), head
        await other.send(Opcode.TEXT, b"hi")
        assert await other.receive() == (Opcode.TEXT, b"hi")


@pytest.mark.parametrize(
    "make",
    [
        lambda: refusal(200, [(b"a b", b"1")], b""),
        lambda: refusal(200, [(b"a", b"1\n2")], b""),
        lambda: refusal(200, [(b"a", b"\0")], b""),
    ],
)
def test_headers_that_would_be_two_are_refused(make: Callable[[], bytes]) -> None:
    with pytest.raises(RuntimeError):
        make()


async def test_a_server_that_ends_refuses_who_waits_for_an_answer() -> None:
    app = echo()
    app.state.gate.clear()
    async with serving(app, ws=PROTOCOL) as site, connected(site) as client:
        await client.write(request(*RIGHT))
        await wait_until(lambda: opened(site))
        assert site._server is not None
        (protocol,) = site._server.server_state.connections
        assert isinstance(protocol, Protocol)
        protocol.shutdown()
        assert (await all_of(client)).startswith(b"HTTP/1.1 500 ")
        app.state.gate.set()
        await wait_until(lambda: not opened(site))


def test_what_is_no_request_is_refused() -> None:
    for head in (b"", b"nonsense", b"GET / HTTP/1.1\r\nno colon\r\n\r\n", b"GET /\xff HTTP/1.1\r\n\r\n"):
        answer = read(head, logging.getLogger("test"))
        assert isinstance(answer, bytes)
        assert answer.startswith(b"HTTP/1.1 400 ")


def test_an_acceptance_is_what_the_protocol_wants() -> None:
    found = read(REQUESTS["as a library"].replace(b"Host", b"host"), logging.getLogger("test"))
    assert not isinstance(found, bytes)
    assert found.accept == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert b"\r\nSec-WebSocket-Protocol: chat\r\n\r\n" in acceptance(found, [], "chat")
