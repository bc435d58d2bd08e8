"""Whose rooms they are: channels share the rooms of a name only where they share a scope."""

from typing import Any

import pytest
from fastapi import FastAPI

from fastapi_channels import Channel, ConfigurationError, Connection, Socket, action, add_channel
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


def _elsewhere(module: str) -> type[Channel]:
    return type("Ticket", (Channel,), {"room_pattern": "ticket:{number:int}", "__module__": module})


def test_a_guarded_room_has_one_name_whatever_module_its_class_is_in() -> None:
    keys = {_elsewhere(module)()._plan.key("ticket:1") for module in ("__main__", "app")}
    assert keys == {"Ticket\x1fticket:1"}


def test_two_guarded_classes_of_one_name_are_refused() -> None:
    app = FastAPI()
    add_channel(app)
    first, second = _elsewhere("one"), _elsewhere("two")
    first().mount(app, "/1/{channel}")
    first().mount(app, "/again/{channel}")
    for meets in (
        lambda: second().mount(app, "/2/{channel}"),
        lambda: Socket(second(), Open()).mount(app, "/2"),
        lambda: second().bind(app),
    ):
        with pytest.raises(ConfigurationError, match=r"one\.Ticket and two\.Ticket .*scope="):
            meets()
    second.scope = "others"
    second().mount(app, "/2/{channel}")


@pytest.mark.parametrize("first", [0, 1])
def test_to_share_rooms_both_classes_have_to_say_so(first: int) -> None:
    """Else whoever names a scope so would hear what a guarded channel says."""

    class Listening(Open):
        scope = "Ticket"

    app = FastAPI()
    add_channel(app)
    channels = [Ticket(), Listening()]
    channels[first].mount(app, "/1/{channel}")
    with pytest.raises(ConfigurationError, match="would share the rooms of the scope 'Ticket'"):
        channels[1 - first].mount(app, "/2/{channel}")


async def test_of_several_rooms_none_is_sent_to_where_one_is_wrong() -> None:
    app = FastAPI()
    add_channel(app)
    ticket = Ticket()
    ticket.mount(app, "/{channel}", user=lambda user="": user)
    async with serving(app) as site, site.connect("/ticket:1?user=ann") as ann:
        with pytest.raises(ConfigurationError, match="'tikcet:2'"):
            await ticket.broadcast(["ticket:1", "tikcet:2"], "half")
        await ticket.broadcast("ticket:1", "whole")
        assert (await ann.receive())["event"] == "whole"


async def test_a_room_that_does_not_fit_the_pattern_is_an_error_that_names_it() -> None:
    app, ticket = FastAPI(), Ticket()
    add_channel(app)
    ticket.bind(app)
    for ask in (ticket.broadcast("tikcet:1", "x"), ticket.members("1"), ticket.get_connection_count("1")):
        with pytest.raises(ConfigurationError, match=r"ticket:\{number:int\}"):
            await ask


def test_a_rooms_name_is_made_from_its_parameters() -> None:
    assert Ticket.room(number=7) == "ticket:7"
    for wrong in ({}, {"number": "seven"}, {"number": -1}, {"number": 1, "more": 2}):
        with pytest.raises(ConfigurationError, match="makes no room of"):
            Ticket.room(**wrong)
    for unlike in ("7", True, 7.0):
        with pytest.raises(ConfigurationError, match=f"number={unlike!r} would be read as [17]: give"):
            Ticket.room(number=unlike)
    with pytest.raises(ConfigurationError, match="no room_pattern"):
        Open.room(number=7)


def test_an_action_may_be_named_room() -> None:
    class Hotel(Channel):
        @action()
        async def room(self) -> None: ...

    assert Hotel().actions == ["room"]
