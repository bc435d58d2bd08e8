"""Everything that the page has to show, and to make a form for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from fastapi import Cookie, Depends, FastAPI, Header, HTTPException, Query, WebSocket
from pydantic import BaseModel, Field

from fastapi_channels import Call, Channel, Connection, Envelope, Event, action, add_channel, limiter
from fastapi_channels.permission import BasePermission

HOSTILE = "</script><script>window.hit=1</script><img src=x onerror=window.hit=1>"


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


class IsWelcome(BasePermission):
    """Everybody."""

    def has_permission(self, websocket: Any, action: str | None, **kwargs: Any) -> bool:
        return True


class Shop(Channel):
    """Sells everything."""

    event_types = (Placed,)
    call_types = (Sure, Where)

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

    @action()
    async def flood(self, connection: Connection, frames: int, size: int = 10) -> int:
        """Send many frames, of a size."""
        for number in range(frames):
            await self.broadcast_to_personal(connection.websocket, {"number": number, "more": "x" * size})
        return frames

    @action(sunset=date(2099, 1, 1))
    async def old(self) -> None:
        """Goes away."""

    @action(deprecated=True)
    async def gone(self) -> None:
        """Is gone."""


class Named(Channel):
    history = 20
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


@app.websocket("/guarded")
async def enter(websocket: WebSocket, user: Annotated[str, Depends(user)]) -> None:
    subprotocol = "app" if "app" in websocket.scope["subprotocols"] else None
    await guarded.connect(websocket, "guarded", user=user, subprotocol=subprotocol)
