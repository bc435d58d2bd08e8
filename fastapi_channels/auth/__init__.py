"""Authentication: where credentials come from, what verifies them, and how long they hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi_channels.sessions.identity import Identity

from .authenticator import Authenticator
from .sources import BearerSubprotocol
from .tickets import Tickets

if TYPE_CHECKING:
    from .jwks import JWKS
    from .jwt import JWT

__all__ = ["JWKS", "JWT", "Authenticator", "BearerSubprotocol", "Identity", "Tickets"]


def __getattr__(name: str) -> Any:
    """`JWT` and `JWKS`, when they are first asked for: PyJWT is an extra."""
    if name == "JWT":
        from .jwt import JWT

        return JWT
    if name == "JWKS":
        from .jwks import JWKS

        return JWKS
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
