"""What a client is told when something went wrong: the one place where every exception ends."""

from __future__ import annotations

import asyncio
import inspect
import logging
import secrets
import traceback
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, Protocol, TypeAlias

from fastapi.exception_handlers import (
    http_exception_handler,
    request_validation_exception_handler,
    websocket_request_validation_exception_handler,
)
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.exceptions import WebSocketException as StarletteWebSocketException
from starlette.responses import Response
from starlette.websockets import WebSocket

from fastapi_channels.cluster.node import Node
from fastapi_channels.connection import Connection
from fastapi_channels.exceptions import (
    ActionNotExist,
    BrokerUnavailable,
    CallFailed,
    CloseCode,
    Disconnected,
    InvalidPayload,
    ParseError,
    Unavailable,
    WebSocketException,
)
from fastapi_channels.signatures.callables import awaited
from fastapi_channels.stores import StoreUnavailable
from fastapi_channels.wire.failures import raised
from fastapi_channels.wire.messages import Envelope, Frame, Message, decode_json
from fastapi_channels.wire.writer import Writer

from .plan import Plan

Handlers: TypeAlias = Mapping[type[Exception], Callable[..., Any]]

STRIKES_ANSWERED: Final = 20
"""How many frames that cannot be read are answered in a row, before the answers stop."""
STRIKES_CLOSED: Final = 100
"""How many are borne before the connection is closed."""
STRIKES_FORGIVEN: Final = 1.0
"""How many are forgiven each second."""

HANDLED: Final = "handled"
"""What an observer is told in place of an error's code, where a handler of the application has answered."""

_DEFAULT_HANDLERS: Final = {
    http_exception_handler,
    request_validation_exception_handler,
    websocket_request_validation_exception_handler,
}


class InternalError(WebSocketException):
    """Our fault: the client learns an id, the log the rest."""

    error_code = "internal_error"
    http_status = 500
    code = CloseCode.INTERNAL_ERROR


class HTTPError(WebSocketException):
    """An HTTPException, told in a frame."""

    error_code = "http_error"


class TooManyErrors(WebSocketException):
    """Closes a connection that goes on sending what cannot be read."""

    error_code = "too_many_errors"
    code = CloseCode.POLICY_VIOLATION


class Party(Protocol):
    """In whose room of which channel an error happened."""

    connection: Connection
    plan: Plan
    fields: dict[str, str]


class Line(Protocol):
    """What a reporter needs of the session: the line to the client."""

    envelope: Envelope
    node: Node
    websocket: WebSocket
    writer: Writer

    @property
    def language(self) -> str: ...

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]: ...

    @property
    def ending(self) -> tuple[int | None, str | None]: ...

    async def expel(self, connection: Connection | None, code: int, reason: str) -> None: ...


def _has_left(line: Line, connection: Connection | None) -> bool:
    """Whether there is nobody to tell: what was asked of another client that has left is told to this one."""
    return line.ending[0] is not None or line.writer.closed or (connection is not None and connection.closed)


class Reporter:
    """Tells one client of errors, and counts the ones that are its own fault."""

    __slots__ = ("_line", "_strikes", "_struck_at")

    def __init__(self, line: Line) -> None:
        self._line = line
        self._strikes = 0.0
        self._struck_at = 0.0

    async def report(
        self,
        exc: BaseException,
        message: Message | None = None,
        member: Party | None = None,
        *,
        handlers: Handlers = MappingProxyType({}),
        fatal: bool = False,
    ) -> None:
        """Answer for `exc`, and close where it asks for that; never raises.

        Args:
            message: the client's message that it happened in.
            member: whose channel it happened in.
            handlers: asked before those of the channel, which are asked before the application's.
            fatal: close even if the exception does not ask for it.
        """
        line = self._line
        connection = member.connection if member is not None else None
        try:
            try:
                if isinstance(exc, Exception) and await self._offer(exc, message, member, handlers):
                    self._observe(HANDLED, None, message, member)
                    return
            except Exception as answer:
                # A handler may raise what its client is told instead; or it has a fault of its own.
                exc = answer
            if isinstance(exc, Disconnected) and _has_left(line, connection):
                return
            error = as_client_error(exc)
            if _is_unreadable(error) and not await self._strike():
                self._observe(error.error_code, None, message, member)
                return
            error = await self._tell(error, exc, message, member)
            self._observe(error.error_code, exc if _is_ours(error) else None, message, member)
            if error.close or fatal:
                code = CloseCode.INTERNAL_ERROR if fatal and not error.close else error.code
                await line.expel(connection, code, error.reason)
        except Exception as fault:
            line.log.exception("an error could not be reported")
            raised(line.websocket.scope, fault)
            await line.expel(connection, CloseCode.INTERNAL_ERROR, "")

    def _observe(
        self, code: str, failure: BaseException | None, message: Message | None, member: Party | None
    ) -> None:
        told = self._line.node.observers.failed
        if not told:
            return
        spec = member.plan.find(message.action) if member is not None and message is not None else None
        channel = member.plan.name if member is not None else ""
        for tell in told:
            tell(channel, spec.name if spec is not None else "", code, failure)

    async def _tell(
        self,
        error: WebSocketException,
        exc: BaseException,
        message: Message | None,
        member: Party | None,
    ) -> WebSocketException:
        """Answer with `error`, or with an internal one where it holds what cannot be encoded."""
        if not isinstance(error, InternalError):
            try:
                await self._answer(error, message, member)
                return error
            except ValueError as fault:
                exc, error = fault, as_client_error(fault)
        log_internal(self._line, error, exc, f" in the action {message.action[:64]!r}" if message else "")
        await self._answer(error, message, member)
        return error

    async def _answer(self, error: WebSocketException, message: Message | None, member: Party | None) -> None:
        line = self._line
        envelope = member.plan.envelope if member is not None else line.envelope
        frame = envelope.error(
            error,
            action=message.action[:64] if message else None,
            request_id=message.request_id if message else None,
            language=line.language,
        )
        if member is not None:
            frame.update(member.fields)
        await line.writer.write(envelope.frame(frame))

    async def _strike(self) -> bool:
        """Count a frame that cannot be read; whether it is to be answered."""
        now = asyncio.get_running_loop().time()
        forgiven = (now - self._struck_at) * STRIKES_FORGIVEN
        self._strikes = max(0.0, self._strikes - forgiven) + 1
        self._struck_at = now
        if self._strikes > STRIKES_CLOSED and not self._line.writer.closed:
            error = TooManyErrors()
            await self._answer(error, None, None)
            await self._line.writer.close(error.code, error.reason)
        return self._strikes <= STRIKES_ANSWERED

    async def _offer(
        self, exc: Exception, message: Message | None, member: Party | None, handlers: Handlers
    ) -> bool:
        """Let `handlers`, those of the channel or the application answer for `exc`; whether one did."""
        handler = _lookup(handlers, exc)
        if handler is None and member is not None:
            handler = _lookup(member.plan.exception_handlers, exc)
        if handler is None:
            handler = self._application_handler(exc)
        if handler is None:
            return False
        websocket = member.connection.websocket if member is not None else self._line.websocket
        if inspect.iscoroutinefunction(handler):
            result = await handler(websocket, exc)
        else:
            # It may be an object whose __call__ is async.
            result = await awaited(await run_in_threadpool(handler, websocket, exc))
        if isinstance(result, Response):
            await self._answer(_from_response(result), message, member)
        elif result is not None:
            body = result if isinstance(result, str | bytes) else self._line.envelope.encode(result)
            await self._line.writer.write(Frame(body))
        return True

    def _application_handler(self, exc: Exception) -> Any:
        """The handler that the application's own code registered, not those of the frameworks."""
        known, _ = self._line.websocket.scope.get("starlette.exception_handlers", ({}, {}))
        handler = _lookup(known, exc)
        if handler in _DEFAULT_HANDLERS or getattr(handler, "__module__", "").startswith("starlette."):
            return None
        return handler


