"""Letting the WebSockets of a process go a few at a time, so that a deploy is no storm of reconnects."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Collection
from typing import Final, Protocol

logger = logging.getLogger("fastapi_channels")

TICK: Final = 0.1
"""Seconds between two batches."""
RATE: Final = 100
"""Connections that are closed in a second where the window would allow fewer: none waits for nothing."""


class Leaver(Protocol):
    """A WebSocket, or a request, that can be told to go."""

    def announce(self, within: float, retry_after: float) -> None:
        """Tell the client that it will be closed within so many seconds, and when it may come back."""
        ...

    @property
    def is_working(self) -> bool:
        """Whether an action of the client runs."""
        ...

    @property
    def finish_timeout(self) -> float:
        """Seconds that it gets to finish."""
        ...

    async def go(self, retry_after: float) -> None:
        """Close with 1012, and say when to come back; returns when that has left."""
        ...


class Drain:
    """Lets all WebSockets of a process go, once.

    Args:
        leavers: the WebSockets of the process, as they are at any moment.
        retry_after: seconds that clients are to stay away, at least; by chance up to twice as many.
        calls: the actions that run for a request each, likewise. None of them is one of many that come back
            together: they get their time from the beginning on.
    """

    def __init__(
        self, leavers: Collection[Leaver], retry_after: float, calls: Collection[Leaver] = frozenset()
    ) -> None:
        self._leavers = leavers
        self._calls = calls
        self._retry_after = retry_after
        self._task: asyncio.Task[None] | None = None
        self.began = False

    async def run(self, seconds: float) -> None:
        """Close every WebSocket within `seconds`; a second call waits for the first."""
        self.began = True
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(seconds))
        await asyncio.shield(self._task)

    async def _run(self, seconds: float) -> None:
        going = list(self._leavers)
        random.shuffle(going)
        window = min(seconds, len(going) / RATE)
        logger.info("draining: %d connections within %.1f s", len(going), window)
        delays = [self._delay() for _ in going]
        for leaver, delay in zip(going, delays, strict=True):
            # An action may begin within the window, and gets its time from then on.
            leaver.announce(round(window + leaver.finish_timeout, 2), delay)
        batch = max(1, round(len(going) * TICK / window)) if window else 1
        retiring = [self._begin(call, self._delay()) for call in self._calls]
        for first in range(0, len(going), batch):
            if first:
                await asyncio.sleep(TICK)
            some = slice(first, first + batch)
            retiring += map(self._begin, going[some], delays[some])
        await asyncio.gather(*retiring, return_exceptions=True)
        logger.info("drained: %d connections are left", len(self._leavers))

    def _delay(self) -> float:
        return round(random.uniform(1, 2) * self._retry_after, 2)  # noqa: S311

    def _begin(self, leaver: Leaver, retry_after: float) -> asyncio.Task[None]:
        return asyncio.ensure_future(self._retire(leaver, retry_after))

    async def _retire(self, leaver: Leaver, retry_after: float) -> None:
        """Let what runs finish, up to its deadline, then close. One that has left by itself, or that uvicorn
        has closed, is not asked: nothing of it may be there any more."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + leaver.finish_timeout
        while leaver in self._leavers or leaver in self._calls:
            if not leaver.is_working or loop.time() >= deadline:
                await leaver.go(retry_after)
                return
            await asyncio.sleep(TICK / 5)  # nobody says when an action ends


def come_back(why: str, retry_after: float) -> str:
    """The reason of a close after which the client may come back, in a form that programs read."""
    return f"{why}; retry_after={retry_after:g}"
