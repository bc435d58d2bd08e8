"""One-time tickets: a route gives one out to who is known there, and a WebSocket that brings it is theirs."""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
from collections.abc import Collection
from typing import Any, Final, Literal, TypeAlias, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.requests import HTTPConnection

from fastapi_channels.cluster.node import Node
from fastapi_channels.cluster.sender import without_store
from fastapi_channels.exceptions import ConfigurationError, Unauthenticated
from fastapi_channels.sessions.identity import Identity
from fastapi_channels.stores import Store
from fastapi_channels.throttling import client_address

PREFIX: Final = "fct_"
"""Begins each ticket, so that verifiers know it for one, and so does who looks for secrets that got out."""
MAX_USER: Final = 16 * 1024
"""Bytes of a user, as JSON."""
Bond: TypeAlias = Literal["origin", "address"]


class _Kept(BaseModel):
    """What the store has of a ticket."""

    user: str
    expires_at: float | None
    issued_at: float | None
    session: str | None
    origin: str | None = None
    address: str | None = None


class Tickets:
    """Gives out tickets, and verifies each once; a verifier of an `Authenticator`.

    A ticket is good for one WebSocket, whichever of several processes it comes to. It stands in the store of
    the application until then, under its hash.

    Args:
        seconds: how long a ticket is good.
        user: the type of users, which the store keeps as JSON; plain values of JSON unless given.
        bind: what of the client must be the same again: its `origin`, its `address`.

    Raises:
        ConfigurationError: what is given cannot work.
    """

    def __init__(self, seconds: float = 30.0, *, user: Any = Any, bind: Collection[Bond] = ()) -> None:
        if not 0 < seconds < math.inf:
            raise ConfigurationError(f"a ticket is good for more than 0 seconds, got {seconds!r}")
        if isinstance(bind, str) or not set(get_args(Bond)).issuperset(bind):
            raise ConfigurationError(f'bind is a list of "origin" and "address", got {bind!r}')
        self._seconds = seconds
        self._user: TypeAdapter[Any] = TypeAdapter(user)
        self._bind = frozenset(bind)

    async def issue(self, identity: Identity, connection: HTTPConnection) -> str:
        """A ticket for who is `identity`, as a request has shown.

        Raises:
            ConfigurationError: no store, or a user that JSON cannot hold, or not in 16 KB.
            StoreUnavailable: the store did not take it in time.
        """
        user = self._user.dump_json(identity.user).decode()
        if len(user) > MAX_USER:
            raise ConfigurationError(
                f"a user may have {MAX_USER} bytes in a ticket, this one has {len(user)}"
            )
        kept = _Kept(
            user=user,
            expires_at=identity.expires_at,
            issued_at=identity.issued_at,
            session=identity.session,
            **self._bonds(connection),
        )
        ticket = PREFIX + secrets.token_urlsafe(32)
        await _store(connection).put(_key(connection, ticket), kept.model_dump_json(), self._seconds)
        return ticket

    async def __call__(self, ticket: Any, connection: HTTPConnection) -> Identity | None:
        """Whose `ticket` is, which is used up then; None for what is no ticket.

        Raises:
            Unauthenticated: it was used, has ended, never was, or is bound to another client.
            StoreUnavailable: the store did not answer in time.
        """
        if not isinstance(ticket, str) or not ticket.startswith(PREFIX):
            return None
        found = await _store(connection).take(_key(connection, ticket))
        if found is None:
            raise Unauthenticated
        try:
            kept = _Kept.model_validate_json(found)
            user = self._user.validate_json(kept.user)
        except ValidationError:
            raise Unauthenticated from None
        for bond, value in self._bonds(connection).items():
            if not hmac.compare_digest((getattr(kept, bond) or "").encode(), (value or "").encode()):
                raise Unauthenticated
        return Identity(user, kept.expires_at, kept.issued_at, kept.session)

    def _bonds(self, connection: HTTPConnection) -> dict[str, Any]:
        found = {
            "origin": connection.headers.get("origin", ""),
            "address": client_address(connection, Node.of(connection.scope).settings.trusted_proxies),
        }
        return {name: value for name, value in found.items() if name in self._bind}


def _store(connection: HTTPConnection) -> Store:
    store = Node.of(connection.scope).store
    if store is None:
        raise without_store("Tickets")
    return store


def _key(connection: HTTPConnection, ticket: str) -> str:
    namespace = Node.of(connection.scope).settings.namespace
    return f"{namespace}ticket {hashlib.sha256(ticket.encode()).hexdigest()}"
