"""A support desk: tickets by HTTP, the talk about them over one WebSocket."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from tempfile import TemporaryDirectory
from typing import Annotated

from fastapi import APIRouter, Body, Depends, FastAPI, HTTPException, Request, Response, WebSocket
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy import select
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

from fastapi_channels import Publisher, add_channel, current_publisher

from .channels import desk, team_room, ticket_room
from .database import Room, Session, Ticket, User, create_tables
from .events import TicketOpened
from .login import COOKIE, CurrentIdentity, CurrentPerson, Person, Tokens, passes
from .pages import SelectPaginator
from .tickets import TicketIsClosed, close, find, room_of

api = APIRouter()


class NewTicket(BaseModel):
    room: str
    subject: Annotated[str, Field(min_length=1, max_length=200)]


class TicketView(BaseModel):
    id: int
    subject: str
    is_open: bool


@api.post("/login")
async def login(name: Annotated[str, Body(embed=True)], request: Request, session: Session) -> Response:
    """Log in by name alone: this is a demonstration."""
    user = await session.scalar(select(User).where(User.name == name))
    if user is None:
        raise HTTPException(404, "nobody has that name")
    token = request.app.state.tokens.sign(Person(user.id, user.name, user.room.name if user.room else None))
    response = JSONResponse({"name": name, "token": token})
    response.set_cookie(COOKIE, token, httponly=True, samesite="lax")
    return response


@api.post("/pass")
async def get_pass(identity: CurrentIdentity, request: Request) -> str:
    """A ticket for one WebSocket, as the subprotocol `bearer.…`; it is good for half a minute."""
    return await passes.issue(identity, request)


@api.post("/token")
async def renew(person: CurrentPerson, request: Request, session: Session) -> str:
    """A new token, for an open WebSocket: the room of the person may be another by now."""
    user = await session.get(User, person.id)
    if user is None:
        raise HTTPException(401, "log in first")
    known = Person(user.id, user.name, user.room.name if user.room else None)
    token: str = request.app.state.tokens.sign(known)
    return token


@api.delete("/people/{name}/sessions", status_code=204)
async def sign_out(
    name: str,
    person: CurrentPerson,
    session: Session,
    publisher: Annotated[Publisher, Depends(current_publisher)],
) -> None:
    """Sign somebody out of everything: oneself, or anybody as an agent."""
    user = await session.scalar(select(User).where(User.name == name))
    if user is None or (person.room is None and person.id != user.id):
        raise HTTPException(404, "nobody has that name")
    await publisher.revoke_user(str(user.id))


@api.post("/tickets", status_code=201)
async def open_ticket(new: NewTicket, person: CurrentPerson, session: Session) -> TicketView:
    """Open a ticket, and tell the team."""
    room = await session.scalar(select(Room).where(Room.name == new.room))
    if room is None:
        raise HTTPException(404, "there is no such room")
    ticket = Ticket(subject=new.subject, customer_id=person.id, room_id=room.id)
    session.add(ticket)
    await session.commit()
    opened = TicketOpened(id=ticket.id, subject=ticket.subject, customer=person.name)
    await team_room.broadcast(f"team:{room.name}", opened)
    return TicketView(id=ticket.id, subject=ticket.subject, is_open=ticket.is_open)


@api.get("/tickets/{ticket_id}")
async def read_ticket(ticket_id: int, person: CurrentPerson, session: Session) -> TicketView:
    ticket = await find(session, ticket_id, person)
    return TicketView(id=ticket.id, subject=ticket.subject, is_open=ticket.is_open)


@api.post("/tickets/{ticket_id}/close", status_code=204)
async def close_ticket(ticket_id: int, person: CurrentPerson, session: Session) -> None:
    """Close a ticket, and tell its room."""
    ticket = await find(session, ticket_id, person)
    await ticket_room.broadcast(room_of(ticket_id), await close(session, ticket, person))


@api.websocket("/desk")
async def enter(websocket: WebSocket) -> None:
    await desk.connect(websocket)


async def ticket_is_closed(request: object, exc: Exception) -> Response:
    """One answer for both: a response of HTTP, and an error frame of an action."""
    return JSONResponse({"detail": "the ticket is closed"}, status_code=409)


def create_app(database: str | None = None, secret: bytes | None = None) -> FastAPI:
    """The application.

    Args:
        database: a URL of SQLAlchemy; without it, a SQLite file that is gone when the application stops.
        secret: signs tokens and cursors, 32 bytes or more; without it, everybody has to log in again after a
            restart.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with TemporaryDirectory() as folder:
            engine = create_async_engine(database or f"sqlite+aiosqlite:///{folder}/desk.db")
            await create_tables(engine)
            app.state.engine = engine
            app.state.sessions = async_sessionmaker(engine, expire_on_commit=False)
            yield
            await engine.dispose()

    app = FastAPI(title="A support desk", lifespan=lifespan)
    secret = secret or secrets.token_bytes()
    app.state.tokens = Tokens(secret)
    app.add_exception_handler(TicketIsClosed, ticket_is_closed)
    app.include_router(api)
    return add_channel(app, secret=secret, pagination_class=SelectPaginator)


app = create_app(os.environ.get("DESK_DATABASE"), os.environ.get("DESK_SECRET", "").encode())
