"""Who a client is: what it brings, and whether that holds."""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Any, Final, TypeAlias, cast

from fastapi import Security
from fastapi.security import HTTPBearer
from fastapi.security.base import SecurityBase
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from fastapi_channels.cluster.node import Node
from fastapi_channels.exceptions import (
    FOR_CLIENTS,
    ChannelsError,
    ConfigurationError,
    TokenExpired,
    Unauthenticated,
    WebSocketException,
)
from fastapi_channels.sessions.identity import Identity, signed_in
from fastapi_channels.sessions.sign_in import AUTH
from fastapi_channels.signatures.callables import awaited
from fastapi_channels.throttling import Rate
from fastapi_channels.wire.failures import raised

from .failures import Failures
from .sources import BearerSubprotocol, brought, lenient, plain, redact

logger = logging.getLogger("fastapi_channels")

MAX_TOKEN: Final = 8 * 1024
"""Characters of a token: a longer one is refused unread."""
MAX_WAITING: Final = 1000
"""Clients of a process whose first frame is waited for; one more, and the oldest of them is refused."""

Verifier: TypeAlias = Callable[[Any, HTTPConnection], Any]
"""Called with the credentials, and with the handshake or request that brought them; may be async. Returns an
Identity, or the user, or None for what is not its kind. Raises Unauthenticated for what does not hold."""


