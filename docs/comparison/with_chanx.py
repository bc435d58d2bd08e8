"""The room with Chanx."""

from collections import defaultdict, deque
from itertools import count
from time import monotonic
from typing import Annotated, Any, ClassVar, Literal

from chanx.core.decorators import ws_handler
from chanx.fast_channels.websocket import AsyncJsonWebsocketConsumer
from chanx.messages.base import BaseMessage
from chanx.messages.outgoing import ErrorMessage
from chanx.utils.groups import safe_group_name
from chanx.utils.scope import path_param, query_params
from fast_channels.layers import InMemoryChannelLayer, register_channel_layer
from fastapi import FastAPI
from pydantic import BaseModel, Field

MEMBERS = {"ada", "bob"}
TIMES, SECONDS = 3, 10
numbers = count(1)
calls: defaultdict[str, deque[float]] = defaultdict(deque)


class SayPayload(BaseModel):
    text: Annotated[str, Field(min_length=1, max_length=200)]


class SaidPayload(BaseModel):
    number: int
    by: str
    text: str


class LeftPayload(BaseModel):
    by: str


class Say(BaseMessage):
    action: Literal["say"] = "say"
    payload: SayPayload


class Accepted(BaseMessage):
    action: Literal["accepted"] = "accepted"
    payload: int


class Said(BaseMessage):
    action: Literal["said"] = "said"
    payload: SaidPayload


class Left(BaseMessage):
    action: Literal["left"] = "left"
    payload: LeftPayload


def seconds_to_wait(user: str) -> float:
    """Count a call of the user, or say when the next one is due."""
    now, recent = monotonic(), calls[user]
    while recent and recent[0] <= now - SECONDS:
        recent.popleft()
    if len(recent) >= TIMES:
        return recent[0] + SECONDS - now
    recent.append(now)
    return 0


class RoomConsumer(AsyncJsonWebsocketConsumer):
    channel_layer_alias = "default"
    emits: ClassVar[list[type[BaseMessage]]] = [Left]
    user: str

    async def post_authentication(self) -> None:
        self.user = query_params(self.scope)["user"][0]
        await self.join_group(safe_group_name(path_param(self.scope, "room"), namespace="room"))

    @ws_handler(output_type=Accepted | Said)
    async def say(self, message: Say) -> Accepted | ErrorMessage:
        if self.user not in MEMBERS:
            return ErrorMessage(payload={"code": "permission_denied"})
        if wait := seconds_to_wait(self.user):
            return ErrorMessage(payload={"code": "rate_limited", "retry_after": wait})
        said = SaidPayload(number=next(numbers), by=self.user, text=message.payload.text)
        await self.broadcast_message(Said(payload=said))
        return Accepted(payload=said.number)

    async def disconnect(self, code: Any) -> None:
        await self.broadcast_message(Left(payload=LeftPayload(by=self.user)))


register_channel_layer("default", InMemoryChannelLayer())
app = FastAPI()
app.router.add_websocket_route("/rooms/{room}", RoomConsumer.as_asgi())
