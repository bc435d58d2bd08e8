"""Whose a WebSocket is, and what sessions ask of whoever finds that out."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from starlette.requests import HTTPConnection

from fastapi_channels.cluster.node import Node
from fastapi_channels.cluster.revocations import SignedIn


@dataclass(frozen=True, slots=True)
class Identity:
    """What is known of a client whose credentials hold.

    Attributes:
        user: who it is; `connection.user`.
        expires_at: until when, in seconds since 1970; None for as long as it likes.
        issued_at: since when, likewise, where that is known.
        session: names what the client signed in with, such as a log-in on one device; None if nothing does.
    """

    user: Any = field(repr=False)
    expires_at: float | None = None
    issued_at: float | None = None
    session: str | None = None


def signed_in(identity: Identity, node: Node) -> SignedIn:
    """What revocations go by."""
    return SignedIn(node.key_of(identity.user), identity.session, identity.issued_at or 0.0)


class Gate(Protocol):
    """What sessions need of an authenticator. All but `waiting` raise a WebSocketException for what does not
    hold."""

    tell: bool
    revocable: bool
    warning: float
    first_frame: float | None

    async def identify(self, connection: HTTPConnection) -> Identity | None:
        """Who the handshake says that the client is; None if it says nothing, and need not."""
        ...

    async def verify(self, credentials: Any, connection: HTTPConnection) -> Identity:
        """Whose `credentials` are."""
        ...

    async def read(self, frame: Any, field: str, connection: HTTPConnection) -> Identity:
        """Who a client is that has sent `frame` as its first; `field` is the one that says what it is."""
        ...

    def waiting(self, deadline: asyncio.Timeout) -> AbstractContextManager[None]:
        """Count one more client whose first frame is waited for; `deadline` is brought forward where there
        are too many."""
        ...
