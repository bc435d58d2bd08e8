"""What the HTTP request of a handshake says, and what is answered in HTTP."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from starlette.websockets import WebSocket

from fastapi_channels.exceptions import WebSocketException


def retry_headers(exc: WebSocketException) -> dict[str, str]:
    """When to come back, as HTTP says it (RFC 9110 section 10.2.3): whole seconds."""
    wait = exc.extra.get("retry_after")
    return {} if wait is None else {"retry-after": str(math.ceil(wait))}


def headers_of(headers: Mapping[str, str] | None) -> list[tuple[bytes, bytes]]:
    """Response headers as ASGI has them."""
    return [(k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in (headers or {}).items()]


def user_of(websocket: WebSocket) -> Any:
    """Who an authentication middleware or the endpoint's state says the client is."""
    user = websocket.scope.get("user")
    return websocket.scope.get("state", {}).get("user") if user is None else user
