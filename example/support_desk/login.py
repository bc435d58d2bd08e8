"""Who somebody is: a token that says it, and nothing that proves it.

Whoever knows a name can log in with it. A real desk asks for a password, or leaves the question to an
identity provider, whose keys a `JWKS` fetches; everything behind the authenticators stays as it is.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Final, TypeAlias

import jwt
from fastapi import Depends
from fastapi.security import APIKeyCookie, HTTPBearer
from starlette.requests import HTTPConnection

from fastapi_channels.auth import JWT, Authenticator, BearerSubprotocol, Identity, Tickets

COOKIE: Final = "desk_user"
SECONDS: Final = 3600
"""A token is good for an hour. Who is still there brings a new one."""


@dataclass(frozen=True)
class Person:
    """A user as the whole of a connection knows them: plain values, no database behind them."""

    id: int
    name: str
    room: str | None
    """The room of an agent; None for a customer."""


class Tokens:
    """Makes tokens that nobody else can make, and verifies them."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._verify = JWT(secret, algorithms=["HS256"], audience="desk", user=_person)

    def sign(self, person: Person, *, seconds: float = SECONDS) -> str:
        now = time.time()
        claims = {"sub": str(person.id), "aud": "desk", "iat": now, "exp": now + seconds}
        return jwt.encode(
            {**claims, "sid": secrets.token_hex(8), "person": asdict(person)}, self._secret, algorithm="HS256"
        )

    async def __call__(self, token: Any, connection: HTTPConnection) -> Identity | None:
        return await self._verify(token, connection)


def _person(claims: dict[str, Any]) -> Person:
    return Person(**claims["person"])


async def by_token(token: Any, connection: HTTPConnection) -> Identity | None:
    tokens: Tokens = connection.app.state.tokens
    return await tokens(token, connection)


passes = Tickets(user=Person, bind=["origin"])
"""For one WebSocket each: a page cannot read the token in its cookie, to send it."""
by_request = Authenticator(by_token, sources=[HTTPBearer(), APIKeyCookie(name=COOKIE)])
"""Who sends a request: a program by header, a page by cookie."""
by_socket = Authenticator(passes, by_token, sources=[HTTPBearer(), BearerSubprotocol()], revocable=True)
"""Who opens a WebSocket: a program by header, a page by a pass."""

CurrentIdentity: TypeAlias = Annotated[Identity, Depends(by_request)]


async def current_person(identity: CurrentIdentity) -> Person:
    person: Person = identity.user
    return person


CurrentPerson: TypeAlias = Annotated[Person, Depends(current_person)]
