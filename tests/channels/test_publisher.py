"""Speaking to an application's clients from outside of it, with a loop and without one."""

from __future__ import annotations

import asyncio
import math
import re
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from anyio import from_thread
from fastapi import APIRouter, Depends, FastAPI, WebSocket
from pydantic import BaseModel, model_serializer
from redis.asyncio import Redis

from fastapi_channels import (
    BrokerUnavailable,
    Channel,
    ConfigurationError,
    Connection,
    Event,
    Publisher,
    StoreUnavailable,
    SyncPublisher,
    action,
    add_channel,
    current_publisher,
)
from fastapi_channels.cluster.node import Node
from tests.support import forks
from tests.support.live import Client, Close, Site, serving, unique, wait_until
from tests.support.servers import NatsServer, RedisServer, free_port
from tests.support.wire import node_of


class Bid(Event):
    amount: int


class Auction(Channel):
    room_pattern = "auction:{number:int}"
    scope = "auctions"
    event_types = [Bid]

    @action()
    async def rooms(self, connection: Connection) -> list[str]:
        return sorted(connection.rooms)


class Room(Channel):
    @action()
    async def me(self, connection: Connection) -> str:
        return connection.id

    @action()
    async def rooms(self, connection: Connection) -> list[str]:
        return sorted(connection.rooms)


class Account:
    email = "ada"


def application(**settings: Any) -> FastAPI:
    app = FastAPI()
    add_channel(app, user_key="email", **settings)
    room, auction = Room(), Auction()

    @app.websocket("/rooms/{name}")
    async def in_room(websocket: WebSocket, name: str, user: str | None = None) -> None:
        await room.connect(websocket, name, user=user)

    @app.websocket("/auctions/{number}")
    async def in_auction(websocket: WebSocket, number: int, user: str | None = None) -> None:
        await auction.connect(websocket, f"auction:{number}", user=user)

    return app


@asynccontextmanager
async def two_processes(url: str, namespace: str) -> AsyncIterator[tuple[Site, Site]]:
    apps = [application(url=url, namespace=namespace) for _ in range(2)]
    async with serving(apps[0]) as one, serving(apps[1]) as two:
        for site in (one, two):
            await listening(site.node)
        yield one, two


async def listening(node: Node) -> None:
    """Wait until it hears what is for its users and its connections."""
    await wait_until(lambda: node.rooms.pulse._tasks._running)


BROKERS = {
    "redis": "shared_redis",
    "redis-stream": "shared_redis",
    "postgresql": "shared_postgres",
    "nats": "shared_nats",
    "amqp": "shared_rabbit",
}


@pytest.fixture(params=BROKERS)
def url(request: pytest.FixtureRequest) -> str:
    server = request.getfixturevalue(BROKERS[request.param])
    url: str = server.url
    return f"{request.param}://{url.partition('://')[2]}"


Publishing = Annotated[Publisher, Depends(current_publisher)]

SOON = 20.0
"""Seconds in which a call has failed, however busy the machine is; what has no deadline takes longer."""

each_kind = pytest.mark.parametrize("kind", [Publisher, SyncPublisher])


async def do(publisher: Any, name: str, *given: Any, **named: Any) -> Any:
    """Call a method of either kind of publisher; the plain kind in a thread."""
    method = getattr(publisher, name)
    if isinstance(publisher, SyncPublisher):
        return await asyncio.to_thread(method, *given, **named)
    return await method(*given, **named)


@asynccontextmanager
async def opened(kind: type[Any], url: str, **settings: Any) -> AsyncIterator[Any]:
    publisher = kind(url, **settings)
    try:
        yield publisher
    finally:
        await do(publisher, "close")


async def heard(*clients: Client) -> list[Any]:
    return [(await client.receive())["data"] for client in clients]


async def becomes(client: Client, name: str, value: Any) -> None:
    async def is_so() -> bool:
        return bool((await client.call(name))["data"] == value)

    await wait_until(is_so)


