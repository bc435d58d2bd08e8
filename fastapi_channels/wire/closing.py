"""What a close frame may say."""

from __future__ import annotations

from typing import Any, Final

from fastapi_channels.exceptions import CloseCode

MAX_REASON: Final = 123
"""Bytes of a close reason (RFC 6455 section 5.5)."""
STANDING_IN: Final[dict[int, int]] = {1003: 4515, 1007: 4500, 1008: 4503, 1009: 4513}
"""What is sent where the server refuses a close code from an application: with these the client is to stay
away, with any other, `COME_BACK`, to come again."""
COME_BACK: Final = 4003


def close_event(code: int | None, reason: str | None) -> dict[str, Any]:
    return {"type": "websocket.close", "code": valid_close_code(code), "reason": clip(reason)}


def clip(reason: str | None) -> str:
    """`reason` cut to what a close frame can carry, at a character's end."""
    encoded = (reason or "").encode(errors="replace")
    if len(encoded) <= MAX_REASON:
        return encoded.decode()
    return encoded[: MAX_REASON - 3].decode(errors="ignore") + "…"


def valid_close_code(code: int | None) -> int:
    """`code` if an endpoint may send it (RFC 6455 section 7.4), else 1011."""
    if code is None:
        return CloseCode.NORMAL
    sendable = (1000 <= code <= 1014 and code not in (1004, 1005, 1006)) or 3000 <= code <= 4999
    return int(code) if sendable else CloseCode.INTERNAL_ERROR
