"""Step 9: many processes, and news from outside."""

import os
from typing import Annotated, TypeAlias

from fastapi import Depends, FastAPI, HTTPException
from pydantic import Field

from fastapi_channels import (
    Channel,
    Connection,
    Event,
    Publisher,
    Socket,
    action,
    add_channel,
    current_publisher,
    history_router,
    limiter,
)
from fastapi_channels.auth import Authenticator, Identity

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

    room_pattern = "room:{name}"
    event_types = (Said, Announced)
    presence = True
    history = 100
    routers = (history_router,)

    @limiter(times=3, seconds=10)
    @action()
    async def say(self, text: Text, connection: Connection[str]) -> None:
        """Say something to everybody."""
        await self.broadcast(connection.room, Said(by=connection.user, text=text))

    @action(permission=is_moderator)
    async def announce(self, text: Text, connection: Connection[str]) -> None:
        """Tell everybody something in the name of the house."""
        await self.broadcast(connection.room, Announced(text=text))


class Direct(Room):
    """A room for two, whose names stand in its own, in the order of the alphabet."""

    room_pattern = "direct:{one}:{other}"

    async def authorize(self, connection: Connection[str], one: str, other: str) -> bool:
        return one < other and connection.user in (one, other)


class Chat(Socket):
    """One WebSocket for as many rooms as its client joins."""

    authenticator = Authenticator(user_of, first_frame=60)


app = FastAPI(title="A chat")
add_channel(app, url=os.environ.get("CHANNELS_URL", "memory://"))
Chat(Room(), Direct()).mount(app, "/chat")


@app.post("/rooms/{name}/announce")
async def announce(
    name: str,
    text: Text,
    identity: Annotated[Identity, Depends(Chat.authenticator)],
    publisher: Annotated[Publisher, Depends(current_publisher)],
) -> None:
    """Tell a room something, from a script or another service."""
    if identity.user not in MODERATORS:
        raise HTTPException(403)
    await publisher.broadcast(Room.room(name=name), Announced(text=text), channel=Room)
