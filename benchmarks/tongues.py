"""A server that says the same in the protocol of each client: what is measured is the client."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol


def _text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


@dataclass(frozen=True)
class Tongue:
    """How one client is spoken to.

    Attributes:
        opening: what is said at first.
        answer: to what the client says; None for nothing.
        count: how many events that asks for.
        write: an event.
    """

    opening: Sequence[str]
    answer: Callable[[str], str | None]
    count: Callable[[str], int]
    write: Callable[[dict[str, Any]], str]


def _ours(text: str) -> str | None:
    frame = json.loads(text)
    reply = {"type": "response", "action": "flood", "status": "ok", "data": None}
    return _text({**reply, "request_id": frame["request_id"]}) if "request_id" in frame else None


def _centrifuge(text: str) -> str | None:
    replies: list[str] = []
    for line in text.splitlines():
        command = json.loads(line)
        if "connect" in command:
            welcome = {"client": "c", "version": "0", "ping": 25, "pong": True}
            replies.append(_text({"id": command["id"], "connect": welcome}))
        kinds = [kind for kind in ("subscribe", "publish") if kind in command]
        replies += [_text({"id": command["id"], kind: {}}) for kind in kinds]
    return "\n".join(replies) or None


def _phoenix(text: str) -> str | None:
    join, ref, topic, _, _ = json.loads(text)
    return _text([join, ref, topic, "phx_reply", {"status": "ok", "response": {}}])


def _json_count(text: str) -> int:
    frame = json.loads(text)
    return frame.get("count", 0) if isinstance(frame, dict) else 0


def _published(text: str) -> int:
    found = [json.loads(line).get("publish", {}) for line in text.splitlines()]
    return max((each["data"]["count"] for each in found if each), default=0)


_PINGS: Final = {"pingInterval": 25000, "pingTimeout": 20000}
TONGUES: Final = {
    "/ours": Tongue(
        [_text({"type": "welcome", "connection": "c.1", "max_message_size": 65536})],
        _ours,
        _json_count,
        lambda data: _text({"type": "event", "event": "said", "channel": "room", "data": data}),
    ),
    "/bare": Tongue([], lambda text: None, _json_count, lambda data: _text({"event": "said", "data": data})),
    "/socket.io": Tongue(
        [
            "0"
            + _text(
                {"sid": "s", "upgrades": [], "pingInterval": 25000, "pingTimeout": 20000, "maxPayload": 10**6}
            )
        ],
        lambda text: '40{"sid":"s"}' if text.startswith("40") else None,
        lambda text: json.loads(text[2:])[1] if text.startswith("42") else 0,
        lambda data: "42" + _text(["said", data]),
    ),
    "/connection": Tongue(
        [],
        _centrifuge,
        _published,
        lambda data: _text({"push": {"channel": "room", "pub": {"data": data}}}),
    ),
    "/socket": Tongue(
        [],
        _phoenix,
        lambda text: json.loads(text)[4].get("count", 0),
        lambda data: _text([None, None, "room", "said", data]),
    ),
}


def _tongue(path: str) -> Tongue:
    return next(
        tongue for begins, tongue in TONGUES.items() if path.startswith(begins + "/") or path == begins
    )


async def _meet(socket: ServerConnection) -> None:
    assert socket.request is not None
    tongue = _tongue(socket.request.path.partition("?")[0])
    try:
        for text in tongue.opening:
            await socket.send(text)
        async for heard in socket:
            assert isinstance(heard, str)
            answer, count = tongue.answer(heard), tongue.count(heard)
            if answer is not None:
                await socket.send(answer)
            for number in range(count):
                await socket.send(tongue.write({"number": number, "text": "x" * 64}))
    except ConnectionClosed:
        pass


def _first(connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    return offered[0] if offered else None


@asynccontextmanager
async def speaking() -> AsyncIterator[str]:
    """The URL of the server."""
    options: dict[str, Any] = {"compression": None, "ping_interval": None, "select_subprotocol": _first}
    async with serve(_meet, "127.0.0.1", 0, **options) as server:
        yield f"http://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
