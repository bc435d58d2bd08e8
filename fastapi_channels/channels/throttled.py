"""Rates on routes, which may be those of actions."""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Any

from fastapi import Depends, HTTPException
from starlette.requests import HTTPConnection

from fastapi_channels.cluster.charge import charge
from fastapi_channels.cluster.node import Node
from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.sessions.identity import Identity
from fastapi_channels.throttling import Rate


def throttled(limit: Rate, *, user: Callable[..., Any] | None = None) -> Callable[..., Awaitable[None]]:
    """A dependency of a route that counts each request: `Depends(throttled(rate(5, seconds=10)))`.

    With a `budget` of actions, `rate(100, minutes=1, cost=5, budget="assistant")`, both use up the same. Over
    the rate the route answers 429, with `Retry-After` where that is known.

    Args:
        user: a dependency that says who sends the request; an `Authenticator` is one. The address counts
            where it is nobody.

    Raises:
        ConfigurationError: `limit` is none.
    """
    if not isinstance(limit, Rate):
        raise ConfigurationError(f"throttled() takes rate(times=…, seconds=…), got {limit!r}")

    async def count(connection: HTTPConnection, sender: Any = None) -> None:
        who = sender.user if isinstance(sender, Identity) else sender
        route = connection.scope.get("route")
        what = getattr(route, "path", connection.scope["path"])
        wait = await charge(Node.of(connection.scope), connection, who, [limit], f"HTTP {what}")
        if wait:
            headers = None if math.isinf(wait) else {"retry-after": str(math.ceil(wait))}
            raise HTTPException(429, "Too Many Requests", headers)

    keyword = partial(inspect.Parameter, kind=inspect.Parameter.KEYWORD_ONLY)
    parameters = [keyword("connection", annotation=HTTPConnection)]
    if user is not None:
        parameters.append(keyword("sender", annotation=Annotated[Any, Depends(user)]))
    count.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what FastAPI reads
    return count
