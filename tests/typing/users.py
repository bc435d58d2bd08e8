"""What type checkers make of a connection whose user is known, and of who is in a room."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any, assert_type

from fastapi import Depends, WebSocket

from fastapi_channels import (
    BasePermission,
    Channel,
    Connection,
    Member,
    Published,
    action,
    current_connection,
)


@dataclass
class Person:
    id: int
    name: str


async def session() -> AsyncIterator[str]:
    yield "session"


def person(connection: Annotated[Connection[Person], Depends(current_connection)]) -> Person:
    assert_type(connection.user, Person)
    return connection.user


Session = Annotated[str, Depends(session)]
Asker = Annotated[Person, Depends(person)]


class IsOwner(BasePermission):
    """A permission takes what it depends on, beside what it is given."""

    async def has_permission(
        self, websocket: WebSocket, action: str | None, *, asker: Asker, session: Session, **kwargs: Any
    ) -> bool:
        return asker.name == session


def is_owner(asker: Asker) -> bool:
    return asker.id == 1


class Auction(Channel):
    room_pattern = "auction:{number:int}"
    permission_classes = [IsOwner & ~IsOwner(), is_owner]

    async def authorize(self, connection: Connection[Person], number: int, session: Session) -> bool:
        assert_type(connection.user, Person)
        return connection.user.id == number

    @action()
    async def bid(self, connection: Connection[Person], amount: int) -> str:
        assert_type(connection.user, Person)
        members = await self.members(connection.room)
        assert_type(members, list[Member])
        assert_type(members[0]["user"], str | None)
        assert_type(await self.broadcast(self.room(number=7), "bid", amount, required=False), Published)
        return connection.user.name


async def called(auction: Auction, websocket: WebSocket, connection: Connection[Person]) -> None:
    person = connection.user
    assert_type(await auction.authorize(connection, 1, "session"), bool)
    assert_type(await IsOwner().has_permission(websocket, None, asker=person, session="s"), bool)
    await IsOwner().has_permission(websocket, None, asker="ann", session="s")  # type: ignore[arg-type]
    is_owner("ann")  # type: ignore[arg-type]
    assert_type(auction.room(number=7), str)
    connection.user = "ann"  # type: ignore[assignment]


auction = Auction()


@auction.on_event("join")
async def joined(connection: Connection[Person], session: Session) -> str:
    assert_type(connection.user.name, str)
    return session


async def join_again(connection: Connection[Person]) -> None:
    assert_type(await joined(connection, "session"), str)
