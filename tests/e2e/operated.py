"""An application with operators: who may look signs in by a cookie."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Cookie, Depends, FastAPI, HTTPException, Query, Request, Response, WebSocket
from pydantic import BaseModel, Field

from fastapi_channels import Admin, Channel, Connection, Event, action, add_channel, every

HOSTILE = "<img src=x onerror=window.hit=1>'\"</script>"
SESSIONS = {"grace-1": "grace"}


class Item(BaseModel):
    name: Annotated[str, Field(max_length=60)]
    count: Annotated[int, Field(ge=1, le=9)] = 1


class Placed(Event):
    """An order was placed."""

    number: Annotated[int, Field(ge=1)]
    items: list[Item] = []
    speed: Literal["normal", "fast"] = "normal"


class Notice(Event):
    """Everybody is told something."""

    text: Annotated[str, Field(min_length=1, max_length=200)]


class Remark(Event):
    """Something is said of an order, or nothing."""

    text: str


class Chat(Channel):
    """A room that keeps what was said."""

    history = 100

    @action()
    async def say(self, text: str, connection: Connection) -> None:
        await self.broadcast(connection.room, "said", {"by": connection.user, "text": text})


class Orders(Channel):
    """What happens to orders; nobody else's rooms."""

    scope = "orders"
    event_types = (Placed, Notice, Remark)

    @action()
    async def fail(self) -> None:
        raise HTTPException(418)

    @every(seconds=3600)
    async def tidy(self) -> None:
        """Nothing to do."""


class Hidden(Channel):
    """Is at an endpoint that says nothing of it, as one is that another process alone has."""

    scope = "hidden"


def staff(session: Annotated[str, Cookie()] = "") -> str:
    if session not in SESSIONS:
        raise HTTPException(401)
    return SESSIONS[session]


def named(user: Annotated[str | None, Query()] = None) -> str | None:
    return user


app = FastAPI(title="Tea shop")
add_channel(app, bans=True)
Chat().mount(app, "/chat/{channel:path}", user=named)
Orders().mount(app, "/orders/{channel:path}", user=named)
Admin(app, dependencies=[Depends(staff)], who=staff, read_only=False)
Admin(app, dependencies=[Depends(staff)], prefix="/look")


@app.websocket("/hidden/{room}")
async def hide(websocket: WebSocket, room: str, user: str) -> None:
    await Hidden().connect(websocket, room, user=user)


@app.post("/sign-in")
def sign_in(response: Response) -> None:
    SESSIONS["grace-1"] = "grace"
    response.set_cookie("session", "grace-1", httponly=True, samesite="strict")


@app.post("/sign-out")
def sign_out(request: Request) -> None:
    """The session ends here; the browser keeps its cookie."""
    SESSIONS.pop(request.cookies.get("session", ""), None)
