"""Chanx on FastAPI, with the memory layer of fast-channels."""

# pyright: basic, reportMissingImports=false, reportMissingModuleSource=false, reportGeneralTypeIssues=false

from typing import Literal

from chanx.core.decorators import channel, ws_handler
from chanx.fast_channels.websocket import AsyncJsonWebsocketConsumer
from chanx.messages.base import BaseMessage
from fast_channels.layers import InMemoryChannelLayer, register_channel_layer
from fastapi import FastAPI
from pydantic import BaseModel
from starlette.routing import WebSocketRoute


class Payload(BaseModel):
    message: str


class Say(BaseMessage):
    action: Literal["say"] = "say"
    payload: Payload


class Said(BaseMessage):
    action: Literal["said"] = "said"
    payload: Payload


class Echo(BaseMessage):
    action: Literal["echo"] = "echo"
    payload: Payload


class Echoed(BaseMessage):
    action: Literal["echoed"] = "echoed"
    payload: Payload


@channel(name="lobby")
class Lobby(AsyncJsonWebsocketConsumer):
    channel_layer_alias = "default"
    groups = ["lobby"]  # noqa: RUF012

    @ws_handler(output_type=Said)
    async def say(self, message: Say) -> None:
        await self.broadcast_message(Said(payload=message.payload))

    @ws_handler
    async def echo(self, message: Echo) -> Echoed:
        return Echoed(payload=message.payload)


# Enough for 32 messages in flight: the default of 100 would drop the rest.
register_channel_layer("default", InMemoryChannelLayer(capacity=1000))
app = FastAPI(routes=[WebSocketRoute("/ws", Lobby.as_asgi())])
