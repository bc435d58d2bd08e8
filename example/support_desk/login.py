"""Who somebody is: a signed cookie that says it, and nothing that proves it.

Whoever knows a name can log in with it. A real desk asks for a password, or leaves the question to an
identity provider; everything behind `current_person` stays as it is.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Annotated, Final, TypeAlias

from fastapi import Depends, HTTPException
from starlette.requests import HTTPConnection

from .database import Sessions, User, get_sessions

COOKIE: Final = "desk_user"


class Signer:
    """Makes values of cookies that nobody else can make."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def sign(self, user_id: int) -> str:
        return f"{user_id}.{self._signature(str(user_id))}"

    def read(self, cookie: str) -> int | None:
        """The user's id, or None if the cookie was not signed here."""
        user_id, _, signature = cookie.partition(".")
        if not hmac.compare_digest(signature.encode(), self._signature(user_id).encode()):
            return None
        return int(user_id)

    def _signature(self, value: str) -> str:
        return hmac.digest(self._secret, value.encode(), "sha256").hex()


@dataclass(frozen=True)
class Person:
    """A user as the whole of a connection knows them: plain values, no database behind them."""

    id: int
    name: str
    room: str | None
    """The room of an agent; None for a customer."""


async def current_person(
    connection: HTTPConnection, sessions: Annotated[Sessions, Depends(get_sessions)]
) -> Person:
    """Who sends a request, or opens a WebSocket.

    It takes a session for a moment only: what an endpoint of a WebSocket depends on with `yield` stays
    open as long as the WebSocket.
    """
    signer: Signer = connection.app.state.signer
    user_id = signer.read(connection.cookies.get(COOKIE, ""))
    async with sessions() as session:
        user = None if user_id is None else await session.get(User, user_id)
    if user is None:
        raise HTTPException(401, "log in first")
    return Person(user.id, user.name, user.room.name if user.room else None)


CurrentPerson: TypeAlias = Annotated[Person, Depends(current_person)]
