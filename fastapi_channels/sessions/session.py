"""The life of one WebSocket: admitted, accepted, served, and everything of it always undone."""

from __future__ import annotations

import asyncio
import inspect
import logging
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, Final

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from fastapi_channels.cluster.drain import come_back
from fastapi_channels.cluster.node import Node, current_node
from fastapi_channels.cluster.steward import Client
from fastapi_channels.connection import Connection
from fastapi_channels.exceptions import FOR_CLIENTS, ChannelsError, CloseCode, Unavailable
from fastapi_channels.signatures.callables import MaybeAwaited, awaited, finish
from fastapi_channels.signatures.dependencies import warn_of_generators
from fastapi_channels.wire.inbox import Inbox
from fastapi_channels.wire.messages import SUBPROTOCOL, Body, Message, size_of
from fastapi_channels.wire.outbox import Outbox
from fastapi_channels.wire.port import ASGIEvent, body_of
from fastapi_channels.wire.traffic import Tally
from fastapi_channels.wire.writer import Writer

from .calls import Calls
from .controls import take
from .decoding import fault_of, read
from .foretold import Foretold, stand_in, tell
from .http import Headers, chosen_subprotocol, language_of, user_of
from .life import Life
from .membership import Membership
from .origin import check_origin
from .plan import Terms
from .refusal import refuse
from .report import InternalError, Reporter, as_client_error, log_internal
from .run import Run
from .sign_in import SignIn
from .stay import answered, begin, end

logger = logging.getLogger("fastapi_channels")

CONNECTION_KEY: Final = "fastapi_channels.connection"
"""Where the scope of a WebSocket has its connection; None when it has left."""
IN_ONE_TURN: Final = 64
"""How many messages of a client are handled before the others get their turn."""


