"""add_channel: on what it can be called, when, how often, and what then serves which endpoint."""

import asyncio
import math
import re
import warnings
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from broadcaster import Broadcast
from fastapi import APIRouter, FastAPI, WebSocket

from fastapi_channels import (
    BrokerUnavailable,
    Channel,
    ConfigurationError,
    Connection,
    FastAPIChannel,
    action,
    add_channel,
    limiter,
    rate,
)
from fastapi_channels.brokers import MemoryBackend
from fastapi_channels.cluster.node import Node
from fastapi_channels.throttling import MemoryLimiter
from tests.support.live import Client, Site, application, serving, wait_until
from tests.support.servers import RedisServer, required

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Starlette would rather have the successor of httpx.
    from starlette.testclient import TestClient


class Room(Channel):
    @action()
    async def say(self, text: str, connection: Connection) -> None:
        await self.broadcast_to_channel(connection.room, text)

    @limiter(times=1, hours=1)
    @action()
    async def once(self) -> str:
        return "ok"


async def chats(site: Site, path: str = "/r") -> None:
    """Two clients of one room reach each other."""
    async with site.clients(path, path) as (one, other):
        await one.send({"action": "say", "text": "hello"})
        assert await one.read() == "hello"
        assert await other.read() == "hello"


# On what


