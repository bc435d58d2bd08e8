"""What the processes do with their clients because somebody has ordered it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI, WebSocket

from fastapi_channels import Channel, Connection, Socket, action, add_channel
from fastapi_channels.brokers import Broker
from fastapi_channels.cluster.orders import DisconnectConnection, DisconnectUser, Join, Leave, Order, Probe
from fastapi_channels.cluster.steward import MAX_WAITING
from fastapi_channels.testing.asgi import living
from fastapi_channels.testing.broker import FaultyBackend, FaultyBroker
from fastapi_channels.testing.clock import timeless
from fastapi_channels.testing.store import FaultyStore
from fastapi_channels.wire.messages import Publication, decode_json
from fastapi_channels.wire.rooms import EVERY_NODE, node_topic
from tests.support.live import wait_until
from tests.support.wire import Close, Wire, dial, dialing, node_of, others


class Room(Channel):
    """Anybody's room."""

    @action()
    async def rooms(self, connection: Connection) -> list[str]:
        return sorted(connection.rooms)

    @action()
    async def me(self, connection: Connection) -> str:
        return connection.id


class Small(Channel):
    room_pattern = "small:{number:int}"
    scope = "small"
    max_connection = 1


class Guarded(Channel):
    room_pattern = "guarded:{number:int}"

    async def authorize(self, connection: Connection, number: int) -> bool:
        return number < 10


def application(backend: FaultyBackend, store: FaultyStore) -> FastAPI:
    app = FastAPI()
    add_channel(app, backend=backend, store=store)
    room, small, socket = Room(), Small(), Socket(Guarded(), Room())

    @app.websocket("/room/{name}")
    async def in_room(websocket: WebSocket, name: str, user: str | None = None) -> None:
        await room.connect(websocket, name, user=user)

    @app.websocket("/small/{name}")
    async def in_small(websocket: WebSocket, name: str, user: str | None = None) -> None:
        await small.connect(websocket, name, user=user)

    @app.websocket("/socket")
    async def on_socket(websocket: WebSocket, user: str | None = None) -> None:
        await socket.connect(websocket, user=user)

    return app


class Pair:
    """Two processes of one application; orders are given by the first."""

    def __init__(self) -> None:
        self.bus = FaultyBroker()
        store = FaultyStore()
        self.one, self.two = (application(self.bus.backend(), store) for _ in range(2))

    async def order(self, order: Order) -> None:
        await node_of(self.one).order(order)

    async def broadcast(self, key: str, body: str) -> None:
        await node_of(self.one).publish(key, body)


@asynccontextmanager
async def pair() -> AsyncIterator[Pair]:
    apps = Pair()
    async with living(apps.one), living(apps.two):
        await wait_until(
            lambda: all(node_of(app).rooms.pulse._tasks._running for app in (apps.one, apps.two))
        )
        yield apps
    assert not others()


async def asked(wire: Wire, name: str, **fields: Any) -> Any:
    wire.call(name, **fields)
    return (await wire.receive())["data"]


async def becomes(wire: Wire, name: str, value: Any) -> None:
    async def is_so() -> bool:
        return bool(await asked(wire, name) == value)

    await wait_until(is_so)


# Disconnecting


@timeless
async def test_a_user_is_disconnected_everywhere_with_code_and_reason():
    async with (
        pair() as apps,
        dial(apps.one, "/room/a?user=ada") as first,
        dial(apps.two, "/room/b?user=ada") as second,
        dial(apps.two, "/socket?user=ada") as third,
        dial(apps.two, "/room/a?user=bob") as other,
    ):
        await apps.order(DisconnectUser(user="ada", code=4503, reason="banned"))
        for wire in (first, second, third):
            assert await wire.closed() == Close(4503, "banned")
        assert await asked(other, "rooms") == ["a"]


