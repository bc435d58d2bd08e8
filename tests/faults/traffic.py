"""Messages without a pause, for what must go on while servers fail."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi_channels.exceptions import BrokerUnavailable
from tests.support.brokers import Process
from tests.support.live import wait_until


class Traffic:
    """Publishes without a pause, and remembers what the broker took."""

    def __init__(self, process: Process) -> None:
        self.taken: list[str] = []
        self.refused = 0
        self._process = process

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._publish())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait((task,))

    async def _publish(self) -> None:
        number = 0
        while True:
            number += 1
            body = f"{id(self)} {number}"
            try:
                await self._process.publish("room", body)
                self.taken.append(body)
            except BrokerUnavailable:
                self.refused += 1
            await asyncio.sleep(0.001)


async def delivered_again(*processes: Process) -> float:
    """Seconds until each process has received something that was not there before."""
    began, counts = time.monotonic(), [len(process.delivered) for process in processes]
    await wait_until(lambda: all(len(p.delivered) > n for p, n in zip(processes, counts, strict=True)))
    return time.monotonic() - began
