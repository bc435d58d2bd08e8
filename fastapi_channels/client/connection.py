"""One WebSocket that comes back by itself, and never hammers, whatever travels over it."""

from __future__ import annotations

import asyncio
import inspect
import random
import re
import time
from collections import deque
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final, Literal, Protocol, TypeAlias

from fastapi_channels.wire.messages import SUBPROTOCOL, Body, size_of

from .errors import ActionError, NotSent, Refused
from .settings import MOST_UNSENT, Closed, Settings, Wire

State: TypeAlias = Literal["idle", "connecting", "open", "waiting", "closed"]
"""`closed` is for good, until somebody retries; `waiting` for the next attempt."""
Frame: TypeAlias = dict[str, Any]

MOST_OF_A_JOIN: Final = 1280
"""Bytes that a room takes in a join frame: a name of 255 characters, a position and two ids have fewer."""
LOST: Final = 1006
COMING_BACK: Final = 3008
"""What a client closes with that comes back: those in its rooms are not told that it has gone."""
_BACK: Final = frozenset({1001, 1005, LOST, 1011, 1012, 1013, 1014, 3008})
_TOKEN: Final = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)
_RETRY_AFTER: Final = re.compile(r"\bretry_after=(\d+(?:\.\d+)?)")


def comes_back(code: int) -> bool:
    """Whether a client is to come back after a close with this code."""
    return code in _BACK or 4000 <= code < 4500


class Owner(Protocol):
    """Whose connection it is. Nothing here waits, or raises."""

    def address(self) -> str:
        """Of the next handshake, for what has been received so far."""
        ...

    def opened(self) -> None: ...

    def received(self, frame: Frame) -> None: ...

    def lost(self) -> None:
        """It is gone: for good, if the state is "closed" or "idle"."""
        ...


