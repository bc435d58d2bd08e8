"""What a newcomer serves: run as a file, or named to a server. The environment says the broker."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import uvicorn
from fastapi import FastAPI, WebSocket

from fastapi_channels import Channel, Connection, Member, PersonChannel, action, add_channel, limiter

app = FastAPI()
add_channel(app, url=os.environ.get("BROKER"), publish_timeout=float(os.environ.get("PATIENCE", "10")))


class Auction(Channel):
    """A room that is named by its pattern, and that its class guards."""

    room_pattern = "auction:{number:int}"
    max_message_size = 1000

    async def authorize(self, connection: Connection, number: int) -> bool:
        return number < 100

    @action()
    async def bid(self, amount: int, number: int, required: bool = True) -> bool:
        """Answers whether the broker took what was broadcast."""
        published = await self.broadcast(self.room(number=number), "bid", amount, required=required)
        return bool(published)

    @action()
    async def who(self, connection: Connection) -> list[Member]:
        return await self.members(connection.room)

    @action()
    async def tell(self, user: Any, text: str) -> None:
        await self.send_to_user(user, "told", text)

    @action()
    async def kick(self, connection: Connection) -> None:
        await connection.close(4001, "you know why")

    @action()
    async def shout(self, room: str) -> None:
        await self.broadcast(room, "shouted")

    @action()
    @limiter(times=1, hours=1)
    async def once(self) -> str:
        return "once"


auction, pair = Auction(), PersonChannel(max_history=10)  # which never did anything: it warns
auction.bind(app)
auction.mount(app, "/streams/{channel}", sse=True, http=True)


@auction.on_event("leave")
async def left(connection: Connection, code: int | None) -> None:
    print(f"left {connection.room}", flush=True)


@app.websocket("/rooms/{name}")
async def enter(websocket: WebSocket, name: str, sub: str | None = None, nick: str | None = None) -> None:
    user = {"sub": sub} if sub else {"nick": nick} if nick else None
    await auction.connect(websocket, name, user=user)


@app.websocket("/pairs/{name}")
async def meet(websocket: WebSocket, name: str, sub: str) -> None:
    await pair.connect(websocket, name, user={"sub": sub})


@app.post("/here")
async def here() -> None:
    await auction.broadcast(Auction.room(number=1), "bid", "from a route")


@app.post("/elsewhere")
def elsewhere() -> int:
    """FastAPI calls it in a thread, where there is no event loop yet."""
    asyncio.run(auction.broadcast(Auction.room(number=1), "bid", "from another loop"))
    return asyncio.run(auction.get_connection_count(Auction.room(number=1)))


inner = FastAPI()
add_channel(inner)
Channel().mount(inner, "/{channel}")
app.mount("/inner", inner)

if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ["PORT"]))
