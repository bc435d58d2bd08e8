"""A room as its messages pass: some of them, for a while, as Server-Sent Events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, Final

from fastapi.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from fastapi_channels.cluster.node import Node
from fastapi_channels.wire.messages import Publication, encode_json, size_of
from fastapi_channels.wire.stream import cut_off

PER_SECOND: Final = 20
"""Messages of one room that are shown in a second; the others are counted."""
MAX_SHOWN: Final = 2000
"""Characters of a message that are shown."""
LONGEST: Final = 600.0
"""Seconds after which nobody may be looking any more."""
UNREAD: Final = 10.0
"""Seconds in which whoever looks has to take an event. It bounds what is kept meanwhile, and how much later
than it should a response ends."""
MOST: Final = 10
"""Rooms that are listened to in one process at a time."""
BEAT: Final = 1.0
"""Seconds between two looks at whether it has to end. Each sends a comment: so a client that has gone is
noticed, and no proxy takes the response for dead."""
HEADERS: Final = {"cache-control": "no-store, no-transform", "x-accel-buffering": "no"}


class Tail:
    """What one operator hears of a room.

    Args:
        node: that of the process which the operator has asked.
        room: as the processes know it.
        among: those that are open in the process.
    """

    def __init__(self, node: Node, room: str, among: set[Tail]) -> None:
        self._among = among
        self._node = node
        self._room = room
        self._heard: list[dict[str, Any]] = []
        self._arrived = asyncio.Event()
        self._passed = self._window = self._shown = 0

    async def open(self) -> None:
        """
        Raises:
            BrokerUnavailable: the room cannot be heard.
        """
        self._among.add(self)
        try:
            await self._node.listeners.add(self._room, self._hear)
        except BaseException:
            self._among.discard(self)
            raise

    def close(self) -> None:
        self._among.discard(self)
        self._node.listeners.discard(self._room, self._hear)

    def _hear(self, publication: Publication) -> None:
        self._passed += 1
        now = int(time.monotonic())
        if now != self._window:
            self._window, self._shown = now, 0
        if self._shown < PER_SECOND:
            self._shown += 1
            self._heard.append(_shown(publication))
            self._arrived.set()

    async def events(self) -> AsyncIterator[str]:
        """What an EventSource reads: `passed` is how many messages there were, those among them that are not
        in `messages`. The last event is an `end`."""
        loop = asyncio.get_running_loop()
        ends, told = loop.time() + LONGEST, 0
        yield ": listening\n\n"
        while loop.time() < ends and not self._node.draining:
            with suppress(TimeoutError):
                async with asyncio.timeout(BEAT):
                    await self._arrived.wait()
            self._arrived.clear()
            heard, self._heard = self._heard, []
            if heard or self._passed != told:
                told = self._passed
                yield f"data: {encode_json({'passed': told, 'messages': heard})}\n\n"
            else:
                yield ":\n\n"
        yield "event: end\ndata: {}\n\n"


class TailResponse(StreamingResponse):
    """Closes what it was made of, however it ends: a generator that is left in the midst of a send is ended
    by the garbage collector alone. Who does not read is cut off."""

    media_type = "text/event-stream"

    def __init__(self, tail: Tail) -> None:
        super().__init__(tail.events(), headers=HEADERS)
        self._tail = tail

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        loop, limit = asyncio.get_running_loop(), asyncio.timeout(None)

        async def send_in_time(event: Message) -> None:
            limit.reschedule(loop.time() + UNREAD)
            await send(event)
            if not limit.expired():
                limit.reschedule(None)

        try:
            async with limit:
                await super().__call__(scope, receive, send_in_time)
        except TimeoutError:
            if not limit.expired():
                raise
            await cut_off(receive, send)
        finally:
            self._tail.close()


def _shown(publication: Publication) -> dict[str, Any]:
    """A message for an operator: bytes as hexadecimal digits."""
    body = publication.body
    most = MAX_SHOWN if isinstance(body, str) else MAX_SHOWN // 2
    begin = body[:most]
    return {
        "at": time.time(),
        "text": begin if isinstance(begin, str) else begin.hex(),
        "size": size_of(body),
        "cut": len(body) > most,
        "binary": isinstance(body, bytes),
        "position": publication.position,
    }