@each_kind
async def test_it_reaches_rooms_users_and_connections_of_all_processes(url: str, kind: type[Any]):
    namespace = unique()
    async with (
        two_processes(url, namespace) as (here, there),
        opened(kind, url, namespace=namespace, user_key="email") as publisher,
        here.clients("/rooms/a?user=ada", "/rooms/b?user=bob") as (ada, bob),
        there.clients("/rooms/a?user=ada", "/rooms/b?user=eve") as (phone, eve),
    ):
        await do(publisher, "broadcast", "a", "said", 1)
        assert await heard(ada, phone) == [1, 1]
        await do(publisher, "broadcast", ["a", "b"], "said", 2)
        assert await heard(ada, phone, bob, eve) == [2, 2, 2, 2]
        await do(publisher, "send_to_user", Account(), "said", 3)
        assert await heard(ada, phone) == [3, 3]
        for client in (bob, eve):
            number = (await client.call("me"))["data"]
            await do(publisher, "send_to_connection", number, "said", number)
            assert await heard(client) == [number]
        await do(publisher, "broadcast", "b", "said", 4, exclude=number)
        await do(publisher, "broadcast", "b", "said", 5)
        assert await heard(bob, bob, eve) == [4, 5, 5]


@each_kind
async def test_it_orders_what_happens_to_connections(url: str, kind: type[Any]):
    namespace = unique()
    async with (
        two_processes(url, namespace) as (here, there),
        opened(kind, url, namespace=namespace, user_key="email") as publisher,
        here.clients("/rooms/a?user=ada", "/rooms/a?user=bob") as (ada, bob),
        there.clients("/rooms/b?user=ada", "/auctions/1?user=ada") as (phone, bidder),
    ):
        await do(publisher, "join_room", Account(), "news")
        await becomes(ada, "rooms", ["a", "news"])
        await becomes(phone, "rooms", ["b", "news"])
        await do(publisher, "join_room", "ada", "auction:2", channel=Auction)
        await becomes(bidder, "rooms", ["auction:1", "auction:2"])
        await do(publisher, "leave_room", "ada", "news")
        await becomes(ada, "rooms", ["a"])
        await becomes(phone, "rooms", ["b"])
        await do(publisher, "leave_room", "ada", "auction:2", channel=Auction)
        await becomes(bidder, "rooms", ["auction:1"])
        number = (await bob.call("me"))["data"]
        await do(publisher, "disconnect_connection", number, 4000, "somewhere else")
        assert await bob.closed() == Close(4000, "somewhere else")
        await do(publisher, "disconnect_user", Account(), 4503, "banned")
        for client in (ada, phone, bidder):
            assert await client.closed() == Close(4503, "banned")


@each_kind
async def test_a_channel_gives_its_scope_and_checks_its_events(shared_redis: RedisServer, kind: type[Any]):
    namespace = unique()
    async with (
        two_processes(shared_redis.url, namespace) as (here, _),
        opened(kind, shared_redis.url, namespace=namespace) as publisher,
        here.connect("/auctions/7?user=ada") as bidder,
    ):
        await do(
            publisher, "broadcast", "auction:7", "bid", {"amount": 0}
        )  # a room of that name without scope
        with pytest.raises(ConfigurationError, match="Auction declares the events bid, not 'sold'"):
            await do(publisher, "broadcast", "auction:7", "sold", channel=Auction)
        with pytest.raises(ConfigurationError, match="no room of Auction is named 'lobby'"):
            await do(publisher, "broadcast", ["auction:7", "lobby"], Bid(amount=0), channel=Auction)
        with pytest.raises(ValueError, match="valid integer"):
            await do(publisher, "send_to_user", "ada", "bid", {"amount": "much"}, channel=Auction)
        await do(publisher, "broadcast", "auction:7", Bid(amount=1), channel=Auction)
        await do(publisher, "broadcast", "auction:7", "bid", {"amount": 2}, channel=Auction())
        await do(publisher, "send_to_user", "ada", Bid(amount=3), channel=Auction)
        assert await heard(bidder, bidder, bidder) == [{"amount": 1}, {"amount": 2}, {"amount": 3}]


class Kept(Channel):
    room_pattern = "kept:{number:int}"
    history = 10


