"""A proxy of which one side is gone, slow or sends much, while the other is not."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import Opcode

from fastapi_channels.proxying import WebSocketProxy
from tests.support.live import DEADLINE, Client, Close, RawClient, ServerProcess, Site, process, wait_until

from .gateway import MB, Large
from .test_proxy import echo, in_front, raw_server, server, shake

# Who goes without a word


@asynccontextmanager
async def met() -> AsyncIterator[tuple[Site, asyncio.Future[Close]]]:
    """A gateway to a server that only reads, and how its client has left."""
    ended: asyncio.Future[Close] = asyncio.get_running_loop().create_future()

    async def waits(websocket: ServerConnection) -> None:
        await websocket.wait_closed()
        ended.set_result(Close(websocket.close_code, websocket.close_reason))

    async with server(waits) as target, in_front(target) as site:
        yield site, ended


WHOLE: Final = RawClient.frame(Opcode.TEXT, b"x" * 1000)


@pytest.mark.parametrize(
    "sent", [b"", WHOLE, WHOLE[:500], WHOLE[:1]], ids=["nothing", "whole", "half", "byte"]
)
@pytest.mark.parametrize("finishes", [True, False])
async def test_a_client_that_goes_without_a_word_goes_so_there(sent: bytes, finishes: bool):
    async with met() as (site, ended), RawClient.open(site, "/") as client:
        await client.write(sent)
        if finishes:  # and would still read
            client.finish()
            assert await client.closed() == Close(None, None)
        else:
            client.reset()
        async with asyncio.timeout(DEADLINE):
            assert await ended == Close(1006, "")


HALF: Final = b"\x82\x7e\xff\xff" + bytes(100)
"""Of a message of 65,535 bytes."""


@pytest.mark.parametrize("finishes", [True, False])
async def test_a_server_that_goes_in_the_midst_of_a_message_is_1014(finishes: bool):
    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await shake(reader, writer)
        writer.write(b"\x81\x04last" + HALF)
        await reader.readexactly(1)
        if finishes:
            writer.write_eof()
            await reader.read()
        else:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()

    async with raw_server(half) as target, in_front(target) as site, site.connect("/") as client:
        assert await client.read() == "last"
        await client.send("go on")
        assert await client.closed() == Close(1014, "the other server is gone")


@pytest.mark.parametrize("finishes", [True, False])
async def test_a_client_that_goes_while_the_server_takes_nothing_is_gone_later(finishes: bool):
    """Nothing is read of it meanwhile, so nobody notices before the server's time is over."""

    class Impatient(Large):
        send_timeout = 2

    async with (
        raw_server(shake, stays=True) as target,
        in_front(target, Impatient) as site,
        RawClient.open(site, "/") as client,
    ):
        flood = asyncio.create_task(sends_on(client))
        # When it is held up, it has sent less than it wanted to.
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await asyncio.shield(flood)
        flood.cancel()
        await asyncio.wait((flood,))
        client.finish() if finishes else client.reset()
        await wait_until(lambda: site.node.served == 0)


async def sends_on(client: RawClient, size: int = MB) -> None:
    while True:
        await client.send(Opcode.BINARY, bytes(size))


# What was sent before a goodbye


async def test_what_a_client_sent_before_its_close_comes_first_however_slow_the_server_is():
    got: list[int] = []
    ended: asyncio.Future[Close] = asyncio.get_running_loop().create_future()
    go_on = asyncio.Event()

    async def reads(websocket: ServerConnection) -> None:
        await go_on.wait()
        while (message := await last(websocket)) is not None:
            got.append(len(message))
        ended.set_result(Close(websocket.close_code, websocket.close_reason))

    async def says(client: Client) -> None:
        for _ in range(20):
            await client.send(bytes(200_000))
        await client.close(4001, "bye")

    async with server(reads, max_queue=1) as target, in_front(target, Large) as site:
        async with site.connect("/") as client, asyncio.timeout(DEADLINE):
            saying = asyncio.create_task(says(client))
            await asyncio.sleep(0)
            go_on.set()
            await saying
            assert await ended == Close(4001, "bye")
        assert got == [200_000] * 20


async def last(websocket: ServerConnection) -> str | bytes | None:
    """The next message; None behind the last."""
    try:
        return await websocket.recv()
    except ConnectionClosed:
        return None


async def test_what_the_server_sent_before_its_close_comes_first_however_slow_the_client_is():
    async def says(websocket: ServerConnection) -> None:
        for _ in range(20):
            await websocket.send(bytes(MB))
        await websocket.close(4002, "done")

    async with (
        server(says) as target,
        in_front(target) as site,
        RawClient.open(site, "/", receive_buffer=4096) as client,
    ):
        frames = [frame async for frame in client.receive_all()]
        assert [len(payload) for _, payload in frames[:-1]] == [MB] * 20
        assert frames[-1] == (Opcode.CLOSE, struct.pack("!H", 4002) + b"done")


# Pings of a server that is held up


async def test_a_server_is_not_blamed_for_a_client_that_is_slow():
    """Its answer to a ping stands behind what the client has not taken yet."""

    class Pinged(WebSocketProxy):
        ping_interval = ping_timeout = 0.3

    async with (
        server(floods) as target,
        in_front(target, Pinged) as site,
        RawClient.open(site, "/", receive_buffer=4096) as client,
    ):
        for _ in range(75):
            # It takes a message long before its ten seconds are over. Megabytes are before a pong.
            for _ in range(32):
                await client.take(4096)
            await asyncio.sleep(0.02)
        assert site.node.served == 1
        client.reset()


async def floods(websocket: ServerConnection, size: int = 256 * 1024) -> None:
    with suppress(ConnectionClosed):
        while True:
            await websocket.send(bytes(size))


# What is held in memory


def most_held(gateway: ServerProcess) -> int:
    """The bytes of memory that a process has had at once."""
    status = Path(f"/proc/{gateway.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


IN_MEMORY: Final = 15 * 16 * MB
"""What docs/guide/proxying.md says that a connection takes with messages of 16 MiB."""


async def test_messages_of_16_mebibytes_take_a_multiple_of_themselves_however_many_there_are():
    async def other(websocket: ServerConnection) -> None:
        if await websocket.recv() == "echo":
            await echo(websocket)
        else:
            await floods(websocket, 16 * MB)

    async with (
        server(other) as target,
        raw_server(shake, stays=True) as deaf,
        process(
            "tests.proxying.gateway:create_app",
            *("--factory", "--ws-max-size", str(16 * MB)),
            environment={"TARGETS": f"{target} {deaf}"},
        ) as gateway,
    ):
        before = most_held(gateway)
        async with gateway.site.connect("/0") as client:
            await client.send("echo")
            for large in (bytes(16 * MB), "x" * (16 * MB), "€" * (16 * MB // 3), [bytes(MB // 4)] * 64):
                for _ in range(2):
                    await client.socket.send(large)
                    await client.read()
        assert most_held(gateway) - before < IN_MEMORY
        # Nobody takes what comes, so all that may wait does, when nothing more can be sent.
        async with RawClient.open(gateway.site, "/0", receive_buffer=4096) as client:
            await client.send(Opcode.TEXT, b"flood")
            await client.take(1)
            async with RawClient.open(gateway.site, "/1") as flooding:
                flood = asyncio.create_task(sends_on(flooding, 16 * MB))
                await asyncio.wait((flood,), timeout=1)
                assert most_held(gateway) - before < 2 * IN_MEMORY
                flood.cancel()
                await asyncio.wait((flood,))