async def test_an_application_with_a_lifespan_of_its_own():
    """Ours is around it, so that it may broadcast from its first line to its last."""
    events: list[str] = []
    room = Room()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, str]]:
        await room.broadcast_to_channel("r", "up")
        events.append(f"up, {await room.get_connection_count('r')} there")
        yield {"from": "the lifespan"}
        await room.broadcast_to_channel("r", "down")
        events.append("down")

    app = FastAPI(lifespan=lifespan)
    assert add_channel(app) is app
    room.mount(app, "/{channel}")

    @app.websocket("/state/of")
    async def state(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(websocket.state["from"])
        await websocket.close()

    async with serving(app) as site:
        await chats(site)
        async with site.connect("/state/of") as client:
            assert await client.read() == "the lifespan"
    assert events == ["up, 0 there", "down"]


async def test_an_application_that_is_served_twice_one_after_the_other():
    app = application(Room())
    for _ in range(2):
        async with serving(app) as site, site.unharmed():
            await chats(site)


@pytest.mark.parametrize("included", ["before", "after"])
async def test_a_router(included: str, caplog: pytest.LogCaptureFixture):
    """Included before, its lifespan is not the application's, and the first connection starts it."""
    app, router, room = FastAPI(), APIRouter(prefix="/api"), Room()
    room.mount(router, "/{channel}")
    if included == "before":
        app.include_router(router)
    add_channel(router)
    if included == "after":
        app.include_router(router)
    async with serving(app) as site:
        await chats(site, "/api/r")
    late = [record for record in caplog.records if "started by its first use" in record.getMessage()]
    assert len(late) == (1 if included == "before" else 0)


async def test_a_router_in_a_router_and_included_twice():
    app, outer, inner, room = FastAPI(), APIRouter(), APIRouter(), Room()
    add_channel(outer)
    room.mount(inner, "/{channel}")
    outer.include_router(inner, prefix="/in")
    app.include_router(outer, prefix="/one")
    app.include_router(outer, prefix="/two")
    async with serving(app) as site:
        await chats(site, "/one/in/r")
        async with site.clients("/one/in/r", "/two/in/r") as (one, two):
            await one.send({"action": "say", "text": "hello"})
            assert await two.read() == "hello"


async def test_two_routers_are_two_worlds():
    app, room = FastAPI(), Room()
    for prefix in ("/a", "/b"):
        router = APIRouter(prefix=prefix)
        add_channel(router)
        router.add_api_websocket_route("/{channel}", _endpoint(room))
        app.include_router(router)
    async with serving(app) as site, site.clients("/a/r", "/b/r") as (one, other):
        await one.send({"action": "say", "text": "a"})
        await other.send({"action": "say", "text": "b"})
        assert [await one.read(), await other.read()] == ["a", "b"]


def _endpoint(room: Channel) -> Any:
    async def endpoint(websocket: WebSocket, channel: str) -> None:
        await room.connect(websocket, channel)

    return endpoint


async def test_a_mounted_application_is_served_by_its_parents():
    parent, child, room = FastAPI(), FastAPI(), Room()
    add_channel(parent)
    room.mount(parent, "/{channel}")
    room.mount(child, "/{channel}")
    parent.mount("/child", child)
    async with serving(parent) as site, site.clients("/r", "/child/r") as (one, other):
        await one.send({"action": "say", "text": "hello"})
        assert await other.read() == "hello"


@pytest.mark.parametrize("parent_too", [False, True])
async def test_a_mounted_application_may_have_its_own(parent_too: bool):
    """Nobody runs its lifespan, so that the first connection starts it."""
    parent, child, room = FastAPI(), FastAPI(), Room()
    add_channel(child)
    room.mount(child, "/{channel}")
    if parent_too:
        add_channel(parent)
        room.mount(parent, "/{channel}")
    parent.mount("/child", child)
    async with serving(parent) as site:
        await chats(site, "/child/r")
        if parent_too:
            async with site.clients("/r", "/child/r") as (one, other):
                await one.send({"action": "say", "text": "a"})
                await other.send({"action": "say", "text": "b"})
                assert [await one.read(), await other.read()] == ["a", "b"]


async def test_several_applications_in_one_process():
    """One channel object serves both, and each client is in the world of its application."""
    room = Room()
    async with (
        serving(application(room)) as a,
        serving(application(room)) as b,
        a.connect("/r") as one,
        b.connect("/r") as other,
    ):
        await one.send({"action": "say", "text": "a"})
        await other.send({"action": "say", "text": "b"})
        assert [await one.read(), await other.read()] == ["a", "b"]
        assert [(await one.call("once"))["data"], (await other.call("once"))["data"]] == ["ok", "ok"]


def test_twice_is_once_too_often():
    app = FastAPI()
    add_channel(app)
    with pytest.raises(ConfigurationError, match="already"):
        add_channel(app)


def test_what_it_cannot_be_called_on():
    with pytest.raises(ConfigurationError, match="got <"):
        add_channel(object())  # type: ignore[type-var]  # on purpose


# When it is not served


def test_a_test_client_in_a_context():
    with TestClient(application(Room())) as client:
        for _ in range(3):
            with client.websocket_connect("/r") as one, client.websocket_connect("/r") as other:
                one.send_json({"action": "say", "text": "hello"})
                assert other.receive_text() == "hello"


def test_a_test_client_without_a_context():
    """Then each connection has an event loop of its own."""
    client = TestClient(application(Room()))
    for _ in range(3):
        with client.websocket_connect("/r") as one:
            one.send_json({"action": "say", "text": "hello"})
            assert one.receive_text() == "hello"


def test_a_test_client_cannot_have_two_loops_at_once():
    client = TestClient(application(Room()))
    second = client.websocket_connect("/r")
    with client.websocket_connect("/r"), pytest.raises(ConfigurationError, match="with TestClient"):
        second.__enter__()


def test_test_clients_one_after_the_other():
    app = application(Room())
    for _ in range(3):
        with TestClient(app) as client, client.websocket_connect("/r") as one:
            one.send_json({"action": "say", "text": "hello"})
            assert one.receive_text() == "hello"


async def test_a_server_that_runs_no_lifespan(caplog: pytest.LogCaptureFixture):
    async with serving(application(Room()), lifespan="off") as site:
        await chats(site)
        await chats(site)
    late = [record for record in caplog.records if "started by its first use" in record.getMessage()]
    assert len(late) == 1


# With what

UPSTREAM: dict[str, Any] = {
    "http_callback": print,
    "query_token_key": "k",
    "cookie_token_key": "k",
}
"""Keywords that never did anything."""


def test_upstreams_keywords():
    live: dict[str, Any] = {
        "url": "memory://",
        "backend": None,
        "broadcast": None,
        "limiter_url": "memory://",
    }
    live |= {"storage": None, "prefix": "p", "identifier": print, "ws_callback": print}
    live |= {"permission_classes": True, "throttle_classes": None, "pagination_class": None}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        unset: dict[str, Any] = dict.fromkeys(UPSTREAM)
        add_channel(FastAPI(), **live, **unset)
    for name, value in UPSTREAM.items():
        with pytest.warns(FutureWarning, match=f"'{name}'"):
            add_channel(FastAPI(), **live, **{name: value})


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"colour": "red"}, "'colour'"),
        ({"url": "carrier-pigeon://"}, "'carrier-pigeon'"),
        ({"url": "localhost:6379"}, "known are"),
        ({"backend": MemoryBackend(), "broadcast": Broadcast("memory://")}, "backend and broadcast"),
        ({"permission_classes": 7}, "permission"),
        ({"throttle_classes": 7}, "throttle_classes"),
        ({"allowed_origins": "https://example.com"}, "list of origins"),
        ({"allowed_origins": ["example.com"]}, "https://example.com"),
        ({"trusted_proxies": ["10.0.0.0/99"]}, "trusted_proxies"),
        ({"url": ""}, "the URL of a broker is empty: is a variable of the environment not set"),
        ({"url": "", "limiter_url": "redis://localhost"}, "the URL of a broker is empty"),
        ({"url": "memory://", "limiter_url": ""}, "the URL of a limiter is empty"),
        ({"limiter_url": "postgres://localhost"}, "'postgres' is not a scheme that a limiter is known for"),
        ({"store_url": ""}, "the URL of a store is empty"),
        ({"store_url": "nats://x"}, "no store for store_url=nats://…; there is one for memory://, redis://"),
        ({"url": 5}, "the URL of a broker is a text, got int"),
        ({"store": 5}, "store= takes a Store, got int"),
        ({"storage": SimpleNamespace(hit=print)}, "this SimpleNamespace has no wait()"),
        ({"namespace": 5}, "namespace must be a text, got 5"),
        *(
            ({"publish_timeout": value}, "publish_timeout must be more than 0 seconds")
            for value in (0, -1, math.nan, math.inf, "2", True, None)
        ),
        ({"health_url": "health"}, 'health_url must be a path that begins with "/"'),
        ({"health_url": ""}, "health_url must be"),
        ({"metrics": True, "metrics_url": "metrics"}, "metrics_url must be"),
        ({"asyncapi_url": "asyncapi.json"}, "asyncapi_url must be"),
        ({"asyncapi_docs_url": ""}, "asyncapi_docs_url must be"),
        ({"jobs": print}, "jobs= takes a list of functions, got <built-in function print>"),
        ({"asyncapi_url": "/{x}.json"}, "asyncapi_url must be"),
        ({"asyncapi_docs_url": "/docs"}, "asyncapi_docs_url and FastAPI's docs_url are both '/docs'"),
        ({"asyncapi_url": "/openapi.json"}, "asyncapi_url and FastAPI's openapi_url are both"),
        ({"allowed_origins": [None]}, "an origin is a text, got None"),
        *(
            ({name: url}, "number of a database, and nothing else")
            for url in ("redis://localhost/abc", "redis://localhost/0/1", "redis+sentinel://h/mine/x")
            for name in ("url", "store_url")
        ),
        ({"limiter_url": "redis://localhost/abc"}, "number of a database, and nothing else"),
        *(
            ({"url": f"redis+cluster://localhost{path}"}, "a Redis Cluster has one database")
            for path in ("/3", "?db=3", "/0/1")
        ),
        *(
            ({name: url + "?nonsense=1"}, "redis-py does not take the option 'nonsense' that the URL has")
            for name, url in (
                ("url", "redis://h"),
                ("url", "rediss-stream://h"),
                ("url", "unix:///socket"),
                ("url", "redis+sentinel://h/mine"),
                ("url", "redis+cluster://h"),
                ("store_url", "redis://h"),
                ("limiter_url", "redis://h"),
            )
        ),
    ],
)
def test_what_cannot_work_is_told_at_once(settings: dict[str, Any], match: str):
    with pytest.raises(ConfigurationError, match=re.escape(match)):
        add_channel(FastAPI(), **settings)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:secret@localhost:6379/3?socket_timeout=2&max_connections=10",
        "redis://localhost?db=3",
        "redis://localhost/",
        "rediss://localhost/0?ssl_cert_reqs=none",
        "unix:///run/redis.sock?db=2",
        "redis+sentinel://one,two/mine/2?sentinel_username=ada",
        "redis+cluster://one:7000,two:7001/0?password=secret",
        "redis+cluster://one/",
    ],
)
def test_the_usual_urls_of_redis(url: str):
    add_channel(FastAPI(), url=url)


