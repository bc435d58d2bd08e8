"""Where the microseconds of one action, one delivery and one connection go.

    python -m benchmarks.layers

Everything runs in this process, on uvicorn's own WebSocket protocol over a transport that leads nowhere: no
kernel, no other process. A layer is the difference between two ways that differ in it alone. Of many short
repetitions the least is taken, which is what the code costs when nobody else uses the machine.
"""

from __future__ import annotations

import asyncio
import gc
import json
import platform
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Annotated, Any, Final

import uvicorn
import uvloop
from fastapi import Depends, FastAPI, WebSocket, WebSocketDisconnect
from pydantic import BaseModel
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import Frame, Opcode

from fastapi_channels import BasePermission, Channel, Connection, action, add_channel, limiter
from fastapi_channels.uvicorn import Protocol

from .apps.bare import Bare

REPETITIONS: Final = 300
AT_ONCE: Final = 50
"""Actions in one repetition."""
MEMBERS: Final = 1000
TEXT: Final = "x" * 128
HANDSHAKE: Final = (
    b"GET /ws HTTP/1.1\r\nHost: benchmark\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
CLOSE: Final = Frame(Opcode.CLOSE, b"\x03\xe8").serialize(mask=True)


class Nowhere(asyncio.Transport):
    """A transport that counts what it is given.

    Attributes:
        protocol: whom it tells of what comes.
    """

    protocol: asyncio.Protocol

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0
        self.closed = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self.protocol = protocol

    def get_protocol(self) -> asyncio.Protocol:
        return self.protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes += 1

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


class Bench:
    """A server of one application, without sockets."""

    def __init__(self, app: ASGIApp, protocol: Any = WebSocketsSansIOProtocol) -> None:
        self._protocol = protocol
        self._config = uvicorn.Config(app, log_config=None, access_log=False, ws_ping_interval=None)
        self._config.load()
        self._state = ServerState()

    async def connect(self) -> Nowhere:
        transport = Nowhere()
        transport.set_protocol(self._protocol(config=self._config, server_state=self._state, app_state={}))
        transport.protocol.connection_made(transport)
        transport.protocol.data_received(HANDSHAKE)
        await turns(30)
        return transport

    async def action(self, name: str) -> float:
        """Seconds for an action from the client's bytes to the reply's."""
        transport = await self.connect()
        data = message(name)

        async def some() -> None:
            for _ in range(AT_ONCE):
                wanted = transport.writes + 1
                transport.protocol.data_received(data)
                while transport.writes < wanted:  # noqa: ASYNC110  nothing announces it
                    await asyncio.sleep(0)

        seconds = await least(some) / AT_ONCE
        await leave(transport)
        return seconds

    async def delivery(self) -> float:
        """Seconds for each member of a room that a message is delivered to."""
        clients = [await self.connect() for _ in range(MEMBERS)]
        data = message("say")

        async def once() -> None:
            wanted = clients[-1].writes + 1
            clients[0].protocol.data_received(data)
            while clients[-1].writes < wanted:  # noqa: ASYNC110  nothing announces it
                await asyncio.sleep(0)

        seconds = await least(once, REPETITIONS // 5) / MEMBERS
        await leave(*clients)
        return seconds

    async def connection(self) -> float:
        """Seconds from a handshake to the end."""

        async def once() -> None:
            await leave(await self.connect())

        return await least(once)


async def leave(*transports: Nowhere) -> None:
    for transport in transports:
        transport.protocol.data_received(CLOSE)
        transport.protocol.connection_lost(None)
    await turns(12)


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def message(name: str) -> bytes:
    frame = json.dumps({"action": name, "message": TEXT}, separators=(",", ":")).encode()
    return Frame(Opcode.TEXT, frame).serialize(mask=True)


async def least(work: Callable[[], Awaitable[None]], repetitions: int = REPETITIONS) -> float:
    """The least CPU seconds that `work` takes."""
    await work()
    gc.collect()
    found = float("inf")
    for _ in range(repetitions):
        began = time.thread_time()
        await work()
        found = min(found, time.thread_time() - began)
    return found


# What is compared


async def asgi(scope: Scope, receive: Receive, send: Send) -> None:
    """The least that an application can do with a message: receive it, and write something."""
    await receive()
    await send({"type": "websocket.accept"})
    write = send.__self__.transport.write  # type: ignore[attr-defined]  # uvicorn's protocol
    while (await receive())["type"] == "websocket.receive":
        write(b"")


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """The least that an application can do to send a text back."""
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": event["text"]})


texts = FastAPI()


@texts.websocket("/ws")
async def back(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            await websocket.send_text(await websocket.receive_text())
    except WebSocketDisconnect:
        pass


plain = FastAPI()
members: set[WebSocket] = set()


@plain.websocket("/ws")
async def loop(websocket: WebSocket) -> None:
    await websocket.accept()
    members.add(websocket)
    try:
        while True:
            frame = json.loads(await websocket.receive_text())
            text = json.dumps(frame)
            for each in list(members) if frame["action"] == "say" else [websocket]:
                await each.send_text(text)
    except WebSocketDisconnect:
        pass
    finally:
        members.discard(websocket)


class Say(BaseModel):
    message: str


class IsMember(BasePermission):
    def has_permission(self, websocket: WebSocket, action: str | None, **kwargs: Any) -> bool:
        return True


async def user() -> str:
    return "ada"


async def session() -> AsyncIterator[str]:
    yield "open"


class Room(Channel):
    @action()
    async def nothing(self, connection: Connection) -> None:
        assert connection.direct is not None
        connection.direct.write(b"")

    @action()
    async def reply(self, data: dict[str, Any]) -> Any:
        return data["message"]

    @action(permission=IsMember)
    async def permitted(self, data: dict[str, Any]) -> Any:
        return data["message"]

    @limiter(times=1_000_000, seconds=60)
    @action()
    async def limited(self, data: dict[str, Any]) -> Any:
        return data["message"]

    @action()
    async def typed(self, payload: Say) -> str:
        return payload.message

    @action()
    async def depends(self, payload: Say, user: Annotated[str, Depends(user)]) -> str:
        return payload.message

    @action()
    async def opens(self, payload: Say, session: Annotated[str, Depends(session)]) -> str:
        return payload.message

    @action()
    async def say(self, data: dict[str, Any], connection: Connection) -> None:
        await self.broadcast_to_channel(connection.room, data)


async def actions(ours: Bench) -> None:
    raw = await Bench(asgi).action("reply")
    cost = {name: await ours.action(name) for name in Room().actions if name != "say"}
    show(
        "one action, microseconds of CPU",
        {
            "uvicorn: frame, queue, waking the endpoint": raw,
            "this package: decode, look up, call": cost["nothing"] - raw,
            "reply: encode, frame, write": cost["reply"] - cost["nothing"],
            "sum": cost["reply"],
            "+ a permission": cost["permitted"] - cost["reply"],
            "+ a rate limit": cost["limited"] - cost["reply"],
            "+ a payload model": cost["typed"] - cost["reply"],
            "+ an async dependency": cost["depends"] - cost["typed"],
            "+ a dependency that yields": cost["opens"] - cost["typed"],
            "for comparison: a plain FastAPI loop, echo": await Bench(plain).action("reply"),
            "the same on fastapi_channels.uvicorn": await Bench(plain, Protocol).action("reply"),
        },
    )


async def echoes() -> None:
    show(
        "one text echoed, microseconds of CPU",
        {
            "a bare protocol": await Bench(echo, lambda **_: Bare()).action("raw"),
            "a raw ASGI application on uvicorn": await Bench(echo).action("raw"),
            "a plain FastAPI endpoint on uvicorn": await Bench(texts).action("raw"),
            "a raw ASGI application on fastapi_channels.uvicorn": await Bench(echo, Protocol).action("raw"),
            "a plain FastAPI endpoint on it": await Bench(texts, Protocol).action("raw"),
        },
    )


async def deliveries(ours: Bench) -> None:
    show(
        f"one delivery of {MEMBERS:,}, microseconds of CPU",
        {
            "this package, up to the transport's write": await ours.delivery(),
            "a plain FastAPI loop, up to the same": await Bench(plain).delivery(),
        },
    )


async def connections(ours: Bench, app: FastAPI) -> None:
    show(
        "one connection from handshake to end, microseconds of CPU",
        {
            "a raw ASGI application": await Bench(asgi).connection(),
            "a plain FastAPI endpoint": await Bench(plain).connection(),
            "this package, mounted": await ours.connection(),
            "a raw ASGI application on fastapi_channels.uvicorn": await Bench(asgi, Protocol).connection(),
            "a plain FastAPI endpoint on it": await Bench(plain, Protocol).connection(),
            "this package on it": await Bench(app, Protocol).connection(),
        },
    )


async def styles(ours: Bench) -> None:
    """What a hand-written endpoint costs beside `mount()`, a sent answer beside a returned one, and all that
    upstream's handlers take."""
    app, room = FastAPI(), Room()
    add_channel(app)

    @room.action("personal")
    async def personal(websocket: WebSocket, data: dict[str, Any]) -> None:
        await room.broadcast_to_personal(websocket, data["message"])

    @room.action("upstream")
    async def upstream(websocket: WebSocket, channel: str, data: dict[str, Any], **kwargs: Any) -> None:
        await room.broadcast_to_personal(websocket, data["message"])

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        await room.connect(websocket, channel="lobby")

    async with app.router.lifespan_context(app):
        by_hand = Bench(app)
        show(
            "two styles, microseconds of CPU",
            {
                "an action: mounted, its value returned": await ours.action("reply"),
                "in an endpoint, its value returned": await by_hand.action("reply"),
                "in an endpoint, broadcast_to_personal": await by_hand.action("personal"),
                "the same, with channel and **kwargs": await by_hand.action("upstream"),
                "in an endpoint, a plain FastAPI loop": await Bench(plain).action("reply"),
                "a connection: mounted": await ours.connection(),
                "in an endpoint": await by_hand.connection(),
                "in an endpoint, a plain FastAPI loop ": await Bench(plain).connection(),
            },
        )


def show(title: str, rows: Mapping[str, float]) -> None:
    print(f"\n{title}")
    for name, seconds in rows.items():
        print(f"  {name:48} {seconds * 1e6:8.2f}")


async def main() -> None:
    app = FastAPI()
    add_channel(app)
    Room().mount(app, "/ws")
    print(f"Python {platform.python_version()}, uvicorn {uvicorn.__version__}, uvloop {uvloop.__version__}")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(app.router.lifespan_context(app))
        ours = Bench(app)
        await actions(ours)
        await echoes()
        await deliveries(ours)
        await connections(ours, app)
        await styles(ours)


if __name__ == "__main__":
    uvloop.run(main())
