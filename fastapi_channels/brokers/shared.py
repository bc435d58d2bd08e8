"""What is made once for all that wait for it, and what is done whoever waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from fastapi_channels.brokers.backend import NotSent

T = TypeVar("T")


class Shared(Generic[T]):
    """Something that is made when it is first needed, and kept until it is taken out.

    What cannot be made is tried again by whoever needs it next. A caller that gives up does not end the
    making that others wait for. What was made in an event loop that is gone is made anew.
    """

    def __init__(self, make: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._make = make
        self._making: asyncio.Task[T] | None = None

    async def get(self) -> T:
        """What is there, made if it is not.

        Raises:
            NotSent: it was taken out before it was made.
            Exception: it could not be made.
        """
        making = self._making
        if making is None or making.get_loop() is not asyncio.get_running_loop():
            making = self._making = asyncio.create_task(self._make())
            making.add_done_callback(self._made)
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            if making.cancelled():
                raise NotSent("the connection is closed") from None
            raise

    def is_made(self, what: T) -> bool:
        """Whether `what` is that which is there."""
        making = self._making
        return making is not None and making.done() and not making.cancelled() and making.result() is what

    async def take(self) -> T | None:
        """Take out what is there; None where nothing is. What is being made is given up."""
        making, self._making = self._making, None
        if making is None or making.get_loop() is not asyncio.get_running_loop():
            return None
        making.cancel()
        await asyncio.wait((making,))
        return None if making.cancelled() or making.exception() else making.result()

    def _made(self, making: asyncio.Task[T]) -> None:
        if (making.cancelled() or making.exception()) and self._making is making:
            self._making = None


async def finished(work: Coroutine[Any, Any, None]) -> None:
    """Await all of `work`, which does not last long, also if this is cancelled meanwhile."""
    task = asyncio.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError as exc:
            cancelled = exc
    if cancelled is not None:
        raise cancelled
    task.result()
