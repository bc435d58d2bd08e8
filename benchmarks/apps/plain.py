"""The baseline: a FastAPI endpoint with the loop that everybody writes first."""

# pyright: basic

import json
from collections import defaultdict
from contextlib import asynccontextmanager

from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from pydantic import BaseModel, ValidationError

app = FastAPI()
rooms: defaultdict[str, set[WebSocket]] = defaultdict(set)


class Say(BaseModel):
    message: str


async def current_user(ws: WebSocket) -> str:
    return "ada"


async def settings(ws: WebSocket) -> dict[str, int]:
    return {"page": 20}


@asynccontextmanager
async def session():
    yield {"open": True}


def reply(frame: dict, data: object) -> str:
    return json.dumps(
        {
            "type": "response",
            "action": frame["action"],
            "status": "ok",
            "request_id": frame.get("request_id"),
            "data": data,
        }
    )


async def broadcast(room: str, data: dict) -> None:
    text = json.dumps(data)
    for ws in list(rooms[room]):
        await ws.send_text(text)


async def say(payload: Say) -> str:
    return payload.message


async def tell(payload: Say, user: str, config: dict, db: dict) -> str:
    return payload.message


async def typed(ws: WebSocket, frame: dict) -> None:
    payload = Say.model_validate(frame)
    await ws.send_text(reply(frame, await say(payload)))


async def depends(ws: WebSocket, frame: dict) -> None:
    payload = Say.model_validate(frame)
    user = await current_user(ws)
    config = await settings(ws)
    async with session() as db:
        result = await tell(payload, user, config, db)
    await ws.send_text(reply(frame, result))


@app.websocket("/ws")
async def endpoint(ws: WebSocket) -> None:
    await ws.accept()
    joined = {"lobby"}
    rooms["lobby"].add(ws)
    try:
        while True:
            frame = json.loads(await ws.receive_text())
            action = frame["action"]
            try:
                if action == "say":
                    await broadcast("lobby", frame)
                elif action == "echo":
                    await ws.send_text(json.dumps(frame))
                elif action == "typed":
                    await typed(ws, frame)
                elif action == "depends":
                    await depends(ws, frame)
                elif action == "tell":
                    await broadcast(frame["room"], frame)
                elif action == "join":
                    joined.add(frame["room"])
                    rooms[frame["room"]].add(ws)
                    await ws.send_text(reply(frame, True))
            except ValidationError as exc:
                await ws.send_text(exc.json())
    except WebSocketDisconnect:
        pass
    finally:
        for room in joined:
            rooms[room].discard(ws)


@app.websocket("/raw")
async def raw(ws: WebSocket) -> None:
    await ws.accept()
    try:
        while True:
            await ws.send_text(await ws.receive_text())
    except WebSocketDisconnect:
        pass
