"""The life of one connection: admitted, joined, served and always left."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Final

from fastapi import HTTPException
from starlette.responses import JSONResponse
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from .connection import Connection
from .dispatch import Dispatcher, as_client_error
from .exceptions import ChannelsError, PermissionDenied, WebSocketException
from .inbox import Inbox
from .messages import Frame
from .node import SEND_KEY, Node
from .origin import origin_allowed
from .outbox import Outbox
from .texts import choose_language
from .writer import Writer

if TYPE_CHECKING:
    from .channels import BaseChannel
    from .events import Visit

logger = logging.getLogger("fastapi_channels")

IN_ONE_TURN: Final = 64
"""How many messages of a client are handled before the others get their turn."""


class OriginDenied(PermissionDenied):
    """The page that began the handshake is not among the allowed origins."""

    error_code = "origin_denied"


class Session:
    """One client on one channel.

    Args:
        channel: whose rules hold.
        websocket: not accepted yet, or accepted by the endpoint.
        room: where the client goes.
        node: the process.
        user: who the client is, if the endpoint knows.
    """

    def __init__(
        self, channel: BaseChannel, websocket: WebSocket, room: str, node: Node, user: Any = None
    ) -> None:
        self.channel = channel
        self.websocket = websocket
        self.node = node
        self.writer = Writer(
            websocket,
            Outbox(channel.outbox_limit, channel.slow_policy),
            channel.envelope,
            timeout=channel.send_timeout,
            server_send=websocket.scope.get(SEND_KEY),
            before=node.hub.flush,
        )
        self.connection = Connection(
            channel,
            room,
            self.writer,
            node,
            language=_language(websocket),
            user=_user(websocket) if user is None else user,
        )
        self.writer.name = self.connection.id
        self.log = logging.LoggerAdapter(logger, {"connection": self.connection.id, "room": room})
        self.inbox = Inbox(websocket, self.writer.lost, 4 * channel.max_message_size)
        self.dispatcher = Dispatcher(self)
        self.code: int | None = None
        self.reason: str | None = None
        self._began = False
        self._visit: Visit | None = None
        self._scope: asyncio.Timeout | None = None

    async def run(
        self, subprotocol: str | None = None, headers: Iterable[tuple[bytes, bytes]] | None = None
    ) -> None:
        """Returns when the client has left and everything of it is undone."""
        try:
            if await self._enter(subprotocol, headers):
                await self._stay()
        finally:
            await self._end()

    async def _enter(self, subprotocol: str | None, headers: Iterable[tuple[bytes, bytes]] | None) -> bool:
        """Admit the client, make it a member and only then accept; False when it was refused."""
        connection = self.connection
        try:
            await self._admit()
            connection.seat = self.channel._seat_of(connection)
            await self.node.join(connection.room, connection, limit=self.channel.max_connection)
            if self.websocket.application_state is WebSocketState.CONNECTING:
                await self.websocket.accept(subprotocol, headers)
        except (ChannelsError, HTTPException) as exc:
            await self._refuse(as_client_error(exc))
            return False
        except (WebSocketDisconnect, RuntimeError, OSError) as exc:
            self.log.debug("gone before it was accepted: %r", exc)
            return False
        self.websocket.scope["fastapi_channels.connection"] = connection
        self.writer.on_closed(self._wind_up)
        self.writer.release()
        return True

    async def _admit(self) -> None:
        """The questions that are asked before a connection exists.

        Raises:
            WebSocketException, HTTPException: the refusal.
        """
        if not origin_allowed(self.websocket, self.node.settings.allowed_origins):
            origin = self.websocket.headers.get("origin", "")[:200]
            raise OriginDenied(context={"origin": origin})
        await self.dispatcher.check_permissions(None)

    async def _refuse(self, exc: WebSocketException) -> None:
        """Say no: with an HTTP status where the server can, else by closing the handshake."""
        self.log.info("refused: %s", exc.error_code)
        connection, websocket = self.connection, self.websocket
        envelope = self.channel.envelope
        frame = envelope.error(exc, action=None, request_id=None, language=connection.language)
        try:
            if websocket.application_state is not WebSocketState.CONNECTING:
                self.writer.release()
                await self.writer.write(Frame(envelope.encode(frame)))
                await self.writer.close(exc.code, exc.reason)
            elif "websocket.http.response" in websocket.scope.get("extensions", {}):
                await websocket.send_denial_response(JSONResponse(frame, status_code=exc.http_status))
            else:
                await websocket.close(exc.code, exc.reason)
        except (WebSocketDisconnect, RuntimeError, OSError) as error:
            self.log.debug("gone before it was refused: %r", error)

    async def _stay(self) -> None:
        """Join handlers, then one message after the other until the client or the server ends it."""
        try:
            async with asyncio.timeout(None) as self._scope:
                if await self._join():
                    await self._serve()
        except TimeoutError:
            self.log.info("an action was still running when its client had gone: cancelled")
        finally:
            self._scope = None

    async def _join(self) -> bool:
        self.log.debug("joined")
        self._began = True
        self.node.watch.enter(self.inbox)
        try:
            self._visit = await self.channel._events.join(self._values())
        except Exception as exc:
            await self.dispatcher.report(exc, fatal=True)
        finally:
            self.node.watch.leave(self.inbox)
        return not self.writer.closed

    async def _serve(self) -> None:
        writer, get, handle = self.writer, self.inbox.get, self.dispatcher.handle
        handled = 0
        while not writer.closed:
            event = await get()
            if event["type"] == "websocket.disconnect":
                self.code, self.reason = event.get("code"), event.get("reason")
                return
            text = event.get("text")
            await handle(event.get("bytes", b"") if text is None else text)
            handled += 1
            if handled % IN_ONE_TURN == 0:
                await asyncio.sleep(0)

    def _wind_up(self) -> None:
        """Nothing can be sent any more: what runs gets a moment to finish."""
        if self._scope is not None and not self._scope.expired():
            self._scope.reschedule(asyncio.get_running_loop().time() + self.channel.finish_timeout)

    async def _end(self) -> None:
        self.writer.on_closed(None)
        for room in list(self.connection.rooms):
            self.node.leave(room, self.connection)
        await finish(self._clean_up())
        self.log.debug("left")

    async def _clean_up(self) -> None:
        """What has to be waited for. Runs shielded from the cancellation of the endpoint."""
        await self.dispatcher.stop(self.channel.finish_timeout)
        await self.inbox.stop()
        self.writer.lost()
        if self._began and (self.channel._events.wants_leave or self._visit is not None):
            try:
                async with asyncio.timeout(self.channel.leave_timeout):
                    await self.channel._events.leave(self._values(), self._visit)
            except TimeoutError:
                self.log.error("the leave handlers took more than %g s", self.channel.leave_timeout)
        await self.writer.drained()

    def _values(self) -> dict[str, Any]:
        return {
            "websocket": self.websocket,
            "channel": self.connection.room,
            "connection": self.connection,
            "code": self.code,
            "reason": self.reason,
            "self": self.channel,
        }


async def finish(work: Coroutine[Any, Any, None]) -> None:
    """Run `work` to its end, even if the calling task is cancelled meanwhile; then be cancelled."""
    task = asyncio.ensure_future(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError:
            cancelled = True
    task.result()
    if cancelled:
        raise asyncio.CancelledError


def _language(websocket: WebSocket) -> str:
    wanted = websocket.query_params.get("lang") or websocket.headers.get("accept-language", "")
    return choose_language(wanted)


def _user(websocket: WebSocket) -> Any:
    """Who an authentication middleware or the endpoint's state says the client is."""
    user = websocket.scope.get("user")
    return getattr(websocket.state, "user", None) if user is None else user
