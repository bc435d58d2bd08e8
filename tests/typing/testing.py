"""Read by mypy and pyright, never run: what the test kit has is typed, and a wrong use of it is seen."""

from collections.abc import AsyncIterator
from typing import Any, assert_type

from fastapi import FastAPI
from pydantic import BaseModel

from fastapi_channels import Channel, Event, action
from fastapi_channels.testing import ActionError, Client, Record, Refused, Site, SyncClient, SyncSite, refused
from fastapi_channels.testing.plugin import ChannelsApp, ChannelsServer, ChannelsSyncApp

app = FastAPI()


class Said(Event):
    text: str


class Receipt(BaseModel):
    id: int


class Lobby(Channel):
    @action()
    async def say(self, text: str) -> Receipt:
        return Receipt(id=1)

    @action()
    def plain(self) -> int:
        return 1

    @action()
    async def count(self, upto: int) -> AsyncIterator[int]:
        yield 1


async def used(channels_app: ChannelsApp, channels_server: ChannelsServer) -> None:
    site = await channels_app(app, within=5, raise_server_exceptions=False)
    assert_type(site, Site)
    assert_type(await channels_server(app, ws="auto"), Site)
    ann = await site.client("/rooms/lobby", user="ann", headers={"x": "y"}, within=3)
    assert_type(ann, Client)
    assert_type(await ann.call(Lobby.say, text="hello"), Receipt)
    assert_type(await ann.call(Lobby.plain), int)
    assert_type(await ann.call("say", {"text": "hello"}, room="lobby"), Any)
    assert_type(await refused(ann.call("say")), ActionError)
    async for item in ann.stream(Lobby.count, upto=3):
        assert_type(item, int)
    assert_type(await ann.expect(Said, text="hello"), Said)
    assert_type(await ann.expect("said"), Any)
    await ann.expect_nothing(Said, room="lobby")
    async with site.connect("/rooms/lobby", user="bob") as bob:
        assert_type(bob, Client)
    assert_type(await site.refusal("/rooms/lobby"), Refused)
    with site.record() as sent:
        assert_type(sent, Record)


async def misused(channels_app: ChannelsApp) -> None:
    await channels_app("app")  # type: ignore[arg-type] # no application
    await channels_app(app, withn=5)  # type: ignore[call-arg] # misspelt
    site = await channels_app(app)
    await site.client("/", usr="ann")  # type: ignore[call-arg] # misspelt
    await site.client("/", headers="x")  # type: ignore[arg-type] # no mapping
    ann = await site.client("/")
    print((await ann.expect(Said)).txet)  # type: ignore[attr-defined] # misspelt


def without_a_loop(channels_sync_app: ChannelsSyncApp) -> None:
    site = channels_sync_app(app, within=5)
    assert_type(site, SyncSite)
    ann = site.client("/rooms/lobby", user="ann")
    assert_type(ann, SyncClient)
    assert_type(ann.call(Lobby.say, text="hello"), Receipt)
    assert_type(ann.call(Lobby.plain), int)
    for item in ann.stream(Lobby.count, upto=3):
        assert_type(item, int)
    assert_type(ann.expect(Said), Said)
    assert_type(ann.expect("said", room="lobby"), Any)
    with site.connect("/rooms/lobby") as bob:
        assert_type(bob, SyncClient)
