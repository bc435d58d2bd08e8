"""A small number for each process, which a process that is started anew uses again.

It tells the series of the processes apart. With an id, which is new each time, each restart would leave
series behind; a sum over those that live would fall when one ends, which Prometheus takes for a reset.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from fastapi_channels.cluster.tasks import Tasks
from fastapi_channels.stores import Store, StoreUnavailable
from fastapi_channels.wire.rooms import RESERVED

logger = logging.getLogger("fastapi_channels")

HELD: Final = 30.0
"""Seconds for which a process claims its number."""
RENEWAL: Final = 10.0
MAX_NUMBER: Final = 1000


class Number:
    """The lowest number that no other process has.

    Args:
        node: the id of this process.
        namespace: of the application.
        store: of all processes; None where they share none.
    """

    def __init__(self, node: str, namespace: str, store: Store | None) -> None:
        self._node = node
        self._namespace = namespace
        self._store = store
        self._number: int | None = None
        self._tasks = Tasks()

    def __str__(self) -> str:
        """The number; where there is none, for want of a store or of its answer, the id of the process."""
        return self._node if self._number is None else str(self._number)

    async def start(self) -> None:
        if self._store is not None:
            await self._renew(self._store)
            self._tasks.spawn(self._keep(self._store))

    async def stop(self) -> None:
        await self._tasks.stop()
        if self._store is not None and self._number is not None:
            try:
                await self._store.settle(self._key(self._number), self._node, None, HELD)
            except StoreUnavailable as exc:
                logger.debug("the number of this process is let go by itself: %s", exc)
        self._number, self._tasks = None, Tasks()

    def _key(self, number: int) -> str:
        return f"{self._namespace}{RESERVED}process\n{number}"

    async def _keep(self, store: Store) -> None:
        while True:
            await asyncio.sleep(RENEWAL)
            await self._renew(store)

    async def _renew(self, store: Store) -> None:
        """Claim the number anew; another where it was lost. It is kept while the store does not answer."""
        try:
            if self._number is None or not await self._claims(store, self._number):
                self._number = None
                for number in range(MAX_NUMBER):
                    if await self._claims(store, number):
                        self._number = number
                        return
        except StoreUnavailable as exc:
            logger.debug("the number of this process is not known to hold: %s", exc)

    async def _claims(self, store: Store, number: int) -> bool:
        return (await store.claim(self._key(number), self._node, HELD)).state == "new"
