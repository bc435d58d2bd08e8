"""What a browser makes of a stream of events (HTML Living Standard, section 9.2.6); a client for one."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import httpx

from .live import DEADLINE, Site

_LINE = re.compile(rb"(.*?)(?:\r\n|\r|\n)", re.DOTALL)


class Event(NamedTuple):
    """
    Attributes:
        id: what the client would come back with, after it.
    """

    name: str
    data: str
    id: str

    @property
    def frame(self) -> Any:
        return json.loads(self.data)


class Reader:
    """
    Attributes:
        last_id: what a browser sends as `Last-Event-ID`.
        retry: milliseconds after which it comes back; None for its own choice.
        comments: lines that it throws away.
    """

    def __init__(self) -> None:
        self.last_id = ""
        self.retry: int | None = None
        self.comments: list[str] = []
        self._rest = b""
        self._name = ""
        self._data: list[str] = []

    def read(self, data: bytes) -> list[Event]:
        """The events that are complete now."""
        found: list[Event] = []
        self._rest += data
        # An LF may still belong to a CR at the very end.
        while (line := _LINE.match(self._rest)) and not (
            line[0].endswith(b"\r") and line.end() == len(self._rest)
        ):
            self._rest = self._rest[line.end() :]
            self._take(line[1].decode(), found)
        return found

    def _take(self, line: str, found: list[Event]) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if self._data:
                found.append(Event(self._name or "message", "\n".join(self._data), self.last_id))
            self._name, self._data = "", []
        elif not name:
            self.comments.append(value)
        elif name == "data":
            self._data.append(value)
        elif name == "event":
            self._name = value
        elif name == "id" and "\0" not in value:
            self.last_id = value
        elif name == "retry" and value.isdecimal():
            self.retry = int(value)


class Events:
    """A stream that a server has opened; waits for nothing longer than the deadline."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.reader = Reader()
        self._chunks = response.aiter_raw()
        self._read: list[Event] = []

    async def next(self) -> Event:
        """
        Raises:
            EOFError: the stream has ended.
        """
        while not self._read:
            await self.read_on()
        return self._read.pop(0)

    async def read_on(self) -> None:
        """Wait for more of it, whatever that is.

        Raises:
            EOFError: the stream has ended.
        """
        async with asyncio.timeout(DEADLINE):
            chunk = await anext(self._chunks, None)
        if chunk is None:
            raise EOFError
        self._read += self.reader.read(chunk)

    async def frame(self) -> Any:
        """The frame in the next event."""
        event = await self.next()
        assert event.name == "message", event
        return event.frame

    async def rest(self) -> list[Event]:
        """All events until the end."""
        events: list[Event] = []
        try:
            while True:
                events.append(await self.next())
        except EOFError:
            return events


@asynccontextmanager
async def listening(site: Site, path: str, *, method: str = "GET", **headers: str) -> AsyncIterator[Events]:
    """A stream of events; a header's name has an underscore for each hyphen."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        site.client(timeout=DEADLINE) as http,
        http.stream(method, path, headers=named) as response,
    ):
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        yield Events(response)