@timeless
async def test_one_connection_is_disconnected_wherever_it_is():
    async with (
        pair() as apps,
        dial(apps.one, "/room/a?user=ada") as here,
        dial(apps.two, "/room/a?user=ada") as there,
        dial(apps.two, "/room/a?user=ada") as other,
    ):
        for wire in (here, there):
            await apps.order(DisconnectConnection(connection=await asked(wire, "me"), code=4000, reason="x"))
            assert await wire.closed() == Close(4000, "x")
        for nobody in ("nobody.1", "x", f"{node_of(apps.one).id}.99"):
            await apps.order(DisconnectConnection(connection=nobody))
        assert await asked(other, "rooms") == ["a"]


@timeless
async def test_a_connection_of_a_socket_is_one_of_its_rooms():
    async with pair() as apps, dial(apps.two, "/socket?user=ada") as wire:
        ids = {}
        for room in ("a", "b"):
            wire.send({"type": "join", "channel": room})
            assert (await wire.receive())["type"] == "joined"
            ids[room] = await asked(wire, "me", channel=room)
        await apps.order(DisconnectConnection(connection=ids["a"], code=4503, reason="out"))
        left = await wire.receive()
        assert (left["type"], left["channel"], left["close_code"]) == ("left", "a", 4503)
        assert await asked(wire, "rooms", channel="b") == ["b"]


@timeless
async def test_who_is_being_let_in_is_disconnected_too():
    async with pair() as apps:
        backend = apps.bus.backends[1]
        backend.gate.clear()
        async with dialing(apps.two, "/room/a?user=ada") as wire:
            await wire.until(lambda: node_of(apps.two).hub.count("a"))
            [client] = node_of(apps.two).users.recipients("ada")
            await apps.order(DisconnectUser(user="ada", code=4503, reason="banned"))
            await wire.until(lambda: client.writer.closed)
            backend.gate.set()
            assert await wire.closed() == Close(4503, "banned")
            assert wire.events == ["accept", "close"]


# Joining and leaving


@timeless
async def test_a_users_connections_join_and_leave_a_room():
    async with (
        pair() as apps,
        dial(apps.one, "/room/a?user=ada") as first,
        dial(apps.two, "/room/b?user=ada") as second,
        dial(apps.two, "/room/b?user=bob") as other,
    ):
        await apps.order(Join(user="ada", room="news"))
        await becomes(first, "rooms", ["a", "news"])
        await becomes(second, "rooms", ["b", "news"])
        await apps.broadcast("news", '{"data":"extra"}')
        assert [(await wire.receive())["data"] for wire in (first, second)] == ["extra", "extra"]
        await apps.order(Leave(user="ada", room="news"))
        await becomes(first, "rooms", ["a"])
        await becomes(second, "rooms", ["b"])
        assert await asked(other, "rooms") == ["b"]


@timeless
async def test_only_those_whose_channel_has_the_room_join_it():
    async with (
        pair() as apps,
        dial(apps.two, "/room/a?user=ada") as wire,
        dial(apps.two, "/small/small:1?user=ada"),
    ):
        node = node_of(apps.two)
        await apps.order(Join(user="ada", room="small\x1fsmall:2"))
        await apps.order(Join(user="ada", room="Other\x1fa"))
        await apps.order(Join(user="ada", room="b"))
        await becomes(wire, "rooms", ["a", "b"])
        await wire.until(lambda: node.hub.count("small\x1fsmall:2") == 1)
        assert set(node.hub.rooms) == {"a", "b", "small\x1fsmall:1", "small\x1fsmall:2"}


@timeless
async def test_the_last_order_about_a_room_counts():
    """A place in a bounded room has to be asked for: whoever is to leave meanwhile does not come in later."""
    async with pair() as apps, dial(apps.two, "/small/small:1?user=ada") as wire:
        node = node_of(apps.two)
        for _ in range(3):
            await apps.order(Join(user="ada", room="small\x1fsmall:2"))
            await apps.order(Leave(user="ada", room="small\x1fsmall:2"))
        await apps.order(Join(user="ada", room="small\x1fsmall:3"))
        await wire.until(lambda: node.hub.count("small\x1fsmall:3") == 1)
        assert node.hub.count("small\x1fsmall:2") == 0


