"""The room with fastapi-channels."""

from itertools import count
from typing import Annotated

from fastapi import FastAPI, WebSocket
from pydantic import Field

from fastapi_channels import Channel, Connection, Event, action, add_channel, limiter

MEMBERS = {"ada", "bob"}
numbers = count(1)


class Said(Event):
    number: int
    by: str
    text: str


class Left(Event):
    by: str


def is_member(websocket: WebSocket, action: str | None, connection: Connection) -> bool:
    return connection.user in MEMBERS


class Room(Channel):
    event_types = (Said, Left)

    @limiter(times=3, seconds=10)
    @action(permission=is_member)
    async def say(
        self, text: Annotated[str, Field(min_length=1, max_length=200)], connection: Connection
    ) -> int:
        said = Said(number=next(numbers), by=connection.user, text=text)
        await self.broadcast(connection.room, said)
        return said.number


app = FastAPI()
add_channel(app)
room = Room()


@room.on_event("leave")
async def left(connection: Connection) -> None:
    await room.broadcast(connection.room, Left(by=connection.user))


@app.websocket("/rooms/{name}")
async def enter(websocket: WebSocket, name: str, user: str) -> None:
    await room.connect(websocket, name, user=user)
