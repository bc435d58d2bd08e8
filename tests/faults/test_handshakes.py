"""Handshakes that are never finished, by the hundred thousand: nothing of them stays, nobody else waits."""

from __future__ import annotations

import asyncio
import gc
import random
import resource
import socket
import time
from collections import deque
from pathlib import Path
from typing import Final

from fastapi import FastAPI, WebSocket
from websockets.frames import Opcode

from fastapi_channels import Channel, action, add_channel
from fastapi_channels.auth import Authenticator
from tests.support.live import PROTOCOL, RawClient, Site, serving, wait_until

HANDSHAKES: Final = 100_000
AT_ONCE: Final = 250
PATIENCE: Final = 2.0
"""Seconds of this process, which does all of this, that somebody else may wait for an echo."""
GROWTH: Final = 32 * 1024 * 1024
"""Bytes that the process, which is client and server, may grow by."""


def make_app() -> FastAPI:
    app = FastAPI()

    @app.websocket("/echo")
    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        async for text in websocket.iter_text():
            await websocket.send_text(text)

    @app.websocket("/never")
    async def never(websocket: WebSocket) -> None:
        while (await websocket.receive())["type"] != "websocket.disconnect":
            pass

    return app


async def abandon(site: Site, draw: random.Random) -> None:
    """Begin a number of handshakes, each to another point: most end amid the request, the others wait for an
    answer that does not come, some with more behind the request."""
    loop = asyncio.get_running_loop()
    whole = RawClient.handshake(site, "/never", "Cookie: " + "x" * 200)
    clients: list[socket.socket] = []
    try:
        for _ in range(AT_ONCE):
            client = socket.socket()
            client.setblocking(False)
            clients.append(client)
            await loop.sock_connect(client, ("127.0.0.1", site.port))
            cut = draw.choice([draw.randrange(len(whole)), len(whole)])
            await loop.sock_sendall(client, whole[:cut])
            if cut == len(whole) and draw.random() < 0.3:
                await asyncio.sleep(0)
                await loop.sock_sendall(client, RawClient.frame(Opcode.TEXT, b"early"))
    finally:
        for client in clients:
            client.close()


def resident() -> int:
    with Path("/proc/self/statm").open() as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


async def test_handshakes_that_are_never_finished() -> None:
    draw = random.Random(20)  # noqa: S311  where they end
    async with serving(make_app(), ws=PROTOCOL, ws_ping_interval=None) as site:
        async with RawClient.open(site, "/echo") as other:
            await abandon(site, draw)
            gc.collect()
            before, longest = resident(), 0.0
            for number in range(HANDSHAKES // AT_ONCE):
                began = time.process_time()
                doing = asyncio.create_task(abandon(site, draw))
                await other.send(Opcode.TEXT, b"%d" % number)
                assert await other.receive() == (Opcode.TEXT, b"%d" % number)
                longest = max(longest, time.process_time() - began)
                await doing
            await wait_until(lambda: site.open_connections == 1)
            gc.collect()
            assert longest < PATIENCE
            assert resident() - before < GROWTH
        await wait_until(lambda: not site.open_connections)
        assert site._server is not None
        assert not site._server.server_state.tasks


SILENT: Final = 10_000
WAITED_FOR: Final = 500


class Guarded(Channel):
    authenticator = Authenticator(
        lambda token, connection: {"good": "ada"}.get(token), first_frame=60.0, max_waiting=WAITED_FOR
    )

    @action()
    async def echo(self, text: str) -> str:
        return text


async def test_ten_thousand_that_do_not_say_who_they_are() -> None:
    app = FastAPI()
    add_channel(app)
    Guarded().mount(app, "/{channel}")
    silent: deque[RawClient] = deque()
    async with serving(app, ws=PROTOCOL, ws_ping_interval=None) as site:
        try:
            async with site.connect("/tea", additional_headers={"Authorization": "Bearer good"}) as other:
                before, longest, most = 0, 0.0, 0
                for number in range(SILENT):
                    client = RawClient()
                    silent.append(client)
                    await client.send_handshake(site, "/tea")
                    assert (await client.read_head()).startswith("HTTP/1.1 101 ")
                    if len(silent) > 2 * WAITED_FOR:
                        # Long since closed by the server; that it is, is asked of a few.
                        gone = silent.popleft()
                        if number % 100 == 0:
                            assert (await gone.closed()).code == 4501
                        gone.close()
                    if number == SILENT // 5:
                        gc.collect()
                        before = resident()
                    if number % 100 == 0:
                        began = time.process_time()
                        assert (await other.call("echo", text=f"{number}"))["data"] == f"{number}"
                        longest, most = max(longest, time.process_time() - began), max(most, site.node.served)
                gc.collect()
                assert most < WAITED_FOR + AT_ONCE
                assert longest < PATIENCE
                assert resident() - before < GROWTH
                async with site.connect("/tea") as late:
                    await late.send({"type": "auth", "token": "good"})
                    assert (await late.receive())["type"] == "authenticated"
        finally:
            for client in silent:
                client.close()
        await wait_until(lambda: not site.node.served)
