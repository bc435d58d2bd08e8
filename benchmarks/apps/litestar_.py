"""Litestar's channels plugin: a subscription for each socket, sent from a task of its own."""

# pyright: basic, reportMissingImports=false, reportMissingModuleSource=false, reportGeneralTypeIssues=false

import os

from litestar import Litestar, WebSocket, websocket
from litestar.channels import ChannelsPlugin
from litestar.channels.backends.memory import MemoryChannelsBackend
from litestar.exceptions import WebSocketDisconnect


def backend():
    if "BROKER" not in os.environ:
        return MemoryChannelsBackend()
    from litestar.channels.backends.redis import RedisChannelsPubSubBackend
    from redis.asyncio import Redis

    return RedisChannelsPubSubBackend(redis=Redis.from_url(os.environ["BROKER"]))


@websocket("/ws")
async def endpoint(socket: WebSocket, channels: ChannelsPlugin) -> None:
    await socket.accept()
    async with (
        channels.start_subscription(["lobby"]) as subscriber,
        subscriber.run_in_background(socket.send_text, join=False),
    ):
        try:
            while True:
                frame = await socket.receive_json()
                if frame["action"] == "say":
                    channels.publish(frame, "lobby")
                else:
                    await socket.send_json(frame)
        except WebSocketDisconnect:
            pass


app = Litestar([endpoint], plugins=[ChannelsPlugin(backend=backend(), channels=["lobby"])])
