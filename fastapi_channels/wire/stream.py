"""HTTP in place of a WebSocket: what is sent leaves as a stream of events, or as the answer to one request.

A session knows a WebSocket, and goes on knowing one. `Stream` and `Exchange` are what is behind it: its ASGI
`receive` and `send`, which make HTTP of what passes. So whoever asks for its headers, its path or its user,
sends through it or closes it need not know the difference.

The format is that of Server-Sent Events (HTML Living Standard, section 9.2.6).
"""

from __future__ import annotations

import asyncio
import random
import re
from base64 import b64encode
from collections.abc import Callable, MutableMapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

from pydantic_core import from_json
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from fastapi_channels.exceptions import Cancelled, MessageTooLarge, may_return

from .messages import SUBPROTOCOL, Body, Frame, encode_json
from .port import ASGIEvent
from .wheel import Wheel
from .writer import Writer

MEDIA_TYPE: Final = "text/event-stream"
HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),  # nginx collects a response otherwise
]
RETRY: Final = (1000, 3000)
"""Milliseconds after which a page that has lost its stream comes back, unless told otherwise; by chance, so
that those who lost it together do not come together."""
NEVER: Final = 31_536_000_000
"""Milliseconds of a year: a page cannot be told to stay away, but to wait."""
BEAT: Final = 15.0
"""Seconds between two comments: proxies give up on a response that is silent for a minute."""
CUT_OFF_WITHIN: Final = 1.0
"""Seconds in which a server notices that a transport was closed."""
WITHOUT_CONTENT: Final = (204, 205, 304)
"""Statuses of responses that have no content (RFC 9110 sections 15.3.5, 15.3.6 and 15.4.5)."""
MAX_WRAPPED: Final = 16
"""Functions that may be around a server's own."""
PASSING_ON: Final = (
    "fastapi.telemetry.",
    "starlette._exception_handler",
    "starlette.middleware.cors",
    "starlette.middleware.errors",
    "fastapi_channels.cluster.middleware",
)
"""Modules whose functions hand on the body of a response as they get it."""
_LINE_END: Final = re.compile("\r\n|\r|\n")
_RETRY_AFTER: Final = re.compile(r"retry_after=(\d+(?:\.\d+)?)$")
_COMMENT: Final[dict[str, Any]] = {"type": "http.response.body", "body": b":\n\n", "more_body": True}


