"""How a store asks its server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from fastapi_channels.brokers.backend import NotSent, describe

from .store import StoreUnavailable

T = TypeVar("T")

TIMEOUT: Final = 2.0
"""Seconds in which each call is answered, unless said otherwise."""
PAUSE: Final = 0.05
"""Seconds between two attempts."""


async def within(
    seconds: float, server: str, ask: Callable[[], Awaitable[T]], *refusals: type[Exception]
) -> T:
    """The answer to `ask`, which is repeated while it surely had no effect (`NotSent`).

    Raises:
        StoreUnavailable: there was none in time, or the connection broke before it, or the server refused,
            which is one of `refusals`.
    """
    broken: tuple[type[Exception], ...] = (ConnectionError, *refusals)
    problem: Exception | None = None
    try:
        async with asyncio.timeout(seconds):
            while True:
                try:
                    return await ask()
                except NotSent as exc:
                    problem = exc
                await asyncio.sleep(PAUSE)
    except TimeoutError:
        why = f": {describe(problem)}" if problem else ""
        raise StoreUnavailable(f"{server} did not answer within {seconds:g} s{why}") from problem
    except broken as exc:
        raise StoreUnavailable(f"{server} did not do it: {describe(exc)}") from exc
