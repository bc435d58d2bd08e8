"""From a client's frame to the handler and back: decode, look up, check, call, reply; or report."""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from fastapi import HTTPException
from fastapi.exception_handlers import (
    http_exception_handler,
    request_validation_exception_handler,
    websocket_request_validation_exception_handler,
)
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from .actions import ActionSpec
from .exceptions import (
    ActionIsDeprecated,
    ActionNotExist,
    BrokerUnavailable,
    CloseCode,
    ParseError,
    PermissionDenied,
    RateLimitExceeded,
    Unavailable,
    WebSocketException,
)
from .messages import Body, Frame, Message, decode_json
from .node import user_key
from .permission import ALLOW, allows
from .throttling import ForeignLimiter, Rate, address_group, limit_key

if TYPE_CHECKING:
    from .session import Session

logger = logging.getLogger("fastapi_channels")

STRIKES_ANSWERED: Final = 20
"""How many frames that cannot be read are answered in a row, before the answers stop."""
STRIKES_CLOSED: Final = 100
"""How many are borne before the connection is closed."""
STRIKES_FORGIVEN: Final = 1.0
"""How many are forgiven each second."""

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


class Dispatcher:
    """Handles the frames of one session, one after the other unless an action says otherwise."""

    __slots__ = ("_address", "_channel", "_connection", "_node", "_running", "_session", "_slots", "_strikes")

    def __init__(self, session: Session) -> None:
        self._session = session
        self._channel = session.channel
        self._connection = session.connection
        self._node = session.node
        self._address: str | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._slots: dict[ActionSpec, asyncio.Semaphore] = {}
        self._strikes: tuple[float, float] = (0.0, 0.0)

    async def handle(self, body: Body) -> None:
        """Everything that one frame causes; nothing that it contains makes this raise."""
        message: Message | None = None
        inbox, watch = self._session.inbox, self._node.watch
        watch.enter(inbox)
        try:
            if not await self._acceptable(body):
                return
            actions = self._channel._actions
            if actions is None:
                await self._relay(body)
                return
            message = await self._decode(body)
            spec = actions.get(message.action)
            if spec is None:
                raise ActionNotExist(close=False, context={"action": repr(message.action[:64])})
            if spec.concurrent > 1:
                await self._start(spec, message)
            else:
                await self._run(spec, message)
        except Exception as exc:
            await self.report(exc, message)
        except asyncio.CancelledError as exc:
            if _is_own_cancellation():
                raise
            await self.report(exc, message)
        finally:
            watch.leave(inbox)

    async def check_permissions(
        self, action: str | None, spec: ActionSpec | None = None, **extras: Any
    ) -> None:
        """Ask the application's permission, the channel's and the action's, in this order.

        Raises:
            PermissionDenied: one of them did not answer True. What a permission itself raises for the
                client passes through; any other exception refuses.
        """
        own = ALLOW if spec is None else spec.permission
        for permission in (self._node.settings.permission, self._channel._permission, own):
            if permission is ALLOW:
                continue
            extras.update(channel=self._connection.room, connection=self._connection)
            try:
                allowed = await allows(permission, self._connection.websocket, action, extras)
            except (WebSocketException, HTTPException):
                raise
            except Exception:
                self._session.log.exception("a permission failed, and so refuses")
                allowed = False
            if not allowed:
                raise PermissionDenied(close=action is None)

    async def report(
        self, exc: BaseException, message: Message | None = None, *, fatal: bool = False
    ) -> None:
        """Tell the client what went wrong; the one place where every exception ends.

        Args:
            fatal: close the connection even if the exception does not ask for it.
        """
        try:
            if isinstance(exc, Exception) and await self._offer(exc, message):
                return
            error = as_client_error(exc)
            if isinstance(error, InternalError):
                self._session.log.error("error %s", error.context["error_id"], exc_info=exc)
            if isinstance(error, ParseError | ActionNotExist) and not await self._strike():
                return
            await self._answer(error, message)
            if error.close or fatal:
                code = CloseCode.INTERNAL_ERROR if fatal and not error.close else error.code
                await self._connection.close(code, error.reason)
        except Exception:
            self._session.log.exception("an error could not be reported")
            await self._connection.close(CloseCode.INTERNAL_ERROR)

    async def stop(self, timeout: float) -> None:  # noqa: ASYNC109  given to each of the two steps
        """Give running actions `timeout` seconds, then cancel them."""
        if self._running:
            await asyncio.wait(self._running, timeout=timeout)
        for task in list(self._running):
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)

    async def _acceptable(self, body: Body) -> bool:
        """Whether a frame has a kind and size that the channel takes; closes the connection if not."""
        channel = self._channel
        if isinstance(body, bytes) is not channel.envelope.binary and channel._actions is not None:
            await self._connection.close(CloseCode.UNSUPPORTED_DATA, "this kind of frame is not accepted")
        elif len(body) > channel.max_message_size or _utf8_size(body) > channel.max_message_size:
            await self._connection.close(
                CloseCode.TOO_BIG, f"a message may have {channel.max_message_size} bytes"
            )
        else:
            return True
        return False

    async def _decode(self, body: Body) -> Message:
        try:
            decoded = self._channel._decode(body)
            frame = await decoded if inspect.isawaitable(decoded) else decoded
        except (ValueError, RecursionError) as exc:
            raise ParseError(close=False, context={"problem": str(exc)[:200]}) from None
        return self._channel.envelope.open(frame)

    async def _relay(self, body: Body) -> None:
        if not await self._limited("", self._channel._throttles, ()):
            await self._node.publish(self._connection.room, body)

    async def _start(self, spec: ActionSpec, message: Message) -> None:
        """Run an action beside the others; waits while as many as allowed are running."""
        slots = self._slots.setdefault(spec, asyncio.Semaphore(spec.concurrent))
        await slots.acquire()

        async def run() -> None:
            try:
                await self._run(spec, message)
            except Exception as exc:
                await self.report(exc, message)
            finally:
                slots.release()

        task = asyncio.get_running_loop().create_task(run())
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _run(self, spec: ActionSpec, message: Message) -> None:
        if spec.gone:
            raise ActionIsDeprecated(close=False, context={"action": repr(spec.name)})
        await self.check_permissions(spec.name, spec, data=message.data)
        if await self._limited(spec.name, self._channel._throttles, spec.limits):
            return
        channel = self._channel
        result = await spec.call(channel, self._connection, message, channel.envelope)
        if spec.sunset is not None:
            spec.late_calls += 1
        if result is not None or (message.request_id is not None and (channel.ack or spec.sunset)):
            await self._reply(spec, message, result)

    async def _reply(self, spec: ActionSpec, message: Message, result: Any) -> None:
        frame = self._channel.envelope.reply(message, result)
        if spec.sunset is not None:
            frame.update(deprecated=True, sunset=spec.sunset.isoformat())
        await self._session.writer.write(Frame(self._channel.envelope.encode(frame)))

    async def _answer(self, error: WebSocketException, message: Message | None) -> None:
        envelope = self._channel.envelope
        frame = envelope.error(
            error,
            action=message.action[:64] if message else None,
            request_id=message.request_id if message else None,
            language=self._connection.language,
        )
        await self._session.writer.write(Frame(envelope.encode(frame)))

    async def _limited(self, action: str, throttles: Sequence[Any], limits: Sequence[Any]) -> bool:
        """Whether a callback has answered in place of the error for a call over its rate.

        Raises:
            RateLimitExceeded: over its rate, and nobody wants to answer otherwise.
        """
        wide = (*self._node.settings.throttles, *throttles)
        if not wide and not limits:
            return False
        items: list[tuple[str, Rate]] = []
        for number, limit in enumerate((*wide, *limits)):
            key = await self._key(limit, "" if number < len(wide) else action)
            if isinstance(limit, ForeignLimiter):
                wait = await limit.hit(key)
                if wait:
                    return await self._exceeded([limit], wait)
            else:
                items.append((key, limit))
        wait = await self._node.limiter.hit(items) if items else 0.0
        return bool(wait) and await self._exceeded([rate for _, rate in items], wait)

    async def _key(self, limit: Any, action: str) -> str:
        identifier = limit.identifier or self._node.settings.identifier
        if identifier is not None:
            who = identifier(self._connection.websocket)
            who = str(await who if inspect.isawaitable(who) else who)
        else:
            who = user_key(self._connection.user) or ""
        kind = "user" if who else "address"
        return limit_key(kind, who or self._client(), self._connection.room, action, str(limit))

    def _client(self) -> str:
        if self._address is None:
            self._address = address_group(self._connection.address)
        return self._address

    async def _exceeded(self, limits: Sequence[Any], wait: float) -> bool:
        callback = next((limit.ws_callback for limit in limits if limit.ws_callback), None)
        callback = callback or self._node.settings.ws_callback
        if callback is None:
            raise RateLimitExceeded(close=False, retry_after=None if math.isinf(wait) else wait)
        milliseconds = 0 if math.isinf(wait) else math.ceil(wait * 1000)
        result = callback(self._connection.websocket, milliseconds)
        if inspect.isawaitable(result):
            await result
        return True

    async def _strike(self) -> bool:
        """Count a frame that cannot be read; whether it is to be answered."""
        now = asyncio.get_running_loop().time()
        count, since = self._strikes
        count = max(0.0, count - (now - since) * STRIKES_FORGIVEN) + 1
        self._strikes = (count, now)
        if count > STRIKES_CLOSED and not self._connection.closed:
            error = TooManyErrors()
            await self._answer(error, None)
            await self._connection.close(error.code, error.reason)
        return count <= STRIKES_ANSWERED

    async def _offer(self, exc: Exception, message: Message | None) -> bool:
        """Offer `exc` to the channel's handlers, then to the application's; whether one took it."""
        handler = _lookup(self._channel._exception_handlers, exc)
        if handler is None and self._node.settings.call_exception_handlers:
            known, _ = self._connection.websocket.scope.get("starlette.exception_handlers", ({}, {}))
            handler = _lookup(known, exc)
            if handler in _DEFAULT_HANDLERS or _is_starlettes(handler):
                handler = None
        if handler is None:
            return False
        if inspect.iscoroutinefunction(handler):
            result = await handler(self._connection.websocket, exc)
        else:
            result = await run_in_threadpool(handler, self._connection.websocket, exc)
        if isinstance(result, Response):
            await self._answer(_from_response(result), message)
        elif result is not None:
            await self._connection.send(result)
        return True


