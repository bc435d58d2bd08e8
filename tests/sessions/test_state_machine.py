"""Ten thousand joins and leaves in any order: nobody is forgotten, and nothing is left behind."""

import asyncio
from collections import Counter
from collections.abc import Awaitable
from contextlib import AbstractAsyncContextManager
from itertools import zip_longest
from typing import Any, ClassVar, TypeVar

import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from fastapi_channels import BrokerUnavailable, Channel, ChannelFull, Connection
from fastapi_channels.brokers import MemoryBackend
from fastapi_channels.cluster.rooms import IDLE
from fastapi_channels.testing.clock import TimelessLoop
from fastapi_channels.wire.inbox import Inbox
from fastapi_channels.wire.outbox import Outbox
from tests.support.wire import POLL, Wire, dialing, live, node_of, serving

T = TypeVar("T")

SEATS = 3
ROOMS = [f"room{number}" for number in range(6)]
rooms = st.sampled_from(ROOMS)
places = st.lists(st.tuples(st.integers(0, 7), rooms), min_size=1, max_size=16)


class FailingBackend(MemoryBackend):
    """The memory broker, some of whose next calls fail."""

    failing = 0

    async def subscribe(self, group: str) -> None:
        self._fail()
        await super().subscribe(group)

    async def unsubscribe(self, group: str) -> None:
        self._fail()
        await super().unsubscribe(group)

    def _fail(self) -> None:
        if self.failing:
            self.failing -= 1
            raise ConnectionError("this call fails")


class Room(Channel):
    max_connection = SEATS

    def __init__(self) -> None:
        super().__init__()
        self.events: Counter[str] = Counter()
        self.connections: dict[int, Connection] = {}
        self.add_event_handler("join", self._joined)
        self.add_event_handler("leave", self._left)

    async def _joined(self, connection: Connection) -> None:
        self.events["join"] += 1
        self.connections[int(connection.websocket.query_params["guest"])] = connection

    async def _left(self) -> None:
        self.events["leave"] += 1


class Guest:
    """A client, and what it should know."""

    def __init__(self, wire: Wire, dialing: AbstractAsyncContextManager[Wire], home: str) -> None:
        self.wire = wire
        self.dialing = dialing
        self.rooms = {home}
        self.expected: list[str] = []
        self.connection: Connection


