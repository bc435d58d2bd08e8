"""Read by mypy and pyright, never run: channel layers and consumers."""

import asyncio
from typing import Any, assert_type

from fastapi import FastAPI

from fastapi_channels.layers import (
    AsyncJsonWebsocketConsumer,
    BaseChannelLayer,
    ChannelLayer,
    JsonWebsocketConsumer,
    channel_layers,
    get_channel_layer,
)
from fastapi_channels.layers.django import DjangoChannelLayer

app = FastAPI()


class Chat(AsyncJsonWebsocketConsumer):
    groups = ["everybody"]
    max_message_size = 1000

    async def connect(self) -> None:
        assert_type(self.channel_layer, BaseChannelLayer)
        assert_type(self.channel_name, str)
        assert_type(self.user, Any)
        await self.accept("chat", [(b"x-room", b"lobby")])
        await self.accept(headers=None)
        await self.accept(7)  # type: ignore[arg-type]  # a subprotocol is a text

    async def receive_json(self, content: Any) -> None:
        await self.group_send("everybody", {"type": "said", "content": content})
        await self.close(4001, "enough")

    async def said(self, event: dict[str, Any]) -> None:
        await self.send_json(event["content"], close=4001)


class Plain(JsonWebsocketConsumer):
    def receive_json(self, content: Any) -> None:
        self.send_json(content)
        assert_type(self.path_params, dict[str, Any])


app.add_api_websocket_route("/chat", Chat.as_route())
app.add_api_websocket_route(
    "/plain", Plain.as_route(layer=ChannelLayer("memory://", channel_capacity={"a.*": 3}))
)


async def use() -> None:
    channel_layers.configure({"default": "memory://", "events": {"url": "memory://", "capacity": 7}})
    channel_layers.configure({"default": DjangoChannelLayer("redis://localhost:6379", prefix="asgi")})
    layer = get_channel_layer("events")
    assert_type(layer, BaseChannelLayer)
    channel = await layer.new_channel()
    receiving = asyncio.create_task(layer.receive(channel))
    await layer.send(channel, {"type": "x"})
    await layer.send(channel, "x")  # type: ignore[arg-type]  # a message is a mapping
    assert_type(await receiving, dict[str, Any])
