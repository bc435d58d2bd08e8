"""The opening of a WebSocket (RFC 6455 section 4.2): what was asked for, and every answer to it.

uvicorn has read the request, and writes it down again for its WebSocket protocol. One as browsers and
libraries send it is recognized here; of any other, `websockets` says whether it is right, and what to answer.
"""

from __future__ import annotations

import email.utils
import logging
import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final, NamedTuple, TypeAlias

from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.utils import accept_key

Headers: TypeAlias = list[tuple[bytes, bytes]]

MAX_PLAIN: Final = 8192
"""Bytes of a request that is recognized here; `websockets` bounds lines and their number."""
_TEXT: Final = bytes([*range(0x20, 0x7F), *b"\t\r\n"])
_KEY: Final = re.compile(rb"[A-Za-z0-9+/]{22}==")
_TOKENS: Final = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+(?:, ?[-!#$%&'*+.^_`|~0-9A-Za-z]+)*")
_UPGRADES: Final = (b"upgrade", b"keep-alive, upgrade")
_NAMES: Final = {
    name: name
    for name in (
        *(
            b"host",
            b"connection",
            b"pragma",
            b"cache-control",
            b"user-agent",
            b"upgrade",
            b"origin",
            b"cookie",
        ),
        *(b"authorization", b"accept-encoding", b"accept-language", b"sec-websocket-version"),
        *(b"sec-websocket-key", b"sec-websocket-protocol", b"sec-websocket-extensions"),
        *(b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-real-ip"),
    )
}
"""So that connections share them."""
_NAME: Final = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_BAD_VALUE: Final = re.compile(rb"[\0\r\n]")


class Handshake(NamedTuple):
    """A request that can be accepted."""

    target: bytes
    """Path and query."""
    headers: Headers
    accept: bytes
    """What answers the client's key."""

    @property
    def subprotocols(self) -> list[str]:
        """What the client offers."""
        offers = [value for name, value in self.headers if name == b"sec-websocket-protocol"]
        return [token.strip() for offer in offers for token in offer.decode("latin-1").split(",")]


def read(head: bytes, logger: logging.Logger) -> Handshake | bytes:
    """What a request asks for, or the whole answer to one that cannot be accepted.

    Args:
        head: the request, with names in lower case.
    """
    return _recognized(head) or _judged(head, logger)


def offers_deflate(head: bytes) -> bool:
    """Whether the client can compress messages."""
    lines = head.lower().split(b"\r\n")
    return any(
        b"permessage-deflate" in line for line in lines if line.startswith(b"sec-websocket-extensions:")
    )


def _recognized(head: bytes) -> Handshake | None:
    """A request with nothing uncommon about it."""
    lines = head.split(b"\r\n")
    first = lines[0]
    ends = len(lines) - 1
    if (
        len(head) > MAX_PLAIN
        or ends > 100
        or head.translate(None, _TEXT)
        or head.count(b"\r") != ends
        or head.count(b"\n") != ends
        or first.count(b" ") != 2
        or not (first.startswith(b"GET ") and first.endswith(b" HTTP/1.1"))
    ):
        return None
    headers: Headers = []
    for line in lines[1:-2]:
        name, _, value = line.partition(b":")
        name = name.lower()
        headers.append((_NAMES.get(name, name), value.strip(b" \t")))
    values = dict(headers)
    key = values.get(b"sec-websocket-key", b"")
    if (
        len(values) < len(headers)
        or values.get(b"connection", b"").lower() not in _UPGRADES
        or values.get(b"upgrade", b"").lower() != b"websocket"
        or values.get(b"sec-websocket-version") != b"13"
        or not _KEY.fullmatch(key)
        or b"content-length" in values
        or b"transfer-encoding" in values
        or not _TOKENS.fullmatch(values.get(b"sec-websocket-protocol", b"none"))
    ):
        return None
    return Handshake(first[4:-9], headers, accept_key(key.decode()).encode())


def _judged(head: bytes, logger: logging.Logger) -> Handshake | bytes:
    """What `websockets` says of a request."""
    judge = ServerProtocol(logger=logger)
    judge.receive_data(head)
    for request in judge.events_received():
        assert isinstance(request, Request)
        response = judge.accept(request)
        if response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            headers = [
                (name.lower().encode("ascii"), value.encode("latin-1", "surrogateescape"))
                for name, value in request.headers.raw_items()
            ]
            accept = response.headers["Sec-WebSocket-Accept"].encode("ascii")
            return Handshake(request.path.encode("ascii"), headers, accept)
        judge.send_response(response)
    return b"".join(judge.data_to_send()) or refusal(HTTPStatus.BAD_REQUEST, [], b"")


def acceptance(
    handshake: Handshake, headers: Iterable[tuple[bytes, bytes]], subprotocol: str | None
) -> bytes:
    """The answer that opens a WebSocket.

    Raises:
        RuntimeError: a header of the application cannot be sent.
    """
    added = [*headers, (b"Sec-WebSocket-Protocol", subprotocol.encode("latin-1"))] if subprotocol else headers
    return b"".join(
        [
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: ",
            handshake.accept,
            b"\r\n",
            *_lines(added),
            b"\r\n",
        ]
    )


def refusal(status: int, headers: Headers, body: bytes) -> bytes:
    """An answer that opens none, and the end of the connection.

    Raises:
        RuntimeError: a header of the application cannot be sent.
    """
    given = {name.lower() for name, _ in headers}
    usual = [
        (b"Date", email.utils.formatdate(usegmt=True).encode()),
        (b"Connection", b"close"),
        (b"Content-Length", b"%d" % len(body)),
        (b"Content-Type", b"text/plain; charset=utf-8"),
    ]
    added = [header for header in usual if header[0].lower() not in given]
    return b"".join(
        [b"HTTP/1.1 %d %s\r\n" % (status, _phrase(status)), *_lines([*headers, *added]), b"\r\n", body]
    )


def _phrase(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""


def _lines(headers: Iterable[tuple[bytes, bytes]]) -> Iterable[bytes]:
    for name, value in headers:
        if not _NAME.fullmatch(name):
            raise RuntimeError(f"a header's name must be a token (RFC 9110 section 5.6.2): {name!r}")
        if _BAD_VALUE.search(value):
            raise RuntimeError(f"the value of the header {name.decode()!r} must be one line")
        yield b"%b: %b\r\n" % (name, value)