class Visits(RuleBasedStateMachine):
    total: ClassVar[Counter[str]] = Counter()
    """Over all runs."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = TimelessLoop()
        self.room = Room()
        self.backend = FailingBackend()
        self.guests: list[Guest] = []
        self.number = 0
        self.app: FastAPI
        self.serving = serving(self.room, backend=self.backend)

    @initialize()
    def serve(self) -> None:
        self.app = self.run(self.serving.__aenter__())
        self.tasks = asyncio.all_tasks(self.loop)

    @rule(names=st.lists(rooms, min_size=1, max_size=4))
    def connect(self, names: list[str]) -> None:
        self.run(_all(self._connect(name) for name in names))

    @precondition(lambda self: self.guests)
    @rule(indexes=st.lists(st.integers(0, 7), min_size=1, max_size=3))
    def disconnect(self, indexes: list[int]) -> None:
        self.run(_all(map(self._disconnect, dict.fromkeys(self._guest(index) for index in indexes))))

    @precondition(lambda self: self.guests)
    @rule(places=places)
    def join(self, places: list[tuple[int, str]]) -> None:
        self.run(_all(self._join(guest, room) for guest, room in self._places(places)))

    @precondition(lambda self: self.guests)
    @rule(places=places)
    def leave(self, places: list[tuple[int, str]]) -> None:
        self.run(_all(self._leave(guest, room) for guest, room in self._places(places)))

    @precondition(lambda self: self.guests)
    @rule(coming=places, going=places)
    def mingle(self, coming: list[tuple[int, str]], going: list[tuple[int, str]]) -> None:
        """Some join while others leave."""
        joins = self._places(coming)
        leaves = [place for place in self._places(going) if place not in joins]
        moves = zip_longest(
            (self._join(guest, room) for guest, room in joins),
            (self._leave(guest, room) for guest, room in leaves),
        )
        self.run(_all(move for pair in moves for move in pair if move is not None))

    @rule(names=st.lists(rooms, min_size=1, max_size=3))
    def broadcast(self, names: list[str]) -> None:
        for name in names:
            self.number += 1
            body = f"{name} {self.number}"
            self.run(self.room.broadcast_to_channel(name, body))
            for guest in self.guests:
                if name in guest.rooms:
                    guest.expected.append(body)

    @rule(count=st.integers(1, 3))
    def let_calls_fail(self, count: int) -> None:
        self.backend.failing = count

    @rule(seconds=st.sampled_from([POLL, IDLE / 2, IDLE - POLL, IDLE, IDLE + POLL, 5 * IDLE]))
    def pass_time(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))

    @rule()
    def fall_idle(self) -> None:
        """After the idle second the broker is subscribed to nothing but the rooms with members."""
        self.backend.failing = 0
        self.run(asyncio.sleep(2 * IDLE))
        assert node_of(self.app).broker.topics == self._live_rooms()

    @invariant()
    def everybody_is_where_the_model_says(self) -> None:
        if not hasattr(self, "app"):
            return
        node = node_of(self.app)
        assert set(node.hub.rooms) == self._live_rooms() <= node.broker.topics
        for guest in self.guests:
            assert guest.connection.rooms == guest.rooms
        for name in ROOMS:
            members = {guest.connection for guest in self.guests if name in guest.rooms}
            assert set(node.hub.members(name)) == members
            assert len(members) <= SEATS
        assert len(node.rooms.roster or ()) == sum(len(guest.rooms) for guest in self.guests)

    @invariant()
    def everybody_has_heard_everything_once(self) -> None:
        self.run(asyncio.sleep(POLL))
        for guest in self.guests:
            assert guest.wire.frames == guest.expected

    def teardown(self) -> None:
        try:
            if hasattr(self, "app"):
                self._end()
        finally:
            with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
                runner.run(asyncio.sleep(0))

    def _end(self) -> None:
        self.backend.failing = 0
        self.run(_all(self._disconnect(guest) for guest in self.guests))
        self.run(asyncio.sleep(2 * IDLE))
        node = node_of(self.app)
        assert not node.broker.topics
        assert not node.hub.rooms
        assert len(node.rooms.roster or ()) == 0
        assert self.room.events["join"] == self.room.events["leave"]
        assert asyncio.all_tasks(self.loop) == self.tasks
        self.run(self.serving.__aexit__(None, None, None))
        assert not asyncio.all_tasks(self.loop)

    # The moves

    async def _connect(self, name: str) -> None:
        self.number += 1
        number = self.number
        context = dialing(self.app, f"/{name}?guest={number}")
        wire = await context.__aenter__()
        await wire.until(lambda: wire.done or number in self.room.connections)
        if wire.done:
            assert "accept" not in wire.events
            await context.__aexit__(None, None, None)
            return
        guest = Guest(wire, context, name)
        guest.connection = self.room.connections[number]
        self.guests.append(guest)
        self.total["joins"] += 1

    async def _disconnect(self, guest: Guest) -> None:
        self.guests.remove(guest)
        self.total["leaves"] += len(guest.rooms)
        await guest.dialing.__aexit__(None, None, None)
        assert guest.connection.rooms == set()

    async def _join(self, guest: Guest, room: str) -> None:
        try:
            await guest.connection.join(room)
        except (BrokerUnavailable, ChannelFull):
            assert room not in guest.rooms
            return
        if room not in guest.rooms:
            self.total["joins"] += 1
        guest.rooms.add(room)

    async def _leave(self, guest: Guest, room: str) -> None:
        await guest.connection.leave(room)
        if room in guest.rooms:
            self.total["leaves"] += 1
        guest.rooms.discard(room)

    def _places(self, places: list[tuple[int, str]]) -> list[tuple[Guest, str]]:
        """Each once. In their order: which call fails decides what comes next, and must do so again."""
        return list(dict.fromkeys((self._guest(index), room) for index, room in places))

    def _guest(self, index: int) -> Guest:
        return self.guests[index % len(self.guests)]

    def _live_rooms(self) -> set[str]:
        return {room for guest in self.guests for room in guest.rooms}

    def run(self, work: Awaitable[T]) -> T:
        return self.loop.run_until_complete(work)


async def _all(work: Any) -> None:
    async with asyncio.TaskGroup() as group:
        for each in list(work):
            group.create_task(each)


@pytest.mark.parametrize("enough", [1_000, pytest.param(10_000, marks=pytest.mark.fault)])
def test_who_joins_leaves(enough: int) -> None:
    before = len(live(Outbox, Inbox, Connection))
    Visits.total.clear()
    limits = settings(
        max_examples=20, stateful_step_count=40, suppress_health_check=[HealthCheck.too_slow], deadline=None
    )
    while Visits.total.total() < enough:
        run_state_machine_as_test(Visits, settings=limits)
    assert Visits.total["joins"] == Visits.total["leaves"]
    assert len(live(Outbox, Inbox, Connection)) <= before, "a queue is left"