@pytest.mark.parametrize(
    "settings",
    [
        {"url": "memory://"},
        {"backend": MemoryBackend()},
        {"broadcast": Broadcast("memory://")},
        {"storage": MemoryLimiter()},
        {"namespace": "one-of-many:"},
    ],
    ids=lambda settings: next(iter(settings)),
)
async def test_brokers_and_stores(settings: dict[str, Any]):
    async with serving(application(Room(), **settings)) as site, site.unharmed():
        await chats(site)
        async with site.connect("/r") as client:
            assert (await client.call("once"))["data"] == "ok"
            assert (await client.call("once"))["code"] == "rate_limited"


@required(RedisServer)
async def test_redis_by_one_url():
    """Applications that share a server share rooms and limits, unless their namespaces differ."""
    rooms = [Room() for _ in range(3)]
    settings: list[dict[str, Any]] = [{}, {}, {"namespace": "other:", "prefix": "other"}]
    async with AsyncExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        clients: list[Client] = []
        for room, more in zip(rooms, settings, strict=True):
            site = await stack.enter_async_context(serving(application(room, url=redis.url, **more)))
            clients.append(await stack.enter_async_context(site.connect("/r")))
        one, two, three = clients
        await one.send({"action": "say", "text": "hello"})
        assert [await one.read(), await two.read()] == ["hello", "hello"]
        assert (await one.call("once"))["data"] == "ok"
        assert (await two.call("once"))["code"] == "rate_limited"
        assert (await three.call("once"))["data"] == "ok"
        assert [await room.get_connection_count("r") for room in rooms] == [2, 2, 1]


