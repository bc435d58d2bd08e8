"""What one message leaves behind for the next of the same client: nothing, unless it is said on purpose."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Annotated, Any

import pytest
from fastapi import Depends

from fastapi_channels import Channel, Connection, action
from fastapi_channels.testing.clock import timeless
from tests.support.live import application, each_implementation
from tests.support.live import serving as serving_live
from tests.support.wire import Wire, dial, serving

tenant: ContextVar[str] = ContextVar("tenant", default="nobody")


async def of_tenant(name: str = "dependency") -> AsyncIterator[str]:
    token = tenant.set(name)
    yield name
    tenant.reset(token)


class Room(Channel):
    def __init__(self) -> None:
        super().__init__()
        self.add_event_handler("join", self.greet)

    async def greet(self, connection: Connection) -> None:
        tenant.set("joined")

    @action()
    async def take(self, data: dict[str, Any]) -> str:
        tenant.set(data["name"])
        await asyncio.sleep(data.get("seconds", 0))
        return tenant.get()

    @action()
    async def fail(self) -> None:
        tenant.set("failed")
        raise ValueError("on purpose")

    @action()
    async def stream(self) -> AsyncIterator[str]:
        for name in "ab":
            tenant.set(name)
            yield tenant.get()

    @action()
    async def depends(self, name: Annotated[str, Depends(of_tenant)]) -> str:
        return tenant.get()

    @action()
    async def look(self) -> str:
        return tenant.get()


async def says(wire: Wire, action: str, /, **fields: Any) -> Any:
    wire.send({"action": action, "request_id": 1, **fields})
    return (await wire.receive()).get("data")


@timeless
@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("take", {"name": "ada"}),
        ("take", {"name": "ada", "seconds": 0.5}),
        ("fail", {}),
        ("depends", {}),
    ],
)
async def test_the_next_message_does_not_see_it(name: str, fields: dict[str, Any]):
    async with serving(Room()) as app, dial(app, "/lobby") as wire:
        await says(wire, name, **fields)
        assert await says(wire, "look") == "joined", (
            "what the join handler has set is there for every message"
        )


@timeless
async def test_the_message_itself_sees_it():
    async with serving(Room()) as app, dial(app, "/lobby") as wire:
        assert await says(wire, "take", name="ada", seconds=0.5) == "ada"
        assert await says(wire, "depends") == "dependency"


@timeless
async def test_nor_does_a_stream_leave_anything():
    async with serving(Room()) as app, dial(app, "/lobby") as wire:
        wire.call("stream", request_id=1)
        assert [(await wire.receive())["data"] for _ in range(3)] == ["a", "b", None]
        assert await says(wire, "look") == "joined"


@timeless
async def test_a_cancel_still_reaches_the_action():
    """The coroutine is driven by hand: what is thrown into the task must come through."""
    async with serving(Room()) as app, dial(app, "/lobby") as wire:
        wire.call("take", request_id=7, name="ada", seconds=50)
        await asyncio.sleep(0.2)
        wire.send({"type": "cancel", "request_id": 7})
        assert (await wire.receive())["code"] == "cancelled"
        assert await says(wire, "look") == "joined"


@each_implementation
async def test_each_client_of_a_server_sees_what_its_own_message_has_set(ws: str):
    async with (
        serving_live(application(Room()), ws=ws) as site,
        site.clients("/lobby", "/lobby") as (ada, bob),
    ):
        for name in ("one", "two"):
            assert (await ada.call("take", name=name))["data"] == name
            assert [(await client.call("look"))["data"] for client in (ada, bob)] == ["joined"] * 2
