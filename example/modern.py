"""A chat room in the modern style: typed actions, events, permissions and rate limits."""

from typing import Annotated, Any

from fastapi import FastAPI, WebSocket
from pydantic import BaseModel, Field

from fastapi_channels import BasePermission, Channel, Connection, action, add_channel, limiter


class Said(BaseModel):
    by: str
    text: str


class IsAdmin(BasePermission):
    """Those who call themselves admin: a demonstration, not a protection."""

    def has_permission(
        self, websocket: WebSocket, action: str | None, *, connection: Connection | None = None, **kwargs: Any
    ) -> bool:
        return connection is not None and connection.user == "admin"


class Room(Channel):
    """One instance serves every room; the path says which."""

    max_connection = 100

    @limiter(times=5, seconds=10)
    @action()
    async def say(
        self, text: Annotated[str, Field(min_length=1, max_length=2000)], connection: Connection
    ) -> None:
        """Say something to everybody in the room."""
        await self.broadcast(connection.room, "said", Said(by=connection.user, text=text))

    @action()
    async def who(self, connection: Connection) -> list[str]:
        """Who is in the room."""
        return await names(connection.room)

    @action(permission=IsAdmin)
    async def shout(
        self, text: Annotated[str, Field(min_length=1, max_length=200)], connection: Connection
    ) -> None:
        """Say something loudly; only an admin may."""
        await self.broadcast(connection.room, "said", Said(by=connection.user, text=text.upper()))

    @action(deprecated=True)
    async def old_say(self, text: str, connection: Connection) -> None:
        """What `say` was called once."""


room = Room()


async def names(name: str) -> list[str]:
    return sorted({member["user"] or "?" for member in await room.members(name)})


@room.on_event("join")
async def joined(connection: Connection) -> None:
    members = await names(connection.room)
    await room.broadcast(connection.room, "joined", {"name": connection.user, "members": members})


@room.on_event("leave")
async def left(connection: Connection) -> None:
    members = await names(connection.room)
    await room.broadcast(connection.room, "left", {"name": connection.user, "members": members})


app = FastAPI(title="A chat room")
add_channel(app)


@app.websocket("/rooms/{channel}")
async def enter(
    websocket: WebSocket, channel: str, name: Annotated[str, Field(max_length=40)] = "guest"
) -> None:
    await room.connect(websocket, channel=channel, user=name)
