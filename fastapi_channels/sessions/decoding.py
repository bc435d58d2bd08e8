"""What is in a client's frame."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi_channels.exceptions import CloseCode, ParseError
from fastapi_channels.wire.messages import Body, size_of

from .plan import Terms


def fault_of(body: Body, length: int, terms: Terms, relays: bool) -> tuple[CloseCode, str] | None:
    """What to close the WebSocket with, if a frame has a kind or a size that is not taken.

    Args:
        length: of `body`, in characters or bytes.
        relays: whether either kind is.
    """
    limit = terms.max_message_size
    if not relays and isinstance(body, bytes) is not terms.envelope.binary:
        return CloseCode.UNSUPPORTED_DATA, "this kind of frame is not accepted"
    # Most are far below, whatever their characters take.
    if 4 * length > limit and size_of(body) > limit:
        return CloseCode.TOO_BIG, f"a message may have {limit} bytes"
    return None


def read(decoder: Callable[[Body], Any], body: Body) -> Any:
    """What `decoder` finds in `body`; it may have to be awaited.

    Raises:
        ParseError: it cannot be read.
    """
    try:
        decoded = decoder(body)
    except (ValueError, RecursionError) as exc:
        raise unreadable(exc) from None
    if type(decoded) is not dict and inspect.isawaitable(decoded):
        return read_later(decoded)
    return decoded


async def read_later(decoded: Awaitable[Any]) -> Any:
    """
    Raises:
        ParseError: it cannot be read.
    """
    try:
        return await decoded
    except (ValueError, RecursionError) as exc:
        raise unreadable(exc) from None


def unreadable(exc: BaseException) -> ParseError:
    return ParseError(close=False, context={"problem": str(exc)[:200]})
