"""What is measured: how each system is installed, started and spoken to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

SERVER: Final = "uvicorn[standard]"


@dataclass(frozen=True)
class System:
    """One server.

    Attributes:
        title: in tables; the first word is its package or its kind.
        environment: its folder in the cache, and the name of its constraints.
        packages: what is asked for; the constraints say in which version.
        app: the module in `apps/` that uvicorn serves, or a program there that takes the port.
        sends: the client's message for each kind of work that it can do.
        path: of the WebSocket.
        awaited: frames that come after the handshake, before it is ready.
        broker: whether it gets a Redis.
        heartbeat: whether it speaks Engine.IO, where a text `2` wants a `3`.
        protocol: what uvicorn gets as `--ws`, if it does not choose itself.
        counted: whether it has metrics.
    """

    title: str
    environment: str
    packages: tuple[str, ...]
    app: str
    sends: Mapping[str, str]
    path: str = "/ws"
    join: str = ""
    awaited: int = 0
    broker: bool = False
    heartbeat: bool = False
    protocol: str = ""
    counted: bool = False
    npm: Mapping[str, str] = field(default_factory=dict[str, str])
    """Instead of `packages`, for Node."""


def _flat(*actions: str) -> dict[str, str]:
    return {action: f'{{"action":"{action}","message":"%M"}}' for action in actions}


_ROOMS: Final = {
    "tell": '{"action":"tell","room":"r%R","message":"%M"}',
    "join": '{"action":"join","room":"r%R"}',
}
_PROTOCOL: Final = "fastapi_channels.uvicorn:Protocol"
_OURS: Final = ("-e", ".[metrics,redis]", SERVER)
_UPSTREAM: Final = (
    *("fastapi-channels==0.0.1b2", "broadcaster", "redis<8"),
    *("fastapi-limiter<=0.1.6", "limits", "packaging", "fastapi", SERVER),
)

BASELINE: Final = "plain"
SYSTEMS: Final[dict[str, System]] = {
    "plain": System(
        "a plain FastAPI loop",
        "plain",
        ("fastapi", SERVER),
        "plain",
        {**_flat("say", "echo", "raw", "typed", "depends"), **_ROOMS},
    ),
    "ours": System(
        "**fastapi-channels**, memory",
        "ours",
        _OURS,
        "ours",
        {**_flat("say", "echo", "typed", "depends"), **_ROOMS},
    ),
    "ours-protocol": System(
        "**fastapi-channels**, memory, its protocol for uvicorn",
        "ours",
        _OURS,
        "ours",
        {**_flat("say", "echo", "typed", "depends"), **_ROOMS},
        protocol=_PROTOCOL,
    ),
    "ours-metrics": System(
        "**fastapi-channels**, memory, that protocol, with metrics",
        "ours",
        _OURS,
        "ours",
        _flat("say", "echo"),
        protocol=_PROTOCOL,
        counted=True,
    ),
    "plain-protocol": System(
        "a plain FastAPI loop on that protocol",
        "ours",
        _OURS,
        "plain",
        {**_flat("say", "echo", "raw", "typed", "depends"), **_ROOMS},
        protocol=_PROTOCOL,
    ),
    "asgi": System("a raw ASGI application", "plain", ("fastapi", SERVER), "asgi", _flat("raw")),
    "asgi-protocol": System(
        "a raw ASGI application on that protocol",
        "ours",
        _OURS,
        "asgi",
        _flat("raw"),
        protocol=_PROTOCOL,
    ),
    "ours-redis": System(
        "**fastapi-channels**, Redis", "ours", _OURS, "ours", {**_flat("say"), **_ROOMS}, broker=True
    ),
    "ours-history": System(
        "**fastapi-channels**, memory, with history",
        "ours",
        _OURS,
        "ours",
        _flat("say"),
        path="/kept",
        awaited=1,
    ),
    "ours-history-redis": System(
        "**fastapi-channels**, Redis, with history",
        "ours",
        _OURS,
        "ours",
        _flat("say"),
        path="/kept",
        awaited=1,
        broker=True,
    ),
    "broadcaster": System(
        "broadcaster, memory",
        "broadcaster",
        ("broadcaster[redis]", "redis<8", "fastapi", SERVER),
        "broadcaster_",
        _flat("say", "echo"),
    ),
    "upstream": System(
        "fastapi-channels 0.0.1b2 (upstream), memory",
        "upstream",
        _UPSTREAM,
        "upstream",
        _flat("say", "echo"),
    ),
    "upstream-redis": System(
        "fastapi-channels 0.0.1b2 (upstream), Redis",
        "upstream",
        _UPSTREAM,
        "upstream",
        _flat("say"),
        broker=True,
    ),
    "socketio": System(
        "python-socketio",
        "socketio",
        ("python-socketio", SERVER),
        "socketio_",
        {kind: f'42["{kind}",{{"message":"%M"}}]' for kind in ("say", "echo")},
        path="/socket.io/?EIO=4&transport=websocket",
        join="40",
        awaited=2,
        heartbeat=True,
    ),
    "django": System(
        "Django Channels, memory",
        "django",
        ("channels", "django", SERVER),
        "django_",
        _flat("say", "echo"),
    ),
    "litestar": System(
        "Litestar channels, memory",
        "litestar",
        ("litestar", "redis", SERVER),
        "litestar_",
        _flat("say", "echo"),
    ),
    "litestar-redis": System(
        "Litestar channels, Redis",
        "litestar",
        ("litestar", "redis", SERVER),
        "litestar_",
        _flat("say"),
        broker=True,
    ),
    "chanx": System(
        "Chanx, memory",
        "chanx",
        ("chanx[fast-channels]", "fastapi", SERVER),
        "chanx_",
        {kind: f'{{"action":"{kind}","payload":{{"message":"%M"}}}}' for kind in ("say", "echo")},
    ),
    "bare": System(
        "a bare asyncio protocol, no server",
        "plain",
        ("fastapi", SERVER),
        "bare.py",
        _flat("say", "echo", "raw"),
    ),
    "ws": System(
        "Node ws",
        "node",
        (),
        "ws.js",
        _flat("say", "echo"),
        path="/",
        npm={"ws": "8.23.0"},
    ),
}
