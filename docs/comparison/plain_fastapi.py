"""The room with nothing but FastAPI."""

import json
from collections import defaultdict, deque
from contextlib import suppress
from itertools import count
from time import monotonic
from typing import Annotated, Any

from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from pydantic import BaseModel, Field, ValidationError

MEMBERS = {"ada", "bob"}
TIMES, SECONDS = 3, 10
numbers = count(1)


class Say(BaseModel):
    text: Annotated[str, Field(min_length=1, max_length=200)]


class Refused(Exception):
    """A request that is answered with an error."""

    def __init__(self, code: str, **details: Any) -> None:
        super().__init__(code)
        self.answer = {"code": code, **details}


class ConnectionManager:
    """Who is in which room."""

    def __init__(self) -> None:
        self.rooms: defaultdict[str, set[WebSocket]] = defaultdict(set)

    async def connect(self, room: str, websocket: WebSocket) -> None:
        await websocket.accept()
        self.rooms[room].add(websocket)

    def disconnect(self, room: str, websocket: WebSocket) -> None:
        self.rooms[room].discard(websocket)
        if not self.rooms[room]:
            del self.rooms[room]

    async def broadcast(self, room: str, event: str, **data: Any) -> None:
        for websocket in list(self.rooms.get(room, ())):
            with suppress(RuntimeError, WebSocketDisconnect):  # gone; its own loop takes it out
                await websocket.send_json({"type": "event", "event": event, "data": data})


class RateLimit:
    """The calls of each user that still count."""

    def __init__(self) -> None:
        self.calls: defaultdict[str, deque[float]] = defaultdict(deque)

    def hit(self, user: str) -> None:
        now, calls = monotonic(), self.calls[user]
        while calls and calls[0] <= now - SECONDS:
            calls.popleft()
        if len(calls) >= TIMES:
            raise Refused("rate_limited", retry_after=calls[0] + SECONDS - now)
        calls.append(now)


app = FastAPI()
manager = ConnectionManager()
limit = RateLimit()


async def say(room: str, user: str, message: dict[str, Any]) -> int:
    if user not in MEMBERS:
        raise Refused("permission_denied")
    limit.hit(user)
    try:
        payload = Say.model_validate(message)
    except ValidationError as exc:
        errors = exc.errors(include_url=False, include_context=False, include_input=False)
        raise Refused("invalid_payload", errors=errors) from None
    number = next(numbers)
    await manager.broadcast(room, "said", number=number, by=user, text=payload.text)
    return number


actions = {"say": say}


async def answer(room: str, user: str, text: str) -> dict[str, Any]:
    request_id = None
    try:
        try:
            message = json.loads(text)
        except ValueError:
            raise Refused("parse_error") from None
        if not isinstance(message, dict):
            raise Refused("parse_error")
        request_id = message.get("request_id")
        action = message.get("action")
        if not isinstance(action, str) or action not in actions:
            raise Refused("unknown_action")
        data = await actions[action](room, user, message)
    except Refused as refused:
        return {"type": "response", "status": "bad", "request_id": request_id, **refused.answer}
    return {"type": "response", "status": "ok", "request_id": request_id, "data": data}


@app.websocket("/rooms/{room}")
async def enter(websocket: WebSocket, room: str, user: str) -> None:
    await manager.connect(room, websocket)
    try:
        while True:
            text = await websocket.receive_text()
            await websocket.send_json(await answer(room, user, text))
    except WebSocketDisconnect:
        pass
    finally:
        manager.disconnect(room, websocket)
        await manager.broadcast(room, "left", by=user)
