"""A client that does not read: the others do not notice, and what waits for it is bounded."""

import asyncio
import json
import resource
import statistics
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.frames import Opcode

from fastapi_channels import Channel, Connection, action
from fastapi_channels.wire import writer
from fastapi_channels.wire.outbox import SlowPolicy
from tests.support.live import (
    Close,
    RawClient,
    Site,
    application,
    each_implementation,
    each_with_port,
    serving,
    wait_until,
)

CROWD = 99
BODY = b"x" * 64 * 1024
MESSAGES = 320
"""Of that size, in one flood of 20 MB."""
ROUNDS = 3
OTHERS = 0.5
"""Seconds that anything else on the machine may cost."""
LIMIT = 1024 * 1024
"""Bytes that may wait for a client, unless it is said otherwise."""
LITTLE = 4096
"""Bytes that the kernel keeps for a client that does not read."""


class Room(Channel):
    """Remembers the connections that it had, and those that left."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.joined: list[Connection] = []
        self.left: list[Connection] = []
        self.add_event_handler("join", self._note_join)
        self.add_event_handler("leave", self._note_leave)

    async def _note_join(self, connection: Connection) -> None:
        self.joined.append(connection)

    async def _note_leave(self, connection: Connection) -> None:
        self.left.append(connection)

    @action()
    async def fill(self) -> str:
        return "x" * 1_000_000


class DropsOldest(Room):
    slow_policy: SlowPolicy = "drop_oldest"


class DropsNewest(Room):
    slow_policy: SlowPolicy = "drop_newest"


# The others


class Crowd:
    """Clients that read as fast as they can, and note how long each message took to each of them."""

    def __init__(self) -> None:
        self.readers: list[_Reader] = []
        self.latencies: list[float] = []
        self._published = 0.0
        self._missing = 0
        self._complete = asyncio.Event()

    async def join(self, site: Site, path: str) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(CROWD):
            _, reader = await loop.create_connection(lambda: _Reader(self), "127.0.0.1", site.port)
            await reader.shake_hands(site, path)
            self.readers.append(reader)

    async def hear(self, room: Channel) -> None:
        """Publish one message, and wait until everybody has it."""
        self._missing = CROWD
        self._complete.clear()
        self._published = asyncio.get_running_loop().time()
        await room.broadcast_to_channel("r", BODY)
        async with asyncio.timeout(30):
            await self._complete.wait()

    def arrived(self) -> None:
        self.latencies.append(asyncio.get_running_loop().time() - self._published)
        self._missing -= 1
        if self._missing == 0:
            self._complete.set()

    def leave(self) -> None:
        for reader in self.readers:
            reader.transport.abort()


class _Reader(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        self._accepted = asyncio.Event()
        self._head = b""
        self._missing = _wire_size(BODY)

    async def shake_hands(self, site: Site, path: str) -> None:
        self.transport.write(RawClient.handshake(site, path))
        async with asyncio.timeout(30):
            await self._accepted.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if not self._accepted.is_set():
            self._head += data
            if b"\r\n\r\n" in self._head:
                self._accepted.set()
            return
        self._missing -= len(data)
        if self._missing <= 0:
            self._missing += _wire_size(BODY)
            self._crowd.arrived()


def _wire_size(body: bytes) -> int:
    """With the header of a frame of more than 65,535 bytes."""
    assert len(body) > 0xFFFF
    return len(body) + 10


@asynccontextmanager
async def _crowd(site: Site) -> AsyncIterator[Crowd]:
    crowd = Crowd()
    try:
        await crowd.join(site, "/r")
        yield crowd
    finally:
        crowd.leave()


async def test_the_others_do_not_notice_and_memory_does_not_grow():
    """Each round measures the same flood without and with one who does not read: it is given what fits,
    and loses the rest. The best rounds are compared, since whatever else the machine does only adds."""
    room = DropsOldest()
    p99: dict[bool, list[float]] = {False: [], True: []}
    async with serving(application(room)) as site, _crowd(site) as crowd:
        await _flood(crowd, room)
        before, grown = _resident(), 0
        for _ in range(ROUNDS):
            p99[False].append(await _flood(crowd, room))
            async with RawClient.open(site, "/r", receive_buffer=LITTLE):
                p99[True].append(await _flood(crowd, room))
                grown = max(grown, _resident() - before)
                assert not room.left
            await wait_until(lambda: len(room.left) == 1)
            room.left.clear()
    # A room that waits for its slowest member takes seconds; what another process takes is no such wait.
    assert min(p99[True]) <= 2 * min(p99[False]) + OTHERS
    assert grown < 10 * 1024 * 1024


def _resident() -> int:
    """Bytes of memory that this process has."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


