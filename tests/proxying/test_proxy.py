"""WebSockets that another server answers: real servers on both sides."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, Final, cast

import pytest
import trustme
from fastapi import FastAPI, WebSocket
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Opcode
from websockets.http11 import Request, Response
from websockets.utils import accept_key

from fastapi_channels import (
    BasePermission,
    ConfigurationError,
    Connection,
    PermissionDenied,
    add_channel,
    rate,
)
from fastapi_channels.auth import Authenticator
from fastapi_channels.proxying import WebSocketProxy
from fastapi_channels.proxying import upstream as upstream_module
from fastapi_channels.proxying.passing import Passing
from fastapi_channels.wire.messages import Body
from tests.support.live import Client, Close, RawClient, Site, serving, wait_until

from .gateway import MB, Large, gateway

Upstream = Callable[[ServerConnection], Awaitable[None]]


async def echo(socket: ServerConnection) -> None:
    async for message in socket:
        await socket.send(message)


@asynccontextmanager
async def server(handler: Upstream = echo, **options: Any) -> AsyncIterator[str]:
    """The address of another server: that of the package `websockets`."""
    settings: dict[str, Any] = {"ping_interval": None, "max_size": None, "close_timeout": 1}
    async with serve(handler, "127.0.0.1", 0, **(settings | options)) as running:
        yield f"ws://127.0.0.1:{next(iter(running.sockets)).getsockname()[1]}"


@asynccontextmanager
async def raw_server(
    handler: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], *, stays: bool = False
) -> AsyncIterator[str]:
    """The address of one that does whatever `handler` does, on the bare connection.

    Args:
        stays: whether it keeps the connection when it has done that, and reads nothing more.
    """
    writers: list[asyncio.StreamWriter] = []

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await handler(reader, writer)
        if not stays:
            writer.close()

    running = await asyncio.start_server(run, "127.0.0.1", 0)
    try:
        yield f"ws://127.0.0.1:{running.sockets[0].getsockname()[1]}"
    finally:
        running.close()
        for writer in writers:
            writer.transport.abort()


async def shake(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer a handshake, on a bare connection."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    key = head.lower().index("sec-websocket-key: ") + len("sec-websocket-key: ")
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept_key(head[key:].split()[0]).encode() + b"\r\n\r\n"
    )


@asynccontextmanager
async def in_front(
    target: str, kind: type[WebSocketProxy] = WebSocketProxy, **settings: Any
) -> AsyncIterator[Site]:
    """A gateway to `target`, that nothing is left in; and that pings no client, however long a test takes."""
    app = gateway(kind(target, **settings))
    async with serving(app, ws_ping_interval=None) as site, site.unharmed():
        yield site


@asynccontextmanager
async def through(
    handler: Upstream = echo, kind: type[WebSocketProxy] = WebSocketProxy, **settings: Any
) -> AsyncIterator[Site]:
    """A gateway to another server that does what `handler` does."""
    async with server(handler) as target, serving(gateway(kind(target, **settings))) as site:
        yield site


# What passes


@asynccontextmanager
async def starlette_server() -> AsyncIterator[str]:
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        while (event := await websocket.receive())["type"] == "websocket.receive":
            await websocket.send({**event, "type": "websocket.send"})

    app = Starlette(routes=[WebSocketRoute("/", endpoint)])
    async with serving(app, ws="wsproto") as site:
        yield f"ws://127.0.0.1:{site.port}"


@asynccontextmanager
async def aiohttp_server() -> AsyncIterator[str]:
    web = pytest.importorskip("aiohttp.web")

    async def endpoint(request: Any) -> Any:
        socket = web.WebSocketResponse(max_msg_size=0)
        await socket.prepare(request)
        async for message in socket:
            await (socket.send_str if isinstance(message.data, str) else socket.send_bytes)(message.data)
        return socket

    app = web.Application()
    app.router.add_get("/", endpoint)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"ws://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("other", [server, starlette_server, aiohttp_server])
async def test_text_and_bytes_pass_both_ways_up_to_16_mebibytes(other: Any):
    async with other() as target, in_front(target, Large) as site, site.connect("/") as client:
        for message in ("", "grüß dich", b"", b"\0\xff", "x" * 100_000, b"\1" * (16 * MB)):
            await client.send(message)
            assert await client.read() == message
        await client.send("y" * (16 * MB))
        assert len(await client.read()) == 16 * MB


async def test_over_tls_the_other_server_must_be_who_it_says():
    authority, trust = trustme.CA(), ssl.create_default_context()
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(own)
    async with server(ssl=own) as target:
        target = target.replace("ws://127.0.0.1", "wss://localhost")
        async with in_front(target) as site:
            assert (await site.refusal("/")).status == 502
        authority.configure_trust(trust)
        async with in_front(target, ssl=trust) as site, site.connect("/") as client:
            await client.send("hi")
            assert await client.read() == "hi"


async def test_a_message_in_parts_passes_whole():
    async def parts(socket: ServerConnection) -> None:
        assert await socket.recv() == "one two"
        await socket.send(["three", " ", "four"])
        await socket.wait_closed()

    async with through(parts) as site, RawClient.open(site, "/") as client:
        await client.send(Opcode.TEXT, b"one ", fin=False)
        await client.send(Opcode.CONT, b"two")
        assert await client.receive() == (Opcode.TEXT, b"three four")


async def test_order_is_kept():
    async with through() as site, site.connect("/") as client:
        for number in range(1000):
            await client.send(str(number))
        assert [await client.read() for _ in range(1000)] == [str(number) for number in range(1000)]


async def asked(socket: ServerConnection) -> None:
    """Tells what it was asked with."""
    request = socket.request
    assert request is not None
    await socket.send(json.dumps([request.path, [[k.lower(), v] for k, v in request.headers.raw_items()]]))
    await socket.wait_closed()


OF_EVERY_HANDSHAKE: Final = {
    *("host", "upgrade", "connection", "sec-websocket-key", "sec-websocket-version"),
}
SECRETS: Final = {
    "Cookie": "session=secret",
    "Authorization": "Bearer secret",
    "X-Forwarded-For": "6.6.6.6",
    "X-Forwarded-Host": "evil.example",
    "Forwarded": "for=6.6.6.6",
    "X-Target": "ws://evil.example",
    "Accept-Language": "de",
    "Keep-Alive": "timeout=5",
}


async def test_nothing_of_the_clients_handshake_passes_that_is_not_listed():
    async with through(asked) as site:
        offers = ["chat", "bearer.secret"]
        async with site.connect(
            "/?token=secret&target=ws://evil", subprotocols=offers, additional_headers=SECRETS
        ) as client:
            path, headers = await client.receive()
    assert path == "/"
    assert {name for name, _ in headers} == OF_EVERY_HANDSHAKE


async def test_what_is_listed_passes():
    lists: dict[str, Any] = {
        "pass_headers": ["Cookie", "accept-language"],
        "pass_query": ["since", "tag"],
        "forwarded": ["for", "proto", "host"],
    }
    async with server(asked) as target:
        proxy = WebSocketProxy(f"{target}/a%20b/{{room}}/{{rest}}?key=7", **lists)
        app = gateway(proxy, "/rooms/{room}/{rest:path}")
        async with serving(app, proxy_headers=False) as site:
            query = "?tag=1&token=secret&tag=a%26key%3D8&since=k%3A5"
            async with site.connect(f"/rooms/x%20y%3Fz/b/c%23{query}", additional_headers=SECRETS) as client:
                path, headers = await client.receive()
    assert path == "/a%20b/x%20y%3Fz/b/c%23?key=7&tag=1&tag=a%26key%3D8&since=k%3A5"
    passed = {name: value for name, value in headers if name not in OF_EVERY_HANDSHAKE}
    assert passed == {
        "cookie": "session=secret",
        "accept-language": "de",
        "x-forwarded-for": "127.0.0.1",
        "x-forwarded-proto": "http",
        "x-forwarded-host": f"127.0.0.1:{site.port}",
    }


@pytest.mark.parametrize("path", ["/rooms/..", "/rooms/a/../../admin", "/rooms/%2e%2e/admin", "/rooms/."])
async def test_a_parameter_leads_to_no_other_path(path: str):
    async with server(asked) as target:
        app = gateway(WebSocketProxy(f"{target}/{{rest}}"), "/rooms/{rest:path}")
        async with serving(app) as site:
            assert (await site.refusal(path)).status == 404


async def test_no_header_of_a_client_says_where_to():
    met: list[str] = []

    async def inside(socket: ServerConnection) -> None:
        met.append("somebody")

    async with server(inside) as hidden, through(asked) as site:
        at = hidden.removeprefix("ws://")
        names = ("X-Forwarded-Host", "X-Forwarded-Server", "X-Original-URL", "X-Rewrite-URL", "X-Target")
        headers = {**dict.fromkeys(names, at), "Forwarded": f"host={at}"}
        async with site.connect("/", additional_headers=headers) as client:
            assert (await client.receive())[0] == "/"
        for path in ("/", f"http://{at}/"):
            asked_for = RawClient.handshake(site, path)
            reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
            writer.write(asked_for.replace(f"127.0.0.1:{site.port}".encode(), at.encode()))
            await reader.readuntil(b"\r\n\r\n")
            writer.close()
    assert met == []


async def test_the_other_server_may_be_the_same():
    app = FastAPI()
    add_channel(app)

    @app.websocket("/echo")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(await websocket.receive_text())
        await websocket.close(4000, "enough")

    async with serving(app) as site, site.unharmed():
        WebSocketProxy(f"ws://127.0.0.1:{site.port}/echo").mount(app, "/")
        async with site.connect("/") as client:
            await client.send("hi")
            assert await client.read() == "hi"
            assert await client.closed() == Close(4000, "enough")


class Known(WebSocketProxy):
    pass_headers = ["x-user"]

    async def upstream_headers(self, connection: Connection) -> dict[str, str]:
        return {"X-User": connection.user, "Authorization": "Bearer of-the-gateway"}


async def test_the_application_says_who_the_client_is_and_the_client_does_not():
    async with server(asked) as target:
        app = FastAPI()
        add_channel(app)
        proxy = Known(target)

        @app.websocket("/{name}")
        async def endpoint(websocket: WebSocket, name: str) -> None:
            await proxy.connect(websocket, user=name)

        async with serving(app) as site:
            async with site.connect("/ada", additional_headers={"X-User": "root"}) as client:
                _, headers = await client.receive()
            assert [value for name, value in headers if name == "x-user"] == ["ada"]
            assert ["authorization", "Bearer of-the-gateway"] in headers
            # A line of its own would be a header of its own.
            assert (await site.refusal("/ada%0d%0aX-Admin:%20yes")).status == 500


async def test_the_other_server_chooses_the_subprotocol_and_its_answer_passes_as_listed():
    def answer(socket: ServerConnection, request: Request, response: Response) -> Response:
        response.headers["X-Room"] = "7"
        response.headers["X-Secret"] = "8"
        return response

    async with server(asked, subprotocols=["v2", "v1"], process_response=answer) as target:
        proxy = WebSocketProxy(target, pass_subprotocols=["v1", "v3"], pass_response_headers=["X-Room"])
        async with serving(gateway(proxy)) as site:
            async with site.connect("/", subprotocols=["v2", "v3", "v1"]) as client:
                assert client.socket.subprotocol == "v1"
                response = client.socket.response
                assert response is not None
                assert (response.headers["x-room"], response.headers.get("x-secret")) == ("7", None)
                _, headers = await client.receive()
            assert ["sec-websocket-protocol", "v3, v1"] in headers
            # It wants one of its own.
            assert (await site.refusal("/", subprotocols=["v2"])).status == 400


async def test_a_token_in_a_subprotocol_stays_here_and_its_browser_gets_an_answer():
    async with server(asked) as target:

        class Guarded(WebSocketProxy):
            authenticator = Authenticator(lambda token, _: {"ok": "ada"}.get(token))

        async with serving(gateway(Guarded(target))) as site:
            async with site.connect("/", subprotocols=["gate", "bearer.ok"]) as client:
                assert client.socket.subprotocol == "gate"
                _, headers = await client.receive()
                assert {name for name, _ in headers} == OF_EVERY_HANDSHAKE
            assert (await site.refusal("/", subprotocols=["gate", "bearer.no"])).status == 401
            assert (await site.refusal("/")).status == 401


# Before anybody hears of it


async def test_permission_origin_rate_and_capacity_are_asked_before_the_other_server():
    met: list[str] = []

    async def meets(socket: ServerConnection) -> None:
        met.append("somebody")
        await socket.wait_closed()

    class Staff(BasePermission):
        def has_permission(self, websocket: WebSocket, action: str | None, **_: Any) -> bool:
            return websocket.query_params.get("who") == "staff"

    class Guarded(WebSocketProxy):
        permission_classes = [Staff]
        connect_throttle_classes = [rate(times=2, minutes=1)]
        max_connection = 1

    async with through(meets, Guarded) as site:
        evil = {"Origin": "https://evil.example"}
        assert (await site.refusal("/?who=staff", additional_headers=evil)).body["code"] == "origin_denied"
        assert (await site.refusal("/")).body["code"] == "permission_denied"
        assert met == []
        async with site.connect("/?who=staff"):
            assert (await site.refusal("/?who=staff")).status == 429
            await wait_until(lambda: met)
        assert met == ["somebody"]


async def test_it_counts_as_a_connection_of_the_process_and_of_the_room():
    async with server() as target:
        proxy = WebSocketProxy(target)
        app = gateway(proxy, max_connections=2)
        async with serving(app) as site, site.unharmed(), site.clients("/", "/"):
            assert (await site.refusal("/")).status == 503
            assert site.node.served == 2
            assert await proxy.get_connection_count(proxy.channel) == 2


# The other server is not there


async def unused() -> str:
    async with raw_server(lambda *_: asyncio.sleep(0)) as target:
        return target


async def test_a_dead_server_is_502_and_the_log_is_told_once(caplog: pytest.LogCaptureFixture):
    async with serving(gateway(WebSocketProxy(f"{await unused()}/x?key=secret"))) as site, site.unharmed():
        for _ in range(3):
            refusal = await site.refusal("/?lang=en")
            assert (refusal.status, refusal.body["code"]) == (502, "bad_gateway")
    told = [record.message for record in caplog.records if "proxy" in record.message]
    assert len(told) == 1
    assert "secret" not in told[0]


async def test_one_that_never_answers_the_handshake_is_504():
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with raw_server(silent) as target:
        proxy = WebSocketProxy(target, connect_timeout=0.2)
        async with serving(gateway(proxy)) as site, site.unharmed():
            assert (await site.refusal("/")).status == 504


async def test_one_that_answers_without_an_end_is_none():
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                writer.write(b"HTTP/1.1 101 Switching\r\n" + b"x: y\r\n" * 10_000)
                await writer.drain()
        except ConnectionError:
            pass

    async with raw_server(endless) as target, in_front(target) as site:
        assert (await site.refusal("/")).status == 502


@pytest.mark.parametrize(
    ("status", "headers", "told"),
    [
        (401, {}, 401),
        (404, {}, 404),
        (429, {"Retry-After": "7"}, 429),
        (503, {"Retry-After": "7"}, 503),
        (500, {}, 502),
        (200, {}, 502),
    ],
)
async def test_what_the_other_server_refuses_is_refused(status: int, headers: dict[str, str], told: int):
    def refuse(socket: ServerConnection, request: Request) -> Response:
        response = socket.respond(status, "internal words\n")
        response.headers.update(headers)
        return response

    async with server(process_request=refuse) as target, serving(gateway(WebSocketProxy(target))) as site:
        refusal = await site.refusal("/")
    assert refusal.status == told
    assert "internal" not in json.dumps(refusal.body)
    assert refusal.body.get("retry_after") == (7.0 if headers else None)


async def test_a_redirect_is_not_followed(caplog: pytest.LogCaptureFixture):
    met: list[str] = []

    async def inside(socket: ServerConnection) -> None:
        met.append("somebody")

    async with server(inside) as hidden:

        def elsewhere(socket: ServerConnection, request: Request) -> Response:
            response = socket.respond(302, "")
            response.headers["Location"] = hidden
            return response

        async with server(process_request=elsewhere) as target, in_front(target) as site:
            assert (await site.refusal("/")).status == 502
    assert met == []
    assert "HTTP 302, which is not followed" in caplog.text


async def test_of_several_addresses_one_that_is_there_is_taken():
    async with server(asked) as one, server(asked) as two:
        proxy = WebSocketProxy([f"{one}/one", await unused(), f"{two}/two"])
        async with serving(gateway(proxy)) as site:
            paths = []
            for _ in range(6):
                async with site.connect("/") as client:
                    paths.append((await client.receive())[0])
    assert paths == ["/one", "/two", "/two"] * 2


# How it ends


@pytest.mark.parametrize(
    ("code", "reason", "told"),
    [
        (1000, "bye", Close(1000, "bye")),
        (4321, "grüß dich", Close(4321, "grüß dich")),
        (1012, "", Close(1012, "")),
        (1005, "", Close(1000, "")),
    ],
)
async def test_the_close_of_the_other_server_passes(code: int, reason: str, told: Close):
    async def closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await shake(reader, writer)
        payload = b"" if code == 1005 else struct.pack("!H", code) + reason.encode()
        writer.write(b"\x81\x04last\x88" + bytes([len(payload)]) + payload)
        await reader.read(64)

    async with raw_server(closes) as target, in_front(target) as site, site.connect("/") as client:
        assert await client.read() == "last"
        assert await client.closed() == told


@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1001, "gone"), (4000, "x" * 123), (None, "")])
async def test_the_close_of_the_client_passes(code: int | None, reason: str):
    ended: asyncio.Future[tuple[int | None, str | None]] = asyncio.get_running_loop().create_future()

    async def waits(socket: ServerConnection) -> None:
        await socket.wait_closed()
        ended.set_result((socket.close_code, socket.close_reason))

    async with through(waits) as site, site.unharmed():
        async with site.connect("/") as client:
            if code is None:
                client.reset()
            else:
                await client.close(code, reason)
        # One that is gone without a word is so there too.
        assert await ended == (code or 1006, reason)


async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Goes without a word."""
    await shake(reader, writer)
    await reader.readexactly(1)
    writer.transport.abort()


