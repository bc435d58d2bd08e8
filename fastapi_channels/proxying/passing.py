"""What of a client's handshake goes on to the other server, and what of its answer comes back."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final

from starlette.websockets import WebSocket

from fastapi_channels.connection import Connection
from fastapi_channels.exceptions import ConfigurationError, ParseError
from fastapi_channels.sessions.http import BEARER, offered_subprotocols

FORWARDED: Final = ("for", "proto", "host")
"""What `X-Forwarded-…` may be sent of the client."""
_OF_ONE_HOP: Final = frozenset(
    {
        *("connection", "content-length", "host", "keep-alive", "proxy-authenticate", "proxy-authorization"),
        *("proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"),
    }
)
"""Headers of one connection (RFC 9110 section 7.6.1), and those that each handshake has its own of."""
_TOKEN: Final = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
"""Names and values of a header (RFC 9110 sections 5.1 and 5.5)."""


class Passing:
    """The lists of what may pass.

    Args:
        headers, query, subprotocols: of the client's handshake.
        answered: headers of the other server's answer.
        forwarded: which of `FORWARDED`.

    Raises:
        ConfigurationError: one of them cannot pass, or is a text in place of a list.
    """

    __slots__ = ("_answered", "_forwarded", "_headers", "_query", "_subprotocols")

    def __init__(
        self,
        headers: Collection[str],
        query: Collection[str],
        subprotocols: Collection[str],
        answered: Collection[str],
        forwarded: Collection[str],
    ) -> None:
        self._headers = _header_names("pass_headers", headers)
        self._query = frozenset(_names("pass_query", query))
        self._subprotocols = frozenset(_names("pass_subprotocols", subprotocols))
        self._answered = _header_names("pass_response_headers", answered)
        self._forwarded = frozenset(_names("forwarded", forwarded))
        for name in self._subprotocols:
            if not _TOKEN.fullmatch(name):
                raise ConfigurationError(f"pass_subprotocols: {name!r} is none (RFC 6455 section 4.1)")
        if unknown := self._forwarded - set(FORWARDED):
            raise ConfigurationError(f"forwarded takes {', '.join(FORWARDED)}, got {min(unknown)!r}")

    @property
    def query_names(self) -> frozenset[str]:
        return self._query

    def query(self, websocket: WebSocket) -> list[tuple[str, str]]:
        """What passes of the client's query."""
        return [(name, value) for name, value in websocket.query_params.multi_items() if name in self._query]

    def subprotocols(self, websocket: WebSocket) -> list[str]:
        """What passes of what the client offers, in its order."""
        return [name for name in dict.fromkeys(offered_subprotocols(websocket)) if name in self._subprotocols]

    def own_subprotocol(self, websocket: WebSocket) -> str | None:
        """What the client offers beside those that pass, and beside its token: a browser that has offered any
        wants one of them."""
        offered = (name for name in offered_subprotocols(websocket) if not name.startswith(BEARER))
        return next((name for name in offered if name not in self._subprotocols), None)

    def headers(self, connection: Connection, own: Mapping[str, str]) -> list[tuple[str, str]]:
        """Those of the handshake with the other server.

        Args:
            own: the application's; a client's of the same name does not pass.

        Raises:
            ConfigurationError: one of `own` cannot be sent.
            ParseError: one of the client's cannot.
        """
        mine = {name.lower(): _checked(name, value) for name, value in own.items()}
        said = [*self._of_client(connection.websocket), *self._of_connection(connection)]
        for _, value in said:
            if not _VALUE.fullmatch(value):
                raise ParseError(context={"problem": "a header has characters that no header may have"})
        return [*mine.items(), *((name, value) for name, value in said if name not in mine)]

    def answered(self, headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
        """What passes of the other server's answer, as ASGI has it."""
        return [
            (name.lower().encode("latin-1"), value.encode("latin-1"))
            for name, value in headers
            if name.lower() in self._answered and _VALUE.fullmatch(value)
        ]

    def _of_client(self, websocket: WebSocket) -> Iterator[tuple[str, str]]:
        for name, value in websocket.headers.items():
            if name.lower() in self._headers:
                yield name.lower(), value

    def _of_connection(self, connection: Connection) -> Iterator[tuple[str, str]]:
        websocket = connection.websocket
        if "for" in self._forwarded and connection.address:
            yield "x-forwarded-for", connection.address
        if "proto" in self._forwarded:
            yield (
                "x-forwarded-proto",
                "https" if websocket.scope.get("scheme") in ("wss", "https") else "http",
            )
        if "host" in self._forwarded and "host" in websocket.headers:
            yield "x-forwarded-host", websocket.headers["host"]


def _names(setting: str, names: Any) -> Collection[str]:
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise ConfigurationError(f"{setting} takes a list of names, got {names!r}")
    found: Collection[str] = names
    return found


def _header_names(setting: str, names: Any) -> frozenset[str]:
    found = frozenset(name.lower() for name in _names(setting, names))
    for name in found:
        _check_name(setting, name)
    return found


def _check_name(where: str, name: str) -> None:
    if not _TOKEN.fullmatch(name):
        raise ConfigurationError(f"{where}: {name!r} is no name of a header")
    if name in _OF_ONE_HOP or name.startswith("sec-websocket-"):
        raise ConfigurationError(f"{where}: {name!r} belongs to one connection, and does not pass")
    if where == "pass_headers" and (name == "forwarded" or name.startswith("x-forwarded-")):
        raise ConfigurationError(
            f"pass_headers: a client may say anything in {name!r}; forwarded=['for'] sends what is known"
        )


def _checked(name: str, value: Any) -> str:
    _check_name("upstream_headers()", name.lower())
    if not isinstance(value, str) or not _VALUE.fullmatch(value):
        raise ConfigurationError(f"upstream_headers(): the value of {name!r} is none that a header may have")
    return value
