"""A WebSocket that its endpoint reads itself, in a loop of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from fastapi_channels.cluster.node import Node
from fastapi_channels.connection import Connection
from fastapi_channels.exceptions import CloseCode
from fastapi_channels.wire.inbox import GONE
from fastapi_channels.wire.port import ASGIEvent, body_of

from .decoding import fault_of
from .http import Headers
from .plan import Plan
from .room_session import RoomSession


class Refused(WebSocketDisconnect):
    """The client was not let in, and has been told so."""


class ManagedSession(RoomSession):
    """Lives in a task of its own, from `let_in` until the endpoint ends. Where the client, or anybody else,
    ends it before, it is out of its rooms at once.

    Args:
        also: further rooms, which the client is in before it is accepted.
        plan, websocket, room, node, user: as of every session in one room.
    """

    def __init__(
        self, plan: Plan, websocket: WebSocket, room: str, node: Node, user: Any, also: Iterable[str]
    ) -> None:
        super().__init__(plan, websocket, room, node, user)
        loop = asyncio.get_running_loop()
        self._also = also
        self._there: asyncio.Future[Connection] = loop.create_future()
        self._over: asyncio.Future[BaseException | None] = loop.create_future()
        """What the endpoint has ended with, once it has."""
        self._running: asyncio.Task[None] | None = None
        self._reading: asyncio.Timeout | None = None

    async def let_in(self, subprotocol: str | None, headers: Headers) -> Connection:
        """Returns when the client is there.

        Raises:
            Refused: it is not.
        """
        self._running = asyncio.create_task(self.run(subprotocol, headers))
        either: set[asyncio.Future[Any]] = {self._running, self._there}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._running.cancel()
            raise
        if self._there.done():
            return self._there.result()
        await self._running
        # Nobody has to catch it.
        handlers, _ = self.websocket.scope.get("starlette.exception_handlers", ({}, {}))
        handlers.setdefault(Refused, _told_already)
        raise Refused(1006, "refused")

    def release(self, exc: BaseException | None = None) -> None:
        """The endpoint has ended, maybe with `exc`."""
        if not self._over.done():
            self._over.set_result(exc)

    async def finish(self, exc: BaseException | None) -> None:
        """The same; returns when everything of the client is undone."""
        self.release(exc)
        if self._running is not None:
            await asyncio.wait((self._running,))

    async def accept(self, subprotocol: str | None, headers: Headers) -> None:
        await super().accept(subprotocol, headers)
        self.websocket._receive = self._next

    async def _admit(self) -> None:
        await super()._admit()
        for room in self._also:
            await self._member.join(room)

    async def _serve(self) -> None:
        self._there.set_result(self._member.connection)
        exc = await self._over
        if not isinstance(exc, asyncio.CancelledError):
            await self.writer.close(CloseCode.NORMAL if exc is None else CloseCode.INTERNAL_ERROR, "")

    async def _next(self) -> ASGIEvent:
        """What the endpoint reads next: nothing that a limit forbids."""
        while True:
            try:
                async with asyncio.timeout(self._patience) as self._reading:
                    event = await self.inbox.get()
            except TimeoutError:
                return GONE
            finally:
                self._reading = None
            if event["type"] == "websocket.disconnect" or await self._lets_pass(event):
                return event

    async def _lets_pass(self, event: ASGIEvent) -> bool:
        body = body_of(event)
        if self.tally is not None:
            self.tally.take(body)
        if self._life is not None:
            self._life.heard(None)
        fault = fault_of(body, len(body), self._terms, self.relays)
        if fault is not None:
            await self.writer.close(*fault)
            return False
        try:
            admitted = self._member.guard.check_rates()
            return admitted if isinstance(admitted, bool) else await admitted
        except Exception as exc:
            await self.reporter.report(exc, None, self._member)
            return False

    @property
    def _patience(self) -> float | None:
        """Seconds that a client gets to answer a close; None where nobody has closed."""
        return self._terms.finish_timeout if self.writer.closed else None

    def _wind_up(self) -> None:
        self.calls.fail()
        self._depart()
        # Starlette refuses to read what it calls disconnected; the endpoint is to read that it is.
        self.websocket.application_state = WebSocketState.CONNECTED
        if self._reading is not None and not self._reading.expired():
            self._reading.reschedule(asyncio.get_running_loop().time() + self._terms.finish_timeout)


async def _told_already(websocket: WebSocket, exc: Exception) -> None:
    """What is to be done about a client that was refused."""
