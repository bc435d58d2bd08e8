"""A WebSocket that another server answers: the session of every channel, with a connection of its own to
there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

from starlette.websockets import WebSocket

from fastapi_channels.cluster.node import Node
from fastapi_channels.connection import Connection
from fastapi_channels.exceptions import ConfigurationError, WebSocketException
from fastapi_channels.sessions.http import Headers
from fastapi_channels.sessions.plan import Plan
from fastapi_channels.sessions.report import Party, Reporter
from fastapi_channels.sessions.room_session import RoomSession
from fastapi_channels.signatures.callables import awaited
from fastapi_channels.wire.inbox import Inbox
from fastapi_channels.wire.messages import Body, Frame, Message

from .line import Lost, Upstream

Hook: TypeAlias = Callable[[Body, Connection], Any]
"""What is passed on in place of a message; None for nothing. It may have to be awaited."""
Dial: TypeAlias = Callable[[Connection], Awaitable[tuple[Upstream, str | None, Headers]]]
"""Connects a client to the other server, and says with which subprotocol and headers it is accepted."""
IN_ONE_TURN: Final = 64
"""Messages of the other server that are passed on before anybody else gets a turn."""


class _Silent(Reporter):
    """Sends no frames: what a client reads is the other server's alone. A close says the rest."""

    __slots__ = ()

    async def _answer(self, error: WebSocketException, message: Message | None, member: Party | None) -> None:
        pass


class ProxySession(RoomSession):
    """The other server is connected to before the client is accepted, with the subprotocol that it chose.

    From then on two tasks pass messages on, each of which waits until its own is taken. Whichever side ends,
    the other is closed with its code and reason.

    Args:
        dial: called when the client may enter.
        from_client, from_server: if messages are looked at.
        plan, websocket, room, node, user: as of every session in one room.
    """

    _reports = _Silent

    def __init__(
        self,
        dial: Dial,
        from_client: Hook | None,
        from_server: Hook | None,
        plan: Plan,
        websocket: WebSocket,
        room: str,
        node: Node,
        user: Any = None,
    ) -> None:
        super().__init__(plan, websocket, room, node, user)
        self._dial = dial
        self._from_client = from_client
        self._from_server = from_server
        self._upstream: Upstream | None = None
        # Of a client whose server takes nothing little is read; some, so that its leaving may be noticed.
        self.inbox = Inbox(websocket, self.writer.lost, self._terms.max_message_size, self._take_early)

    async def _admit(self) -> None:
        await super()._admit()
        self._upstream, subprotocol, headers = await self._dial(self._member.connection)
        await self.accept(subprotocol, headers)

    async def _serve(self) -> None:
        bringing = asyncio.create_task(self._bring())
        try:
            await super()._serve()
        finally:
            bringing.cancel()
            await asyncio.wait((bringing,))

    async def _act(self, frame: Body) -> None:
        assert self._upstream is not None, "it is connected before the client is accepted"
        member = self._member
        try:
            if member.holds_place and not self.node.rooms.holds:
                await self.node.rooms.regain()
                if not member.connection.keys:
                    return
            admitted = member.guard.check_rates()
            if not (admitted if isinstance(admitted, bool) else await admitted):
                return
            body = await self._changed(self._from_client, frame)
            if body is not None:
                await self._upstream.send(body)
        except Exception as exc:
            await self._fail(exc)

    async def _bring(self) -> None:
        """Pass on what the other server sends, until either side ends."""
        assert self._upstream is not None, "it is connected before the client is accepted"
        count = 0
        try:
            while True:
                body = await self._changed(self._from_server, await self._upstream.receive())
                if body is not None and not await self.writer.write(Frame(body)):
                    return  # to nobody
                count += 1
                if count % IN_ONE_TURN == 0:
                    await asyncio.sleep(0)
        except Exception as exc:
            await self._fail(exc)

    async def _changed(self, hook: Hook | None, body: Body) -> Body | None:
        if hook is None:
            return body
        found = await awaited(hook(body, self._member.connection))
        if found is not None and not isinstance(found, str | bytes):
            name = getattr(hook, "__name__", "a hook")
            raise ConfigurationError(f"{name}() returns a text, bytes or None, got {type(found).__name__}")
        return found

    async def _fail(self, exc: Exception) -> None:
        """Close, as the other server has, or as `exc` says."""
        if isinstance(exc, Lost):
            self.writer.start_close(exc.code, exc.reason)
            return
        if isinstance(exc, WebSocketException):
            exc.close = True  # there is no frame to answer with
        await self.reporter.report(exc, None, self._member, fatal=True)

    @property
    def _is_busy(self) -> bool:
        return True

    async def _clean_up(self) -> None:
        try:
            if self._upstream is not None:
                await self._upstream.close(*self.ending)
        finally:
            await super()._clean_up()
