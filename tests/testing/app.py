"""What the test kit is tried on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, HTTPException, WebSocket

from fastapi_channels import Call, Channel, Connection, Event, Socket, action, add_channel


class Said(Event):
    by: str | None
    text: str


class Sure(Call[bool]):
    question: str


class Room(Channel):
    history = 100
    finish_timeout = 0.1
    event_types = [Said]
    call_types = [Sure]

    async def authorize(self, connection: Connection) -> bool:
        return connection.room != "closed"

    @action()
    async def say(self, text: str, connection: Connection) -> int:
        await self.broadcast(connection.room, Said(by=connection.user, text=text))
        return len(text)

    @action()
    async def whisper(self, user: str, text: str) -> None:
        await self.send_to_user(user, Said(by=None, text=text))

    @action()
    async def count(self, upto: int) -> AsyncIterator[int]:
        for number in range(upto):
            yield number

    @action()
    async def forever(self) -> AsyncIterator[int]:
        yield 0
        await asyncio.Event().wait()

    @action()
    async def delete(self, connection: Connection) -> bool:
        sure: bool = await connection.call(Sure(question="Really?"))
        return sure

    @action()
    async def hang(self) -> None:
        await asyncio.Event().wait()

    @action()
    async def end(self, connection: Connection) -> None:
        await connection.close(1013, "full")


def create_app(**settings: Any) -> FastAPI:
    app = FastAPI()
    add_channel(app, **settings)
    room = Room()
    room.mount(app, "/rooms/{channel}")
    Socket(room).mount(app, "/many")

    @app.websocket("/broken")
    async def broken(websocket: WebSocket) -> None:
        raise ZeroDivisionError("a bug")

    @app.websocket("/breaks")
    async def breaks(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.receive_text()
        raise ZeroDivisionError("a bug")

    @app.websocket("/silent")
    async def silent(websocket: WebSocket) -> None:
        """Neither accept nor refuse."""

    @app.websocket("/login")
    async def login(websocket: WebSocket) -> None:
        raise HTTPException(401, "log in first")

    return app
