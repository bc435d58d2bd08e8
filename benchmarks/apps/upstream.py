"""The upstream package, as its example writes a channel."""

# pyright: basic

import os

from fastapi import FastAPI, WebSocket

from fastapi_channels import add_channel
from fastapi_channels.channels import Channel
from fastapi_channels.decorators import action

BROKER = os.environ.get("BROKER", "memory://")
app = FastAPI()
add_channel(app, url=BROKER, limiter_url=BROKER)


class Room(Channel):
    @action("say")
    async def say(self, websocket: WebSocket, channel: str, data: dict, **kwargs):
        await self.broadcast_to_channel(channel, data)

    @action("echo")
    async def echo(self, websocket: WebSocket, channel: str, data: dict, **kwargs):
        await self.broadcast_to_personal(websocket, data)


room = Room()


@app.websocket("/ws")
async def endpoint(websocket: WebSocket):
    await room.connect(websocket, channel="lobby")