class Stream:
    """A request whose answer is a stream of events.

    Args:
        scope, receive, send: of the request.
        offered: what the client speaks, as the subprotocols of a handshake.

    Attributes:
        websocket: what the session gets; it can be refused, accepted, sent to and closed, and nothing is
            received from it but that it has gone.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, offered: Sequence[str] = ()) -> None:
        extensions = {**scope.get("extensions", {}), "websocket.http.response": {}}
        as_websocket = {**scope, "type": "websocket", "subprotocols": [*offered], "extensions": extensions}
        self.websocket = WebSocket(as_websocket, self.receive, self.send)
        self._receive = receive
        self._send = send
        self._asked = False
        """Whether the session knows that somebody connects."""
        self._began = False
        self._ended = False
        self._has_left = False
        """Whether the client has gone."""
        self._is_stuck = False
        """Whether the server has not taken what it was sent last; for good, if nobody sends it any more."""

    async def receive(self) -> ASGIEvent:
        if not self._asked:
            self._asked = True
            return {"type": "websocket.connect"}
        while (await self._receive())["type"] != "http.disconnect":
            pass  # a body that nobody wants
        self._has_left = True
        return {"type": "websocket.disconnect", "code": 1006, "reason": ""}

    async def send(self, event: MutableMapping[str, Any]) -> None:
        kind = event["type"]
        if kind == "http.response.body":  # of `StreamWriter`
            await self._give(event)
        elif kind == "websocket.send":
            text = event.get("text")
            await self._write(encoded(event["bytes"] if text is None else text))
        elif kind == "websocket.accept":
            await self._begin(event.get("headers", ()))
        elif kind == "websocket.close":
            await self._close(event.get("code", 1000), event.get("reason") or "")
        else:
            await self._answer(event)

    async def end(self) -> None:
        """Complete the answer, where nothing has; a client that takes nothing is cut off."""
        if self._ended or self._has_left:
            return
        if self._is_stuck:
            await cut_off(self.receive, self._send)
        elif self._began:
            self._ended = True
            await self._give({"type": "http.response.body", "body": b"", "more_body": False})

    async def _give(self, event: MutableMapping[str, Any]) -> None:
        self._is_stuck = True
        await self._send(event)
        self._is_stuck = False

    async def _begin(self, headers: Any) -> None:
        self._began = True
        start = {"type": "http.response.start", "status": 200, "headers": [*HEADERS, *headers]}
        await self._give(start)
        # The first bytes at once: until then neither a proxy nor a page knows that it is open.
        await self._write(b"retry: %d\n\n" % random.randint(*RETRY))  # noqa: S311

    async def _write(self, chunk: bytes) -> None:
        await self._give({"type": "http.response.body", "body": chunk, "more_body": True})

    async def _close(self, code: int, reason: str) -> None:
        if self._began:
            await self._write(farewell(code, reason))
            await self.end()
        else:
            await self._answer({"type": "http.response.start", "status": 403, "headers": []})
            await self._answer({"type": "http.response.body", "body": b""})

    async def _answer(self, event: MutableMapping[str, Any]) -> None:
        """Send a part of the response that refuses the WebSocket."""
        event = {**event, "type": event["type"].removeprefix("websocket.")}
        self._ended = event["type"] == "http.response.body" and not event.get("more_body")
        await self._give(event)


class Exchange(Stream):
    """A request that is one message, and its answer: one frame, or a stream of them.

    Attributes:
        streams: whether the answer is a stream; what goes wrong before it begins is none.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__(scope, receive, send)
        self.streams = False
        self._said: Body | None = None
        self._failure: tuple[int, dict[str, str]] | None = None

    async def body(self, limit: int) -> bytes:
        """What the request has.

        Raises:
            MessageTooLarge: that is more than `limit` bytes.
            WebSocketDisconnect: the client has gone meanwhile.
        """
        parts: list[bytes] = []
        size, more = 0, True
        while more:
            event = await self._receive()
            if event["type"] == "http.disconnect":
                self._has_left = True
                raise WebSocketDisconnect(1006)
            parts.append(event.get("body", b""))
            size += len(parts[-1])
            if size > limit:
                raise MessageTooLarge(close=False, context={"limit": limit})
            more = event.get("more_body", False)
        return b"".join(parts)

    def fail(self, status: int, headers: dict[str, str]) -> None:
        """What is sent next says that something went wrong."""
        self._failure = status, headers

    def cut(self, status: int, headers: dict[str, str], body: Body) -> bool:
        """The answer is this, whatever was to be it; False if a part of another has left."""
        if self._began or self._ended:
            return False
        self._failure, self._said = (status, headers), body
        return True

    async def send(self, event: MutableMapping[str, Any]) -> None:
        kind = event["type"]
        if kind == "websocket.send":
            if self._may_begin:
                await self._begin(())
            if self._began:
                await super().send(event)
            else:
                # Each takes the place of the one before: the reply, or the error, comes last.
                text = event.get("text")
                self._said = event["bytes"] if text is None else text
        elif event is _COMMENT and self._may_begin:  # no item yet, and a proxy that waits
            await self._begin(())
        elif kind.startswith("websocket.http.") or self._began:
            await super().send(event)

    @property
    def _may_begin(self) -> bool:
        return self.streams and self._failure is None and not self._began

    async def end(self) -> None:
        if not self._began and not self._ended:
            # Starlette's BaseHTTPMiddleware calls it an error to get no answer, also of a client that left.
            with suppress(*((OSError, RuntimeError) if self._has_left else ())):
                await self._complete()
        await super().end()

    async def _complete(self) -> None:
        nothing = Cancelled.http_status if self._has_left else 204
        status, headers = self._failure or (nothing if self._said is None else 200, {})
        has_content = status not in WITHOUT_CONTENT
        content = self._said if self._said is not None and has_content else b""
        kind = {"content-type": _kind_of(content)} if content else {}
        if isinstance(content, str):
            content = content.encode(errors="replace")
        lines = {**headers, **kind, **({"content-length": str(len(content))} if has_content else {})}
        encoded_lines = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in lines.items()]
        await self._give({"type": "http.response.start", "status": status, "headers": encoded_lines})
        self._ended = True
        await self._give({"type": "http.response.body", "body": content, "more_body": False})


class LiveWriter(Writer):
    """The way out to a client whose answer is a stream of events: it is never silent for long."""

    __slots__ = ("_spoke", "_wheel")

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._wheel: Wheel[Callable[[], None]] | None = None
        self._spoke: set[Callable[[], None]] = set()

    def keep_alive(self, wheel: Wheel[Callable[[], None]]) -> None:
        """From now on, until nothing can be sent any more, send what no client sees, and each proxy: somebody
        is there. What waits to leave says that too."""
        self._wheel = wheel
        if not self.closed:
            self._spoke = wheel.ride(self._beat, BEAT)

    def lost(self) -> None:
        self._spoke.discard(self._beat)
        super().lost()

    def _beat(self) -> None:
        assert self._wheel is not None
        if not self.is_writing:
            self._outbox.put_last(_COMMENT)
            self._start()
        self.keep_alive(self._wheel)


