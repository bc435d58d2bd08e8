"""Whose rooms they are: channels share the rooms of a name only where they share a scope."""

from typing import Any

from fastapi import FastAPI

from fastapi_channels import Channel, Connection, action, add_channel
from tests.support.live import serving


class Ticket(Channel):
    room_pattern = "ticket:{number:int}"

    async def authorize(self, connection: Connection, *args: Any, **params: Any) -> bool:
        return connection.user == "ann"


class Open(Channel):
    @action()
    async def shout(self, channel: str) -> int:
        await self.broadcast(channel, "shouted")
        return await self.get_connection_count(channel)


async def test_who_may_enter_a_guarded_room_is_decided_by_its_channel_alone() -> None:
    app = FastAPI()
    add_channel(app)
    ticket, unguarded = Ticket(), Open()
    ticket.mount(app, "/guarded/{channel}", user=lambda user="": user)
    unguarded.mount(app, "/open/{channel}")
    async with serving(app) as site:
        assert (await site.refusal("/guarded/ticket:1")).status == 403
        async with (
            site.connect("/guarded/ticket:1?user=ann") as ann,
            site.connect("/open/ticket:1") as eve,
        ):
            ticket.bind(app)
            await ticket.broadcast("ticket:1", "secret", "for ann")
            assert (await ann.receive())["channel"] == "ticket:1"
            await eve.send({"action": "shout"})
            assert (await eve.receive())["event"] == "shouted"
            assert (await eve.receive())["data"] == 1
            await ticket.broadcast("ticket:1", "last")
            assert (await ann.receive())["event"] == "last"
            assert [member["user"] for member in await ticket.members("ticket:1")] == ["ann"]


async def test_channels_of_one_scope_share_their_rooms() -> None:
    class Shared(Ticket):
        scope = "tickets"

    class Watching(Open):
        scope = "tickets"

    app = FastAPI()
    add_channel(app)
    Shared().mount(app, "/guarded/{channel}", user=lambda user="": user)
    Watching().mount(app, "/open/{channel}")
    async with (
        serving(app) as site,
        site.connect("/guarded/ticket:1?user=ann") as ann,
        site.connect("/open/ticket:1") as watcher,
    ):
        assert (await watcher.call("shout"))["event"] == "shouted"
        assert (await ann.receive())["event"] == "shouted"
        assert (await watcher.receive())["data"] == 2
