"""A client of an application: the doors to its rooms."""

from __future__ import annotations

import re
import ssl as ssl_module
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal, Self, TypeAlias
from urllib.parse import quote, urlsplit, urlunsplit
from uuid import UUID
from weakref import WeakSet

from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.wire.messages import Envelope

from .errors import ClientError
from .home import Home
from .line import Many, Single
from .room import Room
from .settings import Dial, Settings, Times, Token

Place: TypeAlias = str | float | UUID
"""What stands for a parameter in an address."""

_PARAMETER = re.compile(r"{(\w+)(?::\w+)?}")


class Socket:
    """One WebSocket for many rooms."""

    def __init__(self, line: Many) -> None:
        self._line = line

    @property
    def own(self) -> Room:
        """Hears what is sent to this client alone, or to all of its user; and that the socket is refused."""
        return self._line.own

    def room(self, name: str, *, since: str = "") -> Room:
        """Join a room: the same object for all that ask for it, until each of them has left.

        Args:
            since: where an earlier client of the room has been: its `position`.

        Raises:
            ClientError: the socket was closed.
        """
        return self._line.room(name, since)

    async def close(self) -> None:
        """Leave all rooms, and the server."""
        await self._line.close()

    async def __aenter__(self) -> Self:
        await self.own.ready()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()


class Client:
    """Comes back by itself, in its rooms, with what it missed and nothing twice.

    `async with Client(url) as client` leaves all rooms at its end. It is for one event loop, and raises
    ClientError in another one.

    Args:
        url: of the application: `https://`, or `wss://`.
        token: called before each attempt; sent as the subprotocol `bearer.…`, never in the URL.
        headers: of each handshake.
        protocols: further subprotocols.
        query: of each handshake.
        away: `wait`: what is called while a room is not joined waits, within its time; `fail`: it fails.
        envelope: as the channel has it.
        trace: what each call belongs to, as W3C Trace Context has it: `traceparent`, and `tracestate`. The
            application has to want it.
        times: in place of the usual ones.
        ssl: for `wss://`; the default context unless given.
        proxy: its URL; True for that of the environment, None for none.
        dial: opens WebSockets in place of the package `websockets`.

    Raises:
        ConfigurationError: `token` is no function.
    """

    def __init__(
        self,
        url: str,
        *,
        token: Token | None = None,
        headers: Mapping[str, str] | None = None,
        protocols: Sequence[str] = (),
        query: Mapping[str, str] | None = None,
        away: Literal["wait", "fail"] = "wait",
        envelope: Envelope | None = None,
        trace: Callable[[], Mapping[str, str]] | None = None,
        times: Times | None = None,
        ssl: ssl_module.SSLContext | None = None,
        proxy: str | Literal[True] | None = True,
        dial: Dial | None = None,
    ) -> None:
        if token is not None and not callable(token):
            raise ConfigurationError("token is a function that returns one: it is asked before each attempt")
        if dial is None:
            from .sockets import dialer

            dial = dialer(ssl=ssl, proxy=proxy)
        self._url = url
        self._settings = Settings(
            dial=dial,
            token=token,
            headers=headers or {},
            protocols=protocols,
            query=query or {},
            away=away,
            envelope=envelope or Envelope(),
            trace=trace,
            times=times or Times(),
        )
        self._is_closed = False
        self._home: Home | None = None
        self._lines: WeakSet[Single | Many] = WeakSet()
        """Those that are open live by themselves; one that was left is gone with its rooms."""

    def room(
        self, address: str, *, since: str = "", query: Mapping[str, str] | None = None, **parameters: Place
    ) -> Room:
        """Join the room at an address of the application, such as `/rooms/{channel}`: a WebSocket of its own.

        Args:
            since: where an earlier client of the room has been: its `position`.
            query: of its handshake, beside that of the client.
            parameters: those in the address.

        Raises:
            ConfigurationError: one of them is missing.
            ClientError: the client was closed.
        """
        self._check()
        settings = self._settings
        if query:
            settings = replace(settings, query={**settings.query, **query})
        line = Single(settings, _place(self._url, address, parameters), address, since)
        self._lines.add(line)
        return line.room

    def socket(self, address: str, **parameters: Place) -> Socket:
        """One WebSocket for many rooms, at the address of a `Socket`.

        Raises:
            as `room`.
        """
        self._check()
        line = Many(self._settings, _place(self._url, address, parameters))
        self._lines.add(line)
        return Socket(line)

    async def close(self) -> None:
        """Leave all rooms. None can be joined any more."""
        self._arrive()
        self._is_closed = True
        for line in list(self._lines):
            await line.close()
        self._lines.clear()

    async def __aenter__(self) -> Self:
        self._check()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    def _check(self) -> None:
        if self._is_closed:
            raise ClientError("the client was closed")
        self._arrive()

    def _arrive(self) -> None:
        """
        Raises:
            ClientError: it lives in another event loop.
        """
        if self._home is None or self._home.is_gone:
            self._home = Home()
            self._lines.clear()  # they have ended with their loop
        self._home.check()


def _place(base: str, address: str, parameters: Mapping[str, Place]) -> str:
    """Where the address is: below the path of the application, which may be mounted under one."""
    missing = [name for name in _PARAMETER.findall(address) if name not in parameters]
    if missing:
        raise ConfigurationError(f"the address {address!r} needs {missing[0]}=, beside {sorted(parameters)}")
    path = _PARAMETER.sub(lambda found: quote(str(parameters[found[1]]), safe=""), address)
    path, _, query = path.partition("?")
    parts = urlsplit(base)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    return urlunsplit((scheme, parts.netloc, parts.path.rstrip("/") + path, query or parts.query, ""))
