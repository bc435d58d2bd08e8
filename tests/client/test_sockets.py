"""What the answers to a handshake mean, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from fastapi_channels.client.settings import Closed
from fastapi_channels.client.sockets import dialer

GIVEN_UP = 0
TRIED_AGAIN = (1006, 1013)


@asynccontextmanager
async def answering() -> AsyncIterator[str]:
    """A server that answers a handshake at /N with the status N, and is no WebSocket server."""

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        status = head.split()[1].decode().strip("/")
        login = "Location: http://login.example/\r\nRetry-After: 3\r\n"
        writer.write(f"HTTP/1.1 {status} So\r\n{login}Content-Length: 6\r\n\r\n<html>".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(meet, "127.0.0.1", 0)
    async with server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_who_is_refused_stays_away_and_what_stands_between_is_no_refusal():
    """On a foreign network a page that asks for a login answers with 200, or leads to itself."""
    dial = dialer(proxy=None)
    async with answering() as url:
        for status in (400, 401, 403, 404, 426):
            with pytest.raises(Closed) as closed:
                await dial(f"{url}/{status}", [], {})
            assert (closed.value.code, str(status) in closed.value.reason) == (GIVEN_UP, True)
        for status in (200, 302, 408, 425, 429, 500, 502, 503, 511):
            with pytest.raises(Closed) as closed:
                await dial(f"{url}/{status}", [], {})
            assert closed.value.code in TRIED_AGAIN
        assert "retry_after=3" in closed.value.reason


async def test_a_token_is_not_handed_to_where_a_redirect_leads():
    met: list[bytes] = []

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        met.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(f"HTTP/1.1 307 So\r\nLocation: {url}/other\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(meet, "127.0.0.1", 0)
    url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        with pytest.raises(Closed) as closed:
            await dialer(proxy=None)(url, ["bearer.secret"], {})
    assert (closed.value.code, len(met)) == (1013, 1)


async def test_an_address_that_is_none_is_told_once():
    with pytest.raises(Closed) as closed:
        await dialer(proxy=None)("ftp://example.com", [], {})
    assert closed.value.code == GIVEN_UP