@required(RedisServer)
async def test_a_server_that_is_down_is_told_and_does_no_harm():
    with RedisServer() as redis:
        room = Room()
        app = application(room, url=redis.url, publish_timeout=2.0)
        async with serving(app) as site, site.connect("/r") as client:
            await asyncio.to_thread(redis.kill)
            error = await client.call("say", text="hello", request_id=1)
            assert (error["code"], error["request_id"]) == ("unavailable", 1)
            refusal = await site.refusal("/another")
            assert (refusal.status, refusal.body["code"]) == (503, "unavailable")
            with pytest.raises(BrokerUnavailable):
                await room.broadcast_to_channel("r", "hello")
            await asyncio.to_thread(redis.restart)
            await wait_until(lambda: site.node.broker.up)
            assert (await client.receive())["type"] == "resync"
            await client.send({"action": "say", "text": "again"})
            assert await client.read() == "again"


# Seen from upstream


async def test_the_view_of_upstreams_class():
    slow, refusing = rate(times=5, seconds=1), [lambda websocket: True]
    app = FastAPI()
    add_channel(app, permission_classes=refusing, throttle_classes=slow, limiter_url="memory://")
    room = Room()
    room.mount(app, "/{channel}")

    @app.post("/say")
    async def say() -> str:
        assert FastAPIChannel.permission_classes is refusing
        assert FastAPIChannel.throttle_classes is slow
        await FastAPIChannel.broadcast.publish("r", "from upstream")
        return FastAPIChannel.limiter_url

    async with serving(app) as site, site.connect("/r") as client:
        async with site.client() as http:
            assert (await http.post("/say")).json() == "memory://"
        assert await client.read() == "from upstream"


def test_the_view_cannot_be_changed_and_needs_an_application():
    with pytest.raises(AttributeError, match="read-only"):
        FastAPIChannel.limiter_url = "redis://"
    with pytest.raises(ConfigurationError, match="add_channel"):
        _ = FastAPIChannel.limiter_url


# Health


async def test_no_client_at_all_leaves_nothing():
    async with serving(application(Room())):
        pass
    assert not [task for task in asyncio.all_tasks() if "Broker" in repr(task)]


async def test_a_broadcast_that_is_not_required_may_fail(monkeypatch: pytest.MonkeyPatch):
    app, room = FastAPI(), Room()
    add_channel(app)
    room.bind(app)
    node = Node.attached(app)
    assert node is not None
    await node.start()
    assert await room.broadcast("r", "bid", required=False)

    async def away(*_: Any) -> None:
        raise BrokerUnavailable("away")

    monkeypatch.setattr(node._sender, "_publish", away)
    assert not await room.broadcast("r", "bid", required=False)
    with pytest.raises(BrokerUnavailable):
        await room.broadcast("r", "bid")
    await node.stop()


@pytest.mark.parametrize("found", [None, object])
async def test_a_uvicorn_without_a_websocket_library_is_told_of(
    found: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    from uvicorn.protocols.websockets import auto

    monkeypatch.setattr(auto, "AutoWebSocketsProtocol", found)
    app = FastAPI()
    add_channel(app)
    async with app.router.lifespan_context(app):
        pass
    assert ('pip install "uvicorn[standard]"' in caplog.text) is (found is None)


async def test_a_mounted_application_of_its_own_says_that_nobody_starts_it(caplog: pytest.LogCaptureFixture):
    parent, child, room = FastAPI(), FastAPI(), Room()
    add_channel(child)
    room.mount(child, "/{channel}")
    parent.mount("/child", child)
    async with serving(parent) as site, site.connect("/child/r"):
        pass
    assert "call add_channel() on the outer application" in caplog.text
    node = Node.attached(child)
    assert node is not None
    await node.stop()


@pytest.mark.parametrize("path", ["/awaited", "/in_a_thread"])
async def test_so_it_says_where_a_route_is_its_first_use(path: str, caplog: pytest.LogCaptureFixture):
    """A loop that a plain route runs is no place to start the broker in: it ends with the call."""
    parent, child, room = FastAPI(), FastAPI(), Room()
    add_channel(child)
    room.mount(child, "/rooms/{channel}")
    parent.mount("/child", child)

    @child.post("/awaited")
    async def awaited() -> None:
        await room.broadcast("r", "said")

    @child.post("/in_a_thread")
    def in_a_thread() -> None:
        asyncio.run(room.broadcast("r", "said"))

    async with serving(parent) as site:
        async with site.client() as http:
            assert (await http.post(f"/child{path}")).status_code == 200
        node = Node.attached(child)
        assert node is not None
        assert node.loop is asyncio.get_running_loop()
        await node.stop()
    assert "call add_channel() on the outer application" in caplog.text