@each_kind
@pytest.mark.parametrize("broker", ["redis", "postgresql"])
async def test_a_room_with_history_keeps_what_comes_from_outside(
    request: pytest.FixtureRequest, broker: str, kind: type[Any]
):
    server = request.getfixturevalue(BROKERS[broker])
    namespace, app, kept = unique(), FastAPI(), Kept()
    add_channel(app, url=server.url, namespace=namespace)
    kept.mount(app, "/{channel}")
    async with serving(app) as site, opened(kind, server.url, namespace=namespace) as publisher:
        async with site.connect("/kept:1") as client:
            begins = (await client.receive())["position"]
            first = await do(publisher, "broadcast", "kept:1", "said", 1, key="one", channel=Kept)
            again = await do(publisher, "broadcast", "kept:1", "said", 1, key="one", channel=Kept)
            assert (await client.receive())["position"] == first.position == again.position
        second = await do(publisher, "broadcast", "kept:1", "said", 2, channel=Kept)
        async with site.connect(f"/kept:1?since={begins}") as client:
            assert (await client.receive())["recovered"] is True
            frames = [await client.receive() for _ in range(2)]
            assert [(frame["data"], frame["position"]) for frame in frames] == [
                (1, first.position),
                (2, second.position),
            ]


class Hall(Channel):
    room_pattern = "hall:{number:int}"
    presence = True


@each_kind
async def test_it_knows_who_is_in_a_room_of_all_processes(shared_redis: RedisServer, kind: type[Any]):
    namespace, halls = unique(), [Hall(), Hall()]
    apps = [FastAPI() for _ in halls]
    for app, hall in zip(apps, halls, strict=True):
        add_channel(app, url=shared_redis.url, namespace=namespace)
        hall.mount(app, "/{channel}", user=lambda name: name)

    @apps[0].get("/people")
    async def count(publisher: Publishing) -> int:
        people = await publisher.people("hall:1", channel=Hall)
        assert len(people) == await publisher.count_people("hall:1", channel=Hall)
        return len(people)

    paths = "/hall:1?name=ada", "/hall:1?name=bob"
    async with (
        serving(apps[0]) as here,
        serving(apps[1]) as there,
        opened(kind, shared_redis.url, namespace=namespace) as publisher,
        here.clients(*paths),
        there.clients(*paths[:1]),
    ):

        async def are_there() -> bool:
            people = await do(publisher, "people", "hall:1", channel=Hall)
            return [(person.user, len(person.devices)) for person in people] == [("ada", 2), ("bob", 1)]

        await wait_until(are_there)  # who comes to a room without a bound is in before the store knows
        assert await do(publisher, "count_people", "hall:1", channel=Hall) == 2
        assert (await asyncio.to_thread(httpx.get, f"{here.http}/people")).json() == 2
        assert await do(publisher, "count_people", "elsewhere") == 0
        with pytest.raises(ConfigurationError, match="no room of Hall is named 'lobby'"):
            await do(publisher, "people", "lobby", channel=Hall)


async def test_what_comes_from_outside_is_appended_and_published_by_one_script(shared_redis: RedisServer):
    namespace = unique()
    async with (
        Redis.from_url(shared_redis.url) as client,
        client.monitor() as watched,
        Publisher(shared_redis.url, namespace=namespace) as publisher,
    ):
        await publisher.broadcast("kept:1", "said", 1, channel=Kept)
        async with asyncio.timeout(30):
            async for seen in watched.listen():
                if seen["command"].startswith("PUBLISH") and namespace in seen["command"]:
                    assert seen["client_type"] == "lua"
                    break


@each_kind
async def test_a_key_makes_one_of_two_broadcasts(shared_redis: RedisServer, kind: type[Any]):
    namespace = unique()
    async with (
        two_processes(shared_redis.url, namespace) as (here, _),
        opened(kind, shared_redis.url, namespace=namespace) as publisher,
        here.connect("/rooms/a") as client,
    ):
        for number, key in ((1, "x"), (2, "x"), (3, None)):
            await do(publisher, "broadcast", "a", "said", number, key=key)
        assert await heard(client, client) == [1, 3]


