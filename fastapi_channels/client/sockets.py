"""The WebSockets of the package `websockets`."""

from __future__ import annotations

import asyncio
import ssl as ssl_module
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from fastapi_channels.wire.messages import Body

from .settings import Closed, Dial, Wire

FOR_NOW: Final = frozenset({408, 425, 429})
"""Those of the statuses from 400 to 499 after which a handshake may be tried again. Below them nobody
refuses: a page that asks for a login on a foreign network answers so."""
CLOSE_TIMEOUT: Final = 1.0
"""Seconds that a server gets to answer a close."""


def dialer(*, ssl: ssl_module.SSLContext | None = None, proxy: str | Literal[True] | None = True) -> Dial:
    """
    Args:
        ssl: for `wss://`; the default context unless given.
        proxy: its URL; True for that of the environment, None for none.
    """
    options: dict[str, Any] = {} if ssl is None else {"ssl": ssl}

    async def dial(url: str, protocols: Sequence[str], headers: Mapping[str, str]) -> Wire:
        try:
            parse_uri(url)
        except InvalidURI as exc:  # it would be the same each time
            raise Closed(0, str(exc)) from exc
        try:
            socket = await Connect(
                url,
                subprotocols=[Subprotocol(each) for each in protocols] or None,
                additional_headers=dict(headers),
                # The client has its own: it knows what a sign of life is.
                ping_interval=None,
                open_timeout=None,
                close_timeout=CLOSE_TIMEOUT,
                max_size=None,
                compression=None,
                proxy=proxy,
                **options,
            )
        except InvalidStatus as exc:
            raise _refusal(exc) from exc
        except (OSError, InvalidHandshake, EOFError) as exc:
            raise Closed(1006, str(exc)) from exc
        return _Socket(socket)

    return dial


class Connect(connect):
    """Follows no redirect: it would hand the token to wherever that leads. Browsers do not either."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


def _refusal(exc: InvalidStatus) -> Closed:
    response = exc.response
    text = (response.body or b"").decode(errors="replace")[:200]
    reason = f"HTTP {response.status_code} {text}".strip()
    if response.status_code in range(400, 500) and response.status_code not in FOR_NOW:
        return Closed(0, reason)
    wait = response.headers.get("Retry-After", "")
    return Closed(1013, f"{reason}; retry_after={wait}" if wait.isdigit() else reason)


class _Socket:
    """A Wire."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    @property
    def subprotocol(self) -> str | None:
        return self._socket.subprotocol

    async def send(self, body: Body) -> None:
        try:
            await self._socket.send(body)
        except ConnectionClosed as exc:
            raise self._closed(exc) from exc

    async def receive(self) -> Body:
        try:
            return await self._socket.recv()
        except ConnectionClosed as exc:
            raise self._closed(exc) from exc

    async def close(self, code: int) -> None:
        try:
            await self._socket.close(code)
        except asyncio.CancelledError:
            self._socket.transport.abort()
            raise

    def _closed(self, exc: ConnectionClosed) -> Closed:
        code = self._socket.close_code
        return Closed(1006 if code is None else code, self._socket.close_reason or "")
