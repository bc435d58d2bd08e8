"""The middleware around an application: which node serves a request, and what a route is refused for."""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Final

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastapi_channels.exceptions import BrokerUnavailable, Unavailable, WebSocketException
from fastapi_channels.stores import StoreUnavailable

from .node import SCOPE_KEY, Node, current_node

ENDED: Final = "fastapi_channels.ended"
"""Where a scope has what is awaited when its application has ended, if anybody asked for that: it gets the
exception that ended it, or None."""
AWAY: Final = (BrokerUnavailable, StoreUnavailable)

logger = logging.getLogger("fastapi_channels")


class NodeMiddleware:
    """Says which node serves a request: to routes, to routers that are included and to mounted apps.

    Where a route lets an exception of this package through that is meant for a client, the answer has its
    HTTP status; with BrokerUnavailable or StoreUnavailable it has 503. A handler of the application comes
    first: this is outside of all of them.
    """

    def __init__(self, app: ASGIApp, node: Node) -> None:
        self.app = app
        self.node = node

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[SCOPE_KEY] = self.node
        if self.node.loop is None:
            self.node.meet(scope)
        token = current_node.set(self.node)
        try:
            if scope["type"] == "http":
                await self._answer(scope, receive, send)
            else:
                await self.app(scope, receive, send)
        finally:
            current_node.reset(token)
            if ENDED in scope:
                await scope.pop(ENDED)(sys.exception())

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = _Answer(send)
        try:
            await self.app(scope, receive, answer.send)
        except Exception as exc:
            error = None if answer.began else _error_of(exc)
            if error is None:
                raise
            logger.debug("%s answered %d: %s", scope["path"], error.http_status, error)
            answer.held.clear()
            response = JSONResponse({"detail": error.message()}, error.http_status, error.http_headers)
            await response(scope, receive, send)
        finally:
            await answer.release()


def _error_of(exc: BaseException | None) -> WebSocketException | None:
    """What the client of a route is told that raised `exc`, where that is no fault of the server."""
    if exc is not None and _is_of_starlette(exc):
        # Its handler for WebSockets has got a Request; or one came too late for the 500 that is held back.
        exc = exc.__cause__ or exc.__context__
    if isinstance(exc, WebSocketException):
        return exc
    # A task group's too, if nothing else went wrong in it.
    away = exc.split(AWAY)[1] is None if isinstance(exc, BaseExceptionGroup) else isinstance(exc, AWAY)
    return Unavailable(retry_after=1) if away else None


def _is_of_starlette(exc: BaseException) -> bool:
    """Whether its own code, and none that it calls, has raised `exc`."""
    *_, (frame, _) = traceback.walk_tb(exc.__traceback__)
    return str(frame.f_globals.get("__name__")).startswith("starlette.")


class _Answer:
    """What is sent for one request. An application that is mounted answers 500 before it raises what it was:
    so the start of a 500, and one body, are held back until there is more."""

    def __init__(self, send: Send) -> None:
        self.began = False
        self.held: list[Message] = []
        self._send = send

    async def send(self, message: Message) -> None:
        if not self.began and self._may_wait(message):
            self.held.append(message)
            return
        await self.release()
        self.began = True
        await self._send(message)

    async def release(self) -> None:
        while self.held:
            await self._send(self.held.pop(0))

    def _may_wait(self, message: Message) -> bool:
        if not self.held:
            return message.get("status") == 500
        return len(self.held) == 1 or not message.get("body")