@each_kind
async def test_what_needs_a_store_says_so_where_there_is_none(shared_nats: NatsServer, kind: type[Any]):
    async with opened(kind, shared_nats.url) as publisher:
        with pytest.raises(ConfigurationError, match=r"history needs a store .* store_url="):
            await do(publisher, "broadcast", "kept:1", "said", 1, channel=Kept)
        with pytest.raises(ConfigurationError, match=r"key= needs a store .* store_url="):
            await do(publisher, "broadcast", "a", "said", 1, key="x")
        for asked in ("people", "count_people"):
            with pytest.raises(ConfigurationError, match=rf"{asked}\(\) needs a store .* store_url="):
                await do(publisher, asked, "a")


def test_what_cannot_work_is_said_when_it_is_made():
    kinds: list[Any] = [Publisher, SyncPublisher]
    for kind in kinds:
        with pytest.raises(ConfigurationError, match="memory:// never leaves its process"):
            kind("memory://")
        with pytest.raises(ConfigurationError, match="memory:// never leaves its process"):
            kind("nats://localhost", store_url="memory://")
        with pytest.raises(ConfigurationError, match="there is no store for store_url=nats:"):
            kind("nats://localhost", store_url="nats://localhost")
        with pytest.raises(ConfigurationError, match="no scheme that a broker is known for"):
            kind("localhost")
        with pytest.raises(ConfigurationError, match="the URL of a broker is empty"):
            kind("")
        with pytest.raises(ConfigurationError, match="namespace must be a text, got 5"):
            kind("redis://localhost", namespace=5)
        for seconds in (0, -1, math.nan, "2"):
            with pytest.raises(ConfigurationError, match="publish_timeout must be more than 0 seconds"):
                kind("redis://localhost", publish_timeout=seconds)


@each_kind
async def test_what_is_ordered_must_be_possible(shared_redis: RedisServer, kind: type[Any]):
    async with opened(kind, shared_redis.url) as publisher:
        with pytest.raises(ConfigurationError, match=r"code 1006: .*a close code is one of 1000 to 1003"):
            await do(publisher, "disconnect_user", "ada", 1006)
        for order in ("disconnect_user", "disconnect_connection"):
            with pytest.raises(ConfigurationError, match=r"a close code is a number, got 'x'.* as reason="):
                await do(publisher, order, "ada", "x")
        with pytest.raises(ConfigurationError, match="a user is its key"):
            await do(publisher, "join_room", None, "news")
        with pytest.raises(ConfigurationError, match="no room of Auction"):
            await do(publisher, "leave_room", "ada", "news", channel=Auction)
        with pytest.raises(ConfigurationError, match=r"user '.*at most 1024"):
            await do(publisher, "disconnect_user", "a" * 1025)


# The broker


@each_kind
@pytest.mark.parametrize("scheme", [*BROKERS, "redis+cluster"])
async def test_a_broker_that_is_not_there_is_an_error_within_the_deadline(scheme: str, kind: type[Any]):
    async with opened(kind, f"{scheme}://127.0.0.1:{free_port()}", publish_timeout=0.5) as publisher:
        for rooms in ("a", [f"room {number}" for number in range(50)]):
            began = time.monotonic()
            # The plain one waits a second more for its thread, which a busy machine may keep from saying why.
            with pytest.raises(BrokerUnavailable, match=r"the broker is down: |no answer within 1\.5 s"):
                await do(publisher, "broadcast", rooms, "said", 1)
            assert 0.3 < time.monotonic() - began < SOON
        with pytest.raises(BrokerUnavailable):
            await do(publisher, "disconnect_user", "ada")


@each_kind
@pytest.mark.parametrize("said", [{"channel": Kept}, {"key": "x"}])
async def test_a_store_that_is_not_there_is_an_error_within_the_deadline(said: Any, kind: type[Any]):
    """Not within that of a store."""
    async with opened(kind, f"redis://127.0.0.1:{free_port()}", publish_timeout=0.3) as publisher:
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match=r"did not answer within 0\.3 s"):
            await do(publisher, "broadcast", "kept:1", "said", 1, **said)
        assert 0.2 < time.monotonic() - began < SOON