@timeless
async def test_what_a_join_is_refused_for_is_logged(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    async with (
        pair() as apps,
        dial(apps.one, "/small/small:1?user=ada"),
        dial(apps.two, "/small/small:2?user=bob") as bob,
    ):
        await apps.order(Join(user="bob", room="small\x1fsmall:1"))
        await bob.until(lambda: "an order could not be carried out: The room is full" in caplog.text)


@timeless
async def test_on_a_socket_an_order_is_as_if_the_client_had_asked():
    async with pair() as apps, dial(apps.two, "/socket?user=ada") as wire:
        await apps.order(Join(user="ada", room="news"))
        assert (await wire.receive())["type"] == "joined"
        assert await asked(wire, "rooms", channel="news") == ["news"]
        await apps.order(Join(user="ada", room="news"))
        await apps.order(Join(user="ada", room="Guarded\x1fguarded:7"))
        joined = await wire.receive()
        assert (joined["type"], joined["channel"], joined["request_id"]) == ("joined", "guarded:7", None)
        await apps.order(Join(user="ada", room="Guarded\x1fguarded:70"))
        assert (await wire.receive())["code"] == "permission_denied"
        await apps.order(Leave(user="ada", room="news"))
        assert await wire.receive() == {"type": "left", "channel": "news"}
        await apps.order(Leave(user="ada", room="news"))
        await apps.order(Leave(user="ada", room="Guarded\x1fguarded:7"))
        assert (await wire.receive())["channel"] == "guarded:7"


@timeless
async def test_a_client_that_goes_meanwhile_takes_its_orders_along():
    async with pair() as apps:
        async with dial(apps.two, "/small/small:1?user=ada") as wire:
            for number in range(2, 50):
                await apps.order(Join(user="ada", room=f"small\x1fsmall:{number}"))
            wire.leave()
            await wire.ended()
        await asyncio.sleep(5)
        assert not node_of(apps.two).hub.rooms


@timeless
async def test_orders_for_one_client_are_bounded(caplog: pytest.LogCaptureFixture):
    async with pair() as apps, dial(apps.two, "/small/small:1?user=ada") as wire:
        for number in range(2, MAX_WAITING + 10):
            node_of(apps.two)._steward.carry_out(Join(user="ada", room=f"small\x1fsmall:{number}"))
        wire.leave()
        await wire.ended()
    assert len([record for record in caplog.records if "orders are refused" in record.getMessage()]) == 1


# What is no order


@timeless
async def test_what_is_no_order_is_ignored_and_logged_once(caplog: pytest.LogCaptureFixture):
    async with pair() as apps, dial(apps.two, "/room/a?user=ada") as wire:
        publish: Callable[[Publication], Awaitable[None]] = node_of(apps.one).broker.publish
        for body in ('{"order":"explode","secret":"s3cret"}', "no JSON", b"\xff", '{"order":"join"}') * 3:
            await publish(Publication(EVERY_NODE, body, kind="order"))
        await apps.order(Join(user="ada", room="b"))
        await becomes(wire, "rooms", ["a", "b"])
    ignored = [record.getMessage() for record in caplog.records if "order" in record.getMessage()]
    assert len(ignored) == 2 * 3, "in each process: not known, no JSON, incomplete"
    assert not any("s3cret" in line for line in ignored)


# How a process is


@timeless
async def test_every_process_answers_a_probe():
    async with pair() as apps, dial(apps.two, "/room/a?user=ada"):
        found: list[Any] = []
        asker = Broker(apps.bus.backend(), lambda publication: found.append(decode_json(publication.body)))
        await asker.start()
        await asker.subscribe(node_topic("abc"))
        await apps.order(Probe(asker="abc"))
        async with asyncio.timeout(30):
            while len(found) < 2:
                await asyncio.sleep(0.01)
        await asker.stop()
        by_node = {report["node"]: report["answer"] for report in found}
        assert by_node.keys() == {node_of(apps.one).id, node_of(apps.two).id}
        report = by_node[node_of(apps.two).id]
        assert (report["connections"], report["rooms"], report["ready"]) == (1, 1, True)
        assert report["host"]
        assert report["pid"]
