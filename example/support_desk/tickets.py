"""What is done with a ticket: by HTTP requests, and by the actions `ticket.*` in its room."""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeAlias

from fastapi import Depends, HTTPException, WebSocket
from pydantic import BaseModel, Field
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from fastapi_channels import (
    ActionRouter,
    BasePermission,
    Connection,
    Cursor,
    Paginated,
    current_connection,
    limiter,
)

from .database import Message, Session, Ticket
from .events import Said, TicketClosed
from .login import Person
from .pages import Keyset, Pages

NEWEST: Final = Keyset(Message.id, descending=True)


class TicketIsClosed(Exception):
    """Nothing more can be said."""


class Posted(BaseModel):
    """The reply to what was said."""

    id: int


class Line(BaseModel):
    """One message of a ticket's history."""

    id: int
    author: str
    text: str


def room_of(ticket_id: int) -> str:
    return f"ticket:{ticket_id}"


def may_see(person: Person, ticket: Ticket) -> bool:
    return ticket.customer_id == person.id or ticket.room.name == person.room


async def find(session: AsyncSession, ticket_id: int, person: Person) -> Ticket:
    """
    Raises:
        HTTPException: 404, also for somebody else's ticket: that it exists is not their business.
    """
    ticket = await session.get(Ticket, ticket_id)
    if ticket is None or not may_see(person, ticket):
        raise HTTPException(404, "there is no such ticket")
    return ticket


async def post(session: AsyncSession, ticket: Ticket, author: str, text: str) -> Said:
    """Write a message down; it is committed, so that everybody may be told of it.

    Raises:
        TicketIsClosed: it was not written.
    """
    if not ticket.is_open:
        raise TicketIsClosed
    message = Message(ticket_id=ticket.id, author=author, text=text)
    session.add(message)
    await session.commit()
    return Said(id=message.id, by=author, text=text)


async def close(session: AsyncSession, ticket: Ticket, by: Person) -> TicketClosed:
    """
    Raises:
        TicketIsClosed: it is closed already.
    """
    if not ticket.is_open:
        raise TicketIsClosed
    ticket.is_open = False
    await session.commit()
    return TicketClosed(id=ticket.id, by=by.name)


async def current_ticket(
    connection: Annotated[Connection, Depends(current_connection)], session: Session
) -> Ticket:
    """The ticket in whose room an action was called."""
    return await find(session, connection.params["ticket_id"], connection.user)


CurrentTicket: TypeAlias = Annotated[Ticket, Depends(current_ticket)]


class IsAgent(BasePermission):
    """Those who work in a room."""

    def has_permission(
        self, websocket: WebSocket, action: str | None, *, connection: Connection | None = None, **kwargs: Any
    ) -> bool:
        return connection is not None and connection.user.room is not None


router = ActionRouter("ticket.", tags=["tickets"])


@limiter(times=20, seconds=10)
@router.action()
async def say(
    text: Annotated[str, Field(min_length=1, max_length=2000)],
    ticket: CurrentTicket,
    connection: Connection,
    session: Session,
) -> Posted:
    """Say something to everybody in the ticket's room."""
    said = await post(session, ticket, connection.user.name, text)
    await connection.channel.broadcast(connection.room, said)
    return Posted(id=said.id)


@router.action()
async def history(ticket_id: int, page: Cursor, session: Session, pages: Pages) -> Paginated[Line]:
    """What was said, the newest first."""
    query = select(Message).where(Message.ticket_id == ticket_id)
    return await pages.page(session, query, NEWEST, page)


@router.action("close", permission=IsAgent)
async def close_ticket(ticket: CurrentTicket, connection: Connection, session: Session) -> None:
    """Close the ticket."""
    await connection.channel.broadcast(connection.room, await close(session, ticket, connection.user))
