"""Everything that the page has to show, and to make a form for."""

from __future__ import annotations

import asyncio
import json
import time
import zlib
from collections.abc import AsyncIterator
from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from fastapi import Cookie, Depends, FastAPI, Header, HTTPException, Query, WebSocket
from pydantic import BaseModel, Field, NaiveDatetime, SecretStr

from fastapi_channels import (
    Call,
    Channel,
    Connection,
    Envelope,
    Event,
    Socket,
    action,
    add_channel,
    limiter,
)
from fastapi_channels.auth import Authenticator, Identity
from fastapi_channels.permission import BasePermission

HOSTILE = "</script><script>window.hit=1</script><img src=x onerror=window.hit=1>"


PIN = SecretStr("1234")


class Size(StrEnum):
    small = "small"
    large = "large"


class Address(BaseModel):
    """Where it goes."""

    street: Annotated[str, Field(max_length=80)]
    zip: Annotated[str, Field(pattern=r"^\d{5}$", description="Five digits.")]


class Card(BaseModel):
    kind: Literal["card"]
    number: str


class Invoice(BaseModel):
    kind: Literal["invoice"]
    to: Address


class Part(BaseModel):
    name: str
    count: Annotated[int, Field(ge=1, le=9)] = 1
    parts: list[Part] = []


class Order(BaseModel):
    """An order with everything that a form must have."""

    title: Annotated[str, Field(min_length=1, max_length=60, description=HOSTILE)]
    address: Address
    payment: Card | Invoice
    items: Annotated[list[Part], Field(min_length=1)]
    size: Size = Size.small
    on: date
    at: datetime | None = None
    gift: bool = False
    weight: Annotated[float | None, Field(gt=0, description="In kilograms.")] = None
    billing: Address | None = None
    labels: dict[str, str] = {}
    note: Annotated[str | None, Field(max_length=2000)] = None
    anything: Any = None


class Placed(Event):
    """An order was placed."""

    number: int
    order: Order


class Sure(Call[bool]):
    """Whether one is sure."""

    what: str


class Where(Call[Address]):
    """Where it goes."""

    number: int


class Pick(Call[Size]):
    """Which of them."""


class IsWelcome(BasePermission):
    """Everybody."""

    def has_permission(self, websocket: Any, action: str | None, **kwargs: Any) -> bool:
        return True


class Shop(Channel):
    """Sells everything."""

    event_types = (Placed,)
    call_types = (Sure, Where, Pick)

    @limiter(times=50, seconds=60)
    @action(tags=["orders"], permission=IsWelcome, summary="Place an order")
    async def order(self, order: Order, connection: Connection) -> Order:
        """Place an order, which everybody in the shop sees.

        It is answered with the order as it was understood.
        """
        await self.broadcast(connection.room, Placed(number=1, order=order))
        return order

    @action()
    async def count(
        self, to: Annotated[int, Field(ge=0, le=100_000)] = 3, wait: float = 0.0
    ) -> AsyncIterator[int]:
        """Count, one item after the other."""
        for number in range(to):
            if wait:
                await asyncio.sleep(wait)
            yield number

    @action(detached=True)
    async def confirm(self, connection: Connection) -> str:
        """Ask the one who asks."""
        return f"you said {await connection.call(Sure(what=HOSTILE))!r}"

    @action(detached=True)
    async def deliver(self, connection: Connection) -> Address:
        """Ask where it goes."""
        return await connection.call(Where(number=1))

    @action(detached=True)
    async def hurry(self, connection: Connection) -> str:
        """Ask, and wait for half a second."""
        try:
            return str(await connection.call(Sure(what="quickly"), timeout=0.5))
        except TimeoutError:
            return "nobody answered"

    @action()
    async def at(self, when: NaiveDatetime) -> str:
        """A time without a zone."""
        return when.isoformat()

    @action(detached=True)
    async def pick(self, connection: Connection) -> Size:
        """Ask which."""
        return await connection.call(Pick())

    @action()
    async def broken(self) -> AsyncIterator[int]:
        """Two items, and then a fault."""
        yield 1
        yield 2
        raise HTTPException(418, "no more tea")

    @action()
    async def large(self, number: int, pin: SecretStr = PIN) -> dict[str, int | str]:
        """Numbers that JavaScript rounds, and what is secret."""
        return {"twice": number * 2, "pin": pin.get_secret_value()}

    @action()
    async def flood(self, connection: Connection, frames: int, size: int = 10) -> int:
        """Send many frames, of a size."""
        for number in range(frames):
            await self.broadcast_to_personal(connection.websocket, {"number": number, "more": "x" * size})
        return frames

    @action(sunset=date(2099, 1, 1))
    async def old(self) -> None:
        """Goes away."""

    @action(sunset=date(2020, 1, 1))
    async def past(self) -> None:
        """Was to go away, and has."""

    @action(deprecated=True)
    async def gone(self) -> None:
        """Is gone."""


