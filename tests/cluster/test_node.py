"""One process: its life, who is where, and what reaches whom."""

import asyncio
import gc
import logging
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from starlette.authentication import SimpleUser, UnauthenticatedUser

from fastapi_channels import BrokerUnavailable, Channel, ConfigurationError, Connection, action, add_channel
from fastapi_channels.brokers import MemoryBackend
from fastapi_channels.cluster.node import Node
from fastapi_channels.cluster.rooms import IDLE
from fastapi_channels.cluster.users import UserKeys
from fastapi_channels.testing.asgi import living
from fastapi_channels.testing.broker import FaultyBackend, FaultyBroker
from fastapi_channels.testing.clock import TimelessLoop, now, timeless
from fastapi_channels.testing.store import FaultyStore
from tests.support.wire import Close, dial, dialing, node_of, others, serving


class Room(Channel):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.joined: asyncio.Queue[Connection] = asyncio.Queue()
        self.add_event_handler("join", self._meet)

    async def _meet(self, connection: Connection) -> None:
        self.joined.put_nowait(connection)

    @action()
    async def say(self, connection: Connection, text: str) -> None:
        await self.broadcast(connection.room, "said", text)


class CountingBackend(MemoryBackend):
    """Counts what is asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    async def connect(self) -> None:
        self.calls.append("connect")
        await super().connect()

    async def disconnect(self) -> None:
        self.calls.append("disconnect")
        await super().disconnect()

    async def subscribe(self, group: str) -> None:
        self.calls.append(f"subscribe {group}")
        await super().subscribe(group)

    async def unsubscribe(self, group: str) -> None:
        self.calls.append(f"unsubscribe {group}")
        await super().unsubscribe(group)


# Life


@timeless
async def test_starts_are_counted_and_undone_by_as_many_stops() -> None:
    backend = CountingBackend()
    node = Node(backend)
    await node.stop()
    await asyncio.gather(*(node.start() for _ in range(3)))
    for _ in range(2):
        await node.stop()
    assert backend.calls == ["connect"]
    assert node.broker.up
    await node.stop()
    await node.stop()
    assert backend.calls == ["connect", "disconnect"]
    await node.start()
    assert node.broker.up
    await node.stop()
    assert not others()


@timeless
async def test_a_start_during_the_stop_is_a_start() -> None:
    bus = FaultyBroker()
    node = Node(bus.backend())
    for _ in range(5):
        await node.start()
        stop = asyncio.create_task(node.stop())
        await asyncio.sleep(0)
        await node.start()
        await stop
        await node.broker.publish(_publication())
        await node.stop()
        assert not others()
        with pytest.raises(BrokerUnavailable):
            await node.broker.publish(_publication())


def _publication() -> Any:
    from fastapi_channels.wire.messages import Publication

    return Publication("r", "text")


def test_it_runs_in_one_event_loop_after_the_other() -> None:
    """As an application does in tests, and where a server restarts it in one process."""
    room, bus = Room(), FaultyBroker()
    app = FastAPI()
    add_channel(app, backend=bus.backend(), store=FaultyStore())
    room.mount(app, "/{channel}")
    for _ in range(3):
        with asyncio.Runner(loop_factory=TimelessLoop) as runner:
            runner.run(_chat(app))


async def _chat(app: FastAPI) -> None:
    async with living(app), dial(app, "/r") as wire:
        wire.call("say", text="hi")
        assert (await wire.receive())["data"] == "hi"
        assert await node_of(app).rooms.count("r") == 1


@pytest.mark.parametrize("kind", [MemoryBackend, lambda: FaultyBroker().backend()])
def test_a_loop_that_ended_without_a_stop_is_forgotten(
    kind: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    room, app = Room(), FastAPI()
    add_channel(app, backend=kind())
    room.mount(app, "/{channel}")

    async def chat() -> None:
        async with dial(app, "/r") as wire:
            wire.call("say", text="hi")
            assert (await wire.receive())["data"] == "hi"

    for _ in range(3):
        with asyncio.Runner(loop_factory=TimelessLoop) as runner:
            runner.run(chat())
    assert caplog.text.count("started by its first use, not by the lifespan") == 3


def test_what_is_broadcast_before_the_server_begins_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    room, app = Room(), FastAPI()
    add_channel(app)
    room.bind(app)
    asyncio.run(room.broadcast("r", "said", "too early"))
    assert "(it was used before its server began: broadcast from a lifespan, or later)" in caplog.text


async def test_two_live_loops_are_refused() -> None:
    async with serving(Room()) as app:

        async def connect() -> None:
            async with dialing(app, "/r") as wire:
                await wire.ended()

        with pytest.raises(ConfigurationError, match="runs in another event loop"):
            await asyncio.to_thread(asyncio.run, connect())


@timeless
async def test_a_connection_before_the_lifespan_starts_the_node(caplog: pytest.LogCaptureFixture) -> None:
    room, app = Room(), FastAPI()
    add_channel(app)
    room.mount(app, "/{channel}")
    async with dial(app, "/r") as early:
        async with living(app), dial(app, "/r"):
            early.call("say", text="hi")
            assert (await early.receive())["data"] == "hi"
        early.call("say", text="still")
        assert (await early.receive())["data"] == "still"
    assert caplog.text.count("started by its first use") == 1
    await node_of(app).stop()
    assert not others()


@timeless
async def test_stopping_is_bounded_when_the_broker_hangs() -> None:
    bus = FaultyBroker()
    backend = bus.backend()
    app = FastAPI()
    add_channel(app, backend=backend)
    Room().mount(app, "/{channel}")
    async with living(app):
        backend.gate.clear()
        async with dialing(app, "/r") as wire:
            await wire.ended()
            assert "accept" not in wire.events
        began = now()
    assert now() - began < 20
    assert not others()


# Where it is found


def test_a_call_that_no_node_covers_says_how_to_make_one() -> None:
    with pytest.raises(ConfigurationError, match=r"call add_channel\(app\)"):
        Node.of()
    with pytest.raises(ConfigurationError, match="needs an application or router"):
        Room().bind(FastAPI())


@timeless
async def test_an_endpoint_that_no_node_covers_says_so_too() -> None:
    app = FastAPI()
    Room().mount(app, "/{channel}")
    with pytest.raises(ConfigurationError, match=r"no add_channel\(\) covers this call"):
        async with dialing(app, "/r") as wire:
            await wire.ended()


@pytest.mark.parametrize("prefix", ["", "/rooms"])
@timeless
async def test_a_router_may_have_a_node_of_its_own(prefix: str) -> None:
    room, router, app = Room(), APIRouter(), FastAPI()
    add_channel(router)
    room.mount(router, "/{channel}")
    app.include_router(router, prefix=prefix)
    async with living(app), dial(app, f"{prefix}/r") as wire:
        wire.call("say", text="hi")
        assert (await wire.receive())["data"] == "hi"
        node = Node.attached(router)
        assert node is not None
        assert node.hub.count("r") == 1


@timeless
async def test_a_mounted_application_has_the_node_of_the_one_around_it() -> None:
    room, inner, outer = Room(), FastAPI(), FastAPI()
    add_channel(outer)
    room.mount(inner, "/{channel}")
    outer.mount("/inner", inner)
    async with living(outer), dial(outer, "/inner/r") as wire:
        wire.call("say", text="hi")
        assert (await wire.receive())["data"] == "hi"
        assert node_of(outer).hub.count("r") == 1


@timeless
async def test_two_applications_of_a_process_know_nothing_of_each_other() -> None:
    room = Room()
    async with serving(room) as one, serving(room) as two, dial(one, "/r") as ada, dial(two, "/r") as bob:
        ada.call("say", text="to one")
        assert (await ada.receive())["data"] == "to one"
        bob.call("say", text="to two")
        assert (await bob.receive())["data"] == "to two"
        assert ada.unread == bob.unread == []
        assert await node_of(one).rooms.count("r") == await node_of(two).rooms.count("r") == 1


def test_an_application_that_is_gone_is_forgotten() -> None:
    def attached(parent: FastAPI | APIRouter) -> weakref.ref[Node]:
        node = Node.attached(parent)
        assert node is not None
        return weakref.ref(node)

    gc.freeze()  # what is there already need not be looked at
    nodes = [attached(add_channel(FastAPI())) for _ in range(10)]
    nodes += [attached(add_channel(APIRouter())) for _ in range(10)]
    # A node goes when its application has gone.
    gc.collect()
    gc.collect()
    assert [node() for node in nodes] == 20 * [None]


# Subscriptions


@timeless
async def test_a_room_is_subscribed_once_however_many_come() -> None:
    room, backend = Room(), CountingBackend()
    async with serving(room, backend=backend) as app:
        async with dial(app, "/r"), dial(app, "/r"), dial(app, "/s"):
            pass
        await asyncio.sleep(2 * IDLE)
    assert backend.calls == [
        *("connect", "subscribe r", "subscribe s", "unsubscribe s", "unsubscribe r", "disconnect"),
    ]


@timeless
async def test_a_subscription_outlives_its_last_member_by_a_second() -> None:
    """A reload of the page costs the broker nothing."""
    room, backend = Room(), CountingBackend()
    async with serving(room, backend=backend) as app:
        for _ in range(5):
            async with dial(app, "/r"):
                pass
            await asyncio.sleep(0.9 * IDLE)
            assert node_of(app).broker.topics == {"r"}
        await asyncio.sleep(0.2 * IDLE)
        assert not node_of(app).broker.topics
    assert backend.calls == ["connect", "subscribe r", "unsubscribe r", "disconnect"]


@timeless
async def test_who_only_listened_does_not_end_the_subscription_of_a_room_that_is_open_still() -> None:
    room, backend = Room(), CountingBackend()
    async with serving(room, backend=backend) as app:
        node, heard = node_of(app), list[Any]()
        await node.listeners.add("r", heard.append)
        async with dial(app, "/r"):
            pass
        node.listeners.discard("r", heard.append)
        await asyncio.sleep(0.9 * IDLE)
        assert node.broker.topics == {"r"}
        await asyncio.sleep(0.2 * IDLE)
        assert not node.broker.topics
    assert backend.calls.count("unsubscribe r") == 1


@timeless
async def test_who_comes_back_at_any_moment_misses_nothing() -> None:
    room = Room()
    room.max_rooms = 1000
    rooms = [f"room{number}" for number in range(200)]
    async with serving(room) as app, dial(app, "/r") as wire:
        connection = await room.joined.get()
        for name in rooms:
            await connection.join(name)
        for name in rooms:
            await connection.leave(name)

        async def come_back(name: str, late: float) -> None:
            await asyncio.sleep(IDLE + late)
            await connection.join(name)

        moments = (*(-n * 5e-12 for n in range(100)), *(n * 5e-6 for n in range(-50, 50)))
        await asyncio.gather(*(come_back(name, late) for late, name in zip(moments, rooms, strict=True)))
        await asyncio.sleep(IDLE)
        for name in rooms:
            await room.broadcast_to_channel(name, name)
        assert [await wire.read() for _ in rooms] == rooms
        assert node_of(app).broker.topics == {"r", *rooms}


@pytest.mark.parametrize("failures", [1, 3])
@timeless
async def test_a_join_that_the_broker_refuses_leaves_nothing(failures: int) -> None:
    room, backend = Room(), FaultyBroker().backend()
    async with serving(room, backend=backend) as app:
        await asyncio.sleep(1)
        backend.failing = failures
        for _ in range(failures):
            async with dialing(app, "/r", extensions=["websocket.http.response"]) as wire:
                await wire.ended()
                assert wire.sent[0]["status"] == 503
            assert not node_of(app).hub.rooms
        async with dial(app, "/r") as wire:
            wire.call("say", text="hi")
            assert (await wire.receive())["data"] == "hi"


@timeless
async def test_one_task_waits_for_the_others_join_too() -> None:
    """A join returns when nothing can be missed, also for the second of two at a time."""
    room, backend = Room(), FaultyBroker().backend()
    async with serving(room, backend=backend) as app, dial(app, "/r"):
        connection = await room.joined.get()
        backend.gate.clear()
        joins = [asyncio.create_task(connection.join("s")) for _ in range(3)]
        await asyncio.sleep(0.5)
        assert not any(join.done() for join in joins)
        joins[0].cancel()
        await asyncio.sleep(0.1)
        backend.gate.set()
        await asyncio.gather(*joins[1:])
        assert connection.rooms == {"r", "s"}
        assert "s" in backend.topics
        backend.failing = 1
        joins = [asyncio.create_task(connection.join("t")) for _ in range(3)]
        for found in await asyncio.gather(*joins, return_exceptions=True):
            assert isinstance(found, BrokerUnavailable)
        assert connection.rooms == {"r", "s"}


@timeless
async def test_who_leaves_while_joining_has_left() -> None:
    room, backend = Room(), FaultyBroker().backend()
    async with serving(room, backend=backend) as app:
        await asyncio.sleep(1)
        backend.gate.clear()
        async with dialing(app, "/r") as wire:
            await asyncio.sleep(0.1)
            assert node_of(app).hub.rooms
            wire.task.cancel()
            await wire.ended()
        backend.gate.set()
        await asyncio.sleep(2 * IDLE)
        assert not any(topic == "r" for topic in backend.topics)


# Who gets what


@asynccontextmanager
async def two_processes(room: Room) -> AsyncIterator[tuple[FastAPI, FastAPI, FaultyBackend]]:
    bus = FaultyBroker()
    backends = bus.backend(), bus.backend()
    async with serving(room, backend=backends[0]) as one, serving(room, backend=backends[1]) as two:
        await asyncio.sleep(1)
        yield one, two, backends[0]


@timeless
async def test_a_broadcast_reaches_the_room_in_every_process() -> None:
    room = Room()
    async with (
        two_processes(room) as (one, two, _),
        dial(one, "/r") as ada,
        dial(two, "/r") as bob,
        dial(two, "/s") as eve,
    ):
        for number in range(10):
            ada.call("say", text=f"ada {number}")
            bob.call("say", text=f"bob {number}")
        heard = [[(await wire.receive())["data"] for _ in range(20)] for wire in (ada, bob)]
        assert heard[0] == heard[1], "everybody sees one order"
        for name in ("ada", "bob"):
            assert [text for text in heard[0] if text.startswith(name)] == [f"{name} {n}" for n in range(10)]
        assert eve.unread == []


@timeless
async def test_some_can_be_left_out() -> None:
    room = Room()
    async with two_processes(room) as (one, two, _), dial(one, "/r") as ada, dial(two, "/r") as bob:
        first, second = await room.joined.get(), await room.joined.get()
        await room.broadcast("r", "said", 1, exclude=first)
        await room.broadcast("r", "said", 2, exclude=second.id)
        await room.broadcast("r", "said", 3, exclude=[first, second.id])
        await room.broadcast_to_channel("r", {"data": 4}, exclude=[])
        assert [(await ada.receive())["data"] for _ in range(2)] == [2, 4]
        assert [(await bob.receive())["data"] for _ in range(2)] == [1, 4]


@pytest.mark.parametrize("here", [0, 1])
@timeless
async def test_one_connection_is_found_in_any_process(here: int) -> None:
    room = Room()
    async with two_processes(room) as (*apps, _), dial(apps[0], "/r") as ada, dial(apps[1], "/r") as bob:
        connections = [await room.joined.get(), await room.joined.get()]
        room.bind(apps[here])
        for connection, wire in zip(connections, (ada, bob), strict=True):
            await room.send_to_connection(connection.id, "told", connection.id)
            assert (await wire.receive())["data"] == connection.id
        for nobody in (f"{node_of(apps[0]).id}.99", "node.1", "x", connections[0].id + "0"):
            await room.send_to_connection(nobody, "told")
        await asyncio.sleep(1)
        assert ada.unread == bob.unread == []


@pytest.mark.parametrize("here", [0, 1])
@timeless
async def test_a_user_is_found_on_all_connections_of_all_processes(here: int) -> None:
    room = Room()
    async with (
        two_processes(room) as (*apps, _),
        dial(apps[0], "/r?user=ada") as first,
        dial(apps[0], "/s?user=ada") as second,
        dial(apps[1], "/r?user=ada") as third,
        dial(apps[1], "/r?user=bob") as other,
    ):
        room.bind(apps[here])
        await room.send_to_user({"id": "ada"}, "told", 1)
        await room.send_to_user("nobody", "told", 2)
        for wire in (first, second, third):
            assert (await wire.receive())["data"] == 1
        await asyncio.sleep(1)
        assert [wire.unread for wire in (first, second, third, other)] == [[]] * 4


@timeless
async def test_in_one_process_nothing_is_sent_to_the_broker_for_one_user() -> None:
    room = Room()
    async with serving(room) as app, dial(app, "/r?user=ada") as wire, dial(app, "/s?user=ada") as other:
        await room.send_to_user("ada", "told", 1)
        assert (await wire.receive())["data"] == (await other.receive())["data"] == 1


@pytest.mark.parametrize("name", ["", "fastapi-channels:nodes", "a\nb", "x" * 256])
@timeless
async def test_names_that_no_room_can_have_are_refused_everywhere(name: str) -> None:
    room = Room()
    async with serving(room) as app, dial(app, "/r"):
        connection = await room.joined.get()
        for call in (
            lambda: room.broadcast(name, "said"),
            lambda: room.broadcast_to_channel(name, "said"),
            lambda: room.get_connection_count(name),
            lambda: room.members(name),
            lambda: connection.join(name),
        ):
            with pytest.raises(ConfigurationError.__base__, match="A room name must have"):  # type: ignore[arg-type]  # ChannelsError
                await call()
        assert connection.rooms == {"r"}


@timeless
async def test_a_broadcast_without_a_broker_says_so_in_time() -> None:
    room, bus = Room(), FaultyBroker()
    async with serving(room, backend=bus.backend()) as app, dial(app, "/r") as wire:
        await room.joined.get()
        bus.crash()
        began = now()
        with pytest.raises(BrokerUnavailable):
            await room.broadcast("r", "said")
        assert now() - began <= 3
        wire.call("say", text="hi", request_id=1)
        reply = await wire.receive()
        assert (reply["code"], reply["request_id"]) == ("unavailable", 1)
        bus.restart()
        await asyncio.sleep(2)
        assert (await wire.receive())["type"] == "resync"
        wire.call("say", text="again")
        assert (await wire.receive())["data"] == "again"


# Users


class Account:
    def __init__(self, **values: Any) -> None:
        vars(self).update(values)


@pytest.mark.parametrize(
    ("user", "key"),
    [
        *((None, None), ("", None), ("ada", "ada"), (7, "7"), (0, "0"), (1.5, None), (object(), None)),
        *(({"id": 7}, "7"), ({"id": 0}, "0"), ({"username": "ada"}, "ada"), ({}, None), ({"id": None}, None)),
        *(({"id": None, "username": "ada"}, "ada"), ({"id": 7, "username": "ada"}, "7")),
        *((Account(id=7), "7"), (Account(identity="i", username="u"), "i"), (Account(), None)),
        *((SimpleUser("ada"), "ada"), (UnauthenticatedUser(), None)),
    ],
)
def test_what_names_a_user(user: Any, key: str | None) -> None:
    assert UserKeys()(user) == key


@timeless
async def test_ids_are_unique(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    nodes = [Node(MemoryBackend()) for _ in range(3)]
    ids = [node.next_id() for node in nodes for _ in range(100)]
    assert len(set(ids)) == 300


@timeless
async def test_the_close_of_a_room_that_is_full() -> None:
    class Small(Room):
        max_connection = 1

    async with serving(Small()) as app, dial(app, "/r"), dialing(app, "/r") as wire:
        assert await wire.closed() == Close(1013, "The room is full: there is place for 1")
