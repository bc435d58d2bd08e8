"""Work that goes on beside whoever began it, and ends with its owner."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

S = TypeVar("S")
T = TypeVar("T")

TOGETHER: Final = 100
"""Calls that share round trips, and a deadline."""


def shared(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """A task that several may wait for with `asyncio.shield`, or by then nobody."""
    task = asyncio.get_running_loop().create_task(work)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task


async def all_of(call: Callable[[S], Awaitable[T]], each: Sequence[S]) -> list[T]:
    """Await `call` of each, so many together; raise the first failure when those beside it are done."""
    if len(each) == 1:
        return [await call(each[0])]
    done: list[T] = []
    for start in range(0, len(each), TOGETHER):
        calls = (call(one) for one in each[start : start + TOGETHER])
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
            done.append(outcome)
    return done


class Tasks:
    """Tasks of one owner: the event loop alone would not keep them alive."""

    __slots__ = ("_running",)

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        """How many run."""
        return len(self._running)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def stop(self) -> None:
        """Cancel what runs; returns when nothing does."""
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
