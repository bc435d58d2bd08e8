"""WebSockets that have to end, everywhere, because of what stands in the store.

Each handshake looks there that has to. The order that closes what is open goes over the broker. A process
that was cut off from it looks in the store, when it is back, for all whom it serves; and gives then the
orders that it could not give.
"""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

from fastapi_channels.exceptions import BrokerUnavailable
from fastapi_channels.stores import Store, StoreUnavailable
from fastapi_channels.wire.writer import Writer

from .orders import Order
from .tasks import Tasks

logger = logging.getLogger("fastapi_channels")

MAX_UNSENT: Final = 1000
"""Orders that are kept while the broker is away; a later one is given up, and the store alone has it."""
PAUSE: Final = 0.5
"""Seconds between two looks in a store that does not answer."""

W = TypeVar("W")
O = TypeVar("O", bound=Order)  # noqa: E741  # of orders


class Expulsions(Generic[W, O]):
    """Those of one kind that concern the WebSockets of this process. `W` says whose a WebSocket is.

    Args:
        store: shared by all processes; None where there is none.
        namespace: begins the keys there.
        send: gives an order to the other processes.
    """

    def __init__(self, store: Store | None, namespace: str, send: Callable[[Order], Awaitable[None]]) -> None:
        self._store = store
        self._namespace = namespace
        self._send = send
        self._present: dict[Writer, tuple[W, ...]] = {}
        """Whose each is; and whose it may be in a moment, while the store is asked."""
        self._unsent: dict[str, O] = {}
        self.reset()

    def __len__(self) -> int:
        return len(self._present)

    def reset(self) -> None:
        """Run in whatever event loop comes next."""
        self._tasks = Tasks()
        self._heals = False
        self._again = False
        """Whether the broker came back since what heals has begun to look."""

    async def stop(self) -> None:
        await self._tasks.stop()
        self.reset()

    async def enter(self, writer: Writer, who: W) -> bool:
        """Close `writer` from now on if `who` has to go; whether that is so already.

        Raises:
            ConfigurationError: there is no store.
            StoreUnavailable: it did not answer in time.
        """
        known = self._present.get(writer, ())
        # First: an order that comes while the store is asked is for this one too. Who it is until then is so
        # all the while, and stays it where this one is refused.
        self._present[writer] = (*known, who)
        try:
            if await self.has_to_go(who):
                return True
            known = (who,)
            return False
        finally:
            if writer in self._present:  # it may have left
                self._present[writer] = known

    def leave(self, writer: Writer) -> None:
        self._present.pop(writer, None)

    @abstractmethod
    async def has_to_go(self, who: W) -> bool:
        """
        Raises:
            ConfigurationError: there is no store.
            StoreUnavailable: it did not answer in time.
        """

    @abstractmethod
    def _means(self, order: O, who: W) -> bool:
        """Whether an order is for that one."""

    @abstractmethod
    def _close(self, writer: Writer) -> None:
        """Begin to close one that has to go."""

    def carry_out(self, order: O) -> None:
        """Close what an order means, of the WebSockets here."""
        for writer, known in list(self._present.items()):
            if any(self._means(order, who) for who in known):
                self._close(writer)

    def heal(self) -> None:
        """The broker is back: nobody knows what was ordered meanwhile, but the store."""
        if self._heals:  # it was away meanwhile: whoever was looked up before may have to go now
            self._again = True
        elif self._present or self._unsent:
            self._heals = True
            self._tasks.spawn(self._heal())

    async def _give(self, name: str, order: O) -> None:
        try:
            await self._send(order)
        except BrokerUnavailable:
            if len(self._unsent) < MAX_UNSENT:
                self._unsent[name] = order
            logger.warning("an order waits for the broker; processes that were cut off look in the store")

    async def _heal(self) -> None:
        try:
            self._again = True
            while self._again:
                self._again = False
                await self._heal_once()
        finally:
            self._heals = False

    async def _heal_once(self) -> None:
        unsent, self._unsent = self._unsent, {}
        for name, order in unsent.items():
            await self._give(name, order)
        for writer, known in list(self._present.items()):
            while writer in self._present:
                try:
                    if any([await self.has_to_go(who) for who in known]):
                        self._close(writer)
                    break
                except StoreUnavailable:
                    await asyncio.sleep(PAUSE)
