"""The rooms that clients join over one WebSocket."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BaseModel, Field
from sqlalchemy import Select, func, select

from fastapi_channels import Channel, Connection, Cursor, Page, Paginated, Socket, action

from . import assistant, tickets
from .database import Room, Session, Sessions, Ticket
from .events import Said, TicketClosed, TicketOpened
from .login import Person, by_socket
from .pages import Keyset, Pages


class TicketRoom(Channel):
    """Where a customer, the agents of a team and the assistant talk about one ticket."""

    room_pattern = "ticket:{ticket_id:int}"
    event_types = (Said, TicketClosed)
    call_types = ()
    routers = (tickets.router, assistant.router)

    async def authorize(self, connection: Connection, ticket_id: int) -> bool:
        sessions: Sessions = connection.websocket.app.state.sessions
        async with sessions() as session:
            ticket = await session.get(Ticket, ticket_id)
        return ticket is not None and tickets.may_see(connection.user, ticket)


class Summary(BaseModel):
    """A ticket in a list."""

    id: int
    subject: str


class Search(Cursor):
    """Part of a list of those whose subject has a word in it."""

    word: Annotated[str, Field(min_length=1, max_length=50)]


LONGEST_WAITING: Final = Keyset(Ticket.opened_at, Ticket.id)
BY_SUBJECT: Final = Keyset(Ticket.subject, Ticket.id)


class TeamRoom(Channel):
    """Where the agents of a team see what comes in."""

    room_pattern = "team:{name}"
    event_types = (TicketOpened,)
    call_types = ()

    async def authorize(self, connection: Connection, name: str) -> bool:
        person: Person = connection.user
        return person.room == name

    @action()
    async def queue(self, name: str, page: Cursor, session: Session, pages: Pages) -> Paginated[Summary]:
        """The open tickets, the longest waiting first."""
        query = _tickets_of(name).where(Ticket.is_open)
        return await pages.page(session, query, LONGEST_WAITING, page)

    @action()
    async def search(self, name: str, wanted: Search, session: Session, pages: Pages) -> Paginated[Summary]:
        """The tickets, open or closed, with a word in their subject, by subject."""
        query = _tickets_of(name).where(Ticket.subject.icontains(wanted.word, autoescape=True))
        return await pages.page(session, query, BY_SUBJECT, wanted)

    @action()
    async def closed(self, name: str, page: Page, session: Session) -> Paginated[Summary]:
        """The closed tickets, by number, and how many there are."""
        query = _tickets_of(name).where(~Ticket.is_open)
        total = await session.scalar(select(func.count()).select_from(query.subquery()))
        found = await session.scalars(query.order_by(Ticket.id).limit(page.limit).offset(page.offset))
        return Paginated[Any](items=list(found), total=total)


def _tickets_of(team: str) -> Select[Any]:
    return select(Ticket).join(Ticket.room).where(Room.name == team)


ticket_room = TicketRoom()
team_room = TeamRoom()


class Desk(Socket):
    """Everything that is said at the desk."""

    authenticator = by_socket


desk = Desk(ticket_room, team_room)