class Authenticator:
    """Says whose a WebSocket is; set it as `authenticator` of a channel or a `Socket`.

    It is a dependency too: `Annotated[Identity, Depends(authenticator)]` in any route.

    Args:
        verifiers: asked in this order, until one knows the kind of credentials.
        sources: where credentials may be, in this order; the first that has any counts. Security schemes of
            FastAPI, and `BearerSubprotocol`. A token in the URL is read only with an `APIKeyQuery` here, and
            kept out of the logs of this package and of the server then. None is read without verifiers.
        required: whether a client that brings nothing is refused; else its user is what a middleware says.
        first_frame: seconds that a client which brings nothing has for its first frame,
            `{"type": "auth", "token": …}`; None refuses it at the handshake.
        auth_handler: called with that frame as it was decoded, and with the handshake, in place of what reads
            its token; answers as a verifier does.
        tell: whether a handshake that is refused, for whatever reason, is accepted, told why in a frame and
            closed. A page cannot read the HTTP status of a refusal.
        failures: how often one address may bring what does not hold: `rate(10, minutes=1)`. Above that what
            it brings is refused with 429, unread. It is counted where all rates are: on Redis for all
            processes together, else in each for itself. None for no limit.
        revocable: whether who was signed out by `Publisher.revoke_user` or `revoke_session` is closed at
            once, and refused; it wants a store, which each handshake and each request asks. A token that does
            not say when it was issued is refused for as long as a revocation of its user is remembered.
        warning: seconds before the end of an identity at which the client is told of it; half of its time,
            where that is less.
        max_waiting: how many clients may be waited for at a time, in one process.

    Raises:
        ConfigurationError: what is given cannot work.
    """

    def __init__(
        self,
        *verifiers: Verifier,
        sources: Sequence[SecurityBase] = (HTTPBearer(), BearerSubprotocol()),
        required: bool = True,
        first_frame: float | None = None,
        auth_handler: Verifier | None = None,
        tell: bool = False,
        failures: Rate | None = None,
        revocable: bool = False,
        warning: float = 30.0,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        if not all(map(callable, verifiers)) or not (verifiers or auth_handler):
            raise ConfigurationError(
                "Authenticator takes verifiers, such as JWT(key, algorithms=[…]) or a function of the token "
                f"and the connection, got {verifiers!r}"
            )
        if first_frame is not None and not (0 < first_frame < math.inf):
            raise ConfigurationError(f"first_frame must be more than 0 seconds, or None, got {first_frame!r}")
        if first_frame is not None and not required:
            raise ConfigurationError(
                "with first_frame every client has to say who it is: leave out required="
            )
        if auth_handler is not None and first_frame is None:
            raise ConfigurationError(
                "auth_handler gets the first frame: say how long that may take, first_frame=5"
            )
        if failures is not None and not isinstance(failures, Rate):
            raise ConfigurationError(f"failures takes rate(times=…, minutes=…), got {failures!r}")
        self.sources = lenient(sources if verifiers else ())  # what nobody verifies is nobody's credentials
        self.tell = tell
        self.revocable = revocable
        self.warning = warning
        self.first_frame = first_frame
        self._verifiers = verifiers
        self.required = required
        self._auth_handler = auth_handler
        self._max_waiting = max_waiting
        self._failures = Failures(failures) if failures is not None else None
        self._waiting: dict[asyncio.Timeout, None] = {}
        redact(self.sources)
        # What FastAPI reads, so that the schemes are in its document of the routes.
        self.__signature__ = _signature(self.sources)

    async def __call__(self, connection: HTTPConnection, **found: Any) -> Identity | None:
        """Who sends a request; None for nobody, where that is allowed.

        Raises:
            HTTPException: 401, or the status of whatever a verifier raised.
            StoreUnavailable: it is not known whether it was revoked; a route answers 503.
        """
        try:
            credentials = next(filter(None, map(plain, found.values())), None)
            if credentials is None and self.required:
                raise Unauthenticated
            if credentials is None:
                return None
            identity = await self.verify(credentials, connection)
            if self.revocable:
                node = Node.of(connection.scope)
                if await node.revocations.has_to_go(signed_in(identity, node)):
                    raise Unauthenticated
            return identity
        except WebSocketException as exc:
            headers = exc.http_headers
            raise HTTPException(exc.http_status, exc.message(), headers) from None

    async def identify(self, connection: HTTPConnection) -> Identity | None:
        """Who begins a handshake; None for a client that brings nothing, and need not, or not yet.

        Raises:
            Unauthenticated: it must, or what it brings does not hold.
        """
        try:
            credentials = await brought(self.sources, connection)
        except HTTPException as exc:
            if exc.status_code != 401:
                raise
            return await self.verify(None, connection)  # FastAPI's HTTPBasic, of what it cannot read
        if credentials is not None:
            return await self.verify(credentials, connection)
        if self.required and self.first_frame is None:
            raise Unauthenticated
        return None

    async def verify(self, credentials: Any, connection: HTTPConnection) -> Identity:
        """Whose `credentials` are.

        Raises:
            Unauthenticated: they do not hold, or no verifier knows them.
            TokenExpired: not any more.
            RateLimitExceeded: others of this address did not hold either.
        """
        if isinstance(credentials, str) and len(credentials) > MAX_TOKEN:
            credentials = None
        return await self._first(self._verifiers if credentials is not None else (), credentials, connection)

    async def read(self, frame: Any, field: str, connection: HTTPConnection) -> Identity:
        """Who a client is that has sent `frame` as its first.

        Args:
            field: of a frame, that says what it is: `type`, or what an envelope has in its place.

        Raises:
            Unauthenticated: it does not say it, or what it brings does not hold.
        """
        if self._auth_handler is not None:
            return await self._first((self._auth_handler,), frame, connection)
        said: dict[str, Any] = frame if isinstance(frame, dict) else {}
        if said.get(field) != AUTH or not isinstance(said.get("token"), str):
            raise Unauthenticated(
                reason=f'the first frame has to be of the {field} "{AUTH}", and bring a token'
            )
        return await self.verify(said["token"], connection)

    async def _first(
        self, verifiers: Sequence[Verifier], credentials: Any, connection: HTTPConnection
    ) -> Identity:
        """What the first of `verifiers` answers that knows the kind of `credentials`."""
        if self._failures is None:
            return await _first_of(verifiers, credentials, connection)
        async with self._failures.attempt(connection):
            return await _first_of(verifiers, credentials, connection)

    @contextmanager
    def waiting(self, deadline: asyncio.Timeout) -> Iterator[None]:
        """Count one more client whose first frame is waited for. Where there are too many the oldest is
        refused: who means it has sent its frame by then."""
        if len(self._waiting) >= self._max_waiting:
            oldest = next(iter(self._waiting))
            del self._waiting[oldest]
            if not oldest.expired():
                oldest.reschedule(0.0)
        self._waiting[deadline] = None
        try:
            yield
        finally:
            self._waiting.pop(deadline, None)


async def _first_of(verifiers: Sequence[Verifier], credentials: Any, connection: HTTPConnection) -> Identity:
    for verifier in verifiers:
        identity = await _asked(verifier, credentials, connection)
        if identity is not None:
            return identity
    raise Unauthenticated


async def _asked(verifier: Verifier, credentials: Any, connection: HTTPConnection) -> Identity | None:
    """What a verifier answers. Where it fails it refuses; the log gets no word of what it says then, as that
    may hold what it was given."""
    try:
        found = await awaited(verifier(credentials, connection))
    except (ChannelsError, *FOR_CLIENTS):
        raise
    except Exception as exc:
        frames = "".join(traceback.format_tb(exc.__traceback__))
        logger.error("a verifier failed, and so refuses: %s\n%s", type(exc).__name__, frames)
        raised(connection.scope, exc)
        raise Unauthenticated from None
    if found is None or found is False:
        return None
    identity = found if isinstance(found, Identity) else Identity(found)
    if identity.expires_at is not None and identity.expires_at <= time.time():
        raise TokenExpired
    return identity


def _signature(sources: Sequence[SecurityBase]) -> inspect.Signature:
    keyword = partial(inspect.Parameter, kind=inspect.Parameter.KEYWORD_ONLY)
    found = [Annotated[Any, Security(cast("Callable[..., Any]", source))] for source in sources]
    named = [keyword(f"source_{number}", annotation=each) for number, each in enumerate(found)]
    return inspect.Signature([keyword("connection", annotation=HTTPConnection), *named])
