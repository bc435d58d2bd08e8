"""What the test kit is tried on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

from fastapi import FastAPI
from pydantic import BaseModel

from fastapi_channels import BaseChannel, Call, Channel, Connection, Event, Socket, action, add_channel


class Said(Event):
    by: str | None
    text: str


class Place(BaseModel):
    """Fields with the names of options."""

    room: str
    within: UUID


class Moved(Event, Place):
    pass


class Sure(Call[bool]):
    question: str


class Room(Channel):
    history = 100
    finish_timeout = 0.1
    event_types = [Said, Moved]
    call_types = [Sure]

    async def authorize(self, connection: Connection) -> bool:
        return connection.room != "closed"

    @action()
    async def say(self, text: str, connection: Connection) -> int:
        await self.broadcast(connection.room, Said(by=connection.user, text=text))
        return len(text)

    @action()
    async def move(self, payload: Place, connection: Connection) -> Place:
        await self.broadcast(connection.room, Moved(**payload.model_dump()))
        return payload

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
    BaseChannel().mount(app, "/relay/{channel}")

    return app
