"""Subscribing to topics, as actions that a channel opts into."""

from __future__ import annotations

from typing import Final

from fastapi_channels.actions.router import ActionRouter
from fastapi_channels.connection import Connection

topics_router: Final = ActionRouter()
"""Has two actions, `subscribe` and `unsubscribe`, by which a client says which topics it wants:
`routers = [topics_router]` on a channel with `topics`."""


@topics_router.action("subscribe")
async def _subscribe(connection: Connection, filter: str) -> str:
    """Receive what is said on the topics that fit: `+` stands for one level, `#` for all that follow."""
    await connection.subscribe(filter)
    return filter


@topics_router.action("unsubscribe")
async def _unsubscribe(connection: Connection, filter: str) -> str:
    """Receive no more by that filter."""
    await connection.unsubscribe(filter)
    return filter
