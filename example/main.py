"""The chatroom of `make demo`: three channels in the upstream style, and a modern one beside them."""

import os
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response, WebSocket
from fastapi.templating import Jinja2Templates
from pydantic import BaseModel

from example.modern import room
from fastapi_channels import add_channel
from fastapi_channels.channels import BaseChannel, Channel
from fastapi_channels.decorators import action
from fastapi_channels.exceptions import PermissionDenied
from fastapi_channels.permission import AllowAny
from fastapi_channels.throttling import limiter
from fastapi_channels.used import GroupChannel, PersonChannel

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "templates", ROOT / "clients" / "typescript"
"""The page, and the client that it includes."""
URL = os.environ.get("CHANNELS_URL", "memory://")
"""One URL moves the demo from this process to Redis: CHANNELS_URL=redis://localhost:6379"""

app = FastAPI(title="fastapi-channels demo")
add_channel(app, url=URL, limiter_url=URL)
templates = Jinja2Templates(PAGE)


class ChatMessage(BaseModel):
    """What the person and the group room send for each message."""

    action: str
    user: str
    message: Any
    status: str = "ok"
    errors: str | None = None
    request_id: int | str = 1


class BaselChatRoom(BaseChannel):
    """Relays whatever is sent."""


class PersonalChatRoom(PersonChannel):
    """A room for two."""

    @staticmethod
    async def encode_json(data: dict[str, Any]) -> str:
        return ChatMessage(**data).model_dump_json(exclude_none=True)

    @limiter(times=2, seconds=3000)
    @action("count")
    async def get_count(
        self, websocket: WebSocket, channel: str, data: dict[str, Any], **kwargs: Any
    ) -> None:
        """How many are here; twice in 3000 seconds."""
        data.update({"message": await self.get_connection_count(channel)})
        await self.broadcast_to_personal(websocket, data)

    @action("message")
    async def send_message(
        self, websocket: WebSocket, channel: str, data: dict[str, Any], **kwargs: Any
    ) -> None:
        """Say something to both."""
        await self.broadcast_to_channel(channel, data)

    @action(deprecated=True)
    async def deprecated_action(
        self, websocket: WebSocket, channel: str, data: dict[str, Any], **kwargs: Any
    ) -> None:
        """Refused, and the connection stays."""

    @action("permission_denied", permission=False)
    async def permission_false(
        self, websocket: WebSocket, channel: str, data: dict[str, Any], **kwargs: Any
    ) -> None:
        """Nobody may."""

    @action(permission=AllowAny)
    async def error(self, websocket: WebSocket, channel: str, data: dict[str, Any], **kwargs: Any) -> None:
        """Raises, and the connection stays."""
        raise PermissionDenied(close=False)

    @action()
    async def close(self, websocket: WebSocket, channel: str, data: dict[str, Any], **kwargs: Any) -> None:
        """Ask the server to close."""
        await websocket.close()


class GroupChatRoom(GroupChannel):
    """A room for many, its actions registered as functions below."""

    @staticmethod
    async def encode_json(data: dict[str, Any]) -> str:
        return ChatMessage(**data).model_dump_json(exclude_none=True)


base_chatroom = BaselChatRoom()
person_chatroom = PersonalChatRoom()
group_chatroom = GroupChatRoom()


@app.websocket("/base", name="chatroom_ws_base")
async def base_chatroom_ws(websocket: WebSocket) -> None:
    await base_chatroom.connect(websocket)


@app.websocket("/person", name="chatroom_ws_person")
async def person_chatroom_ws(websocket: WebSocket) -> None:
    # Accepted first, a third one is told that the room is full: a page never sees the status of a handshake.
    offered: list[str] = websocket.scope["subprotocols"]
    await websocket.accept(subprotocol=offered[0] if offered else None)
    await person_chatroom.connect(websocket, channel="person_channel")


@app.websocket("/group", name="chatroom_ws_group")
async def group_chatroom_ws(websocket: WebSocket) -> None:
    await group_chatroom.connect(websocket, channel="group_channel")


@app.websocket("/rooms/{channel}", name="chatroom_ws_room")
async def room_ws(
    websocket: WebSocket, channel: str, name: Annotated[str, Query(max_length=40)] = "guest"
) -> None:
    await room.connect(websocket, channel=channel, user=name)


async def join_room(websocket: WebSocket, channel: str) -> None:
    await group_chatroom.broadcast_to_personal(websocket, "Join successfully")


async def leave_room(websocket: WebSocket, channel: str) -> None:
    await group_chatroom.broadcast_to_channel(channel, "leave successfully")


group_chatroom.add_event_handler("join", join_room)
group_chatroom.add_event_handler("leave", leave_room)


@limiter(times=1, seconds=3)
@group_chatroom.action("message")
async def send_message(websocket: WebSocket, channel: str, data: dict[str, Any], **kwargs: Any) -> None:
    """Say something to everybody; once in 3 seconds."""
    await group_chatroom.broadcast_to_channel(channel, data)


@group_chatroom.action("error_true")
async def send_error_and_close(
    websocket: WebSocket, channel: str, data: dict[str, Any], **kwargs: Any
) -> None:
    """Raises, and the connection closes."""
    raise PermissionDenied(close=True)


@group_chatroom.action("error_false")
async def send_error(websocket: WebSocket, channel: str, data: dict[str, Any], **kwargs: Any) -> None:
    """Raises, and the connection stays."""
    raise PermissionDenied(close=False)


@group_chatroom.action()
async def close(websocket: WebSocket, channel: str, data: dict[str, Any], **kwargs: Any) -> None:
    """Ask the server to close."""
    await websocket.close()


def described(channel: BaseChannel, name: str, **more: str) -> dict[str, Any]:
    """What the page is told of a channel."""
    actions = channel.actions if isinstance(channel, Channel) else []
    kind = "channel" if isinstance(channel, Channel) else "base_channel"
    return {"name": name, "action": actions, "room": kind, **more}


CHANNELS = {
    "Room": described(room, "chatroom_ws_room", room="room", path="/rooms/{channel}"),
    "GroupChatRoom": described(group_chatroom, "chatroom_ws_group"),
    "PersonalChatRoom": described(person_chatroom, "chatroom_ws_person"),
    "BaselChatRoom": described(base_chatroom, "chatroom_ws_base"),
}


@app.get("/")
async def homepage(request: Request) -> Response:
    return templates.TemplateResponse(request, "index.html", {"channels": CHANNELS})
