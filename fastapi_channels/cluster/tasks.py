"""Work that goes on beside whoever began it, and ends with its owner."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


def shared(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """A task that several may wait for with `asyncio.shield`, or by then nobody."""
    task = asyncio.get_running_loop().create_task(work)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task


class Tasks:
    """Tasks of one owner: the event loop alone would not keep them alive."""

    __slots__ = ("_running",)

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def stop(self) -> None:
        """Cancel what runs; returns when nothing does."""
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
