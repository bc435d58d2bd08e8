"""Who was signed out, everywhere: the WebSockets of a user, or of one log-in."""

from __future__ import annotations

import asyncio
import time
from typing import Final, NamedTuple

from fastapi_channels.exceptions import CloseCode
from fastapi_channels.stores import Store
from fastapi_channels.wire.writer import Writer

from .expulsions import Expulsions
from .orders import Revoke
from .sender import without_store

REMEMBERED: Final = 86_400.0
"""Seconds that a revocation is remembered, unless said otherwise: no token may live longer."""


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


class Revocations(Expulsions[SignedIn, Revoke]):
    """Those that concern the WebSockets of this process."""

    async def has_to_go(self, who: SignedIn) -> bool:
        if self._store is None:
            raise without_store("Authenticator(revocable=True)")
        keys = [(kind, name) for kind, name in (("user", who.user), ("session", who.session)) if name]
        found = await asyncio.gather(
            *(self._store.get(_key(self._namespace, kind, name)) for kind, name in keys)
        )
        return any(at is not None and who.since <= float(at) for at in found)

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
            await self._give(f"{order.user} {order.session}", order)

    def _means(self, order: Revoke, who: SignedIn) -> bool:
        named = (order.user is not None and order.user == who.user) or (
            order.session is not None and order.session == who.session
        )
        return named and who.since <= order.at

    def _close(self, writer: Writer) -> None:
        writer.start_close(CloseCode.UNAUTHENTICATED, "revoked")


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


def now() -> float:
    return time.time()


def _key(namespace: str, kind: str, name: str) -> str:
    return f"{namespace}revoked {kind} {name}"
