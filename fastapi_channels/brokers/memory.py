"""The backend of an application that is one process."""

from __future__ import annotations

from typing import Any

from broadcaster import BroadcastBackend, Event

from .backend import Receive
from .backlog import LIMIT, Backlog


class MemoryBackend(BroadcastBackend):
    """Messages stay in this process, and are passed as the objects they are.

    While somebody listens, a message is received before `publish` returns: no task and no queue is in
    between. In a plain `Broadcast(backend=MemoryBackend())` messages wait, bounded.

    Args:
        url: ignored; there for the sake of broadcaster's contract.
        limit: bytes that wait in a plain `Broadcast`; beyond them the oldest messages are dropped.
    """

    def __init__(self, url: str = "memory://", *, limit: int = LIMIT) -> None:
        self._topics: set[str] = set()
        self._backlog = Backlog(limit)

    @property
    def dropped(self) -> int:
        return self._backlog.dropped

    async def connect(self) -> None:
        self._backlog.open()

    async def disconnect(self) -> None:
        self._topics.clear()

    async def subscribe(self, group: str) -> None:
        self._topics.add(group)

    async def unsubscribe(self, group: str) -> None:
        self._topics.discard(group)

    async def publish(self, channel: str, message: Any) -> None:
        if channel in self._topics:
            self._backlog.put(channel, message)

    async def next_published(self) -> Event:
        return await self._backlog.get()

    async def listen(self, receive: Receive) -> None:
        await self._backlog.listen(receive)