def as_client_error(exc: BaseException) -> WebSocketException:
    """What a client is told of `exc`: nothing more than an id, unless it was raised for the client."""
    if isinstance(exc, WebSocketException):
        return exc
    if isinstance(exc, HTTPException):
        retry_after = (exc.headers or {}).get("Retry-After", "")
        extra: dict[str, Any] = {"retry_after": float(retry_after)} if retry_after.isdigit() else {}
        error = HTTPError(close=False, status=exc.status_code, error_msg=exc.detail, **extra)
        error.http_status = exc.status_code
        return error
    if isinstance(exc, BrokerUnavailable):
        return Unavailable(close=False)
    return InternalError(close=False, context={"error_id": secrets.token_hex(4)})


def _from_response(response: Response) -> HTTPError:
    """The error frame for a response that a handler made for HTTP: its status and its body."""
    body = bytes(response.body)
    try:
        content: Any = decode_json(body)
    except ValueError:
        content = body.decode(errors="replace")
    return HTTPError(close=False, status=response.status_code, error_msg=content)


def _lookup(handlers: Any, exc: Exception) -> Any:
    for cls in type(exc).__mro__:
        if cls in handlers:
            return handlers[cls]
    return None


def _is_starlettes(handler: Any) -> bool:
    return getattr(handler, "__module__", "").startswith("starlette.")


def _is_own_cancellation() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _utf8_size(body: Body) -> int:
    return len(body) if isinstance(body, bytes) or body.isascii() else len(body.encode(errors="replace"))
