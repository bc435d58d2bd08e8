"""What type checkers make of a connection whose user is known, and of who is in a room."""

from dataclasses import dataclass
from typing import assert_type

from fastapi_channels import Channel, Connection, Member, Published, action


@dataclass
class Person:
    id: int
    name: str


class Auction(Channel):
    room_pattern = "auction:{number:int}"

    @action()
    async def bid(self, connection: Connection[Person], amount: int) -> str:
        assert_type(connection.user, Person)
        members = await self.members(connection.room)
        assert_type(members, list[Member])
        assert_type(members[0]["user"], str | None)
        assert_type(await self.broadcast(self.room(number=7), "bid", amount, required=False), Published)
        return connection.user.name
