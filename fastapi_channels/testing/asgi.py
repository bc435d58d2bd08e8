"""WebSockets to an application in the same event loop, without a server and without a port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, TypeAlias
from urllib.parse import unquote, urlsplit

from fastapi_channels.client.settings import Closed, Dial, Wire
from fastapi_channels.wire.messages import Body

App: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]
LEAVING: Final = 5.0
"""Seconds that an application gets to undo what a client leaves behind."""
_END: Final = "websocket.disconnect"


class Denied(Closed):
    """The application answered the handshake with an HTTP status."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(0, f"HTTP {status} {body.decode(errors='replace')[:500]}".strip())
        self.status = status
        self.body = body


class InProcess:
    """One WebSocket of an application: a Wire."""

    def __init__(self, app: App, scope: Mapping[str, Any]) -> None:
        self.subprotocol: str | None = None
        self._incoming: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()
        self._outgoing: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()
        self._closed: Closed | None = None
        self._incoming.put_nowait({"type": "websocket.connect"})
        self.task = asyncio.get_running_loop().create_task(self._run(app, scope))

    async def open(self) -> None:
        """
        Raises:
            Closed: the application refuses.
            Exception: what it raised in place of an answer.
        """
        event = await self._outgoing.get()
        if event["type"] == _END and self.failure is not None:
            raise self.failure
        if event["type"] == "websocket.accept":
            self.subprotocol = event.get("subprotocol")
        elif event["type"] == "websocket.http.response.start":
            body = b""
            while (part := await self._outgoing.get())["type"] == "websocket.http.response.body":
                body += part.get("body", b"")
                if not part.get("more_body"):
                    break
            raise Denied(event["status"], body)
        else:
            raise Denied(403, b"")

    async def send(self, body: Body) -> None:
        if self._closed is not None:
            raise self._closed
        self._incoming.put_nowait({"type": "websocket.receive", _key(body): body})

    async def receive(self) -> Body:
        if self._closed is not None:
            raise self._closed
        event = await self._outgoing.get()
        if event["type"] == "websocket.send":
            found: Body = event["text"] if event.get("text") is not None else event["bytes"]
            return found
        self._closed = Closed(event.get("code") or 1000, event.get("reason") or "")
        raise self._closed from self.failure

    async def close(self, code: int = 1000) -> None:
        """Leave. Returns when the application has returned, which gets five seconds."""
        self._incoming.put_nowait({"type": _END, "code": code})
        if self._closed is None:
            self._closed = Closed(code)
        await asyncio.wait((self.task,), timeout=LEAVING)
        self.task.cancel()
        await asyncio.wait((self.task,))

    @property
    def failure(self) -> BaseException | None:
        """What the application raised."""
        if not self.task.done() or self.task.cancelled():
            return None
        return self.task.exception()

    async def _run(self, app: App, scope: Mapping[str, Any]) -> None:
        try:
            await app(dict(scope), self._incoming.get, self._send)
        finally:
            # Behind all that it sent: nothing more comes, whatever it has returned or raised.
            asyncio.get_running_loop().call_soon(self._outgoing.put_nowait, {"type": _END, "code": 1006})

    async def _send(self, event: Mapping[str, Any]) -> None:
        self._outgoing.put_nowait(dict(event))


def in_process(app: App, *, user: Any = None, host: str = "192.0.2.1") -> Dial:
    """What a `Client` of `fastapi_channels.client` takes as `dial`, to reach an application in this event
    loop. Its lifespan must run: `living(app)`.

    Args:
        user: who the client is, as an authentication middleware would say.
        host: the address of the client.
    """

    async def dial(url: str, protocols: Sequence[str], headers: Mapping[str, str]) -> Wire:
        return await dial_in(app, url, protocols, headers, user=user, host=host)

    return dial


async def dial_in(
    app: App, url: str, protocols: Sequence[str], headers: Mapping[str, str], *, user: Any, host: str
) -> InProcess:
    made = scope(url, headers=headers.items(), subprotocols=protocols, host=host)
    if user is not None:
        made["user"] = user
    wire = InProcess(app, made)
    try:
        await wire.open()
    except BaseException:
        await wire.close()
        raise
    return wire


@asynccontextmanager
async def living(app: Any) -> AsyncIterator[None]:
    """Run the application's lifespan as a server does: in a task, whose context nobody else has."""
    started, ends = asyncio.Event(), asyncio.Event()

    async def live() -> None:
        try:
            async with app.router.lifespan_context(app):
                started.set()
                await ends.wait()
        finally:
            started.set()

    task = asyncio.create_task(live())
    try:
        await started.wait()
        if not task.done():
            yield
    finally:
        ends.set()
        with suppress(asyncio.CancelledError):
            await asyncio.wait((task,))
    task.result()


def scope(
    url: str,
    *,
    headers: Iterable[tuple[str, str]] = (),
    subprotocols: Sequence[str] = (),
    extensions: Iterable[str] = ("websocket.http.response",),
    host: str = "192.0.2.1",
) -> dict[str, Any]:
    """That of a handshake, as a server makes it.

    Args:
        extensions: what the server can do besides.
        host: the address of the client.
    """
    parts = urlsplit(url)
    named = [("host", parts.netloc or "testserver"), *headers]
    if subprotocols:
        named.append(("sec-websocket-protocol", ", ".join(subprotocols)))
    return {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": parts.scheme or "ws",
        "path": unquote(parts.path),
        "raw_path": parts.path.encode(),
        "query_string": parts.query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in named],
        "client": (host, 50000),
        "server": (parts.hostname or "testserver", parts.port or 80),
        "subprotocols": list(subprotocols),
        "state": {},
        "extensions": {each: {} for each in extensions},
    }


def _key(body: Body) -> str:
    return "bytes" if isinstance(body, bytes) else "text"
