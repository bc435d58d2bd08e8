"""Read by mypy and pyright, never run: a channel's decorators leave functions as they are."""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, assert_type

from fastapi import APIRouter, FastAPI, WebSocket

from fastapi_channels import (
    AllowAny,
    BasePermission,
    Channel,
    Connection,
    GroupChannel,
    IsAuthenticated,
    PersonChannel,
    action,
    add_channel,
    limiter,
)


class IsBanned(BasePermission):
    async def has_permission(self, websocket: WebSocket, action: str | None, **kwargs: Any) -> bool:
        return False


class Room(Channel):
    permission_classes = [IsAuthenticated & ~IsBanned]

    @limiter(times=2, seconds=1)
    @action("count", permission=IsAuthenticated | AllowAny, deprecated=False)
    async def get_count(self, websocket: WebSocket, channel: str, data: dict[str, Any], **kwargs: Any) -> int:
        return await self.get_connection_count(channel)

    @action()
    @limiter(times=2, seconds=1)
    def add(self, a: int, b: int) -> int:
        return a + b


async def decorated(room: Room, websocket: WebSocket) -> None:
    assert_type(await room.get_count(websocket, "x", {}), int)
    assert_type(room.add(1, 2), int)
    room.add("1", 2)  # type: ignore[arg-type]


def permissions(websocket: WebSocket) -> None:
    assert_type(AllowAny & IsBanned, BasePermission)
    assert_type(AllowAny | IsBanned(), BasePermission)
    assert_type(~AllowAny, BasePermission)
    assert_type(~(AllowAny() & IsBanned), BasePermission)
    assert_type(AllowAny().has_permission(websocket, None), bool)
    action(permission=[AllowAny, IsBanned(), True, lambda websocket, action: True])
    action(permission=1.5)  # type: ignore[arg-type]


group = GroupChannel(max_connection=20)


@group.action("message", permission=True)
async def send(websocket: WebSocket, channel: str, data: dict[str, Any], **kwargs: Any) -> None:
    await group.broadcast_to_channel(channel, data, exclude=["0123456789ab.1"])


@group.on_event("join")
async def joined(connection: Connection) -> None:
    assert_type(connection.room, str)
    assert_type(await connection.send({"type": "welcome"}), bool)


handler: Callable[[Connection], Coroutine[Any, Any, None]] = joined
group.on_event("joined")  # type: ignore[arg-type]
group.add_event_handler("leave", handler)

app = add_channel(FastAPI(), url="memory://", permission_classes=[AllowAny])
router = add_channel(APIRouter(prefix="/chat"), allowed_origins=["https://example.com"])
assert_type(app, FastAPI)
assert_type(router, APIRouter)
Room().mount(app, "/rooms/{channel}")
PersonChannel().mount(router, "/pairs/{channel}", dependencies=[], sse=True, http=True)
add_channel(Room())  # type: ignore[type-var]


@app.websocket("/connect/{name}")
async def endpoint(websocket: WebSocket, name: str) -> None:
    served: Awaitable[None] = group.connect(websocket, channel=name, user="ada", headers={"x": "y"})
    await served
