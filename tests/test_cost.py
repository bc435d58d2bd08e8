"""What one action, one delivery and one connection cost: counted, not timed.

A regression of a few per cent cannot be seen in times on a machine that does other things as well. So these
count what this package does, on uvicorn's own protocol over a transport that only takes notes: the calls
that its code receives and makes, the memory that it keeps, and the garbage that it leaves. The counts are
the same on every run: no time passes meanwhile, so that no timer falls due.

A budget is some per cent above what was measured on Python 3.11 (others make fewer calls). Where a change
is worth its cost, raise the budget to what the failing test says, and say why in the commit; where a test
passes by far, lower it: `pytest tests/test_cost.py -rP` prints the counts.
"""

import asyncio
import gc
import itertools
import json
import sys
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import CoroutineType, FrameType
from typing import Annotated, Any

import pytest
import uvicorn
from fastapi import Depends, FastAPI
from prometheus_client import CollectorRegistry
from pydantic import BaseModel, create_model
from starlette.websockets import WebSocket
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import Frame, Opcode

import fastapi_channels
from fastapi_channels import BasePermission, Channel, Connection, action, add_channel, limiter
from fastapi_channels.contract.document import document, encoded
from fastapi_channels.uvicorn import Protocol
from fastapi_channels.wire import bursts

PACKAGE = str(Path(fastapi_channels.__file__).parent)
HANDSHAKE = (
    b"GET /room HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
TURNS = 50
"""Turns of the event loop in which everything that was begun is done."""
MEMBERS = 50

CALLS = {
    "nothing": 58,
    "echo": 89,
    "typed": 75,
    "depends": 93,
    "broadcast": 127,
    "personal, in an endpoint": 83,
    "one more member": 0.1,
    "a connection": 248,
    "a connection on our own protocol": 336,
    "a connection in an endpoint": 245,
    "one more member, counted": 0.1,
}
"""Calls within this package, and from it, for each of these."""
COUNTED = {"nothing": 3, "echo": 3, "typed": 3, "depends": 3, "broadcast": 6}
"""Calls more with metrics. Two ask the clock, and one whether a text is ASCII, which says its bytes. With a
publication there are two more of the clock, and one of Python's, which tells of it."""
SHARE = 0.03
"""What they may be of all calls that a process makes for an action, from what it reads to what it sends."""
KEPT = {"": 5500, " on our own protocol": 7500}
"""Bytes that this package keeps for an idle connection."""
NUMBERS = itertools.count()
SPOKEN = 1000
"""Bytes more that it keeps for one that has said something, which has a task."""
PRESENT = 1000
"""Bytes more that it keeps for one in a room with presence, in memory."""
DOCUMENT = 1_200_000
"""Calls for the document of 200 actions with two models each, most of them in pydantic: 0.15 s of a quiet
machine."""
each_protocol = pytest.mark.parametrize(
    ("protocol", "suffix"), [(WebSocketsSansIOProtocol, ""), (Protocol, " on our own protocol")]
)


class Say(BaseModel):
    text: str


class IsWelcome(BasePermission):
    def has_permission(self, websocket: WebSocket, action: str | None, **kwargs: Any) -> bool:
        return True


async def user() -> str:
    return "ada"


async def numbered() -> str:
    return f"user{next(NUMBERS)}"


async def session() -> AsyncIterator[str]:
    yield "open"


class Room(Channel):
    @action()
    async def nothing(self) -> None:
        pass

    @limiter(times=1_000_000, seconds=60)
    @action(permission=IsWelcome)
    async def echo(self, data: dict[str, Any]) -> Any:
        return data["text"]

    @action()
    async def typed(self, payload: Say) -> str:
        return payload.text

    @action()
    async def waits(self) -> str:
        await asyncio.sleep(0)
        return "waited"

    @action()
    async def depends(
        self,
        payload: Say,
        user: Annotated[str, Depends(user)],
        session: Annotated[str, Depends(session)],
    ) -> str:
        return payload.text

    @action()
    async def broadcast(self, data: dict[str, Any], connection: Connection) -> None:
        await self.broadcast_to_channel(connection.room, data)

    @action()
    async def personal(self, websocket: WebSocket, channel: str, data: dict[str, Any], **kwargs: Any) -> None:
        """As upstream's handlers are written."""
        await self.broadcast_to_personal(websocket, data["text"])


class Present(Room):
    presence = True

    def presence_data(self, connection: Connection) -> dict[str, str]:
        return {"status": "here"}


class Notes(asyncio.Transport):
    """A transport that leads nowhere, and keeps what it was given.

    Attributes:
        protocol: whom it tells of what comes.
    """

    protocol: asyncio.Protocol

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self.protocol = protocol

    def get_protocol(self) -> asyncio.Protocol:
        return self.protocol

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 1) if name in ("peername", "sockname") else default


