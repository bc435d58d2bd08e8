"""What was asked and is not settled yet: each ends in exactly one way, and then nothing of it is left."""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, NotRequired, Protocol, TypedDict

from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.wire.messages import TRACE, WINDOW, size_of

from .connection import Frame
from .errors import ActionError, ClientError, ConnectionLost, NotSent, TimedOut
from .settings import MOST_WAITING, MOST_WAITING_BYTES, Settings

AGAIN: Final = frozenset({"in_progress", "unavailable", "rate_limited"})
"""Errors after which the same call may be made again: nothing was done, or it is being done."""


class Asker(Protocol):
    """Who waits for the end of a request."""

    def item(self, data: Any) -> None:
        """One of several replies."""
        ...

    def reply(self, data: Any) -> None: ...

    def fail(self, error: BaseException) -> None: ...


class How(TypedDict):
    """How a request is made.

    Attributes:
        timeout: seconds until a reply, and between two of several; None for as long as it takes.
        retry: whether it may be sent again.
        window: items of a stream that the server may send before any of them is taken; None for all.
    """

    timeout: float | None
    retry: bool
    window: NotRequired[int | None]


class Calling(TypedDict, total=False):
    """The options of a call."""

    timeout: float | None
    retry: bool


class Streaming(TypedDict, total=False):
    """The options of a stream."""

    timeout: float | None
    window: int | None


class Request:
    """One on its way."""

    __slots__ = (
        *("asker", "credit", "frame", "id", "items", "limit", "retry", "room", "sent", "size", "timeout"),
        *("timers", "window"),
    )

    def __init__(self, id: str, frame: Frame, room: str, asker: Asker, *, how: How, size: int) -> None:
        self.id = id
        self.frame = frame
        self.room = room
        self.asker = asker
        self.timeout = how["timeout"]
        self.limit: asyncio.TimerHandle | None = None
        self.retry = how["retry"]
        self.window = how.get("window")
        self.credit = math.inf
        """Items that the server may send yet."""
        self.items = 0
        """That have come."""
        self.size = size
        self.sent = False
        self.timers: list[asyncio.TimerHandle] = []


