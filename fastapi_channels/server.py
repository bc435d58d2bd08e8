"""What this package knows of ASGI servers beyond the specification. Only uvicorn is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def abort(send: Callable[..., Any]) -> bool:
    """Cut the TCP connection behind an ASGI `send`, without waiting for the peer; False if unknown.

    A client that reads nothing can hold a socket open for hours: closing waits for the bytes that the
    transport still holds, and nothing in ASGI drops them.
    """
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    cut = getattr(transport, "abort", None)
    if cut is None:
        return False
    cut()
    return True
