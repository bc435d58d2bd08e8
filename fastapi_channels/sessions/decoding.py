"""What is in a client's frame."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi_channels.exceptions import ParseError
from fastapi_channels.wire.messages import Body


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
