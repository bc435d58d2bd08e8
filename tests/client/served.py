"""The application that clients of each language are tried with."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from fastapi_channels import (
    Call,
    Channel,
    Connection,
    Event,
    PermissionDenied,
    Socket,
    action,
    add_channel,
    history_router,
)


class Said(Event):
    text: str


class Confirm(Call[int]):
    question: str


class Room(Channel):
    history = 1000
    routers = [history_router]
    event_types = [Said]
    call_types = [Confirm]
    orders = 0
    running = False
    made = 0

    async def authorize(self, connection: Connection) -> bool:
        return connection.room != "closed"

    @action()
    async def say(self, text: str, connection: Connection) -> int:
        """Say something to all in the room."""
        await self.broadcast(connection.room, Said(text=text))
        return len(text)

    @action()
    async def nothing(self) -> None:
        """Reply with nothing."""

    @action()
    async def count(self, upto: int) -> AsyncIterator[int]:
        """Count."""
        for number in range(upto):
            yield number

    @action()
    async def forever(self) -> AsyncIterator[int]:
        """Stream without an end; `running` says whether it goes on."""
        self.running = True
        try:
            while True:
                yield 1
                await asyncio.sleep(0.005)
        finally:
            self.running = False

    @action()
    async def make(self) -> AsyncIterator[int]:
        """Stream without an end, as fast as it goes; `how_many` says how far it is."""
        while True:
            self.made += 1
            yield self.made

    @action()
    async def how_many(self) -> int:
        """What `make` has made."""
        return self.made

    @action()
    async def is_running(self) -> bool:
        """Whether `forever` streams."""
        return self.running

    @action(idempotent=True)
    async def order(self, article: str, connection: Connection) -> int:
        """Act once for each request, and lose the reply with the connection."""
        self.orders += 1
        await connection.close(1013, "full")
        return self.orders

    @action()
    async def sure(self, question: str, connection: Connection) -> int:
        """Ask the client."""
        answer: int = await connection.call(Confirm(question=question))
        return answer

    @action()
    async def refused(self) -> None:
        """Refuse."""
        raise PermissionDenied(close=False)

    @action()
    async def cut(self, connection: Connection) -> None:
        """Close so that the client comes back."""
        await connection.close(1013, "full")


class Brief(Room):
    """Keeps less than is said while somebody is away."""

    history = 3


class Fleeting(Channel):
    """Keeps nothing."""

    event_types = [Said]


class Shown(Room):
    """A room of its own, since each of a thousand members would be shown to all the others."""

    presence = True
    presence_interval = 0.05

    def presence_data(self, connection: Connection) -> str:
        return "here"


def create_app() -> FastAPI:
    app = FastAPI()
    add_channel(app, url=os.environ.get("CHANNELS_URL", "memory://"), drain_seconds=1.0, retry_after=0.1)
    room = Room()
    room.mount(app, "/rooms/{channel}", sse=True, http=True)
    Socket(room).mount(app, "/desk")
    Shown().mount(app, "/shown/{channel}", sse=True, http=True)
    Fleeting().mount(app, "/fleeting/{channel}", sse=True, http=True)
    Brief().mount(app, "/brief/{channel}", sse=True, http=True)

    @app.get("/page")
    async def page() -> HTMLResponse:
        """Where a browser's client begins: of the same origin."""
        return HTMLResponse("<!doctype html><title>A client</title>")

    return app