class StreamWriter(LiveWriter):
    """The way out to a stream of events.

    While nothing waits, what a room sends goes straight to uvicorn's transport, where that is what answers.
    """

    __slots__ = ("_server",)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._server: Any = None

    def release(self) -> None:
        stream: Any = getattr(self.websocket._send, "__self__", None)
        server = behind(stream._send) if isinstance(stream, Stream) else None
        # httptools; what h11 knows of a response it knows by what is sent through it.
        self._server = server if getattr(server, "chunked_encoding", None) is True else None
        super().release()

    def push(self, frame: Frame) -> None:
        server = self._server
        if (
            server is None
            or self.is_writing
            or self.closed
            or server.disconnected
            or server.flow.write_paused
        ):
            super().push(frame)
            return
        body = self._form(frame)["body"]
        server.transport.write(b"%x\r\n%b\r\n" % (len(body), body))  # RFC 9112 section 7.1
        if self._traffic is not None:
            self._traffic.sent += 1
            self._traffic.sent_bytes += frame.size

    def _form(self, frame: Frame) -> MutableMapping[str, Any]:
        if frame.streamed is None:
            frame.streamed = encoded(frame.body, frame.position)
        return {"type": "http.response.body", "body": frame.streamed, "more_body": True}


def encoded(body: Body, position: str = "") -> bytes:
    """One event that carries `body`: a text as it is, bytes in base64, and then it is called `binary`.

    Args:
        position: what a client is to come back with; empty lets it keep the one that it has.
    """
    head = f"id: {position}\n" if position else ""
    if isinstance(body, bytes):
        return f"{head}event: binary\ndata: {b64encode(body).decode()}\n\n".encode()
    data = "\ndata: ".join(_LINE_END.split(body)) if "\n" in body or "\r" in body else body
    return f"{head}data: {data}\n\n".encode(errors="replace")


def spoken(accept: str) -> list[str]:
    """The protocol, where a client that asks for events says in this header that it knows it. A page can set
    no other without asking first whether it may (CORS), and no `Sec-WebSocket-Protocol` at all."""
    return [SUBPROTOCOL] if f"protocol={SUBPROTOCOL}" in re.split("[;, ]+", accept) else []


def farewell(code: int, reason: str) -> bytes:
    """The event `close`, with what a WebSocket's close frame would say. A page comes back by itself when a
    stream ends: it is told when, or not to."""
    found = _RETRY_AFTER.search(reason)
    wait = NEVER if not may_return(code) else round(1000 * float(found[1])) if found else None
    retry = "" if wait is None else f"retry: {wait}\n"
    return f"{retry}event: close\ndata: {encode_json({'code': code, 'reason': reason})}\n\n".encode()


async def cut_off(receive: Receive, send: Send) -> None:
    """Close the transport of a client that takes nothing, where uvicorn has it; returns when it has noticed.

    Args:
        receive, send: of the request; nobody else awaits one of the two.
    """
    server = behind(send)
    if server is not None:
        server.transport.abort()
        with suppress(TimeoutError):
            async with asyncio.timeout(CUT_OFF_WITHIN):
                # uvicorn calls it an error to return before it has noticed.
                while not (await receive())["type"].endswith(".disconnect"):
                    pass


def behind(send: Any) -> Any:
    """uvicorn's side of a request; None where another server answers, or something may change what is sent.

    ASGI has no word for a client that is not waited for, nor for a write that need not be. What Starlette and
    this package put around `send` passes the body of a response on as it is.
    """
    for _ in range(MAX_WRAPPED):
        if isinstance(send, partial):  # of Starlette's CORSMiddleware
            function, inner = send.func, send.keywords.get("send")
        else:
            function, inner = send, _cells(send).get("send")
        owner = getattr(function, "__self__", None)
        module = str(getattr(function, "__module__", ""))
        if module.startswith("uvicorn."):
            abort = getattr(getattr(owner, "transport", None), "abort", None)
            return owner if callable(abort) else None
        if not module.startswith(PASSING_ON):
            return None
        send = inner or getattr(owner, "_send", None)
    return None


def _cells(function: Any) -> dict[str, Any]:
    """What a function knows of the one that it was made in."""
    names = getattr(getattr(function, "__code__", None), "co_freevars", ())
    cells = getattr(function, "__closure__", None) or ()
    return dict(zip(names, (cell.cell_contents for cell in cells), strict=True))


def _kind_of(content: Body) -> str:
    """The media type of what a handler, or this package, has sent."""
    if isinstance(content, bytes):
        return "application/octet-stream"
    try:
        from_json(content)
    except ValueError:
        return "text/plain; charset=utf-8"
    return "application/json"
