"""Own publications that are still to come back: who has published waits for them, and so sees one order.

A server confirms a publication on one connection and brings it on another. Without waiting, what is sent to a
client directly, behind a broadcast, would overtake it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

from fastapi_channels.wire.messages import Body

logger = logging.getLogger("fastapi_channels")

Echo: TypeAlias = "asyncio.Future[None]"
Returned: TypeAlias = Callable[[float], Awaitable[None]]


class Echoes:
    """Publications are told apart by topic and body: of two that are alike either may come first."""

    def __init__(self) -> None:
        self._waiting: dict[str, dict[Body, deque[Echo]]] = {}

    def expect(self, topic: str, body: Body) -> Echo:
        """Done when that publication, which is going to be made, has come back or cannot any more."""
        echo: Echo = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(topic, {}).setdefault(body, deque()).append(echo)
        return echo

    @asynccontextmanager
    async def around(self, topic: str, body: Body, listens: Awaitable[bool]) -> AsyncIterator[Returned]:
        """Around making a publication. What it gives returns when that has come back, or cannot any more, or
        at a time, in the loop's; at once where nobody listens."""
        echo = self.expect(topic, body) if await listens else None

        async def returned(deadline: float) -> None:
            if echo is not None:
                try:
                    async with asyncio.timeout_at(deadline):
                        await echo
                except TimeoutError:
                    logger.debug("what was published to %r has not come back", topic)

        try:
            yield returned
        finally:
            if echo is not None:
                self.forget(topic, body, echo)

    def take(self, topic: str, body: Body) -> None:
        """A publication has come."""
        bodies = self._waiting.get(topic)
        echoes = None if bodies is None else bodies.get(body)
        if bodies is None or echoes is None:
            return
        _end(echoes.popleft())
        if not echoes:
            del bodies[body]
            if not bodies:
                del self._waiting[topic]

    def forget(self, topic: str, body: Body, echo: Echo) -> None:
        """Nobody waits for `echo` any more; nothing happens if it has come."""
        echoes = self._waiting.get(topic, {}).get(body, deque())
        if echo in echoes:
            echoes.remove(echo)
            echoes.appendleft(echo)
            self.take(topic, body)

    def give_up(self, topic: str) -> None:
        """Nothing of `topic` comes any more."""
        for echoes in self._waiting.pop(topic, {}).values():
            for echo in echoes:
                _end(echo)

    def give_up_all(self) -> None:
        """The connection is lost."""
        for topic in list(self._waiting):
            self.give_up(topic)


def _end(echo: Echo) -> None:
    if not echo.done():
        echo.set_result(None)