def log_internal(line: Line, error: WebSocketException, exc: BaseException, where: str = "") -> None:
    """Log what a client is told nothing of but the id in `error`."""
    what = f"error {error.context['error_id']}{where}"
    raised(line.websocket.scope, exc)
    if isinstance(exc, CallFailed):
        # A client's doing: it would fill the log, and its words stand in the exception.
        line.log.info("%s: a client has not answered a call as it was asked", what)
    else:
        log_failure(line.log, what, exc)


def log_failure(
    log: logging.Logger | logging.LoggerAdapter[logging.Logger], what: str, exc: BaseException
) -> None:
    """Log what nobody else is told of. What pydantic says of a value would contain it."""
    if isinstance(exc, ValidationError):
        frames = "".join(traceback.format_tb(exc.__traceback__))
        faults = [(fault["loc"], fault["type"]) for fault in exc.errors(include_input=False)]
        log.error("%s: %s does not fit: %s\n%s", what, exc.title, faults, frames)
    else:
        log.error("%s", what, exc_info=exc)


def as_client_error(exc: BaseException) -> WebSocketException:
    """What a client is told of `exc`: nothing more than an id, unless it was raised for the client."""
    if isinstance(exc, WebSocketException):
        return exc
    if isinstance(exc, StarletteWebSocketException):
        return WebSocketException(exc.code, exc.reason or None)
    if isinstance(exc, HTTPException):
        error = HTTPError(close=False, status=exc.status_code, error_msg=exc.detail, **_retry_after(exc))
        error.http_status = exc.status_code
        return error
    if isinstance(exc, BrokerUnavailable | StoreUnavailable):
        return Unavailable(close=False)
    return InternalError(close=False, context={"error_id": secrets.token_hex(4)})


def _retry_after(exc: HTTPException) -> dict[str, Any]:
    """The seconds in its header of that name, if it has one that says seconds."""
    for name, value in (exc.headers or {}).items():
        if name.lower() == "retry-after" and value.isascii() and value.isdigit():
            return {"retry_after": float(value)}
    return {}


def _is_ours(error: WebSocketException) -> bool:
    """Whether something went wrong on this side, rather than that the client may not, or cannot."""
    if isinstance(error, HTTPError):
        return error.http_status >= 500
    return isinstance(error, InternalError | Unavailable)


def _is_unreadable(error: WebSocketException) -> bool:
    """Whether no honest client sends what is answered with `error` again and again."""
    return isinstance(error, ParseError | ActionNotExist) and not isinstance(error, InvalidPayload)


def _from_response(response: Response) -> HTTPError:
    """The error frame for a response that a handler made for HTTP: its status and its body."""
    body = bytes(response.body)
    try:
        content: Any = decode_json(body)
    except ValueError:
        content = body.decode(errors="replace")
    error = HTTPError(close=False, status=response.status_code, error_msg=content)
    error.http_status = response.status_code
    return error


def _lookup(handlers: Handlers, exc: Exception) -> Any:
    """The handler for the nearest class of `exc`."""
    for cls in type(exc).__mro__:
        if cls in handlers:
            return handlers[cls]
    return None
