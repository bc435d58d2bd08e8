"""Own publications that are still to come back: who has published waits for them, and so sees one order.

A server confirms a publication on one connection and brings it on another. Without waiting, what is sent to a
client directly, behind a broadcast, would overtake it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from fastapi_channels.wire.messages import Body

logger = logging.getLogger("fastapi_channels")

Echo: TypeAlias = "asyncio.Future[None]"
Returned: TypeAlias = Callable[[float], Awaitable[None]]


class Echoes:
    """Publications are told apart by topic and body: of two that are alike either may come first."""

    def __init__(self) -> None:
        self._waiting: dict[str, dict[Body, deque[Echo]]] = {}

    def __bool__(self) -> bool:
        """Whether any is expected."""
        return bool(self._waiting)

    def expect(self, topic: str, body: Body) -> Echo:
        """Done when that publication, which is going to be made, has come back or cannot any more."""
        echo: Echo = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(topic, {}).setdefault(body, deque()).append(echo)
        return echo

    def around(self, topic: str, body: Body, listens: Awaitable[bool]) -> Echoing:
        """Around making a publication. What it gives returns when that has come back, or cannot any more, or
        at a time, in the loop's; at once where nobody listens."""
        return Echoing(self, topic, body, listens)

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


class Echoing:
    """Around one publication: gives its `returned`."""

    __slots__ = ("_body", "_echo", "_echoes", "_listens", "_topic")

    def __init__(self, echoes: Echoes, topic: str, body: Body, listens: Awaitable[bool]) -> None:
        self._echoes = echoes
        self._topic = topic
        self._body = body
        self._listens = listens
        self._echo: Echo | None = None

    async def __aenter__(self) -> Returned:
        if await self._listens:
            self._echo = self._echoes.expect(self._topic, self._body)
        return self._returned

    async def __aexit__(self, *exc_info: object) -> None:
        echo = self._echo
        if echo is not None and (not echo.done() or echo.cancelled()):
            self._echoes.forget(self._topic, self._body, echo)

    async def _returned(self, deadline: float) -> None:
        if self._echo is None or self._echo.done():
            return
        timer = asyncio.get_running_loop().call_at(deadline, self._miss, self._echo)
        try:
            await self._echo
        finally:
            timer.cancel()

    def _miss(self, echo: Echo) -> None:
        logger.debug("what was published to %r has not come back", self._topic)
        self._echoes.forget(self._topic, self._body, echo)


def _end(echo: Echo) -> None:
    if not echo.done():
        echo.set_result(None)
