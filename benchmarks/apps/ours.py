"""This project."""

import os
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import Depends, FastAPI
from pydantic import BaseModel
from starlette.websockets import WebSocket

from fastapi_channels import BasePermission, Channel, Connection, action, add_channel, limiter

app = FastAPI()
add_channel(app, url=os.environ.get("BROKER", "memory://"), metrics="METRICS" in os.environ)


class Say(BaseModel):
    message: str


class IsMember(BasePermission):
    def has_permission(
        self, websocket: WebSocket, action: str | None, *, connection: Any = None, **kwargs: Any
    ) -> bool:
        return connection.room != "closed"


async def current_user(websocket: WebSocket) -> str:
    return "ada"


async def settings(websocket: WebSocket) -> dict[str, int]:
    return {"page": 20}


async def session() -> AsyncIterator[dict[str, bool]]:
    yield {"open": True}


class Room(Channel):
    channel = "lobby"
    max_rooms = 200

    @action()
    async def say(self, data: dict[str, Any], connection: Connection) -> None:
        await self.broadcast_to_channel(connection.room, data)

    @limiter(times=1_000_000, seconds=60)
    @action(permission=IsMember)
    async def echo(self, data: dict[str, Any]) -> Any:
        return data["message"]

    @action()
    async def typed(self, payload: Say) -> str:
        return payload.message

    @action()
    async def depends(
        self,
        payload: Say,
        user: Annotated[str, Depends(current_user)],
        config: Annotated[dict[str, int], Depends(settings)],
        db: Annotated[dict[str, bool], Depends(session)],
    ) -> str:
        return payload.message

    @action()
    async def join(self, data: dict[str, Any], connection: Connection) -> bool:
        await connection.join(data["room"])
        return True

    @action()
    async def tell(self, data: dict[str, Any]) -> None:
        await self.broadcast_to_channel(data["room"], data)


class Kept(Room):
    scope = "kept"
    history = 1000


Room().mount(app, "/ws")
Kept().mount(app, "/kept")
