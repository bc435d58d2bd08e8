"""A manager, under endpoints that read their WebSockets themselves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI, WebSocket, WebSocketDisconnect
from websockets.frames import Opcode

from fastapi_channels import ConfigurationError, Connection, Manager, ParseError, Publisher, add_channel, rate
from fastapi_channels.auth import Authenticator
from fastapi_channels.channels import manager as module
from tests.support.live import Close, RawClient, Site, serving, unique, wait_until
from tests.support.servers import RedisServer


class Chat(Manager):
    max_message_size = 1000
    throttle_classes = [rate(times=100, minutes=1)]


def program(manager: Manager, seen: list[Any], **settings: Any) -> FastAPI:
    """A hand-written endpoint around a manager."""
    app = FastAPI()
    add_channel(app, **settings)

    @app.websocket("/ws/{name}")
    async def endpoint(websocket: WebSocket, name: str, topic: str | None = None) -> None:
        await manager.connect(websocket, name, topics=[topic] if topic else [])
        try:
            while True:
                text = await websocket.receive_text()
                match text.split(" ", 2):
                    case ["all", what]:
                        await manager.broadcast(what)
                    case ["to", who, what]:
                        await manager.send_by_conn_id(who.split(","), what)
                    case ["topic", where, what]:
                        await manager.send(where, what)
                    case ["me", what]:
                        await manager.send_personal_message({"said": what}, websocket)
                    case ["subscribe", where]:
                        await manager.subscribe(websocket, where)
                        await websocket.send_text("subscribed")
                    case ["unsubscribe", where]:
                        await manager.unsubscribe(websocket, where)
                    case ["close"]:
                        await manager.close(websocket, 4444, "asked for")
                    case ["disconnect"]:
                        manager.disconnect(websocket)
                    case ["return"]:
                        return
                    case ["raise"]:
                        raise RuntimeError("a fault of the endpoint")
                    case _:
                        await websocket.send_text(f"You wrote: {text}")
        except WebSocketDisconnect as exc:
            manager.disconnect(websocket)
            seen.append((name, exc.code))
            await manager.broadcast(f"{name} left")

    return app


@pytest.fixture
def seen() -> list[Any]:
    return []


@pytest.fixture
def manager() -> Manager:
    return Chat()


@pytest.fixture
async def site(manager: Manager, seen: list[Any]) -> AsyncIterator[Site]:
    async with serving(program(manager, seen), may_complain=True) as site:
        yield site


async def test_to_all_to_one_to_several_to_a_topic_and_to_oneself(site: Site, manager: Manager):
    async with (
        site.unharmed(),
        site.clients("/ws/ada?topic=news", "/ws/bob", "/ws/bob", "/ws/eve") as all_of_them,
    ):
        ada, bob, bobs_other, eve = all_of_them
        await ada.send("hi")
        assert await ada.read() == "You wrote: hi"
        await ada.send("to bob psst")
        assert [await bob.read(), await bobs_other.read()] == ["psst", "psst"]
        await ada.send("to bob,eve,nobody both")
        assert [await each.read() for each in (bob, bobs_other, eve)] == ["both"] * 3
        await eve.send("subscribe news")
        assert await eve.read() == "subscribed"
        await bob.send("topic news goal")
        assert [await ada.read(), await eve.read()] == ["goal"] * 2
        await eve.send("unsubscribe news")
        await eve.send("topic news missed")
        assert await ada.read() == "missed"
        await eve.send("me hello")
        assert await eve.receive() == {"said": "hello"}
        await ada.send("all everybody")
        assert [await each.read() for each in all_of_them] == ["everybody"] * 4
        assert await manager.count() == 4
        assert [await manager.count(who) for who in ("bob", "nobody")] == [2, 0]
        assert len(await manager.connections()) == 4


async def test_bytes_are_bytes(manager: Manager):
    app = FastAPI()
    add_channel(app)

    @app.websocket("/")
    async def endpoint(websocket: WebSocket) -> None:
        async with manager.connected(websocket) as connection:
            async for data in websocket.iter_bytes():
                await manager.send_by_conn_id(connection.id, data)
                await manager.send_personal_message(bytearray(data), websocket)

    async with serving(app) as site, site.unharmed(), site.connect("/") as client:
        await client.send(b"\0\xff")
        assert [await client.read(), await client.read()] == [b"\0\xff"] * 2
        data = bytearray(b"\0\xff")
        for each in (data, memoryview(data)):
            await manager.broadcast(each)
            assert await client.read() == data


@pytest.mark.parametrize("name", ["", None, 7, "a\0", "x" * 256, "news/+", "#"])
async def test_a_topic_without_a_usable_name_is_said(site: Site, manager: Manager, name: Any):
    with pytest.raises(ParseError, match=r"255|wildcards"):
        await manager.send(name, "lost")
    async with site.connect("/ws/ada"):
        [connection] = site.node.rooms.connections.values()
        with pytest.raises(ParseError, match=r"255|wildcards"):
            await manager.subscribe(connection, name)
        with pytest.raises(ParseError, match=r"255|wildcards"):
            await manager.unsubscribe(connection, name)


async def test_over_processes(shared_redis: RedisServer, seen: list[Any]):
    settings = {"url": shared_redis.url, "namespace": unique()}
    one, two = Chat(), Chat()
    async with (
        serving(program(one, seen, **settings)) as here,
        serving(program(two, seen, **settings)) as there,
        here.connect("/ws/ada") as ada,
        there.connect("/ws/bob") as bob,
    ):
        await ada.send("to bob psst")
        await ada.send("all hello")
        assert [await bob.read(), await bob.read()] == ["psst", "hello"]
        assert await ada.read() == "hello"
        assert await one.count() == await two.count() == 2
        async with Publisher(shared_redis.url, namespace=settings["namespace"]) as publisher:
            await publisher.broadcast("all", "from outside", channel=one.channel)
        assert (await bob.receive())["event"] == "from outside"


@pytest.mark.parametrize(
    ("said", "close"), [("close", Close(4444, "asked for")), ("disconnect", Close(1000, ""))]
)
async def test_closing_from_here(site: Site, seen: list[Any], said: str, close: Close):
    async with site.unharmed(), site.connect("/ws/ada") as ada:
        await ada.send(said)
        assert await ada.closed() == close
        await wait_until(lambda: seen)
        assert seen[0][0] == "ada"


@pytest.mark.parametrize(("said", "code"), [("return", 1000), ("raise", 1011)])
async def test_an_endpoint_that_ends_is_the_end_without_disconnect(
    site: Site, manager: Manager, seen: list[Any], said: str, code: int
):
    async with site.unharmed(), site.connect("/ws/ada") as ada:
        await ada.send(said)
        assert (await ada.closed()).code == code
        await wait_until(lambda: site.node.served == 0)
        assert await manager.count() == 0
        assert seen == []


async def test_who_is_gone_is_out_at_once_and_the_others_are_told(site: Site, manager: Manager):
    async with site.unharmed(), site.clients("/ws/ada", "/ws/bob") as (ada, bob):
        ada.reset()
        assert await bob.read() == "ada left"
        assert await manager.count() == 1


async def test_a_client_that_answers_no_close_holds_up_nobody(site: Site, seen: list[Any]):
    async with RawClient.open(site, "/ws/ada") as client:
        await client.send(Opcode.TEXT, b"close")
        assert (await client.receive())[0] is Opcode.CLOSE
        await wait_until(lambda: seen)
        assert [name for name, _ in seen] == ["ada"]


async def test_limits_hold_although_the_endpoint_reads(site: Site, seen: list[Any]):
    async with site.connect("/ws/ada") as ada:
        await ada.send("x" * 1001)
        assert (await ada.closed()).code == 1009
    async with site.connect("/ws/bob") as bob:
        for _ in range(101):
            await bob.send("x")
        frames = [await bob.read() for _ in range(101)]
        assert frames.count("You wrote: x") == 100
        assert '"rate_limited"' in str(frames[-1])
    assert site.node.hub.traffic is None


async def test_who_may_not_enter_is_refused_and_the_endpoint_ends(caplog: pytest.LogCaptureFixture):
    class Guarded(Manager):
        authenticator = Authenticator(lambda token, _: {"ok": "ada"}.get(token))
        max_connection = 1

    reached: list[Any] = []
    manager, app = Guarded(), FastAPI()
    add_channel(app)

    @app.websocket("/")
    async def endpoint(websocket: WebSocket) -> None:
        connection = await manager.connect(websocket)
        reached.append(connection.user)
        async for _ in websocket.iter_text():
            pass

    async with serving(app) as site, site.unharmed():
        assert (await site.refusal("/")).status == 401
        token = {"Authorization": "Bearer ok"}
        evil = {**token, "Origin": "https://evil.example"}
        assert (await site.refusal("/", additional_headers=evil)).status == 403
        async with site.connect("/", additional_headers=token):
            await wait_until(lambda: reached)
            assert (await site.refusal("/", additional_headers=token)).body["code"] == "channel_full"
        assert reached == ["ada"]


async def test_a_drain_closes_with_1012(site: Site, seen: list[Any]):
    async with site.connect("/ws/ada") as ada:
        await site.node.drain()
        assert (await ada.closed()).code == 1012
        await wait_until(lambda: seen)


async def test_on_a_router_alone(manager: Manager, seen: list[Any]):
    router = APIRouter()
    add_channel(router)

    @router.websocket("/")
    async def endpoint(websocket: WebSocket) -> None:
        await manager.connect(websocket, "ada")
        seen.append(await websocket.receive_text())

    app = FastAPI()
    app.include_router(router)
    async with serving(app) as site, site.connect("/") as client:
        await client.send("hi")
        await client.closed()
        assert seen == ["hi"]

        async def is_empty() -> bool:
            return not await manager.count()

        await wait_until(is_empty)


async def test_an_endpoint_may_accept_first_and_connects_once(manager: Manager):
    app, found = FastAPI(), list[str]()
    add_channel(app)

    @app.websocket("/")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        await manager.connect(websocket, "ada")
        try:
            await manager.connect(websocket, "bob")
        except ConfigurationError as exc:
            found.append(str(exc))
        async for text in websocket.iter_text():
            await manager.broadcast(text)

    async with serving(app) as site, site.unharmed(), site.connect("/") as client:
        await client.send("hi")
        assert await client.read() == "hi"
    assert found == ["this websocket is connected already: call connect() once"]


async def test_two_names_are_two_crowds(seen: list[Any]):
    one, two = Manager("one"), Manager("two")
    app = FastAPI()
    add_channel(app)

    @app.websocket("/{which}")
    async def chosen(websocket: WebSocket, which: str) -> None:
        async with {"one": one, "two": two}[which].connected(websocket, "ada"):
            async for _ in websocket.iter_text():
                pass

    async with serving(app) as site, site.clients("/one", "/two") as (first, second):
        await one.send_by_conn_id("ada", "for the first")
        await one.broadcast("all of the first")
        await two.broadcast("all of the second")
        assert [await first.read(), await first.read()] == ["for the first", "all of the first"]
        assert await second.read() == "all of the second"


async def test_exclude_takes_clients_and_says_what_it_does_not(manager: Manager):
    app = FastAPI()
    add_channel(app)
    there: list[tuple[WebSocket, Connection]] = []

    @app.websocket("/{name}")
    async def endpoint(websocket: WebSocket, name: str) -> None:
        there.append((websocket, await manager.connect(websocket, name, topics=["news"])))
        await websocket.receive()

    async with serving(app) as site, site.connect("/ann") as ann, site.connect("/bob") as bob:
        await wait_until(lambda: len(there) == 2)
        (websocket, connection), (other, _) = there
        for exclude in (websocket, connection, connection.id, [websocket], {connection.id}):
            await manager.broadcast("not to ann", exclude=exclude)
            await manager.send("news", "nor this", exclude=exclude)
            assert [await bob.read(), await bob.read()] == ["not to ann", "nor this"]
        await manager.broadcast("to nobody", exclude=[websocket, other])
        wrong: Any
        for wrong in ("ann", ["ann"], 5, [None], WebSocket({"type": "websocket"}, nothing, nothing)):
            with pytest.raises(ConfigurationError, match=r"exclude= takes|not connected"):
                await manager.broadcast("to nobody", exclude=wrong)
        await manager.broadcast("last")
        assert [await ann.read(), await bob.read()] == ["last", "last"]
        manager.disconnect(websocket)
        await wait_until(lambda: websocket.scope["fastapi_channels.connection"] is None)
        await manager.broadcast("it has gone", exclude=websocket)
        assert await bob.read() == "it has gone"


async def nothing(*args: Any) -> Any:
    """No server."""


async def test_what_cannot_work_is_said(manager: Manager):
    app = FastAPI()
    add_channel(app)
    found: list[Exception] = []

    @app.websocket("/")
    async def endpoint(websocket: WebSocket) -> None:
        for call in (
            lambda: manager.send_personal_message("x", websocket),
            lambda: manager.close(websocket),
            lambda: manager.connect(websocket, topics="news"),
            lambda: manager.connect(websocket, topics=["x" * 300]),
        ):
            try:
                await call()
            except Exception as exc:
                found.append(exc)

    async with serving(app, may_complain=True) as site:
        await site.refusal("/")
    assert [type(exc) for exc in found[:3]] == [ConfigurationError] * 3
    assert isinstance(found[3], ParseError)


def test_its_settings_are_those_of_channels():
    assert {name for name in module.SETTINGS if not hasattr(module.BaseChannel, name)} == set()

    class Wrong(Manager):
        max_message_size = -1

    with pytest.raises(ConfigurationError, match="max_message_size"):
        Wrong()
