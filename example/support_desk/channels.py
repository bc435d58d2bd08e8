"""The rooms that clients join over one WebSocket."""

from __future__ import annotations

from pydantic import BaseModel
from sqlalchemy import select

from fastapi_channels import Channel, Connection, Socket, action

from . import assistant, tickets
from .database import Room, Session, Sessions, Ticket
from .events import Said, TicketClosed, TicketOpened
from .login import Person


class TicketRoom(Channel):
    """Where a customer, the agents of a team and the assistant talk about one ticket."""

    room_pattern = "ticket:{ticket_id:int}"
    event_types = (Said, TicketClosed)
    routers = (tickets.router, assistant.router)

    async def authorize(self, connection: Connection, ticket_id: int) -> bool:
        sessions: Sessions = connection.websocket.app.state.sessions
        async with sessions() as session:
            ticket = await session.get(Ticket, ticket_id)
        return ticket is not None and tickets.may_see(connection.user, ticket)


class Waiting(BaseModel):
    """A ticket in a team's queue."""

    id: int
    subject: str


class TeamRoom(Channel):
    """Where the agents of a team see what comes in."""

    room_pattern = "team:{name}"
    event_types = (TicketOpened,)

    async def authorize(self, connection: Connection, name: str) -> bool:
        person: Person = connection.user
        return person.room == name

    @action()
    async def queue(self, name: str, session: Session) -> list[Waiting]:
        """The open tickets, the oldest first."""
        query = select(Ticket).join(Ticket.room).where(Room.name == name, Ticket.is_open).order_by(Ticket.id)
        return [Waiting(id=ticket.id, subject=ticket.subject) for ticket in await session.scalars(query)]


ticket_room = TicketRoom()
team_room = TeamRoom()
desk = Socket(ticket_room, team_room)
