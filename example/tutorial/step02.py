"""Step 2: an action with typed parameters."""

from typing import Annotated

from fastapi import FastAPI
from pydantic import Field

from fastapi_channels import Channel, Connection, action, add_channel


class Room(Channel):
    """A room to talk in."""

    @action()
    async def say(
        self, text: Annotated[str, Field(min_length=1, max_length=200)], connection: Connection
    ) -> int:
        """Say something to everybody; the reply is how many are here."""
        await self.broadcast(connection.room, "said", {"text": text})
        return await self.get_connection_count(connection.room)


room = Room()


@room.on_event("join")
async def greet(connection: Connection) -> None:
    await connection.send_event("hello", {"room": connection.room})


app = FastAPI(title="A chat")
add_channel(app)
room.mount(app, "/rooms/{channel}")