class Connection:
    """
    Attributes:
        state: where it is.
        refusal: why it is closed; while it is not, what the server said to the last attempt, if it said no.
        until: when the next attempt begins, in seconds since 1970, while it waits.
        knows_windows: whether the server does, of streams; as long as the connection is open.
        max_joins: how many rooms the server takes in one join frame.
    """

    def __init__(self, settings: Settings, owner: Owner) -> None:
        self.state: State = "idle"
        self.refusal: Refused | None = None
        self.until = 0.0
        self.knows_windows = False
        self.max_joins = 1
        self._settings = settings
        self._owner = owner
        self._task: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()
        self._failures = 0
        self._began = float("-inf")
        self._opened_at = 0.0
        self._said: ActionError | None = None
        self._expired = 0
        """How often in a row a token was refused because it was over."""
        self._retry_after = 0.0
        self._limit: float = float("inf")
        self._unsent: deque[Body] = deque()
        self._unsent_size = 0
        self._to_send = asyncio.Event()
        self._heard = 0.0
        self._asked_until: float | None = None
        self._scope: asyncio.Timeout | None = None
        self._pulse: asyncio.TimerHandle | None = None
        self._beside: set[asyncio.Task[None]] = set()
        """Farewells, which go on beside."""
        self._refreshing: asyncio.Task[None] | None = None
        """Asks for a token."""

    def open(self) -> None:
        """Connect, if it is not under way."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="fastapi-channels client")

    def retry(self) -> None:
        """Try as soon as it may be; also after a refusal."""
        if self.state in ("open", "connecting"):
            return
        self._failures = self._expired = 0
        self.refusal = None
        if self._task is not None:
            self._hurry.set()
        self.open()

    async def close(self) -> None:
        """Leave. Returns when nothing of it is left; a server that does not answer gets a second."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait((task,))
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.wait((self._refreshing,))
        if self._beside:
            await asyncio.wait(self._beside)
        if self.state != "idle":
            self.state, self.refusal = "idle", None
            self._owner.lost()

    def send(self, frame: Frame) -> bool:
        """Whether it goes: False while the connection is not open.

        Raises:
            NotSent: the server would close for its size, or does not read.
        """
        if self.state != "open":
            return False
        body = self._settings.envelope.encode(frame)
        size = size_of(body)
        if size > self._limit:
            raise NotSent(f"a message may have {self._limit} bytes, this one has {size}")
        if self._unsent_size + size > MOST_UNSENT:
            raise NotSent(f"{self._unsent_size} bytes wait for the network already")
        self._unsent.append(body)
        self._unsent_size += size
        self._to_send.set()
        return True

    def _sign(self, kind: str) -> None:
        """A sign of life; where it does not fit, the server has not read for long, and is heard or not."""
        with suppress(NotSent):
            self.send({self._settings.envelope.type: kind})

    # The task

    async def _run(self) -> None:
        while True:
            closed = await self._attempt()
            told = self._retry_after
            found = _RETRY_AFTER.search(closed.reason)
            if found is not None:
                told = max(told, float(found[1]))
            expired = self._said is not None and self._said.code == "token_expired"
            self._expired = self._expired + 1 if expired else 0
            # A new token that is over as well: the next would be too.
            returns = comes_back(closed.code) and self._expired < 2
            said_no = self._said is not None or not returns
            self.refusal = Refused(closed.code, closed.reason, self._said) if said_no else None
            if not returns:
                self.state = "closed"
                self._task = None
                self._owner.lost()
                return
            # Full jitter: clients that lost a server together do not come back together.
            jitter = random.uniform(0, self._settings.times.ceiling(self._failures))  # noqa: S311
            self._failures += 1
            delay = max(jitter, told, self._gap())
            self.state, self.until = "waiting", time.time() + delay
            self._owner.lost()
            with suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._hurry.wait()
            self._hurry.clear()
            await asyncio.sleep(self._gap())

    def _gap(self) -> float:
        """Seconds until another attempt may begin."""
        return self._began + self._settings.times.gap - asyncio.get_running_loop().time()

    async def _attempt(self) -> Closed:
        """Connect, and stay as long as it goes; how it ended."""
        settings, loop = self._settings, asyncio.get_running_loop()
        self.state, self._began, self._opened_at = "connecting", loop.time(), 0.0
        self._said, self._retry_after, self._limit, self.max_joins = None, 0.0, float("inf"), 1
        self._asked_until, self.knows_windows = None, False
        wire: Wire | None = None
        try:
            async with asyncio.timeout(settings.times.connect):
                wire = await self._dial()
                if wire.subprotocol != SUBPROTOCOL:  # such a server need not greet
                    self._open()
                while self.state == "connecting":
                    self._receive(await wire.receive())
            return await self._stay(wire)
        except Closed as exc:
            return exc
        except TimeoutError:
            return Closed(LOST, "no answer in time")
        except Exception as exc:
            # A token that cannot be had, as a rule.
            settings.complain("an attempt to connect failed", exc)
            return Closed(LOST, str(exc))
        finally:
            if self._opened_at and loop.time() - self._opened_at >= settings.times.settle:
                self._failures = 0
            self._unsent.clear()
            self._unsent_size = 0
            if wire is not None:
                self._let_go(wire)

    async def _dial(self) -> Wire:
        settings = self._settings
        protocols = [SUBPROTOCOL, *settings.protocols]
        token = await self._token()
        if token is not None:
            protocols.append(f"bearer.{token}")
        try:
            return await settings.dial(self._owner.address(), protocols, settings.headers)
        except (Closed, TimeoutError):
            raise
        except Exception as exc:  # a header that is none, as a rule: it would be the same each time
            raise Closed(0, repr(exc)) from exc

    async def _stay(self, wire: Wire) -> Closed:
        writing = asyncio.get_running_loop().create_task(self._write(wire))
        try:
            async with asyncio.timeout(None) as self._scope:
                self._beat(time.time())
                while True:
                    self._receive(await wire.receive())
        except TimeoutError:
            return Closed(LOST, "no answer to a ping")
        except Closed as exc:
            return exc
        finally:
            self._scope = None
            writing.cancel()
            if self._pulse is not None:
                self._pulse.cancel()

    async def _write(self, wire: Wire) -> None:
        with suppress(Closed):  # whoever reads is told
            while True:
                await self._to_send.wait()
                self._to_send.clear()
                while self._unsent:
                    body = self._unsent.popleft()
                    self._unsent_size -= size_of(body)
                    await wire.send(body)

    def _beat(self, wall: float) -> None:
        """Look every tick whether anybody is there."""
        times, loop = self._settings.times, asyncio.get_running_loop()

        def look() -> None:
            now, on_the_wall = loop.time(), time.time()
            slept = on_the_wall - wall > 3 * times.tick
            if self._asked_until is not None:
                if now >= self._asked_until and self._scope is not None:
                    self._scope.reschedule(now)
                    return
            elif slept or now - self._heard >= times.silence:
                self._asked_until = now + (times.probe if slept else times.pong)
                self._sign("ping")
            self._beat(on_the_wall)

        due = times.tick if self._asked_until is None else min(times.tick, self._asked_until - loop.time())
        self._pulse = loop.call_later(max(due, 0.0), look)

    def _let_go(self, wire: Wire) -> None:
        """Close, without waiting for a server that may never answer."""
        self._background(wire.close(1000 if self._task is None else COMING_BACK))

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)

    async def _refresh(self) -> None:
        """The token ends soon: a new one on the open WebSocket saves coming back. Without one the server
        closes with 4001."""
        began = self._began
        try:
            token = await self._token()
        except Exception as exc:
            self._settings.complain("a new token cannot be had", exc)
            return
        if token is not None and began == self._began:
            self.send({self._settings.envelope.type: "refresh", "token": token})

    async def _token(self) -> str | None:
        """Where there is one.

        Raises:
            Closed: it cannot be sent, nor the next time.
        """
        if self._settings.token is None:
            return None
        found = self._settings.token()
        token: object = await found if inspect.isawaitable(found) else found
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise Closed(0, "an unusable token: not of the characters of HTTP tokens")
        return token

    # What comes

    def _open(self) -> None:
        self.state = "open"
        self._opened_at = self._heard = asyncio.get_running_loop().time()
        self._owner.opened()

    def _receive(self, body: Body) -> None:
        self._heard = asyncio.get_running_loop().time()
        self._asked_until = None
        try:
            frame = self._settings.envelope.decode(body)
            if not isinstance(frame, dict):
                raise ValueError("a frame is an object")
        except ValueError as exc:
            self._settings.complain("a frame cannot be read", exc)
            return
        kind = frame.get(self._settings.envelope.type)
        if kind == "welcome":
            self._limit = frame.get("max_message_size") or float("inf")
            self.knows_windows = "max_window" in frame
            self.max_joins = int(max(1, min(frame.get("max_joins") or 1, self._limit / MOST_OF_A_JOIN)))
            if self.state == "connecting":
                self._open()
        elif kind == "ping":
            self._sign("pong")
        elif kind == "expiring":
            self._refreshing = asyncio.get_running_loop().create_task(self._refresh())
        elif kind == "drain":
            self._retry_after = frame.get("retry_after") or 0.0
        elif self.state == "connecting" and kind == "response":
            self._said = ActionError(frame, self._settings.envelope)
            self._retry_after = self._said.retry_after or 0.0
        elif kind not in ("pong", "authenticated"):
            self._owner.received(frame)
