"""Clients that can compress, where that was asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI, WebSocket

from fastapi_channels.uvicorn.handshake import offers_deflate
from tests.support.live import DEFLATING, PROTOCOL, Client, Site, serving


@asynccontextmanager
async def echo(ws: str, **options: Any) -> AsyncIterator[Site]:
    app = FastAPI()

    @app.websocket("/a")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        async for text in websocket.iter_text():
            await websocket.send_text(text)

    async with serving(app, ws=ws, **options) as site:
        yield site


async def extensions(client: Client) -> list[Any]:
    await client.socket.send("x" * 1000)
    assert await client.read() == "x" * 1000
    await (await client.socket.ping())
    return list(client.socket.protocol.extensions)


@pytest.mark.parametrize(
    ("ws", "options", "offer", "agreed"),
    [
        (DEFLATING, {}, "deflate", True),
        (DEFLATING, {}, None, False),
        (DEFLATING, {"ws_per_message_deflate": False}, "deflate", False),
        (PROTOCOL, {}, "deflate", False),
    ],
)
async def test_it_is_negotiated_where_both_ask_for_it(
    ws: str, options: dict[str, Any], offer: str | None, agreed: bool
) -> None:
    async with echo(ws, **options) as site, site.connect("/a", compression=offer) as client:
        assert bool(await extensions(client)) is agreed
        assert site.open_connections == 1
    assert site.open_connections == 0


@pytest.mark.parametrize(
    ("line", "offers"),
    [
        (b"sec-websocket-extensions: permessage-deflate", True),
        (b"Sec-WebSocket-Extensions: x-other, permessage-deflate; client_max_window_bits", True),
        (b"sec-websocket-extensions: x-webkit-deflate-frame", False),
        (b"x-other: permessage-deflate", False),
    ],
)
def test_an_offer_is_found(line: bytes, offers: bool) -> None:
    assert offers_deflate(b"GET / HTTP/1.1\r\n" + line + b"\r\n\r\n") is offers
