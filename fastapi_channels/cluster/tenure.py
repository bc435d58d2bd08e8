"""The lease of this process in the store, kept up; and whether it holds at this moment."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from fastapi_channels.stores import Lease, Left, Store, StoreUnavailable

from .tasks import Tasks, shared

logger = logging.getLogger("fastapi_channels")

LEASE: Final = 6.0
"""Seconds that a process may be silent until what it has entered is taken out."""
RENEWAL: Final = 2.0
"""Seconds between two renewals."""
TRUSTED: Final = 0.9
"""The part of a lease that its holder counts on: clocks do not run alike."""


def _now() -> float:
    """Seconds that go on also while the machine sleeps, where the system has such a clock."""
    return time.monotonic() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)


_BOOTTIME: Final[int | None] = getattr(time, "CLOCK_BOOTTIME", None)


class Tenure:
    """
    Args:
        node: the id of this process.
        store: gives the lease.
        on_renewed: awaited after each renewal, before the lease counts. True says that what was entered may
            not be there any more, and has to be entered anew: the lease had ended, or the store was away.
        on_evicted: told what was taken out of those whose lease has ended, and False; or what was taken out
            of this process, and True: its clients may have gone to another.
    """

    def __init__(
        self,
        node: str,
        store: Store,
        on_renewed: Callable[[bool], Awaitable[None]],
        on_evicted: Callable[[Sequence[Left], bool], None],
    ) -> None:
        self._node = node
        self._store = store
        self._on_renewed = on_renewed
        self._on_evicted = on_evicted
        self.reset()

    def reset(self) -> None:
        """Hold nothing, and run in whatever event loop comes next."""
        self.lease: Lease | None = None
        self._until = 0.0
        self._settled = (0, 0)
        """The token under which everything is entered, and how often the store had connected then."""
        self._tasks = Tasks()
        self._renewing: asyncio.Task[None] | None = None
        self._missing: float | None = None
        """Since when the store does not answer."""
        self._is_told = False
        """Whether the log knows that from here."""

    @property
    def away(self) -> float:
        """Seconds that the store has not answered; 0.0 while it does."""
        return 0.0 if self._missing is None else time.monotonic() - self._missing

    @property
    def holds(self) -> bool:
        """Whether nobody can have been given what this process has entered."""
        return _now() < self._until

    def start(self) -> None:
        self._tasks.spawn(self._keep())

    async def stop(self) -> None:
        """Give the lease back, with all that is entered under it."""
        await self._tasks.stop()
        if self._renewing is not None:
            self._renewing.cancel()
        lease = self.lease
        self.reset()
        if lease is not None:
            try:
                self._on_evicted(await self._store.resign(lease), True)
            except StoreUnavailable as exc:
                logger.debug("the lease ends by itself: %s", exc)

    def doubt(self) -> None:
        """The store says that the lease has ended."""
        self._until = 0.0

    async def regain(self) -> None:
        """Return when the lease holds, and all that could be is entered under it.

        Raises:
            StoreUnavailable: the store did not answer in time.
        """
        while not self.holds:
            if self._renewing is None:
                self._renewing = shared(self._renew())
            await asyncio.shield(self._renewing)

    async def _renew(self) -> None:
        try:
            began = _now()
            token = self.lease.token if self.lease is not None else 0
            self.lease = lease = await self._store.renew(self._node, token, LEASE)
            basis = lease.token, self._store.connects
            await self._on_renewed(basis != self._settled)
            self._settled = basis
            self._until = float("inf") if not self._store.shared else began + TRUSTED * LEASE
        finally:
            self._renewing = None

    async def _keep(self) -> None:
        while True:
            try:
                if self._renewing is None:
                    self._renewing = shared(self._renew())
                await asyncio.shield(self._renewing)
                self._on_evicted(await self._store.evict(), False)
            except StoreUnavailable as exc:
                if self._missing is None:
                    self._missing = time.monotonic()
                    self._is_told = not exc.is_told
                    if self._is_told:
                        logger.warning("the store does not answer, and is tried on: %s", exc)
            else:
                if self._missing is not None and self._is_told:
                    logger.warning("the store answers again after %.1f s", self.away)
                self._missing = None
            await asyncio.sleep(RENEWAL)
