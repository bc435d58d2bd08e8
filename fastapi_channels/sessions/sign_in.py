"""Who a client is: learnt at the handshake or from its first frame, and anew before that ends.

Only the WebSockets of a channel with an authenticator have a SignIn. All of a process ride one wheel: none
has a timer of its own, but while its first frame is waited for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from starlette.websockets import WebSocket, WebSocketDisconnect

from fastapi_channels.cluster.drain import come_back
from fastapi_channels.cluster.node import Node
from fastapi_channels.exceptions import (
    CloseCode,
    ParseError,
    PermissionDenied,
    RateLimitExceeded,
    Unauthenticated,
    WebSocketException,
)
from fastapi_channels.signatures.callables import awaited
from fastapi_channels.wire.inbox import Inbox
from fastapi_channels.wire.messages import Body, Envelope, Message
from fastapi_channels.wire.port import body_of
from fastapi_channels.wire.writer import Writer

from .decoding import fault_of
from .http import Headers
from .identity import Gate, Identity, signed_in
from .membership import Membership
from .plan import Terms
from .report import Reporter

AUTH: Final = "auth"
"""The type of a first frame that brings a token."""
REFRESH: Final = "refresh"
"""A frame that brings a new token for an open WebSocket."""
REFRESHES: Final = 10
"""How many of those are looked at in a row."""
REGAINED: Final = 1.0
"""How many more each second."""


class Guest(Protocol):
    """The session of a WebSocket."""

    websocket: WebSocket
    node: Node
    envelope: Envelope
    writer: Writer
    inbox: Inbox
    reporter: Reporter
    relays: bool
    is_one_way: bool
    user: Any
    _terms: Terms
    _decoder: Callable[[Body], Any]

    @property
    def language(self) -> str: ...

    async def accept(self, subprotocol: str | None, headers: Headers) -> None:
        """Answer the handshake, before it is known whether the client is admitted."""
        ...

    async def may_stay(self) -> bool:
        """Whether the client may have the WebSocket, whatever rooms it is in on it."""
        ...

    def _members(self) -> Iterable[Membership]: ...


class SignIn:
    """That of one WebSocket, from its handshake to `stop`.

    Args:
        guest: the session.
        gate: the authenticator.
    """

    __slots__ = (
        "_gate",
        "_guest",
        "_refreshed",
        "_refreshed_at",
        "_refreshing",
        "_spoke",
        "_warned_at",
        "identity",
    )

    def __init__(self, guest: Guest, gate: Gate) -> None:
        self.identity: Identity | None = None
        self._guest = guest
        self._gate = gate
        self._warned_at = 0.0
        """When the client is told that its token ends, in seconds since 1970; its end, where it was told."""
        self._spoke: set[Callable[[], None]] = set()
        self._refreshing: asyncio.Task[None] | None = None
        self._refreshed = 0.0
        self._refreshed_at = 0.0

    @property
    def tells(self) -> bool:
        """Whether a client that is refused is accepted first, so that its page can read why."""
        return self._gate.tell and not self._guest.is_one_way

    async def enter(self, subprotocol: str | None, headers: Headers) -> None:
        """Learn who the client is.

        Args:
            subprotocol, headers: of the answer to the handshake.

        Raises:
            WebSocketException: it does not say it, or what it brings does not hold.
            WebSocketDisconnect: it has gone meanwhile.
        """
        guest, gate = self._guest, self._gate
        identity = await gate.identify(guest.websocket)
        if identity is not None:
            await self._check(identity)
            self._take(identity)
        elif gate.first_frame is not None and guest.is_one_way:
            raise Unauthenticated
        elif gate.first_frame is not None:
            await guest.accept(subprotocol, headers)
            frame = await self._first_frame(gate.first_frame)
            message = self._message(frame) if isinstance(frame, dict) else None
            identity = await gate.read(frame, guest.envelope.type, guest.websocket)
            await self._check(identity)
            self._take(identity)
            await self._welcome(message)

    def stay(self) -> None:
        """The client is in: from now on its time runs."""
        self._spoke.discard(self._look)
        if self.identity is not None and self.identity.expires_at is not None:
            self._spoke = self._guest.node.wheel.ride(self._look, max(0.0, self._warned_at - time.time()))

    def refresh(self, frame: dict[str, Any]) -> None:
        """Look at a new token, beside whatever runs; one at a time, and not too many in a row.

        Raises:
            ParseError: its request id is none; or it is a first frame, of a client that is known.
        """
        guest, message = self._guest, self._message(frame)
        if frame.get(guest.envelope.type) == AUTH:
            problem = f"it is known who you are: a new token comes by {REFRESH!r}"
            raise ParseError(close=False, request_id=message.request_id, context={"problem": problem})
        wait = 1.0 if self._refreshing is not None and not self._refreshing.done() else self._count()
        if not wait:
            self._refreshing = asyncio.create_task(self._refresh(frame.get("token"), message))
            return
        error = RateLimitExceeded(close=False, retry_after=wait)
        answer = guest.envelope.error(
            error, action=REFRESH, request_id=message.request_id, language=guest.language
        )
        guest.writer.post(guest.envelope.frame(answer))

    def stop(self) -> None:
        """The WebSocket has ended."""
        self._guest.node.revocations.leave(self._guest.writer)
        self._spoke.discard(self._look)
        if self._refreshing is not None:
            self._refreshing.cancel()

    def _count(self) -> float:
        """Count one refresh; seconds to wait where there were too many."""
        now = asyncio.get_running_loop().time()
        before = max(0.0, self._refreshed - (now - self._refreshed_at) * REGAINED)
        over = before + 1 - REFRESHES
        if over > 0:
            return over / REGAINED
        self._refreshed, self._refreshed_at = before + 1, now
        return 0.0

    async def _first_frame(self, seconds: float) -> Any:
        guest = self._guest
        try:
            async with asyncio.timeout(seconds) as deadline:
                with self._gate.waiting(deadline):
                    event = await guest.inbox.get()
        except TimeoutError:
            raise Unauthenticated(reason="nobody said in time who is there") from None
        if event["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(event.get("code", 1005))
        decode = guest.envelope.decode if guest.relays else guest._decoder
        body = body_of(event)
        fault = fault_of(body, len(body), guest._terms, guest.relays)
        if fault is not None:
            raise WebSocketException(*fault)
        try:
            return await awaited(decode(body))
        except (ValueError, RecursionError):
            return body  # a handler may want it as it came

    async def _check(self, identity: Identity) -> None:
        """
        Raises:
            Unauthenticated: it was revoked.
        """
        if self._gate.revocable:
            guest, revocations = self._guest, self._guest.node.revocations
            if await revocations.enter(guest.writer, signed_in(identity, guest.node)):
                raise Unauthenticated

    def _take(self, identity: Identity) -> None:
        """The client is this one, from now on."""
        guest = self._guest
        self.identity, ends = identity, identity.expires_at
        if ends is not None:
            # A token that lives shorter than the warning, or that came again, is not asked for at once.
            self._warned_at = ends - min(self._gate.warning, _remaining(ends) / 2)
        guest.user = guest.websocket.scope["user"] = identity.user
        for member in guest._members():
            member.connection.user = member.connection.websocket.scope["user"] = identity.user

    async def _welcome(self, message: Message | None) -> None:
        guest, identity = self._guest, self.identity
        if guest.relays or identity is None:
            return
        remaining = None if identity.expires_at is None else _remaining(identity.expires_at)
        frame = guest.envelope.authenticated(remaining, message)
        await guest.writer.write(guest.envelope.frame(frame))

    def _message(self, frame: dict[str, Any]) -> Message:
        envelope = self._guest.envelope
        return envelope.open({envelope.action: REFRESH, envelope.request_id: frame.get(envelope.request_id)})

    async def _refresh(self, token: Any, message: Message) -> None:
        guest = self._guest
        try:
            if not isinstance(token, str):  # verifiers are written for what a source brings
                raise Unauthenticated
            identity = await self._gate.verify(token, guest.websocket)
            key = guest.node.key_of(identity.user)
            if key is None or key != guest.node.key_of(guest.user):
                raise Unauthenticated
            await self._check(identity)
        except Exception as exc:
            if isinstance(exc, WebSocketException):
                exc.close = False
            await guest.reporter.report(exc, message)
            return
        self._take(identity)
        self.stay()
        await self._welcome(message)
        await self._reconsider()

    async def _reconsider(self) -> None:
        """Ask again whether the client may be where it is; where not, it is closed."""
        guest = self._guest
        if not await guest.may_stay():
            await guest.reporter.report(PermissionDenied())
            return
        for member in list(guest._members()):
            try:
                pending = None if member.connection.ended else member.guard.check_permissions()
                if pending is not None:
                    await pending
            except Exception as exc:
                await guest.reporter.report(exc, None, member, fatal=True)

    def _look(self) -> None:
        guest, identity = self._guest, self.identity
        if identity is None or identity.expires_at is None or guest.writer.closed:
            return
        remaining = _remaining(identity.expires_at)
        if not remaining:
            guest.writer.start_close(CloseCode.TOKEN_EXPIRED, come_back("token expired", 0.0))
            return
        if self._warned_at <= time.time() and self._warned_at < identity.expires_at:
            self._warned_at = identity.expires_at
            if not guest.relays:
                guest.writer.post(guest.envelope.frame(guest.envelope.expiring(remaining)))
        self.stay()


def _remaining(ends: float) -> float:
    return round(max(0.0, ends - time.time()), 3)