class Client:
    """One connection of a server without sockets."""

    def __init__(self, config: uvicorn.Config, state: ServerState, protocol: Any) -> None:
        self.transport = Notes()
        self.transport.set_protocol(protocol(config=config, server_state=state, app_state={}))
        self.transport.protocol.connection_made(self.transport)

    async def open(self) -> None:
        self.transport.protocol.data_received(HANDSHAKE)
        await settle()
        assert self.transport.written.pop(0).startswith(b"HTTP/1.1 101 ")

    async def call(self, *names: str) -> None:
        """Call actions by what comes in one read, and let everything happen that they lead to."""
        await self.receive(calling(*names))

    async def say(self, *texts: str) -> None:
        """Send texts that come in one read, and let everything happen that they lead to."""
        await self.receive(saying(*texts))

    async def receive(self, data: bytes) -> None:
        self.transport.protocol.data_received(data)
        await settle()

    async def leave(self) -> None:
        self.transport.protocol.data_received(Frame(Opcode.CLOSE, b"\x03\xe8").serialize(mask=True))
        self.transport.protocol.connection_lost(None)
        del self.transport.protocol
        await settle()


def calling(*names: str) -> bytes:
    """What a client sends that calls actions, all at once."""
    return saying(*(json.dumps({"action": name, "text": "x" * 100}) for name in names))


def saying(*texts: str) -> bytes:
    return b"".join(Frame(Opcode.TEXT, text.encode()).serialize(mask=True) for text in texts)


Connect = Callable[[], Awaitable[Client]]


async def settle() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


@asynccontextmanager
async def serving(
    protocol: Any = WebSocketsSansIOProtocol,
    channel: type[Channel] = Room,
    *,
    by_hand: bool = False,
    **settings: Any,
) -> AsyncIterator[Connect]:
    """A room, mounted or in an endpoint, and how to connect to it. No timer falls due meanwhile."""
    app = FastAPI()
    add_channel(app, **settings)
    room = channel()
    if by_hand:

        @app.websocket("/{name}")
        async def endpoint(websocket: WebSocket, name: str) -> None:
            await room.connect(websocket, channel=name)

    else:
        room.mount(app, "/{channel}", user=numbered if channel is Present else None)
    config = uvicorn.Config(app, log_config=None, access_log=False, ws_ping_interval=None)
    config.load()
    state = ServerState()

    async def connect() -> Client:
        client = Client(config, state, protocol)
        await client.open()
        return client

    loop = asyncio.get_running_loop()
    async with app.router.lifespan_context(app):
        now = loop.time()
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(loop, "time", lambda: now)
                yield connect
        finally:
            for protocol in list(state.connections):
                protocol.connection_lost(None)
            await settle()


def frames(wire: bytes) -> list[str]:
    """Which there are in `wire`: replies, and events that were broadcast."""
    found = []
    while wire:
        size, start = (wire[1], 2) if wire[1] < 126 else (int.from_bytes(wire[2:4], "big"), 4)
        found.append("event" if b"broadcast" in wire[start : start + size] else "reply")
        wire = wire[start + size :]
    return found


@contextmanager
def counting(where: str = PACKAGE) -> Iterator[list[int]]:
    """The number of calls within `where` and from it, as the only item when the block is left.

    Args:
        where: how the path of the code begins. All has an empty one.
    """
    counted = [0]

    def count(frame: FrameType, event: str, _: object) -> None:
        if event in ("call", "c_call") and frame.f_code.co_filename.startswith(where):
            counted[0] += 1

    # What cyclic garbage calls while it is collected has nothing to do with what is counted.
    gc.disable()
    before = sys.getprofile()
    sys.setprofile(count)
    try:
        yield counted
    finally:
        sys.setprofile(before)
        gc.enable()


def check(name: str, counted: float) -> None:
    print(f"{name}: {counted:g} of {CALLS[name]} calls")
    assert counted <= CALLS[name], f"{name} takes {counted:g} calls, its budget is {CALLS[name]}"


async def calls_of(connect: Connect, name: str) -> int:
    client = await connect()
    counts: list[int] = []
    for _ in range(10):
        client.transport.written.clear()
        with counting() as counted:
            await client.call(name)
        assert len(client.transport.written) == (name != "nothing"), "it was done"
        counts.append(counted[0])
    return min(counts)  # the first does once what is kept


