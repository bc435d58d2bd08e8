"""What uvicorn is told when it starts holds on our protocol as on its own; so does any ASGI application."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path
from typing import Any, Final

import pytest
import trustme
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.endpoints import WebSocketEndpoint
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect
from websockets.frames import Opcode

from fastapi_channels import Channel, action, add_channel
from tests.support.live import DEADLINE, PROTOCOL, Client, Close, RawClient, each_implementation, serving

each: Final = pytest.mark.parametrize("ws", ["websockets-sansio", PROTOCOL])
"""What holds for uvicorn's own protocol holds for ours."""


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


class Echo(WebSocketEndpoint):
    encoding = "text"

    async def on_receive(self, websocket: WebSocket, data: Any) -> None:
        await websocket.send_text(data)


class Room(Channel):
    @action()
    async def where(self, websocket: WebSocket) -> list[str]:
        return [websocket.url.scheme, str(len((await websocket.receive())["text"]))]

    @action()
    async def say(self, data: dict[str, Any]) -> None:
        await self.broadcast_to_channel("lobby", data["text"])


@each_implementation
async def test_it_serves_over_tls(ws: str, tmp_path: Path) -> None:
    authority, trust = trustme.CA(), ssl.create_default_context()
    authority.configure_trust(trust)
    site = tmp_path / "site.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(site)
    app = FastAPI()
    add_channel(app)
    app.add_api_websocket_route("/echo", echo)
    Room().mount(app, "/rooms/{channel}")

    def opened(path: str) -> connect:
        return connect(f"wss://127.0.0.1:{served.port}{path}", ssl=trust, compression=None, proxy=None)

    async with serving(app, ws=ws, ssl_certfile=site, ssl_keyfile=site) as served:
        async with opened("/echo") as client:
            for size in (2, 70_000, 1_000_000):
                await client.send("x" * size)
                assert await client.recv() == "x" * size
            await client.send(["in ", "two"])
            assert await client.recv() == "in two"
            async with asyncio.timeout(DEADLINE):
                await (await client.ping())
        async with opened("/rooms/lobby") as one, opened("/rooms/lobby") as other:
            await one.send('{"action": "where"}')
            await one.send("x" * 70_000)
            assert (await Client(one).receive())["data"] == ["wss", "70000"]
            await one.send('{"action": "say", "text": "hi"}')
            assert await one.recv() == await other.recv() == "hi"


@each
async def test_the_log_says_who_was_let_in_and_who_was_not(ws: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "uvicorn.error")
    app = FastAPI()
    app.add_api_websocket_route("/echo", echo)
    async with serving(app, ws=ws) as site, site.connect("/echo?x=1"):
        assert (await site.refusal("/other")).status == 403
    said = [record.getMessage().partition(" - ") for record in caplog.records]
    assert [result for _, separator, result in said if separator] == [
        '"WebSocket /echo?x=1" [accepted]',
        '"WebSocket /other" 403',
    ]
    assert all(who.startswith("127.0.0.1:") for who, separator, _ in said if separator)


@each
async def test_nothing_is_logged_that_was_not_asked_for(ws: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "uvicorn.error")
    app = FastAPI()
    app.add_api_websocket_route("/echo", echo)
    async with serving(app, ws=ws) as site, site.connect("/echo"):
        pass
    assert not caplog.records


@each
@pytest.mark.parametrize("endpoint", [echo, Echo], ids=["function", "class"])
async def test_endpoints_of_starlette(ws: str, endpoint: Any) -> None:
    app = Starlette(routes=[WebSocketRoute("/a", endpoint)])
    async with serving(app, ws=ws) as site, site.connect("/a") as client:
        for text in ("one", "two" * 50_000):
            await client.send(text)
            assert await client.read() == text
        await client.close(4000, "bye")
        assert await client.closed() == Close(4000, "bye")


@each
@pytest.mark.parametrize("http", ["h11", "httptools"])
async def test_frames_in_one_packet_with_the_request_are_lost_and_no_harm_done(ws: str, http: str) -> None:
    """uvicorn's HTTP parser drops them. A client must wait for the answer (RFC 6455 section 4.1)."""
    app = FastAPI()
    app.add_api_websocket_route("/a", echo)
    async with serving(app, ws=ws, http=http) as site:
        client = RawClient()
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client._socket, ("127.0.0.1", site.port))
        early = RawClient.frame(Opcode.TEXT, b"early") + RawClient.frame(Opcode.PING, b"early")
        await client.write(RawClient.handshake(site, "/a") + early)
        assert (await client.read_head()).startswith("HTTP/1.1 101 ")
        await client.send(Opcode.TEXT, b"later")
        assert await client.receive() == (Opcode.TEXT, b"later")
        client.close()
