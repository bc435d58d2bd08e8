"""Real servers and real clients: uvicorn on the loopback interface, and what connects to it."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import json
import logging
import os
import re
import secrets
import signal
import socket
import struct
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import pytest
import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode

from fastapi_channels import BaseChannel, add_channel
from fastapi_channels.cluster.node import Node

from . import forks
from .servers import descendants

if TYPE_CHECKING:
    import httpx

ROOT: Final = Path(__file__).parents[2]
DEADLINE: Final = 60.0
"""Seconds that anything may take: later is never."""


PROTOCOL: Final = "fastapi_channels.uvicorn:Protocol"
DEFLATING: Final = "fastapi_channels.uvicorn:DeflateProtocol"
"""Our own, as uvicorn is told of them."""
CHOSEN: Final = "UVICORN_WS"
"""The variable that tells each uvicorn here, in other processes too, what to take where a test does not say;
`--protocol` sets it."""


def _implementations() -> Iterator[Any]:
    """The WebSocket protocols that uvicorn can have here; first the one that it chooses itself."""
    yield "websockets-sansio"
    yield PROTOCOL
    if importlib.util.find_spec("websockets.legacy"):
        # Deprecated, and used until it is gone.
        yield pytest.param("websockets", marks=pytest.mark.filterwarnings("ignore:remove second argument"))
    if importlib.util.find_spec("wsproto"):
        yield "wsproto"


each_implementation: Final = pytest.mark.parametrize("ws", list(_implementations()))
"""Runs a test, which takes `ws` and serves with it, once for each."""
each_that_compresses: Final = pytest.mark.parametrize(
    "ws", [DEFLATING, *(ws for ws in _implementations() if ws != PROTOCOL)]
)
"""The same, for those that negotiate permessage-deflate."""
each_with_port: Final = pytest.mark.parametrize(
    "ws", [ws for ws in _implementations() if isinstance(ws, str)]
)
"""The same, for those that frames can be written past ASGI to."""


_Test: TypeAlias = Callable[[str], Awaitable[None]]


def at_once(each: pytest.MarkDecorator) -> Callable[[_Test], Callable[[], Awaitable[None]]]:
    """The same, where a test waits more than it works: in one test, side by side."""
    cases = [case if isinstance(case, str) else case.values[0] for case in each.args[1]]
    marks = [mark for case in each.args[1] if not isinstance(case, str) for mark in case.marks]

    def decorate(test: _Test) -> Callable[[], Awaitable[None]]:
        async def run(ws: str) -> None:
            try:
                await test(ws)
            except BaseException as exc:
                exc.add_note(f"with {ws}")
                raise

        async def run_all() -> None:
            async with asyncio.TaskGroup() as group:
                for ws in cases:
                    group.create_task(run(ws))

        for mark in marks:
            mark(run_all)
        return run_all

    return decorate


async def wait_until(condition: Callable[[], Any], *, within: float = DEADLINE) -> None:
    """Wait for what announces itself in no other way.

    Args:
        condition: what it returns is awaited where it can be.

    Raises:
        TimeoutError: it did not become true.
    """
    async with asyncio.timeout(within):
        while not await _value(condition()):
            await asyncio.sleep(0.002)


async def _value(found: Any) -> Any:
    return await found if inspect.isawaitable(found) else found


class Close(NamedTuple):
    code: int | None
    reason: str | None


class Refusal(NamedTuple):
    """The answer to a handshake that was not accepted."""

    status: int
    body: Any


class Client:
    """A WebSocket that speaks JSON, and waits for nothing longer than the deadline."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def send(self, frame: Any) -> None:
        """Send text and bytes as they are, anything else as JSON."""
        await self.socket.send(frame if isinstance(frame, str | bytes) else json.dumps(frame))

    async def read(self, within: float = DEADLINE) -> str | bytes:
        """The next frame as it came."""
        async with asyncio.timeout(within):
            return await self.socket.recv()

    async def receive(self, within: float = DEADLINE) -> Any:
        """The value of the next frame."""
        return json.loads(await self.read(within))

    async def receive_until(self, wanted: Callable[[Any], Any], within: float = DEADLINE) -> Any:
        """The first frame that is wanted; others are skipped."""
        async with asyncio.timeout(within):
            while not wanted(frame := json.loads(await self.socket.recv())):
                pass
        return frame

    async def call(self, action: str, **fields: Any) -> Any:
        """What the server sends next after a call of an action."""
        await self.send({"action": action, **fields})
        return await self.receive()

    async def rest(self) -> list[str | bytes]:
        """All frames until the close."""
        frames: list[str | bytes] = []
        async with asyncio.timeout(DEADLINE):
            with suppress(ConnectionClosed):
                while True:
                    frames.append(await self.socket.recv())
        return frames

    async def closed(self) -> Close:
        """How the server closed; frames before that are dropped."""
        await self.rest()
        return Close(self.socket.close_code, self.socket.close_reason)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        await self.socket.close(code, reason)

    def reset(self) -> None:
        """Go without a word: the server's TCP gets a reset."""
        _linger_not(self.socket.transport.get_extra_info("socket"))
        self.socket.transport.abort()