async def whole_calls_of(connect: Connect, name: str) -> int:
    """The same with what the server, Starlette and the event loop call: all that the process does for it."""
    client, wire = await connect(), calling(name)
    counts: list[int] = []
    for _ in range(10):
        with counting("") as counted:
            await client.receive(wire)
        with counting("") as idle:
            await settle()
        counts.append(counted[0] - idle[0])
    return min(counts)


async def calls_of_connection(connect: Connect) -> int:
    counts: list[int] = []
    for _ in range(10):
        with counting() as counted:
            await (await connect()).leave()
        counts.append(counted[0])
    return min(counts)


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """No reply has waited too long for others, however busy the machine is."""
    monkeypatch.setattr(bursts, "monotonic", lambda: 0.0)


@each_protocol
@pytest.mark.usefixtures("unhurried")
async def test_what_comes_in_one_read_is_answered_in_one_write(protocol: Any, suffix: str):
    """In the order in which it came. What is broadcast between two replies is between them, and nobody waits
    for an action that waits."""
    async with serving(protocol) as connect:
        client = await connect()
        written = client.transport.written
        await client.call(*["echo"] * 8)
        assert [frames(write) for write in written] == [["reply"] * 8]
        written.clear()
        await client.call("echo", "echo", "broadcast", "echo", "echo")
        assert [kind for write in written for kind in frames(write)] == ["reply"] * 2 + ["event"] + [
            "reply"
        ] * 2
        assert len(written) == 3
        written.clear()
        await client.call("echo", "echo", "waits", "echo", "echo")
        assert [frames(write) for write in written] == [["reply"] * 2, ["reply"] * 3], (
            "who waits keeps up none"
        )


@pytest.mark.usefixtures("unhurried")
async def test_so_it_is_of_an_endpoint_without_channels_on_our_own_protocol():
    """And nothing is behind the close frame, or lost when the endpoint returns."""
    app = FastAPI()

    @app.websocket("/room")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        while (text := await websocket.receive_text()) != "return":
            if text == "close":
                await websocket.close()
                return
            if text == "wait":
                await asyncio.sleep(0)
            await websocket.send_text(text)

    config = uvicorn.Config(app, log_config=None, access_log=False, ws_ping_interval=None)
    config.load()
    for last in ("close", "return"):
        client = Client(config, ServerState(), Protocol)
        await client.open()
        await client.say("1", "2", "wait", "3")
        assert client.transport.written == [b"\x81\x011\x81\x012", b"\x81\x04wait\x81\x013"]
        client.transport.written.clear()
        await client.say("1", "2", last, "3")
        assert client.transport.written[0] == b"\x81\x011\x81\x012"
        assert client.transport.written[1:] == ([b"\x88\x02\x03\xe8"] if last == "close" else [])
        await client.leave()


@pytest.mark.parametrize("name", ["nothing", "echo", "typed", "depends", "broadcast"])
async def test_an_action(name: str):
    async with serving() as connect:
        check(name, await calls_of(connect, name))


@pytest.mark.parametrize(("name", "more"), COUNTED.items())
async def test_an_action_that_is_counted(name: str, more: int):
    async with serving() as connect:
        calls, whole = await calls_of(connect, name), await whole_calls_of(connect, name)
    async with serving(metrics=CollectorRegistry()) as connect:
        counted = await calls_of(connect, name)
    print(f"{name}: {calls} calls, {counted} where they are counted; {whole} with those of all other code")
    assert counted - calls <= more
    assert counted - calls <= whole * SHARE


@pytest.mark.parametrize(("suffix", "settings"), [("", {}), (", counted", {"metrics": CollectorRegistry()})])
async def test_one_more_member_of_a_room(suffix: str, settings: dict[str, Any]):
    async with serving(**settings) as connect:
        clients = [await connect()]
        counts: list[int] = []
        for _ in range(2):
            await clients[0].call("broadcast")
            with counting() as counted:
                await clients[0].call("broadcast")
            counts.append(counted[0])
            clients += [await connect() for _ in range(MEMBERS)]
        check("one more member" + suffix, (counts[1] - counts[0]) / MEMBERS)


async def test_a_burst_is_one_write_for_each_member():
    async with serving() as connect:
        clients = [await connect() for _ in range(3)]
        for client in clients:
            frame = json.dumps({"action": "broadcast", "text": "x"}).encode()
            client.transport.protocol.data_received(Frame(Opcode.TEXT, frame).serialize(mask=True))
        await settle()
        assert [len(client.transport.written) for client in clients] == [1, 1, 1]


async def test_the_pongs_for_many_pings_are_one_write():
    async with serving() as connect:
        client = await connect()
        client.transport.protocol.data_received(100 * Frame(Opcode.PING, b"").serialize(mask=True))
        assert client.transport.written[0] == 100 * Frame(Opcode.PONG, b"").serialize(mask=False)


