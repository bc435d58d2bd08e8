"""broadcaster, as its README shows a chat: a task for each subscriber."""

# pyright: basic, reportMissingImports=false, reportMissingModuleSource=false, reportGeneralTypeIssues=false

import asyncio
import json
import os
from contextlib import asynccontextmanager

from broadcaster import Broadcast
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

broadcast = Broadcast(os.environ.get("BROKER", "memory://"))


@asynccontextmanager
async def lifespan(app):
    async with broadcast:
        yield


app = FastAPI(lifespan=lifespan)


async def relay(ws: WebSocket, subscribed: asyncio.Event) -> None:
    async with broadcast.subscribe(channel="lobby") as subscriber:
        subscribed.set()
        async for event in subscriber:
            await ws.send_text(event.message)


@app.websocket("/ws")
async def endpoint(ws: WebSocket) -> None:
    await ws.accept()
    subscribed = asyncio.Event()
    task = asyncio.create_task(relay(ws, subscribed))
    await subscribed.wait()
    try:
        while True:
            frame = json.loads(await ws.receive_text())
            if frame["action"] == "say":
                await broadcast.publish("lobby", json.dumps(frame))
            else:
                await ws.send_text(json.dumps(frame))
    except WebSocketDisconnect:
        pass
    finally:
        task.cancel()