class Site:
    """One application and where it is served."""

    def __init__(self, app: ASGIApp, port: int, server: uvicorn.Server | None = None) -> None:
        self.app = app
        self.port = port
        self._server = server

    @property
    def open_connections(self) -> int:
        """How many sockets the server has not closed yet."""
        assert self._server is not None, "it is in another process"
        return len(self._server.server_state.connections)

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, **options: Any) -> httpx.AsyncClient:
        """One for its routes. The options are those of `httpx.AsyncClient`."""
        import httpx  # here, for the programs that are served from this module

        # Nothing is to be verified: the authorities of the machine need not be loaded, which takes 10 ms.
        given: dict[str, Any] = {"base_url": self.http, "trust_env": False, "verify": False} | options
        return httpx.AsyncClient(**given)

    @property
    def node(self) -> Node:
        node = Node.attached(self.app)
        assert node is not None, "add_channel() was not called on the application"
        return node

    @asynccontextmanager
    async def connect(self, path: str, **options: Any) -> AsyncIterator[Client]:
        """A client that the server has accepted. The options are those of `websockets.connect`."""
        async with _connect(self.port, path, options) as websocket:
            yield Client(websocket)

    @asynccontextmanager
    async def clients(self, *paths: str) -> AsyncIterator[list[Client]]:
        """A client for each path."""
        async with AsyncExitStack() as stack:
            yield [await stack.enter_async_context(self.connect(path)) for path in paths]

    async def refusal(self, path: str, **options: Any) -> Refusal:
        """How the server refuses a handshake.

        Raises:
            AssertionError: it accepts.
        """
        try:
            async with _connect(self.port, path, options):
                pass
        except InvalidStatus as exc:
            body = exc.response.body or b""
            with suppress(ValueError):
                return Refusal(exc.response.status_code, json.loads(body))
            return Refusal(exc.response.status_code, body)
        raise AssertionError(f"{path} was accepted")

    @asynccontextmanager
    async def unharmed(self) -> AsyncIterator[None]:
        """Nothing that is done within leaves anything behind."""
        before = self._held()
        yield
        try:
            await wait_until(lambda: self._held() <= before)
        except TimeoutError:
            raise AssertionError(f"left behind: {self._held() - before}") from None

    def _held(self) -> Counter[str]:
        """What the server holds for its clients, and how much of it."""
        node = self.node
        held = Counter({f"members of {room}": node.hub.count(room) for room in node.hub.rooms})
        held.update(
            connections=len(node.rooms.connections), users=len(node.users), seats=len(node.rooms.roster or ())
        )
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            held[getattr(task.get_coro(), "__qualname__", "task")] += 1
        for name in ("Pulse._beat", "Tenure._keep"):
            del held[name]  # which a process has from its first moment with others on
        return held