class Session(Client):
    """One WebSocket.

    Args:
        terms: the limits that hold.
        decoder: what is in a client's frame, which may have to be awaited; raises ValueError.
        websocket: not accepted yet, or accepted by the endpoint.
        node: the process.
        user: who the client is, if the endpoint knows.
    """

    relays = False
    """Whether frames of text and of bytes are taken alike, and none of this package's are sent unasked."""
    is_one_way = False
    """Whether the client can send nothing here: no first frame, no answer to a call, no sign of life."""
    _writes: type[Writer] = Writer
    _reports: type[Reporter] = Reporter
    _sign_in: SignIn | None = None  # if the channel has an authenticator

    def __init__(
        self,
        terms: Terms,
        decoder: Callable[[Body], Any],
        websocket: WebSocket,
        node: Node,
        user: Any = None,
    ) -> None:
        self.websocket, self.node = websocket, node
        self.envelope = terms.envelope
        self.user = user_of(websocket) if user is None else user
        self.writer = self._writes(
            websocket,
            Outbox(terms.outbox_limit, terms.slow_policy, node.hub.traffic),
            terms.envelope,
            name=node.next_id(),
            timeout=terms.send_timeout,
            collector=node.hub,
            traffic=node.hub.traffic,
        )
        self.inbox = Inbox(websocket, self.writer.lost, 4 * terms.max_message_size, self._take_early)
        self.reporter = self._reports(self)
        self.calls = Calls()
        self.tally = None if node.hub.traffic is None else Tally(node.hub.traffic)
        self.is_fluent = not self.relays and SUBPROTOCOL in websocket.scope.get("subprotocols", ())
        """Whether the client knows the whole protocol, as its subprotocol says."""
        self._terms, self._decoder = terms, decoder
        self._foretold: Foretold = {}
        self._language: str | None = None
        self._task = asyncio.current_task()
        self._life: Life | None = None  # if the channel asks for any limit on it
        if terms.authenticator is not None:
            self._sign_in = SignIn(self, terms.authenticator)
        self._accepted = False
        self._scope: asyncio.Timeout | None = None
        self._departure: asyncio.TimerHandle | None = None

    @property
    def language(self) -> str:
        """That of the error texts. Most clients never get one."""
        if self._language is None:
            self._language = language_of(self.websocket)
        return self._language

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """The log, which says of which connection it speaks. Most have nothing to say."""
        return logging.LoggerAdapter(logger, {"connection": self.writer.name})

    async def run(self, subprotocol: str | None = None, headers: Headers = None) -> None:
        """Returns when the client has left and everything of it is undone."""
        warn_of_generators(self.websocket.scope)
        token = current_node.set(self.node)  # the endpoint of a router comes without
        self.node.served += 1
        try:
            entering = answered if self.node.observers.asked else Session._enter
            if await entering(self, subprotocol, headers):
                await self._stay()
        finally:
            self.node.served -= 1
            await self._end()
            current_node.reset(token)

    @abstractmethod
    def _act(self, frame: Any) -> MaybeAwaited[None]:
        """Everything that a decoded frame causes, to be awaited if there is more to it."""

    @property
    def _speaker(self) -> Membership | None:
        """In whose name a frame is answered that cannot be read; None for that of the WebSocket."""
        return None

    def websocket_of(self, connection: Connection) -> WebSocket:
        """What the handlers of `connection` get for their WebSocket."""
        return self.websocket

    @abstractmethod
    async def _admit(self) -> None:
        """Settle whatever must be before a connection exists.

        Raises:
            WebSocketException, HTTPException, BrokerUnavailable: the refusal.
        """

    @abstractmethod
    def _members(self) -> Iterable[Membership]:
        """The rooms that the client is in."""

    @property
    def _limits(self) -> dict[str, int]:
        """What a client that knows the protocol is told."""
        return {"max_message_size": self._terms.max_message_size}

    # For the drain

    def announce(self, within: float, retry_after: float) -> None:
        if not self.relays:
            self.writer.post(self.envelope.frame(self.envelope.drain(within, retry_after)))

    @property
    def finish_timeout(self) -> float:
        return self._terms.finish_timeout

    @property
    def is_working(self) -> bool:
        return self.inbox.busy or any(member.dispatcher.is_working for member in self._members())

    async def go(self, retry_after: float) -> None:
        await self.writer.close(CloseCode.SERVICE_RESTART, come_back("restart", retry_after))

    # The steps of run()

    async def _enter(self, subprotocol: str | None, headers: Headers) -> bool:
        """Admit the client, make it a member and only then accept; False when it was refused."""
        if self.is_fluent and subprotocol is None:
            subprotocol = SUBPROTOCOL
        elif self._sign_in is not None and subprotocol is None:
            subprotocol = chosen_subprotocol(self.websocket)
        try:
            limit = self.node.settings.max_connections
            if self.node.draining or (limit is not None and self.node.served > limit):
                raise Unavailable(retry_after=self.node.settings.retry_after)
            check_origin(self.websocket, self.node, self.log)
            if self._sign_in is not None:
                await self._sign_in.enter(subprotocol, headers)
            await self._admit()
            if not self._accepted:
                await self.accept(subprotocol, headers)
        except (ChannelsError, *FOR_CLIENTS) as exc:
            tells = self.is_fluent or (self._sign_in is not None and self._sign_in.tells)
            error = as_client_error(exc)
            if isinstance(error, InternalError):
                log_internal(self, error, exc)
            await refuse(self, error, partial(self.accept, subprotocol, headers), tells=tells)
            return False
        except WebSocketDisconnect as exc:
            self.log.debug("gone before it was accepted: %r", exc.__context__ or exc)
            return False
        await self._let_in()
        return not self.writer.closed

    async def _let_in(self) -> None:
        """The handshake is complete: the client is there, and frames leave."""
        self.node.sessions.add(self)
        if self.tally is not None:
            begin(self.node, self.tally)
        if self.is_fluent:
            self.writer.post(self.envelope.frame(self.envelope.welcome(self.writer.name, **self._limits)))
        self.writer.watch(self._wind_up, self._redirect)
        self.writer.release()
        if (terms := self._terms).idle_timeout or terms.max_lifetime or terms.heartbeat:
            self._life = Life(self, terms, self.node.wheel)
        if self._sign_in is not None:
            self._sign_in.stay()
        if self.node.draining:  # it was admitted meanwhile
            await self.go(self.node.settings.retry_after)

    async def accept(self, subprotocol: str | None, headers: Headers) -> None:
        """Answer the handshake, if the endpoint has not; from now on frames can be read.

        Raises:
            WebSocketDisconnect: the client has gone meanwhile.
        """
        is_new = self.websocket.application_state is WebSocketState.CONNECTING
        self.writer.connect(is_new=is_new, told=self.node.wrappers)
        if is_new:
            try:
                await self.websocket.accept(subprotocol, headers)
            except (RuntimeError, OSError):
                # Servers say so in different ways. Where else these are raised, an application's code fails.
                raise WebSocketDisconnect(1006) from None
        self._accepted = True
        self.inbox.release(self.writer.port)

    async def _stay(self) -> None:
        """Join, then handle one message after the other until the client or the server ends it."""
        try:
            async with asyncio.Timeout(None) as self._scope:
                if await self._begin():
                    await self._serve()
        except TimeoutError:
            self.log.info("the client has gone, or was closed: what still ran was cancelled")
        finally:
            self._scope = None

    async def _begin(self) -> bool:
        """What comes between the handshake and the first message; False ends the connection."""
        return True

    async def _serve(self) -> None:
        """Wait for the first message, and have the others handled as they come.

        Between the server's task and who waits here are some twenty coroutines of the server, FastAPI and its
        middleware, and each is resumed for whatever comes: a fifth of what an action takes. Who says
        something gets a task without them; who says nothing gets none.
        """
        if self.websocket.application_state is WebSocketState.DISCONNECTED:
            return
        event = await self.inbox.next()
        if event["type"] == "websocket.disconnect":
            self.inbox.end(event)
            return
        try:
            await asyncio.get_running_loop().create_task(self._work(event))
        finally:
            self._task = None  # it may have an exception, which refers to this object

    async def _work(self, event: ASGIEvent) -> None:
        """Handle `event`, and then what comes behind it."""
        self._task = asyncio.current_task()
        inbox, watch, websocket = self.inbox, self.node.watch, self.websocket
        handled = 0
        while event["type"] != "websocket.disconnect":
            watch.enter(inbox)
            try:
                work = self._handle(body_of(event))
                if work is not None:
                    await work
            finally:
                inbox.busy = False
            handled += 1
            if handled % IN_ONE_TURN == 0:
                await asyncio.sleep(0)
            # Of a client that has gone, what it sent before is still handled.
            if websocket.application_state is WebSocketState.DISCONNECTED:
                return
            event = await inbox.next()
        inbox.end(event)

    def _handle(self, body: Body) -> MaybeAwaited[None]:
        """Everything that one frame causes, to be awaited if there is more to it; nothing that it contains
        makes this raise."""
        size = len(body)
        fault = fault_of(body, size, self._terms, self.relays)
        if (tally := self.tally) is not None:
            # As `take` does: to call it for each message would cost as much as it does.
            traffic = tally.traffic
            if not body.isascii():
                size = size_of(body)
            tally.received += 1
            tally.received_bytes += size
            traffic.received += 1
            traffic.received_bytes += size
        if fault is not None:
            return self.writer.close(*fault)
        try:
            frame = read(self._decoder, body)
            if type(frame) is not dict and inspect.isawaitable(frame):
                return self._handle_later(frame)
            return None if take(self, frame) else self._act(frame)
        except Exception as exc:
            return self.reporter.report(exc, None, self._speaker)

    async def _handle_later(self, frame: Awaitable[Any]) -> None:
        work: MaybeAwaited[None]
        try:
            found = await frame
            work = None if take(self, found) else self._act(found)
        except Exception as exc:
            work = self.reporter.report(exc, None, self._speaker)
        if work is not None:
            await work

    async def may_stay(self) -> bool:
        """Whether the client may have the WebSocket, whatever rooms it is in on it."""
        return True

    async def _take_early(self, event: ASGIEvent) -> bool:
        """Take a frame that cannot wait for the action that runs: a cancel, credit, or an answer."""
        body = body_of(event)
        if len(body) > self._terms.max_message_size:
            return False
        try:
            return take(self, await awaited(read(self._decoder, body)))
        except Exception:  # it is read again in its turn, and answered then
            return False

    def _known(self, request_id: str | float) -> Run | Message | None:
        """The client's request of that id, if it runs; or what stands for it, if it may be read ahead."""
        run = next(filter(None, (each.dispatcher.find(request_id) for each in self._members())), None)
        return stand_in(self._foretold, request_id) if run is None and self.inbox.has_ahead else run

    def _open(self, frame: Any) -> Message:
        message = self.envelope.open(frame)
        if self._foretold:
            tell(self._foretold, message, is_last=not self.inbox.has_ahead)
        return message

    def _redirect(self) -> None:
        for member in self._members():
            member.redirect()

    def _wind_up(self) -> None:
        """Nothing can be sent any more: what runs gets a moment to finish."""
        self.calls.fail()
        if self._scope is not None and not self._scope.expired():
            loop = asyncio.get_running_loop()
            deadline = loop.time() + self._terms.finish_timeout
            self._scope.reschedule(deadline)
            # What runs may swallow its cancellation, or hang in a thread: the client is in no room any more.
            self._departure = loop.call_at(deadline, self._depart)

    async def _end(self) -> None:
        self.node.sessions.discard(self)
        if self._life is not None:
            self._life.stop()
            self._life = None
        if self._sign_in is not None:
            self._sign_in.stop()
            self._sign_in = None
        self.writer.watch(None, None)
        self.calls.fail()
        if self._departure is not None:
            self._departure.cancel()
        self._depart()
        # A task of its own costs as much as all the rest of leaving, mostly for nothing.
        await (finish(self._clean_up()) if self._is_busy else self._clean_up())
        if self.tally is not None:
            end(self, self.tally)
        if logger.isEnabledFor(logging.DEBUG):
            self.log.debug("left")

    def _depart(self) -> None:
        for member in self._members():
            member.depart()

    @property
    def _is_busy(self) -> bool:
        """Whether there may be anything for `_clean_up` to wait for."""
        return True

    @property
    def ending(self) -> tuple[int | None, str | None]:
        """Code and reason of whoever closed first; the other only echoes them."""
        event = self.writer.closing or self.inbox.left or {}
        return event.get("code"), event.get("reason")

    async def _clean_up(self) -> None:
        """What has to be waited for. Runs shielded from the cancellation of the endpoint."""
        await self.inbox.stop()
        self.writer.lost()
        for member in list(self._members()):
            await member.end(*self.ending)
        await self.writer.drained()
