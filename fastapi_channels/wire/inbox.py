"""Reading a WebSocket: inline while its actions are quick, ahead of them while one is slow.

A client that leaves is noticed only by reading. A second task for each connection would notice, at
the price of two switches for each message; here a message is awaited by the task that handles it, and
only an action that is found running at two ticks of the watch is read ahead of.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.websockets import WebSocket, WebSocketState

from .port import ASGIEvent, Port

TICK: Final = 0.02
"""Seconds between two looks at the actions that run."""
OVERHEAD: Final = 256
"""Bytes that a message counts for beside its content: empty ones take memory too."""
GONE: Final[ASGIEvent] = {"type": "websocket.disconnect", "code": 1006, "reason": ""}


class Inbox:
    """The messages of one client, in order.

    Args:
        websocket: accepted.
        on_disconnect: called when the client is found gone while an action runs.
        limit: bytes read ahead, each message counted with `OVERHEAD`; beyond them the client has to
            wait, and its leaving is not noticed.
        take_early: asked of what is read ahead; True says that it is dealt with.
    """

    __slots__ = (
        "_ahead",
        "_asgi_receive",
        "_limit",
        "_on_disconnect",
        "_read",
        "_size",
        "_take_early",
        "_websocket",
        "busy",
        "left",
        "looks",
        "watched",
    )

    def __init__(
        self,
        websocket: WebSocket,
        on_disconnect: Callable[[], None],
        limit: int,
        take_early: Callable[[ASGIEvent], Awaitable[bool]],
    ) -> None:
        self._websocket = websocket
        self._asgi_receive = websocket._receive
        self._on_disconnect = on_disconnect
        self._limit = limit
        self._take_early = take_early
        self._ahead: list[ASGIEvent] = []
        self._size = 0
        self._read: asyncio.Task[ASGIEvent] | None = None
        self.left: ASGIEvent | None = None
        """How the client left, once it has."""
        self.busy = False
        """Whether a message is being handled: set by the watch, and taken back by who had it watched."""
        self.looks = 0
        """How often the watch has found it busy with the same message."""
        self.watched = False
        """Whether the watch is going to look at it."""

    def release(self, port: Port | None) -> None:
        """The handshake is complete: a handler that reads the WebSocket itself gets what is next here.

        Args:
            port: the server's, if it has one.
        """
        if port is not None:
            self._asgi_receive = port.get
        self._websocket._receive = self.get

    def get(self) -> Awaitable[ASGIEvent]:
        """The next ASGI message: `websocket.receive`, or `websocket.disconnect` for ever after it."""
        return self._receive() if self._read is None and not self._ahead else self._take()

    def next(self) -> Awaitable[ASGIEvent]:
        """As `get`, by the shortest way: who is told here that the client has left calls `end`."""
        if self._read is None and not self._ahead and self.left is None:
            return self._asgi_receive()
        return self.get()

    def end(self, event: ASGIEvent) -> None:
        """The client has left, as `event` says."""
        if self.left is None:
            self._websocket.client_state = WebSocketState.DISCONNECTED
            self.left = event

    async def _take(self) -> ASGIEvent:
        """The next of those that are read ahead."""
        while not self._ahead:
            if self._read is None:
                return await self._receive()
            await asyncio.wait((self._read,))
        event = self._ahead.pop(0)
        self._size -= _size(event)
        return event

    @property
    def has_ahead(self) -> bool:
        """Whether something was read that has not had its turn."""
        return bool(self._ahead)

    def look_ahead(self) -> None:
        """Read on while a message is still being handled; who waits in `get` reads anyway."""
        if self.busy and self._read is None and not self.is_full and not self._ends():
            self._read = asyncio.get_running_loop().create_task(self._read_ahead())
            self._read.add_done_callback(self._arrived)

    @property
    def is_full(self) -> bool:
        """Whether it reads nothing more ahead."""
        return self._size >= self._limit

    @property
    def is_reading(self) -> bool:
        """Whether it reads ahead."""
        return self._read is not None

    async def stop(self) -> None:
        if self._read is not None:
            self._read.cancel()
            await asyncio.wait((self._read,))

    def dissolve(self) -> None:
        """Let go of the WebSocket, and of those who are told of what is read. The watch may still have this
        object until it looks."""
        self._websocket._receive = self._asgi_receive
        del self._asgi_receive, self._on_disconnect, self._take_early, self._websocket

    async def _receive(self) -> ASGIEvent:
        if self.left is not None:
            return GONE
        event = await self._asgi_receive()
        if event["type"] == "websocket.disconnect":
            self.end(event)
            # Who waits in `next` at the same time is not told by the server.
            self._on_disconnect()
        return event

    async def _read_ahead(self) -> ASGIEvent:
        """The next event that is not dealt with early."""
        while True:
            event = await self._receive()
            if event["type"] == "websocket.disconnect" or not await self._take_early(event):
                return event

    def _arrived(self, read: asyncio.Task[ASGIEvent]) -> None:
        self._read = None
        if read.cancelled():
            return
        event = read.result()
        self._ahead.append(event)
        self._size += _size(event)
        if self._ends():
            self._on_disconnect()
        else:
            self.look_ahead()

    def _ends(self) -> bool:
        return bool(self._ahead) and self._ahead[-1]["type"] == "websocket.disconnect"


def _size(event: ASGIEvent) -> int:
    return OVERHEAD + len(event.get("text") or event.get("bytes") or b"")


class Watch:
    """Looks at the inboxes of all running actions, one timer for the whole process."""

    __slots__ = ("_inboxes", "_timer")

    def __init__(self) -> None:
        self._inboxes: list[Inbox] = []
        """Those that were busy since the last look."""
        self._timer: asyncio.TimerHandle | None = None

    def enter(self, inbox: Inbox) -> None:
        """A message of `inbox` is going to be handled."""
        inbox.busy = True
        inbox.looks = 0
        if not inbox.watched:
            self._watch(inbox)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for inbox in self._inboxes:
            inbox.watched = False
        self._inboxes.clear()

    def _watch(self, inbox: Inbox) -> None:
        inbox.watched = True
        self._inboxes.append(inbox)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TICK, self._look)

    def _look(self) -> None:
        self._timer = None
        inboxes, self._inboxes = self._inboxes, []
        for inbox in inboxes:
            inbox.watched = False
            if inbox.busy:
                if inbox.looks:
                    inbox.look_ahead()
                inbox.looks += 1
                self._watch(inbox)