def _connect(port: int, path: str, options: dict[str, Any]) -> connect:
    settings: dict[str, Any] = {
        "proxy": None,
        "ping_interval": None,
        "compression": None,
        "close_timeout": DEADLINE,
    }
    settings |= {"open_timeout": DEADLINE, "max_queue": None, "max_size": None}
    return connect(f"ws://127.0.0.1:{port}{path}", **(settings | options))


class _Complaints(logging.Handler):
    """Collects what the server and the event loop call an error, if it is not one of a client."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if "received from client" not in record.getMessage():
            self.lines.append(self.format(record))


def application(channel: BaseChannel, **settings: Any) -> FastAPI:
    """One that serves `channel` at /{channel}. The settings are those of `add_channel`."""
    app = FastAPI()
    add_channel(app, **settings)
    channel.mount(app, "/{channel}")
    return app


class _Server(uvicorn.Server):
    """Shuts down as uvicorn's, which sleeps for 0.1 s between two looks at whether all is done: too long for
    a thousand of them."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for listening in self.servers:
            listening.close()
        for given in sockets or []:
            given.close()
        state = self.server_state
        for connection in list(state.connections):
            connection.shutdown()
        try:
            async with asyncio.timeout(self.config.timeout_graceful_shutdown):
                while state.connections or state.tasks:
                    await asyncio.sleep(0.002)
                for listening in self.servers:
                    await listening.wait_closed()
        except TimeoutError:
            logging.getLogger("uvicorn.error").error("%s task(s) are cancelled", len(state.tasks))
            for task in state.tasks:
                task.cancel()
        await self.lifespan.shutdown()


@asynccontextmanager
async def serving(
    app: ASGIApp, *, may_complain: bool = False, proto: int = socket.IPPROTO_TCP, **options: Any
) -> AsyncIterator[Site]:
    """Serve `app` in this event loop. The options are those of `uvicorn.Config`.

    Args:
        may_complain: whether uvicorn and asyncio may log errors.
        proto: what the listening socket says that it is.
    """
    listener = socket.socket(proto=proto)
    listener.bind(("127.0.0.1", 0))
    settings: dict[str, Any] = {"log_config": None, "access_log": False, "timeout_graceful_shutdown": 5}
    settings["ws"] = os.environ.get(CHOSEN, "auto")
    config = uvicorn.Config(app, **(settings | options))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about its older WebSocket protocol
        config.load()
    server = _Server(config)
    server.lifespan = config.lifespan_class(config)
    complaints = _Complaints()
    loggers = [logging.getLogger(name) for name in ("uvicorn.error", "asyncio")]
    for logger in loggers:
        logger.addHandler(complaints)
    try:
        await server.startup(sockets=[listener])
        try:
            yield Site(app, listener.getsockname()[1], server)
        finally:
            await server.shutdown(sockets=[listener])
    finally:
        for logger in loggers:
            logger.removeHandler(complaints)
    assert may_complain or not complaints.lines, "\n".join(complaints.lines)