class Requests:
    """Those of one connection.

    Args:
        send: sends a frame to a room; returns False while that is not joined.
        knows_windows: whether the server does.
    """

    def __init__(
        self, settings: Settings, send: Callable[[Frame, str], bool], knows_windows: Callable[[], bool]
    ) -> None:
        self._settings = settings
        self._send = send
        self._knows_windows = knows_windows
        self._all: dict[str, Request] = {}
        # Nobody guesses it: it tells a client without a user from others.
        self._prefix = secrets.token_urlsafe(16)
        self._count = 0

    def __len__(self) -> int:
        return len(self._all)

    def next_id(self) -> str:
        self._count += 1
        return f"{self._prefix}-{self._count}"

    def ask(self, frame: Frame, room: str, state: str, asker: Asker, how: How) -> Request:
        """Send a request; while its room is being joined, it waits for `flush`.

        Args:
            state: of the room.

        Raises:
            NotSent: the room is not joined and will not be, or too much waits for it.
            ConfigurationError: its timeout is not above 0.
        """
        timeout = how["timeout"]
        if timeout is not None and not timeout > 0:
            raise ConfigurationError(f"a timeout is above 0, or None; not {timeout!r}")
        if state in ("left", "refused"):
            raise NotSent(f"the room is {state}")
        size = 0
        if state != "joined":
            if self._settings.away == "fail":
                raise NotSent("the room is not joined")
            size = size_of(self._settings.envelope.encode(frame))
            waiting = [each.size for each in self._all.values() if not each.sent]
            if len(waiting) >= MOST_WAITING or sum(waiting) + size > MOST_WAITING_BYTES:
                raise NotSent("too much waits for the room to be joined")
        id = self.next_id()
        frame[self._settings.envelope.request_id] = id
        if self._settings.trace is not None:
            said = self._settings.trace()
            frame.update({name: said[name] for name in TRACE if name in said})
        request = self._all[id] = Request(id, frame, room, asker, how=how, size=size)
        self._wait(request)
        self._dispatch(request)
        return request

    def flush(self, room: str) -> None:
        """A room was joined: send what waited for it, in the order in which it was asked."""
        for request in list(self._all.values()):
            if not request.sent and request.room == room:
                self._dispatch(request)

    def lost(self) -> None:
        """The connection is lost: who may be repeated waits for the next; of the others nobody knows."""
        for request in list(self._all.values()):
            if request.sent and request.retry:
                request.sent = False
            elif request.sent:
                self._fail(request, ConnectionLost("the connection was lost before the reply"))

    def refused(self, error: BaseException, room: str | None = None) -> None:
        """The room, or all of them, will not be joined."""
        for request in list(self._all.values()):
            if room is None or request.room == room:
                told = (ConnectionLost if request.sent else NotSent)(str(error))
                told.__cause__ = error
                self._fail(request, told)

    def received(self, frame: Frame) -> bool:
        """Whether the frame answers a request of ours."""
        names = self._settings.envelope
        request = self._all.get(str(frame.get(names.request_id)))
        if request is None:
            return False
        if names.code in frame:
            self._failed(request, ActionError(frame, names))
        elif frame.get("index", request.items) != request.items:
            self.cancel(request, ClientError(f"item {request.items} of a stream is missing"))
        elif frame.get("more"):
            request.items += 1
            request.credit -= 1
            self._wait(request)
            request.asker.item(frame.get(names.data))
        else:
            self._forget(request)
            request.asker.reply(frame.get(names.data))
        return True

    def cancel(self, request: Request, error: BaseException) -> None:
        """Nobody waits for it any more; the server is told to stop."""
        if request.id not in self._all:
            return
        names = self._settings.envelope
        self._fail(request, error)
        if request.sent:
            with suppress(NotSent):  # so much waits for the network that it would come too late
                self._send({names.type: "cancel", names.request_id: request.id}, request.room)

    def give(self, request: Request, count: int) -> None:
        """So many items of its stream were taken: the server may send as many more."""
        if request.id not in self._all or request.credit == math.inf:
            return
        names = self._settings.envelope
        try:
            credit = {names.type: "credit", names.request_id: request.id, "count": count}
            self._send(credit, request.room)
        except NotSent as exc:  # nothing more would come
            self.cancel(request, exc)
            return
        request.credit += count
        self._wait(request)

    def _wait(self, request: Request) -> None:
        """Begin its time, or begin it anew; it stands still while the server may send nothing."""
        if request.limit is not None:
            request.limit.cancel()
        if request.timeout is not None and request.credit > 0:
            loop = asyncio.get_running_loop()
            request.limit = loop.call_later(request.timeout, self._expire, request, request.timeout)

    def _expire(self, request: Request, timeout: float) -> None:
        action = request.frame.get(self._settings.envelope.action)
        error: ClientError = NotSent(f"{action} waited {timeout:g} s for its room")
        if request.sent:
            error = TimedOut(f"no reply to {action} within {timeout:g} s")
        self.cancel(request, error)

    def _dispatch(self, request: Request) -> None:
        if request.window is not None and self._knows_windows():
            request.frame[WINDOW] = request.credit = request.window
        try:
            request.sent = self._send(request.frame, request.room)
        except (ClientError, ValueError, TypeError) as exc:
            self._fail(request, exc)

    def _failed(self, request: Request, error: ActionError) -> None:
        if not request.retry or error.code not in AGAIN:
            self._fail(request, error)
            return
        request.sent = False
        wait = max(error.retry_after or 0.0, self._settings.times.rejoin)
        self._later(request, wait, lambda: None if request.sent else self._dispatch(request))

    def _later(self, request: Request, delay: float, run: Callable[[], None]) -> None:
        request.timers.append(asyncio.get_running_loop().call_later(delay, run))

    def _fail(self, request: Request, error: BaseException) -> None:
        self._forget(request)
        request.asker.fail(error)

    def _forget(self, request: Request) -> None:
        self._all.pop(request.id, None)
        for timer in (request.limit, *request.timers):
            if timer is not None:
                timer.cancel()


class Reply:
    """Waits for the reply to one call."""

    def __init__(self) -> None:
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.on_item: Callable[[], None] | None = None

    def item(self, data: Any) -> None:
        if self.on_item is not None:
            self.on_item()

    def reply(self, data: Any) -> None:
        if not self.future.done():
            self.future.set_result(data)

    def fail(self, error: BaseException) -> None:
        if not self.future.done():
            self.future.set_exception(error)