async def half_closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends nothing more, and still reads."""
    await shake(reader, writer)
    await reader.readexactly(1)
    writer.write_eof()
    await reader.read(64)


async def wrong(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends what is no frame."""
    await shake(reader, writer)
    await reader.readexactly(1)
    writer.write(b"\xff\xff\xff\xff")
    await reader.read(64)


async def no_text(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends a text that is no UTF-8."""
    await shake(reader, writer)
    await reader.readexactly(1)
    writer.write(b"\x81\x01\xff")
    await reader.read(64)


async def too_much(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends a message that is too long."""
    await shake(reader, writer)
    await reader.readexactly(1)
    writer.write(b"\x82\x7f" + (2 * MB).to_bytes(8) + bytes(2 * MB))
    await reader.read(64)


async def reserved(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Closes with a code that nobody may send on."""
    await shake(reader, writer)
    await reader.readexactly(1)
    writer.write(b"\x88\x02" + struct.pack("!H", 1015))
    await reader.read(64)


@pytest.mark.parametrize("fault", [cut, half_closed, wrong, no_text, too_much, reserved])
async def test_a_server_that_is_lost_or_speaks_wrongly_is_1014(fault: Any):
    async with raw_server(fault) as target, in_front(target) as site, site.connect("/") as client:
        await client.send("now")
        assert (await client.closed()).code == 1014


async def test_one_that_says_goodbye_and_stays_on_the_line_is_left(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(upstream_module, "CLOSE_TIMEOUT", 0.1)

    async def lingers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await shake(reader, writer)
        writer.write(b"\x88\x02" + struct.pack("!H", 1001))

    async with (
        raw_server(lingers, stays=True) as target,
        in_front(target) as site,
        site.connect("/") as client,
    ):
        assert await client.closed() == Close(1001, "")


async def test_a_server_that_answers_no_ping_is_1014():
    class Pinged(WebSocketProxy):
        ping_interval = ping_timeout = 0.1

    async with (
        raw_server(shake, stays=True) as target,
        in_front(target, Pinged) as site,
        site.connect("/") as client,
    ):
        assert (await client.closed()).code == 1014


async def test_pings_of_either_side_are_answered():
    async def pings(socket: ServerConnection) -> None:
        await (await socket.ping())
        await socket.send("answered")
        await socket.wait_closed()

    async with through(pings) as site, site.connect("/") as client:
        assert await client.read() == "answered"
        await (await client.socket.ping())


async def test_a_drain_closes_both_sides_with_1012():
    ended: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

    async def waits(socket: ServerConnection) -> None:
        await socket.wait_closed()
        ended.set_result(socket.close_code)

    async with through(waits) as site, site.connect("/") as client:
        await site.node.drain()
        assert (await client.closed()).code == 1012
        assert await ended == 1012


async def test_the_document_does_not_say_where_the_other_server_is():
    app = FastAPI()
    add_channel(app, asyncapi_url="/asyncapi.json")
    WebSocketProxy("ws://inside:8000/{room}").mount(app, "/chat/{room}")
    async with serving(app) as site, site.client() as http:
        document = (await http.get("/asyncapi.json")).text
    assert "/chat/{room}" in document
    assert "inside" not in document


async def test_somebody_can_end_it_from_here():
    async with server() as target:
        proxy = WebSocketProxy(target)
        async with serving(gateway(proxy)) as site, site.connect("/") as client:
            [member] = await proxy.members(proxy.channel)
            await site.node.rooms.connections[member["id"]].close(4400, "later")
            assert await client.closed() == Close(4400, "later")


# Who is slow, and who floods


async def test_a_client_that_does_not_read_holds_up_the_other_server_and_nothing_piles_up():
    sent = 0

    async def floods(socket: ServerConnection) -> None:
        nonlocal sent
        while True:
            await socket.send(bytes(64 * 1024))
            sent += 1

    class Patient(WebSocketProxy):
        send_timeout = 0.5

    async with through(floods, Patient) as site, RawClient.open(site, "/", receive_buffer=4096) as client:
        # The other server is held up; then the client is cut off, as one that takes nothing.
        await wait_until(lambda: site.node.served == 0)
        assert sent * 64 * 1024 < 16 * MB
        client.reset()


async def test_a_server_that_does_not_read_holds_up_the_client_and_nothing_piles_up():
    class Impatient(WebSocketProxy):
        send_timeout = 0.5

    sent = 0

    async def flood(client: Client) -> None:
        nonlocal sent
        with suppress(ConnectionClosed):
            while True:
                await client.send(bytes(64 * 1024))
                sent += 1

    async with (
        raw_server(shake, stays=True) as target,
        in_front(target, Impatient) as site,
        site.connect("/") as client,
    ):
        async with asyncio.timeout(30):
            await flood(client)
        assert (await client.closed()).code == 1014
        assert sent * 64 * 1024 < 32 * MB


async def test_too_long_a_message_of_the_client_is_1009():
    class Small(WebSocketProxy):
        max_message_size = 10

    async with through(echo, Small) as site, site.connect("/") as client:
        await client.send("x" * 10)
        assert await client.read() == "x" * 10
        await client.send("x" * 11)
        assert (await client.closed()).code == 1009


async def test_a_rate_over_messages_closes_without_a_word_that_is_not_the_other_servers():
    class Slow(WebSocketProxy):
        throttle_classes = [rate(times=2, minutes=1)]

    async with through(echo, Slow) as site, site.connect("/") as client:
        for text in ("one", "two"):
            await client.send(text)
            assert await client.read() == text
        await client.send("three")
        assert await client.rest() == []
        assert client.socket.close_code == 1013


async def test_two_hundred_clients():
    async with through() as site, site.unharmed(), AsyncExitStack() as stack:
        clients = await asyncio.gather(*(stack.enter_async_context(site.connect("/")) for _ in range(200)))

        async def talk(number: int) -> None:
            for turn in range(5):
                await clients[number].send(f"{number} {turn}")
                assert await clients[number].read() == f"{number} {turn}"

        await asyncio.gather(*map(talk, range(200)))
        assert site.node.served == 200


# Hooks


class Looked(WebSocketProxy):
    async def from_client(self, message: Body, connection: Connection) -> Body | None:
        match message:
            case "drop":
                return None
            case "refuse":
                raise PermissionDenied(4403, "not that")
            case "fail":
                raise RuntimeError("a fault of a hook")
            case "wrong":
                return cast(Any, 7)
            case _:
                pass
        return f"{connection.address}: {message}"

    def from_server(self, message: Body, connection: Connection) -> Body | None:
        return None if "quiet" in str(message) else str(message).upper()


async def test_hooks_see_change_and_drop_messages():
    async with through(echo, Looked) as site, site.connect("/") as client:
        for text in ("drop", "quiet", "said"):
            await client.send(text)
        assert await client.read() == "127.0.0.1: SAID"


@pytest.mark.parametrize(("text", "code"), [("refuse", 4403), ("fail", 1011), ("wrong", 1011)])
async def test_what_a_hook_raises_closes_both_sides(text: str, code: int):
    ended: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

    async def waits(socket: ServerConnection) -> None:
        await socket.wait_closed()
        ended.set_result(socket.close_code)

    async with through(waits, Looked) as site, site.connect("/") as client:
        await client.send(text)
        assert await client.rest() == []
        assert client.socket.close_code == code
        assert await ended == code


# What fails here leaves nothing behind


async def test_an_answer_that_cannot_be_passed_on_leaves_no_connection(monkeypatch: pytest.MonkeyPatch):
    ended: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

    async def waits(socket: ServerConnection) -> None:
        await socket.wait_closed()
        ended.set_result(socket.close_code)

    def fails(*_: Any) -> Any:
        raise LookupError("no such header")

    monkeypatch.setattr(Passing, "answered", fails)
    async with (
        server(waits) as target,
        serving(gateway(WebSocketProxy(target)), may_complain=True) as site,
    ):
        with pytest.raises(InvalidStatus):
            async with site.connect("/"):
                pass
        async with asyncio.timeout(30):
            assert await ended == 1011


async def test_who_cannot_close_the_other_side_has_left_the_room(monkeypatch: pytest.MonkeyPatch):
    left = asyncio.Event()

    class Told(WebSocketProxy):
        def __init__(self, *args: Any, **settings: Any) -> None:
            super().__init__(*args, **settings)
            self.add_event_handler("leave", lambda connection: left.set())

    async def fails(*_: Any) -> None:
        raise OSError("it is broken")

    monkeypatch.setattr(upstream_module._Socket, "close", fails)
    async with server() as target, serving(gateway(Told(target)), may_complain=True) as site:
        async with site.connect("/") as client:
            await client.send("hi")
            assert await client.read() == "hi"
        async with asyncio.timeout(30):
            await left.wait()


# What cannot work is said where it is written


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "has no target"),
        ({"target": []}, "has no target"),
        ({"target": "http://chat"}, "ws:// or wss://"),
        ({"target": "ws://"}, "ws:// or wss://"),
        ({"target": "ws://chat:x/"}, "a URL"),
        ({"target": "ws://{host}/"}, "in its path alone"),
        ({"target": "ws://chat/?a={b}"}, "in its path alone"),
        ({"target": "ws://chat/#x"}, "without a fragment"),
        ({"target": "ws://ada:secret@chat/"}, "no user and password"),
        ({"target": [7]}, "a text"),
        ({"target": "ws://chat/a b"}, "as %XX"),
        ({"pass_headers": "cookie"}, "a list of names"),
        ({"pass_headers": ["Connection"]}, "belongs to one connection"),
        ({"pass_headers": ["host"]}, "belongs to one connection"),
        ({"pass_headers": ["Sec-WebSocket-Key"]}, "belongs to one connection"),
        ({"pass_headers": ["a b"]}, "is no name of a header"),
        ({"pass_headers": ["X-Forwarded-For"]}, "forwarded="),
        ({"pass_subprotocols": ["a b"]}, "is none"),
        ({"forwarded": ["port"]}, "takes for, proto, host"),
        ({"pass_query": ["key"], "target": "ws://chat/?key=7"}, "own query"),
        ({"connect_timeout": 0}, "more than 0 seconds"),
    ],
)
def test_settings_that_cannot_work(settings: dict[str, Any], said: str):
    with pytest.raises(ConfigurationError, match=said):
        WebSocketProxy(
            **({"target": "ws://chat"} if "target" not in settings and settings else {}), **settings
        )


def test_classes_and_routes_that_cannot_work():
    with pytest.raises(ConfigurationError, match="did you mean 'pass_headers'"):

        class Misspelt(WebSocketProxy):
            pass_header = ["cookie"]

    class First(WebSocketProxy):
        target = "ws://chat"
        authenticator = Authenticator(lambda token, _: token, first_frame=5)

    with pytest.raises(ConfigurationError, match="first_frame"):
        First()
    proxy, app = WebSocketProxy("ws://chat/{room}"), FastAPI()
    with pytest.raises(ConfigurationError, match="the target"):
        proxy.mount(app, "/")
    for protocol in ("sse", "http"):
        with pytest.raises(ConfigurationError, match="leave out sse="):
            proxy.mount(app, "/{room}", sse=protocol == "sse", http=protocol == "http")


def test_without_websockets_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "fastapi_channels.proxying.upstream", None)
    with pytest.raises(ConfigurationError, match=re.escape("fastapi-channels[client]")):
        WebSocketProxy("ws://chat")


async def test_an_endpoint_says_neither_subprotocol_nor_headers():
    proxy: Any = WebSocketProxy("ws://chat")
    for how in ({"subprotocol": "v1"}, {"headers": {}}):
        with pytest.raises(ConfigurationError, match="the other server chooses"):
            await proxy.connect(None, **how)
