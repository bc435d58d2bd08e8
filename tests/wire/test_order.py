"""Every client sees one order, and whole frames, however what is sent to it gets mixed.

The clients are bare sockets that check each frame themselves, over a real server: some stop reading,
go on, or vanish, while replies, personal frames and broadcasts to two rooms are sent.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack, suppress
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.frames import Opcode

from fastapi_channels import BaseChannel, Connection
from fastapi_channels.wire.outbox import SlowPolicy
from tests.support.live import RawClient, Site, application, serving, wait_until

CLIENTS: Final = 3
SIZES: Final = (0, 1, 120, 126, 4_000, 70_000)
who: Final = st.integers(0, CLIENTS - 1)
size: Final = st.sampled_from(SIZES)

STEPS: Final = st.lists(
    st.one_of(
        st.tuples(st.just("broadcast"), st.sampled_from(["room", "other"]), size),
        st.tuples(st.just("broadcast"), st.sampled_from(["room", "other"]), size),
        st.tuples(st.just("except"), who, size),
        st.tuples(st.just("send"), who, size),
        st.tuples(st.just("raw"), who, size),
        st.tuples(st.just("bytes"), who, size),
        st.tuples(st.just("pause"), who),
        st.tuples(st.just("resume"), who),
        st.tuples(st.just("turn")),
        st.tuples(st.just("close"), who),
        st.tuples(st.just("reset"), who),
    ),
    min_size=5,
    max_size=60,
)


def short(frame: str) -> str:
    """A frame without the dots that make it long; `rstrip`, which looks at each, took most of the time."""
    number = frame.partition(".")[0]
    return number if frame == number.ljust(len(frame), ".") else frame


class Reader:
    """A client that writes down what it is sent, unless it is told not to read."""

    def __init__(self, socket: RawClient) -> None:
        self.socket = socket
        self.seen: list[str] = []
        self.may_read = asyncio.Event()
        self.may_read.set()
        self.closed = False
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        with suppress(OSError):
            while True:
                await self.may_read.wait()
                opcode, payload = await self.socket.receive()
                if opcode is Opcode.CLOSE:
                    self.closed = True
                    return
                assert opcode in (Opcode.TEXT, Opcode.BINARY)
                self.seen.append(short(payload.decode()))

    def account(self) -> tuple[list[str], int]:
        """The frames that came, and how many were said to be missing."""
        kept = [frame for frame in self.seen if not frame.startswith("{")]
        notices = [json.loads(frame) for frame in self.seen if frame.startswith("{")]
        assert all(notice["type"] == "lagged" for notice in notices)
        return kept, sum(notice["dropped"] for notice in notices)

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.wait((self.task,))


class Play:
    """Runs one script against one server, and knows what each client is owed."""

    def __init__(self, channel: BaseChannel, connections: list[Connection], readers: list[Reader]) -> None:
        self.channel = channel
        self.connections = connections
        self.readers = readers
        self.owed: list[list[str]] = [[] for _ in connections]
        self.gone = [False] * len(connections)
        self.told_to_close = [False] * len(connections)
        self.tasks: list[asyncio.Task[Any]] = []
        self.number = 0

    async def run(self, steps: list[tuple[Any, ...]]) -> None:
        for step, *arguments in steps:
            await getattr(self, f"do_{step}")(*arguments)

    def _frame(self, size: int) -> str:
        self.number += 1
        return f"{self.number}{'.' * size}"

    def _owe(self, clients: list[int], frame: str) -> None:
        for client in clients:
            if not self.gone[client] and not self.connections[client].closed:
                self.owed[client].append(short(frame))

    async def do_broadcast(self, room: str, size: int, exclude: int | None = None) -> None:
        members = [n for n, c in enumerate(self.connections) if room in c.rooms and n != exclude]
        frame = self._frame(size)
        self._owe(members, frame)
        skip = None if exclude is None else self.connections[exclude]
        await self.channel.broadcast_to_channel(room, frame, exclude=skip)

    async def do_except(self, client: int, size: int) -> None:
        await self.do_broadcast("room", size, exclude=client)

    async def do_send(self, client: int, size: int) -> None:
        await self._personal(client, lambda frame: self.connections[client].send(frame), size)

    async def do_bytes(self, client: int, size: int) -> None:
        await self._personal(client, lambda frame: self.connections[client].send(frame.encode()), size)

    async def do_raw(self, client: int, size: int) -> None:
        """What an application does that uses the WebSocket itself."""
        if not self.connections[client].closed:
            websocket = self.connections[client].websocket
            await self._personal(client, lambda frame: websocket.send_text(frame), size)

    async def _personal(self, client: int, send: Any, size: int) -> None:
        frame = self._frame(size)

        async def work() -> None:
            self._owe([client], frame)
            await send(frame)

        self.tasks.append(asyncio.create_task(work()))
        await asyncio.sleep(0)

    async def do_pause(self, client: int) -> None:
        self.readers[client].may_read.clear()

    async def do_resume(self, client: int) -> None:
        self.readers[client].may_read.set()

    async def do_turn(self) -> None:
        await asyncio.sleep(0)

    async def do_close(self, client: int) -> None:
        self.told_to_close[client] = True
        self.tasks.append(asyncio.create_task(self.connections[client].close()))
        await asyncio.sleep(0)

    async def do_reset(self, client: int) -> None:
        if self.gone[client]:
            return
        self.gone[client] = True
        await self.readers[client].stop()
        self.readers[client].socket.reset()

    async def settle(self) -> None:
        """Everybody reads on, until nothing is under way."""
        for reader in self.readers:
            reader.may_read.set()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for client, reader in enumerate(self.readers):
            if self.gone[client]:
                continue
            if self.connections[client].closed:
                await asyncio.wait((reader.task,))
            else:
                await wait_until(lambda client=client, reader=reader: self._is_quiet(client, reader))

    def _is_quiet(self, client: int, reader: Reader) -> bool:
        kept, dropped = reader.account()
        return len(kept) + dropped >= len(self.owed[client]) or reader.closed


async def play(steps: list[tuple[Any, ...]], limit: int, policy: SlowPolicy) -> Play:
    connections: list[Connection] = []

    class Room(BaseChannel):
        outbox_limit = limit
        slow_policy = policy

    channel = Room()

    @channel.on_event("join")
    async def joined(connection: Connection) -> None:
        await connection.join("other")
        connections.append(connection)

    async with AsyncExitStack() as stack:
        site: Site = await stack.enter_async_context(serving(application(channel)))
        channel.bind(site.app)  # type: ignore[arg-type]  # it is a FastAPI
        readers: list[Reader] = []
        for number in range(CLIENTS):
            client = await stack.enter_async_context(RawClient.open(site, "/room", receive_buffer=4096))
            readers.append(Reader(client))
            await wait_until(lambda number=number: len(connections) > number)
        script = Play(channel, connections, readers)
        await script.run(steps)
        await script.settle()
        for reader in readers:
            await reader.stop()
        return script


@pytest.mark.usefixtures("both_ways")
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_a_client_that_stays_gets_everything_in_order(steps: list[tuple[Any, ...]]) -> None:
    script = asyncio.run(play(steps, 64 << 20, "disconnect"))
    for client, reader in enumerate(script.readers):
        owed = script.owed[client]
        if script.gone[client]:
            assert reader.seen == owed[: len(reader.seen)]
        else:
            assert reader.seen == owed
            assert reader.closed is script.told_to_close[client]


FLOOD: Final = st.lists(
    st.one_of(
        st.tuples(st.just("broadcast"), st.sampled_from(["room", "other"]), st.just(400_000)),
        st.tuples(st.just("send"), who, st.just(1)),
        st.tuples(st.just("resume"), who),
        st.tuples(st.just("turn")),
    ),
    min_size=30,
    max_size=60,
)


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest"])
@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=FLOOD)
def test_what_is_dropped_is_told_and_adds_up(policy: SlowPolicy, steps: list[tuple[Any, ...]]) -> None:
    paused = [("pause", client) for client in range(CLIENTS)]
    script = asyncio.run(
        play([*paused, *steps, ("send", 0, 0), ("send", 1, 0), ("send", 2, 0)], 200_000, policy)
    )
    for client, reader in enumerate(script.readers):
        owed = script.owed[client]
        kept, dropped = reader.account()
        assert len(kept) + dropped == len(owed)
        assert kept == [frame for frame in owed if frame in set(kept)]


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest"])
async def test_a_client_that_does_not_read_loses_frames(policy: SlowPolicy) -> None:
    """So that the law above is not kept by nothing ever being dropped."""
    flood = [("broadcast", "room", 400_000)] * 60
    script = await play([("pause", 0), *flood, ("send", 0, 0)], 1_000_000, policy)
    kept, dropped = script.readers[0].account()
    assert dropped > 0
    assert len(kept) + dropped == len(script.owed[0]) == 61
