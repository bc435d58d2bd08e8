"""Broadcasts that each recipient gets in a way of its own: in every process, and also later."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urlencode

import pytest
from fastapi import FastAPI

from fastapi_channels import Channel, ConfigurationError, Connection, action, add_channel
from fastapi_channels.channels.publisher import Publisher
from fastapi_channels.channels.reading import history_router
from fastapi_channels.cluster.node import Node
from fastapi_channels.testing.broker import FaultyBroker
from fastapi_channels.testing.store import FaultyStore
from fastapi_channels.wire.messages import Frame
from tests.support.live import Client, Site, serving
from tests.support.servers import RedisServer, required


def guests_see_less(connection: Connection[str], frame: dict[str, Any]) -> dict[str, Any] | None:
    if connection.user == "banned":
        return None
    if connection.user != "mod":
        del frame["data"]["address"]  # in place: nobody else may see it
    return frame


def fails_for_guests(connection: Connection[str], frame: dict[str, Any]) -> dict[str, Any] | None:
    if connection.user == "guest":
        raise LookupError("no rule for guests")
    return "no frame" if connection.user == "banned" else frame  # type: ignore[return-value]  # that is tried


class Room(Channel):
    for_each = (guests_see_less, fails_for_guests)
    scope = "rooms"

    @action()
    async def say(self, connection: Connection[str], text: str) -> None:
        said = {"text": text, "address": "10.0.0.1"}
        await self.broadcast(connection.room, "said", said, for_each=guests_see_less)

    @action()
    async def fail(self, connection: Connection[str]) -> None:
        await self.broadcast(connection.room, "said", "failed", for_each=fails_for_guests)

    @action()
    async def end(self, connection: Connection[str]) -> None:
        await self.broadcast(connection.room, "end")


class Kept(Room):
    history = 20
    cache = True
    routers = (history_router,)
    scope = "kept"


class Other(Channel):
    """Its clients are in the same rooms, and it knows no such function."""

    scope = "rooms"


async def user_of(user: str) -> str:
    return user


def application(**settings: Any) -> FastAPI:
    app = FastAPI()
    add_channel(app, **settings)
    for channel in (Room(), Kept(), Other()):
        channel.mount(app, f"/{type(channel).__name__}/{{channel}}", user=user_of)
    return app


@asynccontextmanager
async def processes(url: str | None = None) -> AsyncIterator[tuple[list[Site], list[FastAPI]]]:
    bus, store = FaultyBroker(), FaultyStore()
    settings: Any = {"url": url, "namespace": "renditions."} if url else {}
    apps = [application(**(settings or {"backend": bus.backend(), "store": store})) for _ in range(2)]
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(serving(app)) for app in apps], apps


async def heard(client: Client) -> list[Any]:
    """The data of the events until one that says that these are all."""
    found: list[Any] = []
    while (frame := await client.receive_until(lambda frame: frame["type"] == "event"))["event"] != "end":
        found.append(frame["data"])
    return found


FULL, LESS = {"text": "hi", "address": "10.0.0.1"}, {"text": "hi"}


async def test_each_recipient_gets_what_the_function_says_in_every_process(caplog: pytest.LogCaptureFixture):
    paths = ["Room/tea?user=mod", "Room/tea?user=guest", "Room/tea?user=banned", "Other/tea?user=mod"]
    async with processes() as (sites, apps), AsyncExitStack() as stack:
        enter = stack.enter_async_context
        clients = [[await enter(site.connect(f"/{path}")) for path in paths] for site in sites]
        mod = clients[0][0]
        await mod.send({"action": "say", "text": "hi"})
        await mod.send({"action": "fail"})
        publisher = Publisher._of(Node.of({"fastapi_channels": Node.attached(apps[1])}))
        await publisher.broadcast("tea", "said", FULL, for_each=guests_see_less, channel=Room)
        await mod.send({"action": "end"})
        for mod, guest, banned, other in clients:
            assert sorted(map(str, await heard(mod))) == sorted(map(str, [FULL, "failed", FULL]))
            assert await heard(guest) == [LESS, LESS]
            assert await heard(banned) == await heard(other) == []
    warned = [each.message for each in caplog.records if "for_each" in each.message]
    # Of one kind the log is told seldom, in each process.
    assert len(warned) == 2
    assert all("gets nothing" in each or "get nothing" in each for each in warned)


@pytest.mark.parametrize("where", ["in memory", pytest.param("on Redis", marks=required(RedisServer))])
async def test_what_a_client_would_not_have_seen_is_not_recovered_either(
    where: str, request: pytest.FixtureRequest
):
    url = request.getfixturevalue("shared_redis").url if where == "on Redis" else None
    async with processes(url) as (sites, _), sites[0].connect("/Kept/tea?user=mod") as mod:
        joined = await mod.receive()
        since, mod_id = joined["position"], joined["connection"]
        for text in ("hi", "ho"):
            await mod.send({"action": "say", "text": text})
            assert (await mod.receive())["data"] == {"text": text, "address": "10.0.0.1"}
        for user, expected in (("mod", "address"), ("guest", "text"), ("banned", "")):
            for site in sites:
                async with site.connect(f"/Kept/tea?user={user}&since={since}") as client:
                    assert (await client.receive())["recovered"] is True
                    if not expected:
                        continue
                    frames = [await client.receive(), await client.receive()]
                    assert [frame["data"]["text"] for frame in frames] == ["hi", "ho"]
                    assert all(list(frame["data"])[-1] == expected for frame in frames)
                    assert [frame["position"][-2:] for frame in frames] == [":1", ":2"]
                    page = (await client.call("history", request_id=1))["data"]
                    assert page["items"] == frames[::-1]
        who = {"since": since, "connection": mod_id}
        async with sites[1].connect(f"/Kept/tea?user=guest&{urlencode(who)}") as liar:
            assert (await liar.receive())["recovered"] is True
            assert [(await liar.receive())["data"] for _ in range(2)] == [LESS, {"text": "ho"}]
        async with sites[1].connect("/Kept/tea?user=banned") as client:  # nor from the cache
            await client.receive()
            assert (await client.call("history", request_id=1))["data"]["items"] == []
            await mod.send({"action": "end"})
            assert await heard(client) == []


async def test_it_is_framed_once_for_all_who_get_the_same(monkeypatch: pytest.MonkeyPatch):
    sent: list[tuple[int, Frame]] = []
    app = application()
    async with serving(app) as site, AsyncExitStack() as stack:
        users = ["mod", "guest", "guest", "banned", "mod", "guest"]
        clients = [await stack.enter_async_context(site.connect(f"/Room/tea?user={user}")) for user in users]
        node = Node.attached(app)
        assert node is not None
        send = node.hub.send
        hub = type(node.hub)
        monkeypatch.setattr(
            hub, "send", lambda self, to, frame: sent.append((len(to), frame)) or send(to, frame)
        )
        await clients[0].send({"action": "say", "text": "hi"})
        assert [(await client.receive())["data"] for client in (clients[0], clients[1])] == [FULL, LESS]
    assert [count for count, _ in sent] == [2, 3]


@pytest.mark.parametrize("wrong", [[print], [lambda connection, frame: frame], ["name"], [user_of]])
def test_only_plain_functions_with_a_name_can_be_found_elsewhere(wrong: Any):
    with pytest.raises(ConfigurationError, match="plain functions"):
        type("Wrong", (Channel,), {"for_each": wrong})


def test_two_of_one_name():
    with pytest.raises(ConfigurationError, match="two functions named 'guests_see_less'"):
        type("Wrong", (Channel,), {"for_each": [guests_see_less, guests_see_less]})


async def test_a_function_that_is_not_declared_is_refused_before_anything_is_sent():
    def other(connection: Connection, frame: dict[str, Any]) -> None: ...

    with pytest.raises(
        ConfigurationError, match=r"Room does not declare other: list it, for_each = \[other\]"
    ):
        await Room().broadcast("tea", "said", for_each=other)
    other.__name__ = "guests_see_less"
    with pytest.raises(ConfigurationError, match="does not declare"):
        await Room().broadcast("tea", "said", for_each=other)
