"""Step 1: a room that says hello."""

from fastapi import FastAPI

from fastapi_channels import Channel, Connection, add_channel


class Room(Channel):
    """A room to talk in."""


room = Room()


@room.on_event("join")
async def greet(connection: Connection) -> None:
    await connection.send_event("hello", {"room": connection.room})


app = FastAPI(title="A chat")
add_channel(app)
room.mount(app, "/rooms/{channel}")
