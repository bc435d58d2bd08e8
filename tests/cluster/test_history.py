"""Rooms with history: positions, recovery, and what becomes of what the broker loses."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.websockets import WebSocket

from fastapi_channels import (
    BaseChannel,
    Channel,
    ConfigurationError,
    Connection,
    Envelope,
    Socket,
    action,
    add_channel,
    history_router,
)
from fastapi_channels.cluster import history, rooms
from fastapi_channels.stores import MemoryStore
from fastapi_channels.testing.broker import FaultyBroker
from fastapi_channels.testing.store import FaultyStore
from fastapi_channels.wire.messages import Body
from fastapi_channels.wire.positions import Position
from tests.support.live import Client, Site, application, serving, unique, wait_until
from tests.support.redis import RedisServer


class Room(Channel):
    history = 20
    scope = "room"
    routers = (history_router,)

    @action()
    async def say(self, connection: Connection, text: str) -> str | None:
        return (await self.broadcast(connection.room, "said", text)).position

    @action()
    async def tell(self, connection: Connection, text: str) -> None:
        await self.broadcast(connection.room, "said", text, exclude=connection)


@asynccontextmanager
async def served(channel: BaseChannel | None = None, **settings: Any) -> AsyncIterator[Site]:
    channel = channel or Room()
    app = application(channel, **settings)
    channel.bind(app)
    async with serving(app) as site:
        yield site


@asynccontextmanager
async def processes(bus: FaultyBroker, store: FaultyStore, count: int = 2) -> AsyncIterator[list[Site]]:
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(served(backend=bus.backend(), store=store)) for _ in range(count)
        ]


async def joined(client: Client) -> Any:
    frame = await client.receive()
    assert frame["type"] == "joined", frame
    return frame


async def say(client: Client, *texts: str) -> None:
    for text in texts:
        await client.send({"action": "say", "text": text})
        frames = [await client.receive(), await client.receive()]
        assert {frame["type"] for frame in frames} == {"event", "response"}


async def said(client: Client, count: int) -> list[str]:
    return [
        (await client.receive_until(lambda frame: frame["type"] == "event"))["data"] for _ in range(count)
    ]


def offset(frame: Any) -> int:
    return Position.parse(frame["position"]).offset


async def test_a_member_is_told_its_position_also_where_nothing_was_ever_sent():
    async with served() as site, site.connect("/tea") as client:
        frame = await joined(client)
        assert frame == {
            "type": "joined",
            "channel": "tea",
            "position": frame["position"],
            "connection": frame["connection"],
        }
        assert offset(frame) == 0
        await client.send({"action": "say", "text": "hi", "request_id": 1})
        event, reply = await client.receive(), await client.receive()
        assert (event["data"], offset(event)) == ("hi", 1)
        assert reply["data"] == event["position"]


async def test_who_comes_back_gets_what_was_missed_in_order_and_then_what_follows():
    async with served() as site, site.connect("/tea") as other:
        await joined(other)
        async with site.connect("/tea") as client:
            since = (await joined(client))["position"]
        await say(other, "one", "two", "three")
        async with site.connect(f"/tea?since={since}") as client:
            frame = await joined(client)
            assert (frame["position"], frame["recovered"]) == (since, True)
            assert await said(client, 3) == ["one", "two", "three"]
            await say(other, "four")
            event = await client.receive()
            assert (event["data"], offset(event)) == ("four", 4)
        async with site.connect(f"/tea?since={event['position']}") as client:
            assert (await joined(client))["recovered"] is True


async def test_a_history_that_began_anew_is_said_and_where_to_go_on():
    async with served() as site, site.connect("/tea") as other:
        await joined(other)
        await say(other, "one")
        async with site.connect("/tea?since=0ther:7") as client:
            frame = await joined(client)
            assert (frame["recovered"], frame["reason"], offset(frame)) == (False, "epoch", 1)
            await say(other, "two")
            assert await said(client, 1) == ["two"]


def over(request: pytest.FixtureRequest, kind: str) -> dict[str, Any]:
    """Settings of an application whose store is of that kind."""
    if kind == "memory":
        return {}
    return {"url": request.getfixturevalue(f"shared_{kind}").url, "namespace": unique("history")}


@pytest.mark.parametrize("kind", ["memory", "redis", "postgres"])
async def test_what_a_client_says_of_its_position_changes_nothing(
    request: pytest.FixtureRequest, kind: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(rooms, "IDLE", 0.0)
    async with served(**over(request, kind)) as site:
        async with site.connect("/tea") as first:
            await joined(first)
            await say(first, "one", "two")
            async with site.connect("/tea?since=none:1") as other:
                head = (await joined(other))["position"]
            epoch = head.partition(":")[0]
            assert head == f"{epoch}:2"
            for ahead in (3, 999_999_999_999_999):
                async with site.connect(f"/tea?since={epoch}:{ahead}") as liar:
                    frame = await joined(liar)
                    told = (frame["position"], frame["recovered"], frame["reason"])
                    assert told == (head, False, "epoch")
            await say(first, "three")
        # Also where the process knows nothing of the room.
        await wait_until(lambda: site.node.rooms.known("tea") is None)
        async with site.connect(f"/tea?since={epoch}:9") as liar:
            frame = await joined(liar)
            assert (frame["position"], frame["recovered"]) == (f"{epoch}:3", False)
        async with site.connect(f"/tea?since={epoch}:0") as honest:
            assert (await joined(honest))["recovered"] is True
            assert await said(honest, 3) == ["one", "two", "three"]


async def test_an_epoch_that_another_process_began_is_told_to_all_by_the_first_who_comes_back():
    bus, store = FaultyBroker(), FaultyStore()
    async with processes(bus, store) as (one, two), one.connect("/tea") as here, two.connect("/tea") as there:
        before = await joined(here)
        await joined(there)
        await say(here, "one")
        await said(there, 1)
        # The store was set back, and so far only another process knows.
        store._histories.clear()
        epoch = await _epoch(store)
        for since in (f"{before['position'].partition(':')[0]}:9", "none:1", f"{epoch}:0"):
            async with two.connect(f"/tea?since={since}") as client:
                frame = await joined(client)
                assert (frame["position"], frame["recovered"]) == (f"{epoch}:0", since == f"{epoch}:0")
        resync = await there.receive()
        assert (resync["type"], resync["position"]) == ("resync", f"{epoch}:0")


async def test_a_herd_that_is_ahead_asks_the_store_a_few_times():
    store = FaultyStore()
    async with served(backend=FaultyBroker().backend(), store=store) as site, site.connect("/tea") as other:
        epoch = (await joined(other))["position"].partition(":")[0]
        store.calls.clear()
        async with AsyncExitStack() as stack:
            coming = (stack.enter_async_context(site.connect(f"/tea?since={epoch}:7")) for _ in range(50))
            for client in await asyncio.gather(*coming):
                assert (await joined(client))["recovered"] is False
        assert store.calls.count("tops") < 50


class Short(Room):
    history = 3
    recovery_limit = 2


async def test_more_than_the_limit_is_not_sent():
    async with served(Short()) as site, site.connect("/tea") as other:
        since = (await joined(other))["position"]
        await say(other, "one", "two")
        async with site.connect(f"/tea?since={since}") as client:
            assert (await joined(client))["recovered"] is True
        await say(other, "three")
        async with site.connect(f"/tea?since={since}") as client:
            frame = await joined(client)
            assert (frame["recovered"], frame["reason"], offset(frame)) == (False, "limit", 3)


class Brief(Room):
    history_size = 30


async def test_what_is_not_kept_any_more_is_said():
    async with served(Brief()) as site, site.connect("/tea") as other:
        since = (await joined(other))["position"]
        await say(other, "one", "two")
        async with site.connect(f"/tea?since={since}") as client:
            frame = await joined(client)
            assert (frame["recovered"], frame["reason"], offset(frame)) == (False, "expired", 2)


class Latest(Room):
    history = 1
    cache = True


async def test_the_latest_publication_comes_with_the_join():
    async with served(Latest()) as site, site.connect("/tea") as other:
        await joined(other)
        await say(other, "one", "two")
        async with site.connect("/tea") as client:
            frame = await joined(client)
            assert "recovered" not in frame
            event = await client.receive()
            assert (event["data"], event["position"]) == ("two", frame["position"])
        async with site.connect("/empty") as client:
            await joined(client)
            await say(client, "first")


async def test_what_was_kept_from_a_connection_is_not_recovered_by_it():
    async with served() as site, site.connect("/tea") as other:
        await joined(other)
        async with site.connect("/tea") as client:
            mine = await joined(client)
            await client.send({"action": "tell", "text": "not to me"})
            await other.receive()
        await say(other, "to all")
        async with site.connect(f"/tea?since={mine['position']}&connection={mine['connection']}") as client:
            assert (await joined(client))["recovered"] is True
            assert await said(client, 1) == ["to all"]
        async with site.connect(f"/tea?since={mine['position']}") as client:
            await joined(client)
            assert await said(client, 2) == ["not to me", "to all"]


async def test_what_was_kept_from_a_user_is_not_recovered_where_the_client_does_not_say_who_it_was():
    channel, app = Room(), FastAPI()
    add_channel(app)

    @app.websocket("/{room}/{user}")
    async def endpoint(websocket: WebSocket, room: str, user: str) -> None:
        await channel.connect(websocket, room, user=user)

    async with serving(app) as site, site.connect("/tea/ann") as ann:
        mine = await joined(ann)
        since = mine["position"]
        await ann.send({"action": "tell", "text": "not to me"})
        await say(ann, "to all")
        async with site.connect(f"/tea/ann?since={since}") as client:
            await joined(client)
            assert await said(client, 1) == ["to all"]
            # Nor does it read that, but only what came when it was there.
            await ann.send({"action": "tell", "text": "to her other one"})
            assert await said(client, 1) == ["to her other one"]
            assert await read(client) == ["to all", "to her other one"]
        async with site.connect(f"/tea/bob?since={since}") as client:
            await joined(client)
            assert await said(client, 3) == ["not to me", "to all", "to her other one"]
            assert await read(client) == ["not to me", "to all", "to her other one"]
        async with site.connect(f"/tea/ann?since={since}&connection={mine['connection']}") as client:
            await joined(client)
            assert await said(client, 1) == await read(client) == ["to all"]


async def read(client: Client) -> list[str]:
    reply = await client.call("history", reverse=False)
    return [item["data"] for item in reply["data"]["items"]]


@pytest.mark.parametrize(
    "since", ["7", "k:", "k:-1", "K:1", "k:1:1", "k:1e9", "k" * 40 + ":1", "k:" + "9" * 400]
)
async def test_what_is_no_position_is_refused(since: str):
    async with served() as site:
        refusal = await site.refusal(f"/tea?since={since}")
        assert (refusal.status, refusal.body["code"]) == (400, "invalid_position")
        async with site.unharmed(), site.connect("/tea") as client:
            await joined(client)


async def test_many_rooms_on_one_socket():
    app, room = FastAPI(), Room()
    add_channel(app)
    Socket(room).mount(app, "/socket")
    async with serving(app) as site, site.connect("/socket") as client:
        await client.send({"type": "join", "channel": "tea", "request_id": 1})
        first = await joined(client)
        assert (first["channel"], first["request_id"], offset(first)) == ("tea", 1, 0)
        await client.send({"action": "say", "channel": "tea", "text": "one"})
        await client.send({"type": "leave", "channel": "tea"})
        await client.receive_until(lambda frame: frame["type"] == "left")
        await client.send({"type": "join", "channel": "tea", "since": first["position"], "request_id": 2})
        assert (await joined(client))["recovered"] is True
        assert await said(client, 1) == ["one"]
        await client.send({"type": "leave", "channel": "tea"})
        await client.receive_until(lambda frame: frame["type"] == "left")
        ahead = f"{first['position'].partition(':')[0]}:9"
        await client.send({"type": "join", "channel": "tea", "since": ahead, "request_id": 4})
        frame = await joined(client)
        assert (frame["recovered"], frame["reason"], offset(frame)) == (False, "epoch", 1)
        await client.send({"type": "join", "channel": "coffee", "since": ["tea"], "request_id": 3})
        refused = await client.receive()
        assert (refused["code"], refused["request_id"]) == ("invalid_position", 3)
        await client.send({"action": "say", "channel": "tea", "text": "still here"})
        assert await said(client, 1) == ["still here"]


async def test_nothing_is_missing_or_doubled_while_publications_go_on():
    room = type("Long", (Room,), {"history": 1000})()
    async with served(room) as site:
        done = asyncio.Event()
        count = 0

        async def go_on() -> None:
            nonlocal count
            while not done.is_set():
                count += 1
                await room.broadcast("tea", "said", str(count))
                await asyncio.sleep(0)

        publishing = asyncio.create_task(go_on())
        got: list[int] = []
        since = ""
        for _ in range(30):
            async with site.connect(f"/tea?since={since}" if since else "/tea") as client:
                frame = await joined(client)
                since = since or frame["position"]
                assert frame.get("recovered", True), frame
                for _ in range(25):
                    event = await client.receive()
                    since = event["position"]
                    got.append(offset(event))
                    assert event["data"] == str(got[-1])
        done.set()
        await publishing
        assert got == [*range(got[0], got[0] + len(got))]


async def test_a_herd_is_one_read():
    store = FaultyStore()
    async with served(backend=FaultyBroker().backend(), store=store) as site, site.connect("/tea") as other:
        since = (await joined(other))["position"]
        await say(other, "one", "two")
        async with AsyncExitStack() as stack:
            coming = (stack.enter_async_context(site.connect(f"/tea?since={since}")) for _ in range(100))
            for client in await asyncio.gather(*coming):
                assert (await joined(client))["recovered"] is True
                assert await said(client, 2) == ["one", "two"]
            assert store.calls.count("read") == 1


async def test_what_a_process_could_not_hear_is_read_when_it_hears_again(monkeypatch: pytest.MonkeyPatch):
    bus, store = FaultyBroker(), FaultyStore()
    async with processes(bus, store) as (one, two), one.connect("/tea") as here, two.connect("/tea") as there:
        await joined(here)
        await joined(there)
        await say(here, "one")
        (deaf,) = [each for each in bus.backends if each is two.node.broker._backend]
        deaf.deaf = True
        await say(here, "two", "three")
        deaf.deaf = False
        await say(here, "four")
        events = [await there.receive() for _ in range(4)]
        assert [(event["type"], event["data"]) for event in events] == [
            ("event", "one"),
            ("event", "two"),
            ("event", "three"),
            ("event", "four"),
        ]


async def test_what_was_published_while_the_broker_was_away_comes_when_it_is_back():
    bus, store = FaultyBroker(), FaultyStore()
    async with processes(bus, store) as (one, two), one.connect("/tea") as here, two.connect("/tea") as there:
        await joined(here)
        await joined(there)
        bus.crash()
        await wait_until(lambda: not one.node.broker.up and not two.node.broker.up)
        await here.send({"action": "say", "text": "into the store"})
        assert await said(here, 1) == ["into the store"]
        bus.restart()
        assert await said(there, 1) == ["into the store"]
        await say(here, "after")
        assert await there.receive() == {
            "type": "event",
            "event": "said",
            "channel": "tea",
            "data": "after",
            "position": f"{await _epoch(store)}:2",
        }


async def _epoch(store: MemoryStore) -> str:
    return (await store.tops({"room\x1ftea": None}))["room\x1ftea"].epoch


async def test_what_nothing_tells_of_is_found_by_comparing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(history, "COMPARING", 0.05)
    bus, store = FaultyBroker(), FaultyStore()
    async with processes(bus, store) as (one, two), one.connect("/tea") as here, two.connect("/tea") as there:
        await joined(here)
        await joined(there)
        for backend in bus.backends:
            backend.deaf = backend is two.node.broker._backend
        await say(here, "unheard")
        assert await said(there, 1) == ["unheard"]


async def test_a_history_that_is_gone_is_told_to_those_who_stayed():
    bus, store = FaultyBroker(), FaultyStore()
    async with processes(bus, store) as (one, two), one.connect("/tea") as here, two.connect("/tea") as there:
        before = await joined(here)
        await joined(there)
        await say(here, "one")
        await said(there, 1)
        store._histories.clear()
        await here.send({"action": "say", "text": "anew"})
        resync = await there.receive()
        assert (resync["type"], resync["channel"]) == ("resync", "tea")
        assert Position.parse(resync["position"]).epoch != Position.parse(before["position"]).epoch
        async with two.connect(f"/tea?since={before['position']}") as client:
            frame = await joined(client)
            assert (frame["recovered"], frame["reason"]) == (False, "epoch")


@pytest.mark.parametrize("who_goes_on", ["who published before", "another process"])
async def test_who_was_away_while_the_store_was_set_back_is_told_though_nobody_was_in_the_room(
    who_goes_on: str,
):
    bus, store = FaultyBroker(), FaultyStore()
    first, second = Room(), Room()
    async with (
        served(first, backend=bus.backend(), store=store) as one,
        served(second, backend=bus.backend(), store=store) as two,
    ):
        await first.broadcast("tea", "said", "kept")
        before, epoch = copy.deepcopy(store._histories), await _epoch(store)
        position = (await first.broadcast("tea", "said", "accepted, and lost")).position
        bus.crash()
        await wait_until(lambda: not one.node.broker.up and not two.node.broker.up)
        store._histories = before
        bus.restart()
        await wait_until(lambda: one.node.broker.up and two.node.broker.up)
        if who_goes_on == "another process":
            # The first one compares what it knows when the broker is back.
            async def is_another() -> bool:
                return await _epoch(store) != epoch

            await wait_until(is_another)
        for text in ("anew", "and on"):
            await (first if who_goes_on == "who published before" else second).broadcast("tea", "said", text)
        async with two.connect(f"/tea?since={position}") as client:
            frame = await joined(client)
            assert (frame["recovered"], frame["reason"]) == (False, "epoch")


async def test_while_the_store_is_away_what_needs_it_is_refused_and_nobody_is_lost():
    store = FaultyStore()
    async with served(backend=FaultyBroker().backend(), store=store) as site, site.connect("/tea") as client:
        await joined(client)
        store.down = True
        reply = await client.call("say", text="now", request_id=1)
        assert (reply["status"], reply["code"], reply["request_id"]) == ("bad", "unavailable", 1)
        assert (await site.refusal("/coffee")).status == 503
        store.down = False
        await say(client, "again")
        async with site.connect("/coffee") as other:
            assert offset(await joined(other)) == 0


async def test_a_key_that_was_used_publishes_nothing_and_has_the_position_of_the_first():
    room = Room()
    async with served(room) as site, site.connect("/tea") as client:
        await joined(client)
        first = await room.broadcast("tea", "said", "once", key="k")
        second = await room.broadcast("tea", "said", "twice", key="k")
        assert first
        assert second
        assert first.position == second.position
        assert (await room.broadcast("coffee", "said", "elsewhere", key="k")).position != first.position
        await room.broadcast("tea", "said", "end")
        assert await said(client, 2) == ["once", "end"]


class Plain(Channel):
    scope = "plain"


async def test_a_key_without_a_history():
    room = Plain()
    async with served(room) as site, site.connect("/tea") as client:
        for text in ("once", "twice"):
            published = await room.broadcast("tea", "said", text, key="k")
            assert published
            assert published.position is None
        await room.broadcast("tea", "said", "end")
        assert await said(client, 2) == ["once", "end"]


class Packed(Envelope):
    def encode(self, frame: Any) -> Body:
        return json.dumps(frame).encode()


class Binary(Room):
    envelope = Packed(position="at", channel="room")


async def test_a_position_in_an_envelope_of_ones_own():
    async with served(Binary()) as site, site.connect("/tea") as client:
        first = await client.receive()
        assert (first["type"], first["room"]) == ("joined", "tea")
        assert Position.parse(first["at"]).offset == 0
        await client.send({"action": "say", "text": "hi"})
        event = await client.receive()
        assert (event["data"], Position.parse(event["at"]).offset) == ("hi", 1)


async def test_a_body_without_a_place_for_a_position_is_refused():
    room = Room()
    async with served(room) as site:
        for body in ("text", b"bytes", [1], ""):
            with pytest.raises(ConfigurationError, match="must be an object"):
                await room.broadcast_to_channel("tea", body)
        async with site.connect("/tea") as client:
            await joined(client)
            await room.broadcast_to_channel("tea", {})
            assert offset(await client.receive()) == 1


async def test_a_relay_has_no_history():
    class Relay(BaseChannel):
        history = 5

    app = FastAPI()
    add_channel(app)
    with pytest.raises(ConfigurationError, match="relays"):
        Relay().mount(app, "/{channel}")


async def test_without_a_store_that_is_shared_it_does_not_start():
    app = FastAPI()
    add_channel(app, backend=FaultyBroker().backend())
    with pytest.raises(ConfigurationError, match=r"Room.history needs a store .* store_url="):
        Room().mount(app, "/{channel}")
    with pytest.raises(ConfigurationError, match="the store does not"):
        add_channel(FastAPI(), backend=FaultyBroker().backend(), store_url="memory://")
    with pytest.raises(ConfigurationError, match="there is no store for store_url=nats"):
        add_channel(FastAPI(), store_url="nats://localhost")


@pytest.mark.parametrize(
    "settings",
    [{"history": -1}, {"history": 1.5}, {"history_ttl": 0}, {"history_size": 0}, {"recovery_limit": 0}],
)
def test_a_setting_that_cannot_be(settings: dict[str, Any]):
    with pytest.raises(ConfigurationError, match=next(iter(settings))):
        type("Wrong", (Room,), settings)()


@pytest.mark.parametrize(("scheme", "announces"), [("redis", True), ("redis-stream", False)])
async def test_on_redis_a_publication_is_appended_and_published_by_one_script(
    shared_redis: RedisServer, scheme: str, announces: bool
):
    url = shared_redis.url.replace("redis", scheme, 1)
    namespace = unique("history")
    async with (
        served(url=url, namespace=namespace) as one,
        served(url=url, namespace=namespace) as two,
        one.connect("/tea") as here,
        two.connect("/tea") as there,
    ):
        assert one.node.store is not None
        assert one.node.store.announces is announces
        since = (await joined(here))["position"]
        mine = await joined(there)
        await say(here, "one", "zwei 二", "three ?")
        assert await said(there, 3) == ["one", "zwei 二", "three ?"]
        await there.send({"action": "tell", "text": "not to me"})
        assert await said(here, 1) == ["not to me"]
        async with two.connect(f"/tea?since={since}&connection={mine['connection']}") as back:
            assert (await joined(back))["recovered"] is True
            assert await said(back, 3) == ["one", "zwei 二", "three ?"]
            await say(here, "four")
            assert await said(back, 1) == ["four"]
        assert await said(there, 1) == ["four"]


class Bytes(Binary):
    envelope = Packed()

    @action()
    async def send(self, connection: Connection) -> None:
        await self.broadcast(connection.room, "said", "in bytes", exclude="0123456789ab.1")


async def test_bytes_are_announced_too(shared_redis: RedisServer):
    namespace = unique("history")
    async with (
        served(Bytes(), url=shared_redis.url, namespace=namespace) as site,
        site.connect("/tea") as client,
    ):
        await client.receive()
        await client.send({"action": "send"})
        frame = await client.read()
        assert isinstance(frame, bytes)
        assert json.loads(frame)["data"] == "in bytes"
