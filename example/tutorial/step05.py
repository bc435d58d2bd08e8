"""Step 5: users, and what they may do."""

from typing import Annotated, TypeAlias

from fastapi import FastAPI
from pydantic import Field

from fastapi_channels import Channel, Connection, Event, action, add_channel
from fastapi_channels.auth import Authenticator

TOKENS = {"ada-secret": "ada", "bob-secret": "bob"}  # from your database
MODERATORS = {"ada"}

Text: TypeAlias = Annotated[str, Field(min_length=1, max_length=200)]


class Said(Event):
    by: str
    text: str


class Announced(Event):
    text: str


def user_of(token: str, connection: object) -> str | None:
    return TOKENS.get(token)


def is_moderator(connection: Connection[str]) -> bool:
    return connection.user in MODERATORS


class Room(Channel):
    """A room to talk in."""

    authenticator = Authenticator(user_of, first_frame=60)
    event_types = (Said, Announced)
    presence = True

    @action()
    async def say(self, text: Text, connection: Connection[str]) -> None:
        """Say something to everybody."""
        await self.broadcast(connection.room, Said(by=connection.user, text=text))

    @action(permission=is_moderator)
    async def announce(self, text: Text, connection: Connection[str]) -> None:
        """Tell everybody something in the name of the house."""
        await self.broadcast(connection.room, Announced(text=text))


app = FastAPI(title="A chat")
add_channel(app)
Room().mount(app, "/rooms/{channel}")
