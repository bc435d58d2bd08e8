"""A chat room in the modern style: typed actions, events, permissions and rate limits."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeAlias

from fastapi import FastAPI, WebSocket
from pydantic import BaseModel, Field

from fastapi_channels import (
    BasePermission,
    Channel,
    Connection,
    action,
    add_channel,
    history_router,
    limiter,
)

Status: TypeAlias = Literal["here", "typing"]


class Said(BaseModel):
    by: str
    text: str
    at: datetime = Field(default_factory=lambda: datetime.now(UTC))


class IsAdmin(BasePermission):
    """Those who call themselves admin: a demonstration, not a protection."""

    def has_permission(
        self, websocket: WebSocket, action: str | None, *, connection: Connection | None = None, **kwargs: Any
    ) -> bool:
        return connection is not None and connection.user == "admin"


class Room(Channel):
    """One instance serves every room; the path says which."""

    max_connection = 100
    history = 200
    presence = True
    presence_interval = 0.2
    routers = (history_router,)

    def presence_data(self, connection: Connection) -> Status:
        return "here"

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
        return sorted(person.user or "?" for person in await self.people(connection.room))

    @action()
    async def status(self, status: Status, connection: Connection) -> None:
        """Show the others what you do."""
        await connection.set_presence(status)

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

app = FastAPI(title="A chat room")
add_channel(app)


@app.websocket("/rooms/{channel}")
async def enter(
    websocket: WebSocket, channel: str, name: Annotated[str, Field(max_length=40)] = "guest"
) -> None:
    await room.connect(websocket, channel=channel, user=name)
