"""Who is in which room: here, and with the other processes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

from fastapi_channels.brokers import Broker
from fastapi_channels.connection import Connection
from fastapi_channels.stores import Occupancy, Occupant, Page, Store
from fastapi_channels.topics.spaces import TOPIC, Spaces
from fastapi_channels.wire.messages import Frame, Publication
from fastapi_channels.wire.positions import Position
from fastapi_channels.wire.rooms import EVERY_NODE, RESERVED, check_room, name_of, node_topic, source_of

from . import displacement
from .allowances import Allowances
from .displacement import Displacements
from .history import Histories
from .hub import Hub, soon
from .presence import KIND, Presences
from .pulse import Pulse
from .recovery import Arrival, Keeping, Since, Successors
from .renditions import Renditions
from .roster import Roster, replaced
from .sender import without_store
from .tasks import Tasks
from .terms import Terms
from .threads import in_its_loop
from .users import Member, UserKeys

T = TypeVar("T")

logger = logging.getLogger("fastapi_channels")

RETRY: Final = 0.1
"""Seconds until a topic of all processes, which could not be subscribed, is tried again."""
IDLE: Final = 1.0
"""Seconds that a subscription outlives the last member of its room."""


class Rooms:
    """The rooms of one node.

    Args:
        node: its id.
        namespace: begins every topic.
        broker: of the node, which brings what is published in the rooms.
        store: what outlives a connection; None where the processes share none.
        key_of: what names a user.
        personal: takes what the broker brings that is for no room.
    """

    def __init__(
        self,
        node: str,
        namespace: str,
        broker: Broker,
        store: Store | None,
        key_of: UserKeys,
        *,
        personal: Callable[[Publication], None],
    ) -> None:
        self.hub: Hub[Connection]  # pyright: ignore[reportInvalidTypeArguments]  # binds functions in slots
        self.hub = Hub(soon, None if broker.local else broker.expects)
        self.renditions = Renditions(self.hub)
        self.connections: dict[str, Connection] = {}
        """By id: those that are in a room."""
        self.spaces = Spaces(self.hub, self.renditions, self.connections)
        self.heard: set[str] = set()
        """Topics of the broker that stay subscribed although nobody is in a room of theirs."""
        self._successors = Successors()
        self.topics = (namespace + EVERY_NODE, namespace + node_topic(node))
        """What this process listens to beside its rooms."""
        self.pulse = Pulse(self.topics[1], broker.publish, broker.suspect)
        self.displacements = Displacements(node, namespace, broker.publish, self.connections, self.leave)
        displace = self.displacements.displace
        self.roster = Roster(node, store, displace, self._missed_topic) if store is not None else None
        self.allowances = Allowances(self.roster, namespace, key_of) if self.roster is not None else None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.histories = Histories(store, namespace, self) if store is not None else None
        publish = None if broker.local else broker.publish
        self.presences = Presences(store, namespace, self.hub, publish) if store is not None else None
        if self.roster is not None and self.presences is not None and self.allowances is not None:
            self.roster.on_changed = self.presences.changed
            self.displacements.on_elsewhere = self.allowances.lost
        self.wants_store = False
        """Whether a channel needs the store: it is opened at the start then, and else by the first call."""
        self._store = store
        self._namespace = namespace
        self._broker = broker
        self._key_of = key_of
        self._personal = personal
        self.idle: dict[str, asyncio.TimerHandle] = {}
        self._tasks = Tasks()

    # Life

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        if self.roster is not None:
            self.roster.start()
        if not self._broker.local:
            self._tasks.spawn(self._listen())

    async def stop(self) -> None:
        for handle in self.idle.values():
            handle.cancel()
        await self._tasks.stop()
        await self.pulse.stop()
        for part in self._parts():
            await part.stop()
        self.reset()

    def reset(self) -> None:
        """Run in whatever event loop comes next."""
        self.loop = None
        self.pulse.reset()
        for part in self._parts():
            part.reset()
        self.idle.clear()
        self.spaces.reset()
        self._tasks = Tasks()

    def _parts(self) -> list[Roster | Presences | Histories | Displacements]:
        parts = (self.roster, self.presences, self.histories, self.displacements)
        return [part for part in parts if part is not None]

    async def _listen(self) -> None:
        for topic in self.topics:
            while True:
                try:
                    await self._broker.subscribe(topic)
                    break
                except ConnectionError as exc:
                    logger.debug("the other processes are not reached yet: %s", exc)
                    await asyncio.sleep(RETRY)
        self.pulse.start()

    @property
    def store_away(self) -> float:
        """Seconds that the store of all processes has not answered; 0.0 while it does, or there is none."""
        return 0.0 if self.roster is None else self.roster.tenure.away

    # Membership

    async def join(
        self, room: str, connection: Connection, terms: Terms, since: Since | None = None
    ) -> Arrival | None:
        """Make `connection` a member of `room`; returns when nothing published there can be missed.

        Args:
            since: where the client has been.

        Returns:
            What it is told first of all, in a room with history that it was not in already.

        Raises:
            ParseError: the name is not usable.
            ChannelFull, TooManyConnections: every place is taken.
            BrokerUnavailable, StoreUnavailable: it was not confirmed in time.
        """
        check_room(name_of(room))
        if room in connection.keys:
            # Another task of the connection may be waiting for it still, and may be cancelled.
            await self._broker.subscribe(self._namespace + source_of(room))
            if room in connection.keys:
                return None
        topic = self._namespace + room
        limits, keeping, showing = terms.limits, terms.history, terms.showing
        if limits is not None:
            await self._shared(self.roster, "max_connection").enter(topic, self._occupant(connection), limits)
        histories = self._shared(self.histories, "history") if keeping is not None else None
        try:
            if terms.rooms_per_user is not None and self.allowances is not None:
                await self.allowances.enter(room, connection, terms.name, terms.rooms_per_user)
            if histories is not None:
                await histories.reach(room, since)
            if limits is not None and self.roster is not None and not self.roster.has(topic, connection.id):
                raise replaced(limits)
            if terms.rooms_per_user is not None and self.allowances is not None:
                self.allowances.check(room, connection, terms.rooms_per_user)
        except BaseException:
            if self.roster is not None:
                self.roster.leave(topic, connection.id)
            if self.allowances is not None:
                self.allowances.leave(room, connection)
            raise
        self.connections[connection.id] = connection
        connection.keys.add(room)
        begins = histories.enter(room, keeping, connection.id, since) if histories and keeping else None
        if (source := source_of(room)) != room:
            self.spaces.enter(room, connection)
        self.hub.add(room, connection)
        if since is not None and since.connection:
            self._successors.add(since.connection, connection.id)
        if showing is not None:
            self._shared(self.presences, "presence").enter(room, connection, showing)
        if limits is None and self._store is not None and (self._store.shared or showing is not None):
            self._shared(self.roster, "counting").enlist(topic, self._occupant(connection))
        if (idle := self.idle.pop(room, None)) is not None:
            idle.cancel()
        try:
            await self._broker.subscribe(self._namespace + source)
            if showing is not None:
                self._shared(self.presences, "presence").subscribed(room)
            if histories is None:
                return None
            see = partial(self.renditions.frame, connection)
            return await histories.arrive(room, begins, since, self._key_of(connection.user), see)
        except BaseException:
            self.leave(room, connection)
            raise

    def leave(self, room: str, connection: Connection, *, returns: bool = False) -> None:
        """Undo `join`; never waits and never fails.

        Args:
            returns: whether its client may come back in a moment.
        """
        if room not in connection.keys:
            return
        connection.keys.discard(room)
        if self.histories is not None and self.histories.came:
            self.histories.came.pop((room, connection.id), None)
        if self.roster is not None:
            self.roster.leave(self._namespace + room, connection.id, returns=returns)
        if self.allowances is not None and self.allowances.taken:
            self.allowances.leave(room, connection)
        if connection.presence and self.presences is not None:
            self.presences.leave(room, connection.id)
        if self.hub.discard(room, connection) and self.loop is not None:
            self.idle[room] = self.loop.call_later(IDLE, self._fell_idle, room)
        if not connection.keys:
            self.connections.pop(connection.id, None)
            self._successors.discard(connection.id)

    @in_its_loop
    async def count(self, room: str) -> int:
        """How many connections are in `room`, over all processes.

        Raises:
            StoreUnavailable: the store did not answer in time.
        """
        if self._broker.local:
            return self.hub.count(room)
        return await self._shared(self.roster, "get_connection_count()").count(self._namespace + room)

    @in_its_loop
    async def members(self, room: str) -> list[Member]:
        """Who is in `room`, over all processes: `id` and `user` (its key, or None) of each.

        Raises:
            StoreUnavailable: the store did not answer in time.
        """
        if self._broker.local:
            return [{"id": each.id, "user": self._key_of(each.user)} for each in self.hub.members(room)]
        found = await self._shared(self.roster, "members()").occupancy(self._namespace + room)
        return [{"id": each.id, "user": each.user} for each in found.occupants]

    @in_its_loop
    async def occupancy(self, room: str, first: int = 0, limit: int | None = None) -> Occupancy:
        """Who is in `room`, over all processes, in the order in which they came, or a part of them.

        Raises:
            StoreUnavailable: the store did not answer in time.
        """
        return await self._shared(self.roster, "people()").occupancy(self._namespace + room, first, limit)

    @in_its_loop
    async def count_people(self, room: str) -> int:
        """How many of them there are: users, and connections without one. Raises as that."""
        return await self._shared(self.roster, "count_people()").count_people(self._namespace + room)

    def present(self, room: str, connection: Connection) -> None:
        """Let others know what `connection` says of itself now."""
        self._shared(self.roster, "presence").update(self._namespace + room, self._occupant(connection))

    def show(self, room: str, connection: Connection) -> None:
        """Show `connection` again who is in `room`."""
        if self.presences is not None:
            self.presences.ask(room, connection)

    @property
    def holds(self) -> bool:
        """Whether the members of rooms of limited size surely have their places."""
        return self.roster is None or self.roster.tenure.holds

    async def regain(self) -> None:
        """Return when that is known; who has lost its place is not in the room any more.

        Raises:
            StoreUnavailable: the store did not answer in time.
        """
        if self.roster is not None:
            await self.roster.tenure.regain()

    # What is published

    def users_of(self, connections: frozenset[str]) -> frozenset[str]:
        """The keys of the users of those connections that are in a room here."""
        keys = {self._key_of(self.connections[id].user) for id in connections & self.connections.keys()}
        return frozenset(key for key in keys if key is not None)

    def known(self, room: str) -> Position | None:
        """How far the history of `room` has come, as this process knows; None where it does not."""
        return self.histories.known(room) if self.histories is not None else None

    def published(self, room: str, position: Position) -> None:
        if self.histories is not None:
            self.histories.published(room, position)

    @in_its_loop
    async def read(
        self, room: str, keeping: Keeping, at: Position | None, *, limit: int, reverse: bool
    ) -> Page:
        """A page of the history of `room`: what comes after `at`, or before it if `reverse`. Where `at` is of
        an epoch that has ended, the page begins at the end of the history.

        Raises:
            StoreUnavailable: the store did not answer in time.
        """
        return await self._shared(self.histories, "history").read(room, keeping, at, limit, reverse)

    def receive(self, publication: Publication) -> None:
        """Hand what was published in a room to its members here."""
        room, roster = publication.topic.removeprefix(self._namespace), self.roster
        if room.startswith(RESERVED):
            self._receive_besides(publication)
            return
        if publication.kind == TOPIC:
            self.spaces.receive(room, publication)
            return
        if publication.kind == KIND:
            if self.presences is not None:
                self.presences.receive(publication)
            return
        if roster is not None and roster.guarded and roster.withholds(publication.topic):
            return
        if publication.position and self.histories is not None and self.histories.take(room, publication):
            return
        deliver = self.renditions.by(publication.for_each) if publication.for_each else self.hub.deliver
        deliver(room, Frame(publication.body, name_of(room)), publication.exclude)

    def _receive_besides(self, publication: Publication) -> None:
        if publication.kind == "pulse":
            self.pulse.feel()
        elif publication.kind == displacement.KIND:
            self.displacements.receive(publication)
        else:
            self._personal(publication)

    def pass_on(self, room: str, frame: Frame, exclude: frozenset[str], for_each: str) -> None:
        deliver = self.renditions.by(for_each) if for_each else self.hub.deliver
        # It may have been published before the client came back, and come after.
        deliver(room, frame, self._successors.also(exclude))

    def missed(self, room: str, position: Position | None = None) -> None:
        """Tell the members of `room` that messages may be missing at this place; where it has a history, that
        those before `position` are."""
        if position is None and self.histories is not None and room in self.histories:
            self.histories.compare()
            return
        for each in self.spaces.rooms(room):
            for connection in self.hub.members(each):
                connection._carrier.missed(name_of(each), position)

    def broker_changed(self, up: bool) -> None:
        if up:
            self.pulse.feel()
            if self.presences is not None:
                self.presences.compare()
            if self.histories is not None:
                self.histories.compare(marks=True)
            if not self._broker.resumes:
                for room in list(self.hub.rooms):
                    self.missed(room)

    def topic(self, room: str) -> str:
        """Where `room` is published, and kept."""
        return self._namespace + room

    def check_store(self, wanted: str) -> None:
        """
        Raises:
            ConfigurationError: there is no store for what is wanted.
        """
        if self._store is None:
            raise without_store(wanted)
        self.wants_store = True

    def _shared(self, part: T | None, wanted: str) -> T:
        self.check_store(wanted)
        assert part is not None
        return part

    def _occupant(self, connection: Connection) -> Occupant:
        return Occupant(connection.id, self._key_of(connection.user), connection.seat, connection.presence)

    def _missed_topic(self, topic: str) -> None:
        self.missed(topic.removeprefix(self._namespace))

    def _fell_idle(self, room: str) -> None:
        del self.idle[room]
        self._tasks.spawn(self._unsubscribe(room))

    async def _unsubscribe(self, room: str) -> None:
        # Counted here, in one step with what follows: somebody may have come since the timer.
        if self.hub.count(room) == 0:
            if self.histories is not None:
                self.histories.close(room)
            if self.presences is not None:
                self.presences.close(room)
            source = source_of(room)
            ends = source == room or self.spaces.leave(room)
            if ends and self._namespace + source not in self.heard:
                await self._broker.unsubscribe(self._namespace + source)
