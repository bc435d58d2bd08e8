"""Who was signed out, everywhere: the WebSockets of a user, or of one log-in.

What was revoked stands in the store, where each handshake looks that has to. The order that closes what is
open goes over the broker. A process that was cut off from it looks in the store, when it is back, for all
whom it serves; and gives then the orders that it could not give.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from fastapi_channels.exceptions import BrokerUnavailable, CloseCode
from fastapi_channels.stores import Store, StoreUnavailable
from fastapi_channels.wire.writer import Writer

from .orders import Order, Revoke
from .sender import without_store
from .tasks import Tasks

logger = logging.getLogger("fastapi_channels")

REMEMBERED: Final = 86_400.0
"""Seconds that a revocation is remembered, unless said otherwise: no token may live longer."""
MAX_UNSENT: Final = 1000
"""Orders that are kept while the broker is away; a later one is given up, and the store alone has it."""
PAUSE: Final = 0.5
"""Seconds between two looks in a store that does not answer."""


class SignedIn(NamedTuple):
    """Whose a WebSocket is.

    Attributes:
        user: the key of its user.
        session: what it signed in with.
        since: when its credentials were issued, seconds since 1970; 0 where that is not known.
    """

    user: str | None
    session: str | None
    since: float


class Revocations:
    """Those that concern the WebSockets of this process.

    Args:
        store: shared by all processes; None where there is none.
        namespace: begins the keys there.
        send: gives an order to the other processes.
    """

    def __init__(self, store: Store | None, namespace: str, send: Callable[[Order], Awaitable[None]]) -> None:
        self._store = store
        self._namespace = namespace
        self._send = send
        self._present: dict[Writer, tuple[SignedIn, ...]] = {}
        """Whose each is; and whose it may be in a moment, while the store is asked."""
        self._unsent: dict[str, Revoke] = {}
        self.reset()

    def __len__(self) -> int:
        return len(self._present)

    def reset(self) -> None:
        """Run in whatever event loop comes next."""
        self._tasks = Tasks()
        self._heals = False

    async def stop(self) -> None:
        await self._tasks.stop()
        self.reset()

    async def enter(self, writer: Writer, who: SignedIn) -> bool:
        """Close `writer` from now on if `who` is revoked; whether that is so already.

        Raises:
            ConfigurationError: there is no store.
            StoreUnavailable: it did not answer in time.
        """
        known = self._present.get(writer, ())
        # First: an order that comes while the store is asked is for this one too. Who it is until then is so
        # all the while, and stays it where this one is refused.
        self._present[writer] = (*known, who)
        try:
            if await self.is_revoked(who):
                return True
            known = (who,)
            return False
        finally:
            if writer in self._present:  # it may have left
                self._present[writer] = known

    async def is_revoked(self, who: SignedIn) -> bool:
        """
        Raises:
            ConfigurationError: there is no store.
            StoreUnavailable: it did not answer in time.
        """
        if self._store is None:
            raise without_store("Authenticator(revocable=True)")
        keys = [(kind, name) for kind, name in (("user", who.user), ("session", who.session)) if name]
        found = await asyncio.gather(
            *(self._store.get(_key(self._namespace, kind, name)) for kind, name in keys)
        )
        return any(at is not None and who.since <= float(at) for at in found)

    def leave(self, writer: Writer) -> None:
        self._present.pop(writer, None)

    async def revoke(self, order: Revoke, seconds: float) -> None:
        """Remember it for `seconds`, and close what is open in every process.

        Raises:
            ConfigurationError: there is no store.
            StoreUnavailable: it is not remembered; what is open is closed all the same.
        """
        self.carry_out(order)
        try:
            await remember(self._store, self._namespace, order, seconds)
        finally:
            await self._give(order)

    def carry_out(self, order: Revoke) -> None:
        """Close what an order means, of the WebSockets here."""
        for writer, known in list(self._present.items()):
            if any(_means(order, who) for who in known):
                _close(writer)

    def heal(self) -> None:
        """The broker is back: nobody knows what was revoked meanwhile, but the store."""
        if not self._heals and (self._present or self._unsent):
            self._heals = True
            self._tasks.spawn(self._heal())

    async def _give(self, order: Revoke) -> None:
        try:
            await self._send(order)
        except BrokerUnavailable:
            if len(self._unsent) < MAX_UNSENT:
                self._unsent[f"{order.user} {order.session}"] = order
            logger.warning("a revocation waits for the broker; processes that were cut off look in the store")

    async def _heal(self) -> None:
        try:
            unsent, self._unsent = list(self._unsent.values()), {}
            for order in unsent:
                await self._give(order)
            for writer, known in list(self._present.items()):
                while writer in self._present:
                    try:
                        if any([await self.is_revoked(who) for who in known]):
                            _close(writer)
                        break
                    except StoreUnavailable:
                        await asyncio.sleep(PAUSE)
        finally:
            self._heals = False


async def remember(store: Store | None, namespace: str, order: Revoke, seconds: float) -> None:
    """
    Raises:
        ConfigurationError: there is no store.
        StoreUnavailable: it is not remembered.
    """
    if store is None:
        raise without_store("a revocation")
    for kind, name in (("user", order.user), ("session", order.session)):
        if name is not None:
            await store.put(_key(namespace, kind, name), str(order.at), seconds)


def _means(order: Revoke, who: SignedIn) -> bool:
    named = (order.user is not None and order.user == who.user) or (
        order.session is not None and order.session == who.session
    )
    return named and who.since <= order.at


def now() -> float:
    return time.time()


def _key(namespace: str, kind: str, name: str) -> str:
    return f"{namespace}revoked {kind} {name}"


def _close(writer: Writer) -> None:
    writer.start_close(CloseCode.UNAUTHENTICATED, "revoked")