async def test_a_key_is_free_again_although_the_deadline_has_come(shared_redis: RedisServer):
    async with Publisher(
        f"nats://127.0.0.1:{free_port()}",
        store_url=shared_redis.url,
        namespace=unique(),
        publish_timeout=1.0,
    ) as publisher:
        for _ in range(2):
            with pytest.raises(BrokerUnavailable):
                await publisher.broadcast("a", "said", 1, key="x")


@each_kind
async def test_a_broker_that_hangs_is_an_error_within_the_deadline(
    mortal_redis: RedisServer, kind: type[Any]
):
    async with opened(kind, mortal_redis.url, publish_timeout=0.5) as publisher:
        for _ in range(2):
            mortal_redis.pause()
            began = time.monotonic()
            with pytest.raises(BrokerUnavailable):
                await do(publisher, "broadcast", "a", "said", 1)
            assert time.monotonic() - began < SOON
            mortal_redis.resume()
            async with asyncio.timeout(30):
                while True:
                    try:
                        await do(publisher, "broadcast", "a", "said", 1)
                        break
                    except BrokerUnavailable:
                        pass


@each_kind
async def test_it_outlives_an_outage(mortal_redis: RedisServer, kind: type[Any]):
    async with opened(kind, mortal_redis.url, publish_timeout=5) as publisher:
        await do(publisher, "broadcast", "a", "said", 1)
        mortal_redis.kill()
        later = asyncio.create_task(do(publisher, "broadcast", "a", "said", 2))
        mortal_redis.restart()
        await later


@each_kind
async def test_it_listens_to_nothing_and_waits_for_no_echo(shared_redis: RedisServer, kind: type[Any]):
    before = shared_redis.clients("pubsub"), shared_redis.channels()
    async with opened(kind, shared_redis.url) as publisher:
        for _ in range(3):
            await do(publisher, "broadcast", "a", "said", 1)
            await do(publisher, "send_to_user", "ada", "said", 1)
        assert shared_redis.channels() == before[1]
    await wait_until(lambda: shared_redis.clients("pubsub") == before[0])


# Event loops and threads


async def test_it_runs_in_one_event_loop_after_the_other_and_from_several(shared_redis: RedisServer):
    namespace = unique()
    publisher = Publisher(shared_redis.url, namespace=namespace)

    def in_a_loop_of_its_own(number: int) -> None:
        asyncio.run(publisher.broadcast("a", "said", number))

    async with (
        two_processes(shared_redis.url, namespace) as (here, _),
        here.connect("/rooms/a") as client,
    ):
        for number in range(3):
            await asyncio.to_thread(in_a_loop_of_its_own, number)
        await publisher.broadcast("a", "said", 3)
        await asyncio.to_thread(in_a_loop_of_its_own, 4)  # while the loop here has the connection
        assert await heard(*[client] * 5) == [0, 1, 2, 3, 4]
        await publisher.close()


async def test_the_plain_kind_works_in_the_thread_of_a_running_loop(shared_redis: RedisServer):
    namespace = unique()
    with SyncPublisher(shared_redis.url, namespace=namespace) as publisher:
        async with (
            two_processes(shared_redis.url, namespace) as (here, _),
            here.connect("/rooms/a") as client,
        ):
            for number in range(3):
                publisher.broadcast("a", "said", number)
            publisher.close()
            publisher.broadcast("a", "said", 3)
            assert await heard(*[client] * 4) == [0, 1, 2, 3]


async def test_the_plain_kind_is_an_error_in_time_in_the_thread_of_a_running_loop():
    with SyncPublisher(f"redis://127.0.0.1:{free_port()}", publish_timeout=0.3) as publisher:
        began = time.monotonic()
        with pytest.raises(BrokerUnavailable):
            publisher.broadcast("a", "said", 1)
        assert time.monotonic() - began < SOON