async def _flood(crowd: Crowd, room: Channel) -> float:
    """The 99th percentile of how long a message takes to one of the crowd."""
    crowd.latencies.clear()
    for _ in range(MESSAGES):
        await crowd.hear(room)
    return statistics.quantiles(crowd.latencies, n=100)[-1]


# What becomes of it


PADDING = "x" * 8000


async def _overfill(room: Room, count: int = 0) -> int:
    """Publish `count` numbered messages, or as many as the client bears; how many."""
    number = 0
    while not room.joined[0].closed and not 0 < count <= number:
        await room.broadcast("r", str(number), PADDING)
        number += 1
        if number % 50 == 0:
            await asyncio.sleep(0)
    return number


@each_implementation
async def test_who_does_not_read_is_told_to_come_back(ws: str):
    async with slow(Room(), ws=ws) as (room, site, client), site.connect("/r") as other:
        published = await _overfill(room)
        numbers = [int((await other.receive())["event"]) for _ in range(published)]
        assert numbers == list(range(published))
        texts = 0
        async for opcode, payload in client.receive_all():
            if opcode is Opcode.CLOSE:
                assert payload == (4000).to_bytes(2) + b"slow consumer"
            texts += opcode is Opcode.TEXT
        assert texts < published - LIMIT // len(PADDING) + 10


@pytest.mark.direct
@each_with_port
async def test_who_never_reads_again_is_cut_off(ws: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(writer, "CLOSE_TIMEOUT", 0.2)
    async with slow(Room(), ws=ws) as (room, site, client):
        await _overfill(room)
        await wait_until(lambda: room.left)
        await wait_until(lambda: site.open_connections == 0)
        assert await client.closed() == Close(None, None)


async def test_who_does_not_read_replies_is_cut_off_in_time():
    """Nobody but itself has to wait for them."""
    room = Room()
    room.send_timeout = 0.3
    async with slow(room) as (_, site, client), site.connect("/r") as other:
        for _ in range(20):
            await client.send(Opcode.TEXT, b'{"action": "fill"}')
        await wait_until(lambda: room.left)
        assert len((await other.call("fill"))["data"]) == 1_000_000


@each_implementation
@pytest.mark.parametrize("kind", [DropsOldest, DropsNewest])
async def test_what_is_dropped_is_told_where_it_is_missing(ws: str, kind: type[Room]):
    total = 3000
    async with slow(kind(), ws=ws) as (room, _, client):
        await _overfill(room, total)
        following, notices = 0, 0
        while following < total:
            frame = await _read(client)
            if frame["type"] == "lagged":
                assert frame["channel"] == "r"
                following += frame["dropped"]
                notices += 1
            else:
                assert int(frame["event"]) == following
                following += 1
        assert following == total
        assert notices
        await room.broadcast("r", "after")
        assert (await _read(client))["event"] == "after"


@asynccontextmanager
async def slow(room: Room, **options: Any) -> AsyncIterator[tuple[Room, Site, RawClient]]:
    """A room with a client that does not read; nothing of it is left in the end."""
    async with (
        serving(application(room), **options) as site,
        site.unharmed(),
        RawClient.open(site, "/r", receive_buffer=LITTLE) as client,
    ):
        yield room, site, client


async def _read(client: RawClient) -> Any:
    _, payload = await client.receive()
    return json.loads(payload)


@pytest.mark.parametrize("kind", [DropsOldest, DropsNewest])
async def test_what_is_kept_is_the_newest_or_the_oldest(kind: type[Room]):
    total = 3000
    async with slow(kind()) as (room, _, client):
        await _overfill(room, total)
        frames = [await _read(client)]
        while sum(frame.get("dropped", 1) for frame in frames) < total:
            frames.append(await _read(client))
        assert frames[0]["event"] == "0"
        assert frames[-1].get("event") == (str(total - 1) if kind is DropsOldest else None)


async def test_a_bound_of_ones_own():
    published: list[int] = []
    for limit in (100_000, 20_000_000):
        room = Room()
        room.outbox_limit = limit
        async with slow(room) as (_, _, client):
            published.append(await _overfill(room))
            assert await client.closed() == Close(4000, "slow consumer")
    assert (published[1] - published[0]) * len(PADDING) > 15_000_000
