"""One action, called by an HTTP request: who calls is in no room, and is answered with reply or error."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from starlette.websockets import WebSocketDisconnect

from fastapi_channels.cluster.node import Node
from fastapi_channels.exceptions import (
    Banned,
    CloseCode,
    ParseError,
    Unauthenticated,
    Unavailable,
    WebSocketException,
)
from fastapi_channels.signatures.callables import awaited
from fastapi_channels.wire.messages import WINDOW, Message
from fastapi_channels.wire.stream import Exchange, LiveWriter

from .arrival import check_ban
from .decoding import read, unreadable
from .http import Headers
from .plan import Plan
from .report import Handlers, Line, Party, Reporter, as_client_error
from .room_session import RoomSession
from .session import CONNECTION_KEY

IDEMPOTENCY_KEY = "idempotency-key"
"""The header that is the request's id: two requests with one are the same."""


class CallReporter(Reporter):
    """Says with a status of HTTP what an error is."""

    __slots__ = ()

    async def _answer(self, error: WebSocketException, message: Message | None, member: Party | None) -> None:
        self._fail(error)
        await super()._answer(error, message, member)

    async def _offer(
        self, exc: Exception, message: Message | None, member: Party | None, handlers: Handlers
    ) -> bool:
        # Whatever a handler sends, or does not, something went wrong.
        self._fail(as_client_error(exc))
        return await super()._offer(exc, message, member, handlers)

    def _fail(self, error: WebSocketException) -> None:
        line: Line = self._line
        assert isinstance(line, CallSession)
        line.is_answered |= not line.writer.closed
        line.exchange.fail(error.http_status, error.http_headers)


class CallSession(RoomSession):
    """
    Args:
        exchange: the request.
        action: the name of what is called.
        plan, room, node, user: as of every session in one room.
    """

    is_one_way = True
    _reports = CallReporter
    _writes = LiveWriter

    def __init__(
        self, plan: Plan, exchange: Exchange, action: str, room: str, node: Node, user: Any = None
    ) -> None:
        self.exchange = exchange
        self._action = action
        self._message: Message | None = None
        self.is_answered = False
        """Whether the action ended, well or not, while its client could still be told."""
        super().__init__(plan, exchange.websocket, room, node, user)
        self._member.holds_place = False

    async def run(self, subprotocol: str | None = None, headers: Headers = None) -> None:
        try:
            await super().run(subprotocol, headers)
        except asyncio.CancelledError:
            # The server stops, and waits no longer. What it gets no answer from it calls a failure.
            if self._cut(Unavailable(retry_after=self.node.settings.retry_after)):
                with suppress(Exception):  # the cancellation goes on, whether anybody takes the answer or not
                    await self.exchange.end()
            raise
        code = (self.writer.closing or {}).get("code", CloseCode.NORMAL)
        if code != CloseCode.NORMAL and not self.is_answered:
            self._cut(self._reason(code))

    async def _admit(self) -> None:
        if self.node.settings.bans:
            await check_ban(self)
        await self._member.ask()
        self.websocket.scope[CONNECTION_KEY] = self._member.connection

    async def _let_in(self) -> None:
        # No connection that anybody counts or finds by its user: a request ends by itself.
        self.node.calls.add(self)
        self.writer.watch(self._wind_up, self._redirect)
        self.writer.release()
        if self.node.draining:  # it was admitted meanwhile
            await self.go(self.node.settings.retry_after)

    async def go(self, retry_after: float) -> None:
        await super().go(retry_after)
        # What runs may swallow its cancellation, or hang in a thread: its client waits no longer for that.
        if not self.is_answered and self._cut(Unavailable(retry_after=retry_after)):
            await self.exchange.end()

    async def _end(self) -> None:
        self.node.calls.discard(self)
        await super()._end()

    async def _begin(self) -> bool:
        return True

    async def _serve(self) -> None:
        await self._call()
        self.is_answered |= not self.writer.closed

    def _reason(self, code: int) -> WebSocketException:
        """Why there is no answer, of what was closed with `code`."""
        for kind in (Unauthenticated, Banned):
            if code == kind.code:
                return kind()
        return Unavailable(retry_after=self.node.settings.retry_after)

    def _cut(self, error: WebSocketException) -> bool:
        """Let the answer be that what was asked for was cut; False if a part of it has left."""
        names, asked = self.envelope, self._message
        request_id = asked.request_id if asked is not None else None
        frame = names.error(error, action=self._action[:64], request_id=request_id, language=self.language)
        return self.exchange.cut(error.http_status, error.http_headers, names.frame(frame).body)

    async def _call(self) -> None:
        member = self._member
        try:
            message = self._message = await self._read()
        except WebSocketDisconnect:
            return
        except Exception as exc:
            await self.reporter.report(exc, None, member)
            return
        if self.writer.closed:  # its client has been told that nothing is done
            return
        spec = member.plan.find(self._action)
        self.exchange.streams = spec is not None and spec.is_stream
        if self.exchange.streams:
            message.data.pop(WINDOW, None)  # nobody can give credit here
            assert isinstance(self.writer, LiveWriter)
            self.writer.keep_alive(self.node.wheel)
        self.node.watch.enter(self.inbox)
        try:
            work = member.dispatcher.handle(message, self._task)
            if work is not None:
                await work
            await member.dispatcher.finished()
        finally:
            self.inbox.busy = False

    async def _read(self) -> Message:
        """The message that the request is.

        Raises:
            ParseError: it is none.
            WebSocketDisconnect: the client has gone.
        """
        seconds, names = self._terms.send_timeout, self.envelope
        try:
            async with asyncio.timeout(seconds):
                body = (await self.exchange.body(self._terms.max_message_size)).decode()
        except UnicodeDecodeError as exc:
            raise unreadable(exc) from None
        except TimeoutError:
            problem = f"it did not come within {seconds:g} seconds"
            raise ParseError(close=False, context={"problem": problem}) from None
        if self.tally is not None:
            self.tally.take(body)
        fields = await awaited(read(self._decoder, body)) if body else {}
        if names.payload is not None:
            fields = {names.payload: fields}
        if isinstance(fields, dict):
            key = self.websocket.headers.get(IDEMPOTENCY_KEY)
            request_id = (key and key.strip('"')) or None
            fields = {**fields, names.action: self._action, names.request_id: request_id}
        return self._open(fields)
