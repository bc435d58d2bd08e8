"""What the HTTP request of a handshake says, and what is answered in HTTP."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

from starlette.requests import HTTPConnection
from starlette.websockets import WebSocket

from fastapi_channels.texts import choose_language

Headers: TypeAlias = Iterable[tuple[bytes, bytes]] | None
"""Those of the response to a handshake."""


BEARER: Final = "bearer."
"""Begins a subprotocol that is no protocol, but a token."""


def offered_subprotocols(connection: HTTPConnection) -> list[str]:
    """What the client offers to speak (RFC 6455 section 4.1)."""
    offered = ",".join(connection.headers.getlist("sec-websocket-protocol")).split(",")
    return [name.strip() for name in offered if name.strip()]


def chosen_subprotocol(websocket: WebSocket) -> str | None:
    """The first that is no token: a browser that has offered any wants one of them, and a response must not
    repeat a token."""
    offered = websocket.scope.get("subprotocols", ())
    return next((name for name in offered if name and not name.startswith(BEARER)), None)


def headers_of(headers: Mapping[str, str] | None) -> list[tuple[bytes, bytes]]:
    """Response headers as ASGI has them."""
    return [(k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in (headers or {}).items()]


def language_of(websocket: WebSocket) -> str:
    """The one of those known here that the client wants."""
    wanted = (websocket.query_params.get("lang", ""), websocket.headers.get("accept-language", ""))
    return choose_language(*wanted)


def user_of(websocket: WebSocket) -> Any:
    """Who an authentication middleware or the endpoint's state says the client is."""
    user = websocket.scope.get("user")
    return websocket.scope.get("state", {}).get("user") if user is None else user