async def test_many_threads_share_it_and_each_keeps_its_order(shared_redis: RedisServer):
    namespace = unique()
    start = threading.Barrier(8)
    with SyncPublisher(shared_redis.url, namespace=namespace) as publisher:

        def shout(thread: int) -> None:
            start.wait()
            for number in range(20):
                publisher.broadcast("a", "said", [thread, number])

        async with (
            two_processes(shared_redis.url, namespace) as (here, _),
            here.connect("/rooms/a") as client,
        ):
            threads = [threading.Thread(target=shout, args=(number,)) for number in range(8)]
            for thread in threads:
                thread.start()
            said = await heard(*[client] * 160)
            for thread in threads:
                await asyncio.to_thread(thread.join)
            for number in range(8):
                assert [each for thread, each in said if thread == number] == list(range(20))
    assert not [thread for thread in threading.enumerate() if thread.name == "fastapi-channels publisher"]


def test_closing_what_others_use_is_an_error_for_them_and_no_hang(mortal_redis: RedisServer):
    publisher = SyncPublisher(mortal_redis.url, publish_timeout=5)
    publisher.broadcast("a", "said")
    mortal_redis.pause()
    failures: list[BaseException] = []

    under_way = threading.Event()

    class Told(BaseModel):
        @model_serializer
        def serialize(self) -> None:
            under_way.set()

    def call() -> None:
        try:
            publisher.broadcast("a", "said", Told())
        except BrokerUnavailable as exc:
            failures.append(exc)

    thread = threading.Thread(target=call)
    thread.start()
    assert under_way.wait(10)
    began = time.monotonic()
    publisher.close()
    thread.join(10)
    mortal_redis.resume()
    assert len(failures) == 1
    assert time.monotonic() - began < SOON


SCRIPT = """
import sys
from fastapi_channels import SyncPublisher

publisher = SyncPublisher(sys.argv[1], namespace=sys.argv[2])
publisher.broadcast("a", "said", "from a script")
"""

FORK = """
import os, sys, warnings
from fastapi_channels import SyncPublisher

# From Python 3.12 on it warns of what is tested here: a fork beside a thread.
warnings.filterwarnings("ignore", "This process", DeprecationWarning)

publisher = SyncPublisher(sys.argv[1], namespace=sys.argv[2])
publisher.broadcast("a", "said", "before")
for number in range(3):
    child = os.fork()
    if not child:
        publisher.broadcast("a", "said", f"child {number}")
        publisher.broadcast("a", "said", f"child {number} again")
        sys.exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    publisher.broadcast("a", "said", f"parent {number}")
"""


async def run(folder: Path, script: str, *words: str) -> None:
    """A process of its own, which must end by itself and say nothing."""
    (folder / "script.py").write_text(f"import warnings; warnings.simplefilter('error')\n{script}")
    command = (sys.executable, "-m", "script", *words)
    done = await asyncio.to_thread(forks.run, command, cwd=folder)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")


async def test_a_script_needs_to_close_nothing(tmp_path: Path, shared_redis: RedisServer):
    namespace = unique()
    async with two_processes(shared_redis.url, namespace) as (here, _), here.connect("/rooms/a") as client:
        await run(tmp_path, SCRIPT, shared_redis.url, namespace)
        assert await heard(client) == ["from a script"]


@pytest.mark.parametrize(
    "url",
    ["redis", *(pytest.param(each, marks=pytest.mark.fault) for each in BROKERS if each != "redis")],
    indirect=True,
)
async def test_a_forked_process_begins_anew_and_disturbs_nobody(tmp_path: Path, url: str):
    namespace = unique()
    async with two_processes(url, namespace) as (here, _), here.connect("/rooms/a") as client:
        await run(tmp_path, FORK, url, namespace)
        expected = ["before"]
        for number in range(3):
            expected += [f"child {number}", f"child {number} again", f"parent {number}"]
        assert await heard(*[client] * len(expected)) == expected


# Inside of the application


def routes(target: FastAPI | APIRouter) -> None:
    @target.post("/say")
    async def say(publisher: Publishing) -> None:
        await publisher.broadcast("a", "said", "async")
        await publisher.send_to_user("ada", "said", "to ada")
        await publisher.join_room("ada", "b")

    @target.post("/say-plainly")
    def say_plainly(publisher: Publishing) -> None:
        from_thread.run(publisher.broadcast, "a", "said", "plain")
        asyncio.run(publisher.broadcast("b", "said", "in a loop of its own"))

    @target.post("/ban")
    async def ban(publisher: Publishing) -> None:
        await publisher.disconnect_user("ada", 4503, "banned")
        await publisher.close()