class RawClient:
    """A client that writes whatever it is told to, and reads only when it is asked.

    It is a bare socket: what it does not read fills the kernel's buffers, then those of the server.

    Args:
        receive_buffer: bytes that the kernel keeps for it.
    """

    def __init__(self, receive_buffer: int | None = None) -> None:
        self._socket = socket.socket()
        self._socket.setblocking(False)
        if receive_buffer is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._received = bytearray()

    @classmethod
    @asynccontextmanager
    async def open(
        cls, site: Site, path: str, *headers: str, receive_buffer: int | None = None
    ) -> AsyncIterator[RawClient]:
        """A client that the server has accepted."""
        client = cls(receive_buffer)
        try:
            await client.send_handshake(site, path, *headers)
            head = await client.read_head()
            assert head.startswith("HTTP/1.1 101 "), head
            yield client
        finally:
            client.close()

    async def send_handshake(self, site: Site, path: str, *headers: str) -> None:
        """Connect, and ask for a WebSocket; the answer is not waited for."""
        await asyncio.get_running_loop().sock_connect(self._socket, ("127.0.0.1", site.port))
        await self.write(self.handshake(site, path, *headers))

    async def send_get(self, site: Site, path: str) -> None:
        """Connect, and ask for a response; it is not waited for."""
        await asyncio.get_running_loop().sock_connect(self._socket, ("127.0.0.1", site.port))
        await self.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{site.port}\r\n\r\n".encode())

    async def send_post(self, site: Site, path: str, body: bytes, length: int | None = None) -> None:
        """Connect, and send a request, or only the beginning of one whose body has `length` bytes."""
        await asyncio.get_running_loop().sock_connect(self._socket, ("127.0.0.1", site.port))
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{site.port}\r\nContent-Length: {length or len(body)}"
        await self.write(f"{head}\r\n\r\n".encode() + body)

    @staticmethod
    def handshake(site: Site, path: str, *headers: str) -> bytes:
        lines = [
            f"GET {path} HTTP/1.1",
            f"Host: 127.0.0.1:{site.port}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            *headers,
        ]
        return "\r\n".join([*lines, "", ""]).encode()

    async def write(self, data: bytes) -> None:
        async with asyncio.timeout(DEADLINE):
            await asyncio.get_running_loop().sock_sendall(self._socket, data)

    async def send(self, opcode: Opcode, payload: bytes, *, fin: bool = True) -> None:
        """Send one frame, right or wrong."""
        await self.write(self.frame(opcode, payload, fin=fin))

    @staticmethod
    def frame(opcode: Opcode, payload: bytes, *, fin: bool = True) -> bytes:
        return Frame(opcode, payload, fin).serialize(mask=True)

    async def read_head(self) -> str:
        """The head of the server's HTTP response."""
        while b"\r\n\r\n" not in self._received:
            await self._read_on()
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        return head.decode()

    async def take(self, size: int) -> None:
        """Take up to so many bytes of what has come, and forget them."""
        async with asyncio.timeout(DEADLINE):
            if not await asyncio.get_running_loop().sock_recv(self._socket, size):
                raise ConnectionResetError("the server has closed the connection")

    async def read_until(self, marker: bytes) -> bytes:
        """What has come, when `marker` has."""
        while marker not in self._received:
            await self._read_on()
        return bytes(self._received)

    async def receive(self) -> tuple[Opcode, bytes]:
        """The next frame, which the server must not have masked."""
        second = (await self._peek(2))[1]
        length, start = second & 127, 2
        if length == 126:
            length, start = struct.unpack("!H", (await self._peek(4))[2:])[0], 4
        elif length == 127:
            length, start = struct.unpack("!Q", (await self._peek(10))[2:])[0], 10
        assert not second & 128, "a server must not mask"
        frame = await self._peek(start + length)
        del self._received[: len(frame)]
        return Opcode(frame[0] & 15), frame[start:]

    async def receive_all(self) -> AsyncIterator[tuple[Opcode, bytes]]:
        """Frames until the server's close frame, or until it cuts the connection."""
        with suppress(ConnectionError):
            while True:
                opcode, payload = await self.receive()
                yield opcode, payload
                if opcode is Opcode.CLOSE:
                    return

    async def closed(self) -> Close:
        """What the server's close frame says: code None if it cut the connection without one."""
        async for opcode, payload in self.receive_all():
            if opcode is Opcode.CLOSE:
                return Close(struct.unpack("!H", payload[:2])[0], payload[2:].decode())
        return Close(None, None)

    def finish(self) -> None:
        """Send nothing more, not even a goodbye, and still read."""
        self._socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Go without a word: the server's TCP gets a reset."""
        _linger_not(self._socket)
        self._socket.close()

    def close(self) -> None:
        self._socket.close()

    async def _peek(self, size: int) -> bytes:
        while len(self._received) < size:
            await self._read_on()
        return bytes(self._received[:size])

    async def _read_on(self) -> None:
        async with asyncio.timeout(DEADLINE):
            data = await asyncio.get_running_loop().sock_recv(self._socket, 65536)
        if not data:
            raise ConnectionResetError("the server has closed the connection")
        self._received += data


def _linger_not(connection: Any) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


