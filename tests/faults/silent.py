"""A room whose clients say in their first frame who they are."""

from fastapi import FastAPI

from fastapi_channels import Channel, action, add_channel
from fastapi_channels.auth import Authenticator


class Room(Channel):
    authenticator = Authenticator(lambda token, connection: token, first_frame=300.0)

    @action()
    async def quick(self) -> str:
        return "quick"


app = FastAPI()
add_channel(app)
Room().mount(app, "/{channel}")
