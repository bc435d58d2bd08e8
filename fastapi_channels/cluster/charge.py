"""Counting what is no call of an action: a handshake, or a request by HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.requests import HTTPConnection

from fastapi_channels.signatures.callables import awaited
from fastapi_channels.throttling import Rate, address_group, budget_key, client_address, limit_key

from .node import Node


async def charge(
    node: Node, connection: HTTPConnection, user: Any, limits: Sequence[Rate], what: str
) -> float:
    """Count it under all `limits`, for its user, else its address; seconds to wait where one is full."""
    items = {await _key(node, connection, user, limit, what): limit for limit in limits}
    wait: float = await awaited(node.limiter.hit(list(items.items())))
    return wait


async def _key(node: Node, connection: HTTPConnection, user: Any, limit: Rate, what: str) -> str:
    identifier = limit.identifier or node.settings.identifier
    if identifier is not None:
        kind, who = "custom", str(await awaited(identifier(connection)))
    else:
        address = client_address(connection, node.settings.trusted_proxies)
        key = node.key_of(user)
        kind, who = ("user", key) if key else ("address", address_group(address))
    return budget_key(kind, who, limit) if limit.budget else limit_key(kind, who, "", what, "", str(limit))