@each_protocol
async def test_a_connection_from_its_handshake_to_its_end(protocol: Any, suffix: str):
    async with serving(protocol) as connect:
        check("a connection" + suffix, await calls_of_connection(connect))


async def test_an_endpoint_written_by_hand():
    async with serving(by_hand=True) as connect:
        check("personal, in an endpoint", await calls_of(connect, "personal"))
        check("a connection in an endpoint", await calls_of_connection(connect))


def forget() -> None:
    """Collect what is garbage, and let collections from now on look at what is made from now on alone."""
    gc.collect()
    gc.freeze()


untraced = pytest.mark.skipif(
    sys.gettrace() is not None, reason="a tracer allocates in the name of what it traces"
)


async def kept(protocol: Any, channel: type[Channel] = Room, says: str = "") -> float:
    """Bytes that this package keeps for each of many connections: idle ones, if nothing is said."""
    async with serving(protocol, channel) as connect:

        async def arrive() -> Client:
            client = await connect()
            if says:
                await client.call(says)
            return client

        await arrive()
        forget()
        tracemalloc.start()
        try:
            clients = [await arrive() for _ in range(MEMBERS)]
            gc.collect()
            snapshot = tracemalloc.take_snapshot()
        finally:
            tracemalloc.stop()
        own = snapshot.filter_traces([tracemalloc.Filter(True, f"{PACKAGE}/*")])
        return sum(trace.size for trace in own.traces) / len(clients)


async def test_who_has_said_something_is_waited_for_by_two_coroutines():
    """However many the server, FastAPI and its middleware have between their task and the session: each of
    them is resumed for whatever comes, which took a fifth of an action."""
    async with serving() as connect:
        before = asyncio.all_tasks()
        client = await connect()
        await client.call("nothing")
        await settle()
        found = []
        for task in asyncio.all_tasks() - before:
            found.append([])
            waits: Any = task.get_coro()
            while isinstance(waits, CoroutineType):
                found[-1].append(waits.__qualname__)
                waits = waits.cr_await
        assert ["Session._work", "Port.get"] in found
        await client.leave()


@untraced
async def test_what_is_kept_for_an_idle_connection():
    check_kept("", await kept(WebSocketsSansIOProtocol))


@untraced
async def test_what_is_kept_for_one_on_our_own_protocol_and_how_much_more_for_what_it_does():
    idle = await kept(Protocol)
    check_kept(" on our own protocol", idle)
    more = await kept(Protocol, says="nothing") - idle
    print(f"kept for one that has said something: {more:.0f} more, of {SPOKEN} bytes")
    assert more <= SPOKEN, f"a task takes {more:.0f} bytes for a connection, its budget is {SPOKEN}"
    more = await kept(Protocol, Present) - idle
    print(f"kept for one that is present: {more:.0f} more, of {PRESENT} bytes")
    assert more <= PRESENT, f"presence takes {more:.0f} bytes for a connection, its budget is {PRESENT}"


def check_kept(suffix: str, found: float) -> None:
    budget = KEPT[suffix]
    print(f"kept{suffix}: {found:.0f} of {budget} bytes")
    assert found <= budget, f"an idle connection takes {found:.0f} bytes of ours, its budget is {budget}"


@each_protocol
async def test_a_connection_leaves_nothing_for_the_garbage_collector(protocol: Any, suffix: str):
    async with serving(protocol) as connect:
        await (await connect()).leave()
        while gc.collect():
            pass
        gc.freeze()
        gc.disable()
        try:
            client = await connect()
            await client.call("echo")
            await client.leave()
            del client
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            left = [type(found).__name__ for found in gc.garbage]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
        assert left == []


def test_the_document_of_200_actions():
    app = FastAPI()
    add_channel(app)
    channel = Channel()
    for number in range(200):
        takes = create_model(f"Takes{number}", text=(str, ...), count=(int, 1), tags=(list[str], []))
        gives = create_model(f"Gives{number}", text=(str, ...), other=(str | None, None))

        async def handler(value, loud: bool = False): ...

        handler.__annotations__.update({"value": takes, "return": gives})
        channel.action(f"action{number}")(handler)
    channel.mount(app, "/room")
    encoded(document(app))
    calls = 0

    def count(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    gc.disable()  # it calls what others left behind
    sys.setprofile(count)
    try:
        encoded(document(app))
    finally:
        sys.setprofile(None)
        gc.enable()
    print(f"the document of 200 actions: {calls} calls")
    assert calls < DOCUMENT
