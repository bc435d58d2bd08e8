"""Step 4: who is here."""

from typing import Annotated, TypeAlias

from fastapi import FastAPI, Query
from pydantic import Field

from fastapi_channels import Channel, Connection, Event, action, add_channel

Text: TypeAlias = Annotated[str, Field(min_length=1, max_length=200)]


class Said(Event):
    by: str
    text: str


class Room(Channel):
    """A room to talk in."""

    event_types = (Said,)
    presence = True

    @action()
    async def say(self, text: Text, connection: Connection[str]) -> None:
        """Say something to everybody."""
        await self.broadcast(connection.room, Said(by=connection.user, text=text))


def named(name: Annotated[str, Query(min_length=1, max_length=20)]) -> str:
    """Whoever says a name has it, until step 5."""
    return name


app = FastAPI(title="A chat")
add_channel(app)
Room().mount(app, "/rooms/{channel}", user=named)