class Talk(Channel):
    @action()
    async def shout(self, text: str, publisher: Publishing) -> None:
        await publisher.broadcast("a", "said", text)


@pytest.mark.parametrize("broker", ["memory", "redis"])
@pytest.mark.parametrize("on", [FastAPI, APIRouter])
async def test_a_route_gets_the_applications_own(
    request: pytest.FixtureRequest, broker: str, on: type[FastAPI] | type[APIRouter]
):
    url = "memory://" if broker == "memory" else request.getfixturevalue("shared_redis").url
    talk, target = Talk(), on()
    added: Any = target  # pyright tells the two apart
    add_channel(added, url=url, namespace=unique())
    routes(target)

    @target.websocket("/{name}")
    async def endpoint(websocket: WebSocket, name: str) -> None:
        await talk.connect(websocket, name, user="ada")

    app = target if isinstance(target, FastAPI) else FastAPI()
    if isinstance(target, APIRouter):
        app.include_router(target)
    async with (
        serving(app) as site,
        site.client() as http,
        site.connect("/a") as client,
    ):
        if broker == "redis":
            await listening(talk._current_node())
        assert (await http.post("/say")).status_code == 200
        assert await heard(client, client) == ["async", "to ada"]
        await wait_until(lambda: talk._current_node().hub.count("b"))
        assert (await http.post("/say-plainly")).status_code == 200
        assert await heard(client, client) == ["plain", "in a loop of its own"]
        assert (await client.call("shout", text="by an action"))["data"] == "by an action"
        assert (await http.post("/ban")).status_code == 200
        assert await client.closed() == Close(4503, "banned")


class Sale(Channel):
    room_pattern = "sale:{number:int}"
    history = 10


class Chest(Channel):
    room_pattern = "chest:{name}"
    scope = ""
    history = 10


class Lobby(Channel):
    room_pattern = "lobby:{name}"
    scope = ""


@pytest.mark.parametrize(
    ("room", "told"),
    [
        (
            "sale:1",
            "without channel=Sale, .* 'sale:1' .*: nobody in a room .* hears it",
        ),
        ("chest:1", "without channel=Chest, .* 'chest:1' .*: it is not in the history of that room"),
        ("lobby:1", None),
        ("another", None),
    ],
)
async def test_what_hardly_reaches_those_that_it_is_for_is_told_once(
    room: str, told: str | None, caplog: pytest.LogCaptureFixture
):
    app = FastAPI()
    add_channel(app)
    for channel in (Sale, Chest, Lobby):
        channel().mount(app, f"/{channel.__name__}/{{channel}}")

    @app.post("/say")
    async def say(publisher: Publishing) -> None:
        for _ in range(2):
            await publisher.broadcast(room, "said")
        await publisher.broadcast("sale:2", "said", channel=Sale)
        await publisher.join_room("ada", "chest:2")

    async with serving(app) as site, site.client() as http:
        assert (await http.post("/say")).status_code == 200
    found = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(found) == (told is not None)
    assert told is None or re.match(told, found[0])


@pytest.mark.parametrize("of", ["node", "outside", "channel"])
async def test_who_is_meant_by_none_is_asked(of: str):
    app = FastAPI()
    add_channel(app)
    (room := Lobby()).mount(app, "/{channel}")
    anything: Any = None
    async with app.router.lifespan_context(app):
        outside = Publisher("redis://127.0.0.1:1")
        sender = {"node": Publisher._of(node_of(app)), "outside": outside, "channel": room}[of]
        with pytest.raises(
            ConfigurationError, match="a room is its name, a text, or several names, not None"
        ):
            await sender.broadcast(anything, "said")
        for id in ("", ".1", "a\n.1", 256 * "x"):
            with pytest.raises(ConfigurationError, match="no connection has an id such as "):
                await sender.send_to_connection(id, "said")
        with pytest.raises(ConfigurationError, match="a connection is its id, a text, not None"):
            await sender.send_to_connection(anything, "said")
        await outside.close()
