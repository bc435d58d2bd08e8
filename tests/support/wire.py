"""Both ends of a WebSocket in memory: an ASGI server and its client, whose every move the test decides.

Nothing is real here but the application. How a real server behaves is for the tests over uvicorn.
"""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple, TypeAlias

from fastapi import FastAPI
from starlette.websockets import WebSocket

from fastapi_channels import BaseChannel, add_channel
from fastapi_channels.cluster.node import Node
from fastapi_channels.testing.asgi import living, scope

Event: TypeAlias = dict[str, Any]

DEADLINE: Final = 100.0
"""Seconds that anything may take. In a `timeless` test they pass at once, where nothing else happens."""


POLL: Final = 0.001
"""Seconds between two looks at what is waited for, at first."""
SELDOM: Final = 0.01
"""And later."""


class Close(NamedTuple):
    code: int
    reason: str


class Wire:
    """One WebSocket of an application.

    Attributes:
        sent: the ASGI messages that the application sent and the server took.
        frames: those of them that the client got for frames.
        reading: how many calls of `receive` wait.
        peak: the most that ever waited at a time.
    """

    def __init__(self) -> None:
        self.sent: list[Event] = []
        self.frames: list[str | bytes] = []
        self.reading = 0
        self.peak = 0
        self._read = 0
        self._incoming: asyncio.Queue[Event] = asyncio.Queue()
        self._takes = asyncio.Event()
        self._takes.set()
        self._failure: Exception | None = None
        self.blocked = 0
        """How many calls of `send` wait for the server to take their message."""
        self.done = False
        """Whether the application has returned."""
        self.task: asyncio.Task[None]
        """What the server runs the application in."""

    # The client

    def send(self, *frames: Any) -> None:
        """Let the client send: text and bytes as they are, anything else as JSON."""
        for frame in frames:
            body = frame if isinstance(frame, str | bytes) else json.dumps(frame)
            key = "bytes" if isinstance(body, bytes) else "text"
            self._incoming.put_nowait({"type": "websocket.receive", key: body})

    def call(self, action: str, **fields: Any) -> None:
        self.send({"action": action, **fields})

    def leave(self, code: int = 1000, reason: str = "") -> None:
        self._incoming.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})

    @property
    def waiting(self) -> int:
        """How many messages of the client the application has not read."""
        return self._incoming.qsize()

    async def receive(self) -> Any:
        """The value of the next frame."""
        return json.loads(await self.read())

    async def read(self) -> str | bytes:
        """The next frame as it was sent."""
        await self.until(lambda: len(self.frames) > self._read)
        self._read += 1
        return self.frames[self._read - 1]

    @property
    def unread(self) -> list[str | bytes]:
        """The frames that are here and that nobody has read yet."""
        return self.frames[self._read :]

    @property
    def events(self) -> list[str]:
        """The names of the ASGI messages."""
        return [event["type"].removeprefix("websocket.") for event in self.sent]

    async def accepted(self) -> None:
        await self.until(lambda: self.done or "accept" in self.events)
        assert "accept" in self.events, f"refused: {self.sent}"

    async def closed(self) -> Close:
        """How the application closed."""
        await self.until(lambda: "close" in self.events)
        (event,) = (event for event in self.sent if event["type"] == "websocket.close")
        return Close(event["code"], event["reason"])

    async def ended(self) -> None:
        """Wait until the application has returned."""
        await self.until(lambda: self.done)

    # The server

    def block(self) -> None:
        """Take nothing more: the client does not read, and all buffers are full."""
        self._takes.clear()

    def unblock(self) -> None:
        self._takes.set()

    def fail(self, failure: Exception) -> None:
        """Let `send` raise from now on."""
        self._failure = failure
        self.unblock()

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait for what announces itself in no other way."""
        pause = POLL
        async with asyncio.timeout(DEADLINE):
            while not condition():
                await asyncio.sleep(pause)
                pause = min(pause * 1.05, SELDOM)

    async def _receive(self) -> Event:
        self.reading += 1
        self.peak = max(self.peak, self.reading)
        try:
            return await self._incoming.get()
        finally:
            self.reading -= 1

    async def _send(self, event: Mapping[str, Any]) -> None:
        self.blocked += 1
        try:
            await self._takes.wait()
        finally:
            self.blocked -= 1
        if self._failure is not None:
            raise self._failure
        self.sent.append(dict(event))
        if event["type"] == "websocket.send":
            self.frames.append(event["text"] if event.get("text") is not None else event["bytes"])

    async def _run(self, app: Callable[..., Awaitable[None]], scope: dict[str, Any]) -> None:
        self._incoming.put_nowait({"type": "websocket.connect"})
        try:
            await app(scope, self._receive, self._send)
        finally:
            self.done = True


@asynccontextmanager
async def dialing(
    app: Callable[..., Awaitable[None]], path: str, *, extensions: Iterable[str] = (), **options: Any
) -> AsyncIterator[Wire]:
    """A handshake under way. When the block ends, the client has left and the application returned."""
    wire = Wire()
    task = wire.task = asyncio.create_task(wire._run(app, scope(path, extensions=extensions, **options)))
    try:
        yield wire
        wire.unblock()
        wire.leave(1001)
        await wire.ended()
    finally:
        task.cancel()
        await asyncio.wait((task,))
    if not task.cancelled():
        task.result()


@asynccontextmanager
async def dial(app: Callable[..., Awaitable[None]], path: str, **options: Any) -> AsyncIterator[Wire]:
    """A client that was accepted."""
    async with dialing(app, path, **options) as wire:
        await wire.accepted()
        yield wire


@asynccontextmanager
async def serving(channel: BaseChannel, **settings: Any) -> AsyncIterator[FastAPI]:
    """An application that runs, with `channel` at `/{room}` and the settings of `add_channel`.

    What it held for its clients must be gone in the end.
    """
    app = FastAPI()
    add_channel(app, **settings)

    @app.websocket("/{room:path}")
    async def endpoint(websocket: WebSocket, room: str, user: str | None = None) -> None:
        await BaseChannel.connect(channel, websocket, room or None, user=user)

    channel.bind(app)
    async with living(app):
        yield app
        nothing_is_held(app)


def nothing_is_held(app: FastAPI) -> None:
    """Of the clients that an application had."""
    node = node_of(app)
    assert not node.hub.rooms
    assert not node.rooms.connections
    assert not node.users
    assert len(node.rooms.roster or ()) == 0


def node_of(app: FastAPI) -> Node:
    node = Node.attached(app)
    assert node is not None
    return node


def others() -> set[asyncio.Task[Any]]:
    """The tasks beside the current one."""
    return asyncio.all_tasks() - {asyncio.current_task()}


def live(*kinds: type) -> list[Any]:
    """The objects of some kinds that are still referred to."""
    gc.collect()
    return [found for found in gc.get_objects() if type(found) in kinds]
