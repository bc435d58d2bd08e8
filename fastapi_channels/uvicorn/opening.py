"""What the application says to a handshake."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.utils import get_client_addr, get_path_with_query_string

from fastapi_channels.wire.port import ASGIEvent

from .handshake import Handshake, Headers, acceptance, refusal


class Opening:
    """A request that is not answered yet.

    Args:
        scope: what the application was called with.

    Attributes:
        accepted: whether the answer opens the WebSocket.
    """

    __slots__ = ("_body", "_handshake", "_headers", "_logger", "_scope", "_status", "accepted")

    def __init__(self, handshake: Handshake, scope: dict[str, Any], logger: logging.Logger) -> None:
        self.accepted = False
        self._handshake = handshake
        self._scope = scope
        self._logger = logger
        self._status = 0
        """Of a refusal that the application has begun."""
        self._headers: Headers = []
        self._body: list[bytes] = []

    def answer(self, message: ASGIEvent, headers: Headers) -> bytes:
        """What the client is to be sent; empty if the application has more to say.

        Args:
            message: the application's.
            headers: the server's own.

        Raises:
            RuntimeError: it is not the time for this message, or it has a header that cannot be sent.
        """
        kind = message["type"]
        if self._status:
            return self._add(message)
        if kind == "websocket.accept":
            return self._accept(message, headers)
        if kind == "websocket.close":
            self._log("403")
            return refusal(HTTPStatus.FORBIDDEN, [], b"")
        if kind == "websocket.http.response.start":
            self._refuse(message)
            return b""
        raise RuntimeError(
            "Expected ASGI message 'websocket.accept', 'websocket.close' "
            f"or 'websocket.http.response.start' but got '{kind}'."
        )

    def failure(self) -> bytes:
        """The answer where the application has none; empty if it has begun one."""
        if self._status:
            return b""
        return refusal(HTTPStatus.INTERNAL_SERVER_ERROR, [], b"Internal Server Error")

    def _accept(self, message: ASGIEvent, headers: Headers) -> bytes:
        own = [(name.lower(), value) for name, value in message.get("headers") or ()]
        answer = acceptance(self._handshake, [*headers, *own], message.get("subprotocol"))
        self._log("[accepted]")
        self.accepted = True
        return answer

    def _refuse(self, message: ASGIEvent) -> None:
        status = message["status"]
        if not 100 <= status < 600:
            raise RuntimeError(f"Invalid HTTP status code '{status}' in response.")
        self._log(str(status))
        self._status = status
        self._headers = list(message.get("headers", []))

    def _add(self, message: ASGIEvent) -> bytes:
        if message["type"] != "websocket.http.response.body":
            raise RuntimeError(
                f"Expected ASGI message 'websocket.http.response.body' but got '{message['type']}'."
            )
        self._body.append(message.get("body", b""))
        if message.get("more_body", False):
            return b""
        return refusal(self._status, self._headers, b"".join(self._body))

    def _log(self, result: str) -> None:
        if self._logger.isEnabledFor(logging.INFO):
            scope: Any = self._scope
            where = get_client_addr(scope), get_path_with_query_string(scope)
            self._logger.info('%s - "WebSocket %s" ' + result, *where)
