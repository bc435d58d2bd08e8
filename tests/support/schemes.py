"""FastAPI's security schemes on a WebSocket, whichever FastAPI there is."""

from copy import copy
from typing import Any

from fastapi.security.base import SecurityBase
from starlette.requests import HTTPConnection


async def _called(scheme: SecurityBase, connection: HTTPConnection) -> None:
    """Nobody is let in by it."""


def for_websockets(scheme: SecurityBase) -> Any:
    """`scheme`, taking an HTTPConnection. The lowest FastAPI that is supported hands it a Request."""
    found, kind = copy(scheme), type(scheme)
    found.__class__ = type(kind.__name__, (kind,), {"__call__": _called})
    return found
