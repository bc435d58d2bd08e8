"""A WebSocket that a consumer serves: the session of every channel, with a channel of a layer beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final, Protocol, TypeAlias, cast

from starlette.websockets import WebSocket

from fastapi_channels.cluster.node import Node
from fastapi_channels.connection import Connection
from fastapi_channels.exceptions import (
    FOR_CLIENTS,
    BrokerUnavailable,
    CloseCode,
    ConfigurationError,
    Unavailable,
    WebSocketException,
)
from fastapi_channels.sessions.http import Headers, headers_of
from fastapi_channels.sessions.plan import Plan
from fastapi_channels.sessions.room_session import RoomSession
from fastapi_channels.wire.failures import raised
from fastapi_channels.wire.messages import Body, Frame

from .base import BaseChannelLayer

Terms: TypeAlias = tuple[str | None, Headers]
CONNECT, RECEIVE, LEFT = "websocket.connect", "websocket.receive", "websocket.disconnect"
OF_THE_SERVER: Final = (CONNECT, RECEIVE, LEFT)
"""The types of the messages of ASGI, which no layer's message may pretend to be."""


class Served(Protocol):
    """What a session needs of its consumer."""

    channel_layer: BaseChannelLayer
    channel_name: str

    async def dispatch(self, message: dict[str, Any]) -> None:
        """Handle what the server, or the layer, says. With `CONNECT` it accepts the client, or closes."""
        ...


class ConsumerSession(RoomSession):
    """The consumer's `connect` runs beside the handshake, which waits until that has accepted, and goes on
    when the client is there. From then on one method of the consumer runs at a time."""

    def __init__(self, consumer: Served, plan: Plan, websocket: WebSocket, room: str, node: Node) -> None:
        super().__init__(plan, websocket, room, node)
        self.loop = asyncio.get_running_loop()
        self._consumer = consumer
        self._answer: asyncio.Future[Terms | WebSocketException] = self.loop.create_future()
        """Of the consumer: how it accepts, or the refusal."""
        self._opened: asyncio.Future[None] = self.loop.create_future()
        self._turn = asyncio.Lock()
        self._opening: asyncio.Task[None] | None = None
        self._listening: asyncio.Task[None] | None = None

    # For the consumer

    @property
    def client(self) -> Connection:
        return self._member.connection

    async def let_in(self, subprotocol: str | None, headers: Headers | Mapping[str, str]) -> None:
        """Accept the client; returns when it is there.

        Raises:
            ConfigurationError: it was accepted, or refused, before.
        """
        if self._answer.done():
            raise ConfigurationError("the client was accepted, or refused, already: call accept() once")
        pairs = headers_of(cast("Mapping[str, str]", headers)) if isinstance(headers, Mapping) else headers
        self._answer.set_result((subprotocol, pairs))
        await asyncio.shield(self._opened)

    async def send(self, body: Body) -> None:
        """Send a frame; nothing is raised for a client that has gone.

        Raises:
            ConfigurationError: the client is not accepted yet.
        """
        if not self._accepted:
            raise ConfigurationError("nothing can be sent before accept()")
        await self.writer.write(Frame(body))

    async def close(self, code: int, reason: str) -> None:
        """Refuse a client that is not accepted yet, with the HTTP status 403; else close."""
        if self._answer.done():
            await self.writer.close(code, reason)
        else:
            self._answer.set_result(WebSocketException(code, reason or None))

    # The steps of the session

    async def _admit(self) -> None:
        await super()._admit()
        consumer, layer = self._consumer, self._consumer.channel_layer
        consumer.channel_name = await layer.new_channel()
        self._opening = asyncio.create_task(consumer.dispatch({"type": CONNECT}))
        either: set[asyncio.Future[Any]] = {self._opening, self._answer}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not self._answer.done():
            await self._opening
            self.log.warning("connect() has neither accepted nor closed, which refuses the client")
            raise WebSocketException(CloseCode.POLICY_VIOLATION)
        answer = self._answer.result()
        if isinstance(answer, WebSocketException):
            raise answer
        if not self._accepted:
            await self.accept(*answer)

    async def _begin(self) -> bool:
        assert self._opening is not None, "it is admitted before it begins"
        if not await super()._begin():
            return False
        self._opened.set_result(None)
        self.node.watch.enter(self.inbox)
        try:
            await self._opening
        except Exception as exc:
            await self.reporter.report(exc, None, self._member, fatal=True)
            return False
        finally:
            self.inbox.busy = False
        self._listening = asyncio.create_task(self._listen())
        return True

    async def _act(self, frame: Body) -> None:
        try:
            admitted = self._member.guard.check_rates()
            if admitted if isinstance(admitted, bool) else await admitted:
                async with self._turn:
                    content = {"text": frame} if isinstance(frame, str) else {"bytes": frame}
                    await self._consumer.dispatch({"type": RECEIVE, **content})
        except Exception as exc:
            await self._failed(exc)

    async def _listen(self) -> None:
        layer, channel = self._consumer.channel_layer, self._consumer.channel_name
        try:
            while not self.writer.closed:
                await self._hear(await layer.receive(channel))
        except BrokerUnavailable as exc:
            # It would hear nothing any more: it is to come back.
            self.log.warning("a consumer is closed: %s", exc)
            await self.reporter.report(Unavailable(), None, self._member)

    async def _hear(self, message: dict[str, Any]) -> None:
        if message.get("type") in OF_THE_SERVER:
            self.log.warning("a message of type %r is ignored: the server alone says that", message["type"])
            return
        try:
            async with self._turn:
                await self._consumer.dispatch(message)
        except Exception as exc:
            await self._failed(exc)

    async def _failed(self, exc: Exception) -> None:
        """What was raised for the client it is told. Anything else closes, as with Django Channels."""
        fatal = not isinstance(exc, (BrokerUnavailable, *FOR_CLIENTS))
        await self.reporter.report(exc, None, self._member, fatal=fatal)

    @property
    def _is_busy(self) -> bool:
        return True

    async def _clean_up(self) -> None:
        self._opened.cancel()
        running = [task for task in (self._opening, self._listening) if task is not None]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        if self._opening is not None:
            await self._leave()
        if self._consumer.channel_name:
            await self._consumer.channel_layer.forget(self._consumer.channel_name)
        await super()._clean_up()

    async def _leave(self) -> None:
        deadline = self._member.plan.channel.leave_timeout
        try:
            async with asyncio.timeout(deadline):
                code, reason = self.ending
                await self._consumer.dispatch({"type": LEFT, "code": code or 1006, "reason": reason or ""})
        except TimeoutError:
            self.log.error("disconnect() took more than %g s", deadline)
        except Exception as exc:
            self.log.exception("disconnect() failed")
            raised(self.websocket.scope, exc)
