"""A sign of life that a process gives itself: so a broker that is dead without a word is noticed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from fastapi_channels.wire.messages import Publication

from .tasks import Tasks

logger = logging.getLogger("fastapi_channels")

HEARTBEAT: Final = 2.0
"""Seconds between two of them. After three that do not come back the connection is given up."""


class Pulse:
    """
    Args:
        topic: of this process.
        publish: sends a publication through the broker.
        suspect: called with a reason when the own heartbeat does not come back.
    """

    def __init__(
        self,
        topic: str,
        publish: Callable[[Publication], Awaitable[None]],
        suspect: Callable[[str], None],
    ) -> None:
        self._topic = topic
        self._publish = publish
        self._suspect = suspect
        self.reset()

    def reset(self) -> None:
        """Run in whatever event loop comes next."""
        self._felt = 0.0
        self._tasks = Tasks()

    def start(self) -> None:
        """Begin; the topic must be subscribed."""
        self.feel()
        self._tasks.spawn(self._beat())

    async def stop(self) -> None:
        await self._tasks.stop()

    def feel(self) -> None:
        """It has come back; or it could not, for the broker was known to be away."""
        self._felt = asyncio.get_running_loop().time()

    async def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                await self._publish(Publication(self._topic, "", kind="pulse"))
            except ConnectionError as exc:
                logger.debug("no heartbeat: %s", exc)
                self.feel()
            await asyncio.sleep(HEARTBEAT)
            if self._felt < loop.time() - 3 * HEARTBEAT:
                self.feel()
                self._suspect("the own heartbeat does not come back")
