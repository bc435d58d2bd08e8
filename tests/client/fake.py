"""A server and a network whose every move the test decides, for the Python client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastapi_channels.client import Client
from fastapi_channels.client.room import Room
from fastapi_channels.client.settings import Closed
from fastapi_channels.wire.messages import SUBPROTOCOL, Body, decode_json, encode_json

Frame = dict[str, Any]


class FakeWire:
    """
    Attributes:
        sent: what the client has sent.
        closed, code: whether the client has let go of it, and with which code.
        dead: nothing that is said arrives, on either side.
        heard: is told of each frame of the client.
        reads: whether the server reads.
    """

    def __init__(self, url: str, protocols: Sequence[str], headers: Mapping[str, str]) -> None:
        self.url = url
        self.protocols = list(protocols)
        self.headers = headers
        self.subprotocol: str | None = SUBPROTOCOL
        self.sent: list[Frame] = []
        self.closed = False
        self.code = 0
        self.dead = False
        self.heard: Callable[[Frame], None] = lambda frame: None
        self.reads = asyncio.Event()
        self.reads.set()
        self._incoming: asyncio.Queue[Body | Closed] = asyncio.Queue()

    async def send(self, body: Body) -> None:
        await self.reads.wait()
        self.sent.append(decode_json(body))
        if not self.dead:
            self.heard(self.sent[-1])

    async def receive(self) -> Body:
        found = await self._incoming.get()
        if isinstance(found, Closed):
            raise found
        return found

    async def close(self, code: int) -> None:
        self.closed = True
        self.code = code

    def say(self, *frames: Frame | str) -> None:
        for frame in frames:
            if not self.dead:
                self._incoming.put_nowait(frame if isinstance(frame, str) else encode_json(frame))

    def welcome(self, **more: Any) -> None:
        self.say({"type": "welcome", "connection": "c.1", "max_message_size": 65536, **more})

    def shut(self, code: int = 1006, reason: str = "") -> None:
        self._incoming.put_nowait(Closed(code, reason))

    def answer(self, data: Any = None, **more: Any) -> None:
        """Reply to the last request."""
        self.say({**self._named(), "status": "ok", "data": data, **more})

    def fail(self, code: str, **more: Any) -> None:
        self.say({**self._named(), "status": "bad", "data": None, "errors": code, "code": code, **more})

    def _named(self) -> Frame:
        last = self.sent[-1]
        named = {key: last[key] for key in ("request_id", "channel", "action") if key in last}
        return {"type": "response", **named}


class World:
    """
    Attributes:
        arrives: what becomes of each new connection; it may raise Closed.
    """

    def __init__(self, arrives: Callable[[FakeWire], None] = FakeWire.welcome) -> None:
        self.wires: list[FakeWire] = []
        self.arrives = arrives
        self.began: list[float] = []

    def client(self, **options: Any) -> Client:
        return Client("http://example.com/app", dial=self._dial, **options)

    @property
    def wire(self) -> FakeWire:
        return self.wires[-1]

    @property
    def open(self) -> list[FakeWire]:
        return [wire for wire in self.wires if not wire.closed]

    async def _dial(self, url: str, protocols: Sequence[str], headers: Mapping[str, str]) -> FakeWire:
        wire = FakeWire(url, protocols, headers)
        self.wires.append(wire)
        self.began.append(asyncio.get_running_loop().time())
        self.arrives(wire)
        return wire


async def joined(
    arrives: Callable[[FakeWire], None] = FakeWire.welcome, **options: Any
) -> tuple[World, Room]:
    """A room where everybody is welcome."""
    world = World(arrives)
    room = world.client(**options).room("/rooms/{channel}", channel="lobby")
    await room.ready()
    return world, room


async def settle() -> None:
    """Let everything go on that waits for nothing but its turn."""
    for _ in range(20):
        await asyncio.sleep(0)
