"""How a store asks its server."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeVar

from fastapi_channels.brokers.backend import NotSent, describe, end_of, no_connection
from fastapi_channels.wire.log import Seldom

from .store import StoreUnavailable

logger = logging.getLogger("fastapi_channels")

T = TypeVar("T")

TIMEOUT: Final = 2.0
"""Seconds in which each call is answered, unless said otherwise."""
PAUSE: Final = 0.05
"""Seconds between two attempts."""
CONNECTING: Final = 0.9
"""The part of that which one connection may take: the call can still say that there was none."""


class Deadline:
    """Within which a server answers each call. The log is told when it begins not to, and then counts; and
    when it answers again, where it was told that it did not.

    Args:
        server: its name.
        seconds: for each call, connecting included.
        refusals: what its client raises for what it refuses.
        final: what the server has said that no attempt will change, if that is why there is no connection.
    """

    def __init__(
        self,
        server: str,
        seconds: float,
        refusals: tuple[type[Exception], ...],
        final: Callable[[Exception], Exception | None],
    ) -> None:
        self._server = server
        self._seconds = seconds
        self._broken: tuple[type[Exception], ...] = (ConnectionError, *refusals)
        self._final = final
        self._failures = Seldom(logger)
        self._missing: float | None = None
        """Since when no call was answered."""
        self._is_told = False
        """Whether the log knows that."""

    async def answer(self, ask: Callable[[], Awaitable[T]]) -> T:
        """The answer to `ask`, which is repeated while it surely had no effect (`NotSent`).

        Raises:
            StoreUnavailable: there was none in time, or the connection broke before it, or the server
                refused.
        """
        problem: Exception | None = None
        try:
            async with asyncio.timeout_at(end_of(self._seconds)):
                while True:
                    try:
                        answer = await ask()
                    except NotSent as exc:
                        problem = exc
                        if (refusal := self._final(exc)) is not None:
                            raise self._failed(f"{self._server} refuses it: {describe(refusal)}") from refusal
                    else:
                        if self._missing is not None:
                            self._came_back(self._missing)
                        return answer
                    await asyncio.sleep(PAUSE)
        except StoreUnavailable:
            raise
        except TimeoutError:
            why = f": {describe(problem)}" if problem else ""
            what = f"{self._server} did not answer within {self._seconds:g} s{why}"
            raise self._failed(what) from problem
        except self._broken as exc:
            raise self._failed(f"{self._server} did not do it: {describe(exc)}") from exc

    @asynccontextmanager
    async def connecting(self) -> AsyncIterator[None]:
        """Around making a connection.

        Raises:
            ConnectionError: it took too long.
        """
        seconds = CONNECTING * self._seconds
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError as exc:
            raise ConnectionError(no_connection(seconds)) from exc

    def _failed(self, what: str) -> StoreUnavailable:
        if self._is_told:
            self._failures.count()
        else:
            self._is_told = self._failures.warn(f"the store does not answer: {what}")
        if self._missing is None:
            self._missing = time.monotonic()
        failure = StoreUnavailable(what)
        failure.is_told = True
        return failure

    def _came_back(self, missing: float) -> None:
        if self._is_told:
            logger.warning("the store answers again after %.1f s", time.monotonic() - missing)
        self._missing, self._is_told = None, False
