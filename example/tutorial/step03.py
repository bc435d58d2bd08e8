"""Step 3: events that have a type."""

from typing import Annotated, TypeAlias

from fastapi import FastAPI
from pydantic import Field

from fastapi_channels import Channel, Connection, Event, action, add_channel

Text: TypeAlias = Annotated[str, Field(min_length=1, max_length=200)]


class Hello(Event):
    room: str


class Said(Event):
    text: str


class Room(Channel):
    """A room to talk in."""

    event_types = (Hello, Said)

    @action()
    async def say(self, text: Text, connection: Connection) -> int:
        """Say something to everybody; the reply is how many are here."""
        await self.broadcast(connection.room, Said(text=text))
        return await self.get_connection_count(connection.room)


room = Room()


@room.on_event("join")
async def greet(connection: Connection) -> None:
    await connection.send_event(Hello(room=connection.room))


app = FastAPI(title="A chat")
add_channel(app)
room.mount(app, "/rooms/{channel}")