class Named(Channel):
    history = 20
    presence = True
    presence_interval = 0.1
    envelope = Envelope(action="method", request_id="id", payload="params", errors="error", data="result")

    @action()
    async def add(self, a: int, b: int) -> int:
        return a + b

    @action(detached=True)
    async def ask(self, connection: Connection) -> Any:
        return await connection.call("anything", [1])

    @action()
    async def me(self, connection: Connection) -> str:
        return str(connection.user)

    @action()
    async def status(self, value: str, connection: Connection) -> None:
        await connection.set_presence(value)


def known(token: str, _: Any) -> Identity | None:
    """A token that holds, or one that does not hold for long."""
    ends = {"good": None, "short": time.time() + 12}
    return Identity("ada", expires_at=ends[token]) if token in ends else None


class Vault(Channel):
    """A room with a pattern, for those who say who they are."""

    room_pattern = "vault:{number:int}"
    authenticator = Authenticator(known, first_frame=5)

    @action()
    async def me(self, connection: Connection) -> str:
        return str(connection.user)

    async def authorize(self, connection: Connection, number: int) -> bool:
        return number < 10


class Safe(Channel):
    """One of many over one WebSocket."""

    room_pattern = "safe:{number:int}"

    async def authorize(self, connection: Connection, number: int) -> bool:
        return number < 10

    @action()
    async def turn(self, to: int) -> int:
        return to


class Bank(Socket):
    """Safes over one WebSocket, for everybody."""


class Zipped(Envelope):
    def encode(self, frame: Any) -> bytes:
        return zlib.compress(json.dumps(frame).encode())

    def decode(self, body: bytes) -> Any:
        return super().decode(zlib.decompress(body))


class Archive(Channel):
    envelope = Zipped(binary=True)

    @action()
    async def get(self) -> int:
        return 1


class Shelf(Channel):
    @action()
    async def where(
        self,
        connection: Connection,
        most: Annotated[int, Field(le=2**63 - 1)] = 2**63 - 1,
        mixed: Literal["a", 1, None] = "a",
        either: int | str = 7,
    ) -> tuple[str, int]:
        return connection.room, most


def user(
    key: Annotated[str, Query()] = "",
    sec_websocket_protocol: Annotated[str, Header()] = "",
    session: Annotated[str, Cookie()] = "",
    x_key: Annotated[str, Header()] = "",
) -> str:
    """Who connects, by whatever a browser can bring, and by a header that it cannot."""
    offered = sec_websocket_protocol.replace(" ", "").split(",")
    found = {"query": key, "subprotocol": "good" if "bearer.good" in offered else "", "cookie": session}
    good = [name for name, value in found.items() if value == "good"]
    if not good:
        raise HTTPException(401)
    return good[0]


app = FastAPI(title="Everything <b>", description=f"Hostile: {HOSTILE}", version="1.2")
add_channel(app)
shop, named, guarded = Shop(), Named(), Named()
shop.mount(app, "/shop/{channel}")
named.mount(app, "/named/{channel}")
Vault().mount(app, "/vaults/{channel}")
Bank(Safe()).mount(app, "/bank")
Archive().mount(app, "/archive")
shelf = Shelf()


@app.websocket("/shelves/{size}/{number}/{pin}")
async def stand(websocket: WebSocket, size: Size, number: int, pin: SecretStr) -> None:
    await shelf.connect(websocket, f"{size}-{number}")


@app.websocket("/guarded")
async def enter(
    websocket: WebSocket, user: Annotated[str, Depends(user)], theme: Annotated[str, Cookie()] = "light"
) -> None:
    subprotocol = "app" if "app" in websocket.scope["subprotocols"] else None
    await guarded.connect(websocket, "guarded", user=user, subprotocol=subprotocol)
