"""A broker with what it delivered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from broadcaster import BroadcastBackend

from fastapi_channels.brokers import Broker
from fastapi_channels.exceptions import BrokerUnavailable
from fastapi_channels.wire.messages import Body, Publication

from .live import DEADLINE, wait_until

PATIENT: Final[dict[str, Any]] = {"publish_timeout": DEADLINE}
"""For a broker whose calls fail in no other case."""


class Process:
    """What stands for one process of an application: a broker, and what came out of it."""

    def __init__(self, backend: BroadcastBackend, **options: Any) -> None:
        self.delivered: list[Publication] = []
        self.changes: list[bool] = []
        self.broker = Broker(backend, self.deliver, on_change=self.changes.append, **options)

    def deliver(self, publication: Publication) -> None:
        self.delivered.append(publication)

    @property
    def bodies(self) -> list[Body]:
        return [publication.body for publication in self.delivered]

    async def publish(self, topic: str, body: Body, **fields: Any) -> None:
        await self.broker.publish(Publication(topic, body, **fields))

    async def receives(self, count: int) -> list[Body]:
        """The bodies, when there are `count` of them."""
        await wait_until(lambda: len(self.delivered) >= count)
        return self.bodies

    async def drained(self, topic: str) -> None:
        """Wait until whatever was published before has been delivered; ends with one more message."""
        await self.publish(topic, "the last one")
        await wait_until(lambda: bool(self.delivered) and self.delivered[-1].body == "the last one")


@asynccontextmanager
async def running(*processes: Process) -> AsyncIterator[None]:
    try:
        for process in processes:
            await process.broker.start()
        yield
    finally:
        for process in processes:
            await process.broker.stop()


async def persistently(call: Callable[[], Awaitable[None]]) -> None:
    """Until the broker takes it: it may be back, and slow."""
    async with asyncio.timeout(DEADLINE):
        while True:
            try:
                return await call()
            except BrokerUnavailable:
                await asyncio.sleep(0.002)


def other_tasks() -> set[asyncio.Task[Any]]:
    current = asyncio.current_task()
    return {task for task in asyncio.all_tasks() if task is not current}