PROGRAMS: Final = {
    "uvicorn": "-m uvicorn {} --host 127.0.0.1 --port 0 --no-access-log",
    "gunicorn": "-m gunicorn {} --bind 127.0.0.1:0 --worker-class uvicorn_worker.UvicornWorker",
    "fastapi": "-m fastapi run --entrypoint {} --host 127.0.0.1 --port 0",
    "script": "{}",
}
"""What serves, as arguments of Python."""


class ServerProcess:
    """A server in a process of its own, which can be killed.

    Args:
        factory: `module:name` of the application, or of a function that makes it.
        options: of the server's command line.
        program: which server, one of `PROGRAMS`.
        environment: beside this process's own.
        folder: where it runs.
        python: the interpreter.
    """

    def __init__(
        self,
        factory: str,
        *options: str,
        program: str = "uvicorn",
        environment: dict[str, str] | None = None,
        folder: Path = ROOT,
        python: str | Path = sys.executable,
    ) -> None:
        arguments = PROGRAMS[program].split()
        self._command = [str(python), *(word.format(factory) for word in arguments), *options]
        self._environment = {**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})}
        self._folder = folder
        self._process: forks.Program | None = None
        self._log: asyncio.Task[None] | None = None
        self.lines: list[str] = []
        """What it wrote to its standard error and output."""
        self.site: Site

    async def start(self) -> Site:
        """Returns when it can be connected to.

        Raises:
            AssertionError: it ended before; carries what it wrote.
        """
        reads, writes = os.pipe()
        self._process = await asyncio.to_thread(
            forks.start,
            self._command,
            cwd=self._folder,
            env=self._environment,
            stdout=writes,
            stderr=writes,
        )
        os.close(writes)
        ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._log = asyncio.create_task(self._read(reads, ready))
        async with asyncio.timeout(2 * DEADLINE):
            port = await ready
        assert port, "".join(self.lines)
        self.site = Site(_nothing, port)
        return self.site

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def terminate(self) -> int:
        """End it as a deployment does; its exit code."""
        return await self._end(signal.SIGTERM)

    async def kill(self) -> int:
        """End it without a word, as a crash does."""
        return await self._end(signal.SIGKILL)

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def signal_all(self, number: signal.Signals) -> None:
        """Send a signal to the process and to all that it has started, as systemd does."""
        assert self._process is not None
        for pid in (*descendants(self._process.pid), self._process.pid):
            os.kill(pid, number)

    async def _end(self, number: signal.Signals) -> int:
        assert self._process is not None
        assert self._log is not None
        with suppress(ProcessLookupError):
            self._process.send_signal(number)
        try:
            return await asyncio.to_thread(self._process.wait, DEADLINE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise AssertionError("it does not end:\n" + "".join(self.lines)) from None
        finally:
            await asyncio.to_thread(self._process.wait)
            await self._log

    async def _read(self, reads: int, ready: asyncio.Future[int]) -> None:
        async for raw in await stream(reads):
            line = raw.decode(errors="replace")
            self.lines.append(line)
            if re.search("running on|Listening at", line) and "127.0.0.1:" in line and not ready.done():
                ready.set_result(int(line.split("127.0.0.1:")[1].split()[0]))
        if not ready.done():
            ready.set_result(0)


async def stream(reads: int) -> asyncio.StreamReader:
    """What is written into a pipe; it is closed when nobody can write any more."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: _UntilItsEnd(reader), os.fdopen(reads, "rb"))
    return reader


class _UntilItsEnd(asyncio.StreamReaderProtocol):
    def eof_received(self) -> bool:
        super().eof_received()
        return False  # else uvloop keeps the pipe open


@asynccontextmanager
async def process(factory: str, *options: str, **how: Any) -> AsyncIterator[ServerProcess]:
    """A server process that runs, and is ended with the block. The arguments are those of `ServerProcess`."""
    server = ServerProcess(factory, *options, **how)
    try:
        await server.start()
        yield server
    finally:
        await server.kill()


async def _nothing(scope: Any, receive: Any, send: Any) -> None:
    """Stands for an application that is served by another process."""


def unique(prefix: str = "room") -> str:
    return f"{prefix}-{secrets.token_hex(4)}"
