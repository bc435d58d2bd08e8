"""Applications for the doctor: one with nothing to be said of it, and some that have."""

from __future__ import annotations

from fastapi import Depends, FastAPI, Header, WebSocket

from fastapi_channels import Channel, IsAuthenticated, add_channel


class Signed(Channel):
    permission_classes = [IsAuthenticated]


class Open(Channel):
    pass


class Kept(Channel):
    history = 10


def nobody(x_name: str = Header()) -> str:
    return x_name


sound = FastAPI()
add_channel(sound, url="redis://127.0.0.1:1", allowed_origins=["https://chat.example"], bans=True)
Signed().mount(sound, "/signed/{channel}")
Open().mount(sound, "/asked/{channel}", dependencies=[Depends(nobody)])

doubtful = FastAPI()
add_channel(doubtful, allowed_origins=["*"], drain_seconds=0)
Open().mount(doubtful, "/open/{channel}")

without = FastAPI()
add_channel(without, url="nats://127.0.0.1:1")
Signed().mount(without, "/signed/{channel}")

kept = Kept()


@without.websocket("/kept/{room}")
async def by_hand(websocket: WebSocket, room: str) -> None:
    await kept.connect(websocket, room)


empty = FastAPI()
