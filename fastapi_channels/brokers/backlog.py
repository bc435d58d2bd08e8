"""The messages that a backend has received and that nobody has taken yet."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Any, Final, NoReturn

from broadcaster import Event

from .backend import MISSED, Receive

logger = logging.getLogger("fastapi_channels")

LIMIT: Final = 16 * 1024 * 1024
"""Bytes, unless said otherwise."""
OVERHEAD: Final = 128
"""Bytes that a message counts for beside its content."""


class Backlog:
    """One consumer's messages, taken one by one with `get`, or handed over as they come by `listen`.

    Bounded: beyond `limit` bytes the oldest messages are dropped. They are counted, and the log says
    so once.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self.dropped = 0
        self._limit = limit
        self._events: deque[tuple[Event, int]] = deque()
        self._size = 0
        self._receive: Receive | None = None
        self._broken: BaseException | None = None
        self._wake: asyncio.Future[None] | None = None

    def open(self) -> None:
        """Begin empty and unbroken."""
        self._events.clear()
        self._size = 0
        self._broken = None

    def put(self, topic: str, message: Any) -> None:
        if self._receive is not None:
            self._receive(topic, message)
        elif message is not MISSED:
            self._keep(topic, message)

    def fail(self, reason: BaseException) -> None:
        """Make `get`, after what it still has, and `listen` raise `reason`."""
        self._broken = reason
        self._awake()

    async def get(self) -> Event:
        while not self._events:
            await self._change()
        event, size = self._events.popleft()
        self._size -= size
        return event

    async def listen(self, receive: Receive) -> NoReturn:
        """Hand over what is here, then everything that is put, at once."""
        while self._events:
            event = await self.get()
            receive(event.channel, event.message)
        self._receive = receive
        try:
            while True:
                await self._change()
        finally:
            self._receive = None

    def _keep(self, topic: str, message: Any) -> None:
        size = OVERHEAD + _size(message)
        self._events.append((Event(topic, message), size))
        self._size += size
        while self._size > self._limit and len(self._events) > 1:
            self._size -= self._events.popleft()[1]
            self._drop()
        self._awake()

    def _drop(self) -> None:
        self.dropped += 1
        if self.dropped == 1:
            logger.warning(
                "messages come faster than they are taken: beyond %d bytes the oldest are dropped",
                self._limit,
            )

    async def _change(self) -> None:
        """Wait for a message, or for the end."""
        if self._broken is not None:
            raise self._broken
        self._wake = asyncio.get_running_loop().create_future()
        await self._wake

    def _awake(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)


def _size(message: Any) -> int:
    return len(message) if isinstance(message, str | bytes) else 0
