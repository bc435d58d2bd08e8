"""Who is in which room: here, and with the other processes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from fastapi_channels.brokers import Broker
from fastapi_channels.connection import Connection
from fastapi_channels.exceptions import BrokerUnavailable
from fastapi_channels.stores import Announcement, Appended, Limits, Occupant, Page, Record, Store
from fastapi_channels.wire.log import Seldom
from fastapi_channels.wire.messages import Body, Frame, Publication, pack_around
from fastapi_channels.wire.positions import Position
from fastapi_channels.wire.rooms import EVERY_NODE, RESERVED, check_room, name_of, node_topic

from .history import Histories
from .hub import Hub
from .pulse import Pulse
from .recovery import Arrival, Keeping, Since
from .roster import Roster
from .sender import KEY_SECONDS, without_store
from .tasks import Tasks
from .threads import in_its_loop
from .users import Member, UserKeys

logger = logging.getLogger("fastapi_channels")

IDLE: Final = 1.0
"""Seconds that a subscription outlives the last member of its room."""
ECHO: Final = 2.0
"""Seconds that a publisher waits at most for its own message to come back."""


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
        # pyright binds the functions that a Connection has in slots, as if they were methods.
        self.hub: Hub[Connection]  # pyright: ignore[reportInvalidTypeArguments]
        self.hub = Hub(lambda flush: asyncio.get_running_loop().call_soon(flush))
        self.connections: dict[str, Connection] = {}
        """By id: those that are in a room."""
        self._formerly: dict[str, str] = {}
        """The id of a connection that has ended, and of the one that its client has now."""
        self._former: dict[str, str] = {}
        self.topics = (namespace + EVERY_NODE, namespace + node_topic(node))
        """What this process listens to beside its rooms."""
        self.pulse = Pulse(self.topics[1], broker.publish, broker.suspect)
        self.announces = False
        """Whether what the store appends it can also publish, where this broker listens."""
        self.roster = Roster(node, store, self._displaced, self._missed_topic) if store is not None else None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.histories = Histories(store, namespace, self) if store is not None else None
        self.wants_store = False
        """Whether a channel needs the store: it is opened at the start then, and else by the first call."""
        self._store = store
        self._namespace = namespace
        self._broker = broker
        self._key_of = key_of
        self._personal = personal
        self._displacements = Seldom(logger)
        self._idle: dict[str, asyncio.TimerHandle] = {}
        self._tasks = Tasks()

    # Life

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        if self.roster is not None:
            self.roster.start()
        if not self._broker.local:
            self._tasks.spawn(self._listen())

    async def stop(self) -> None:
        for handle in self._idle.values():
            handle.cancel()
        await self._tasks.stop()
        await self.pulse.stop()
        if self.roster is not None:
            await self.roster.stop()
        if self.histories is not None:
            await self.histories.stop()
        self.reset()

    def reset(self) -> None:
        """Run in whatever event loop comes next."""
        self.loop = None
        self.pulse.reset()
        if self.roster is not None:
            self.roster.reset()
        if self.histories is not None:
            self.histories.reset()
        self._idle.clear()
        self._tasks = Tasks()

    async def _listen(self) -> None:
        for topic in self.topics:
            while True:
                try:
                    await self._broker.subscribe(topic)
                    break
                except ConnectionError as exc:
                    logger.debug("the other processes are not reached yet: %s", exc)
                    await asyncio.sleep(0.1)
        self.pulse.start()

    @property
    def store_away(self) -> float:
        """Seconds that the store of all processes has not answered; 0.0 while it does, or there is none."""
        return 0.0 if self.roster is None else self.roster.tenure.away

    # Membership

    async def join(
        self,
        room: str,
        connection: Connection,
        *,
        limit: int | None = None,
        keeping: Keeping | None = None,
        since: Since | None = None,
    ) -> Arrival | None:
        """Make `connection` a member of `room`; returns when nothing published there can be missed.

        Args:
            limit: how many seats the room has, over all processes.
            keeping: the history of the room, if it has one.
            since: where the client has been.

        Returns:
            What it is told first of all, in a room with history that it was not in already.

        Raises:
            ParseError: the name is not usable.
            ChannelFull: every seat is taken.
            BrokerUnavailable, StoreUnavailable: it was not confirmed in time.
        """
        check_room(name_of(room))
        if room in connection.keys:
            # Another task of the connection may be waiting for it still, and may be cancelled.
            await self._broker.subscribe(self._namespace + room)
            if room in connection.keys:
                return None
        if limit is not None:
            await self._roster("max_connection").enter(
                self._namespace + room, self._occupant(connection), Limits(seats=limit)
            )
        histories = self._shared_histories() if keeping is not None else None
        if histories is not None:
            await histories.reach(room, since)
        self.connections[connection.id] = connection
        connection.keys.add(room)
        begins = histories.enter(room, keeping) if histories is not None and keeping is not None else None
        self.hub.add(room, connection)
        if since is not None and since.connection:
            self._formerly[since.connection] = connection.id
            self._former[connection.id] = since.connection
        if limit is None and self._store is not None and self._store.shared:
            self._roster("counting").enlist(self._namespace + room, self._occupant(connection))
        idle = self._idle.pop(room, None)
        if idle is not None:
            idle.cancel()
        try:
            await self._broker.subscribe(self._namespace + room)
            if histories is None:
                return None
            return await histories.arrive(room, begins, since, self._key_of(connection.user))
        except BaseException:
            self.leave(room, connection)
            raise

    def leave(self, room: str, connection: Connection) -> None:
        """Undo `join`; never waits and never fails."""
        if room not in connection.keys:
            return
        connection.keys.discard(room)
        if self.roster is not None:
            self.roster.leave(self._namespace + room, connection.id)
        if self.hub.discard(room, connection) and self.loop is not None:
            self._idle[room] = self.loop.call_later(IDLE, self._fell_idle, room)
        if not connection.keys:
            self.connections.pop(connection.id, None)
            if connection.id in self._former:
                was = self._former.pop(connection.id)
                if self._formerly.get(was) == connection.id:
                    del self._formerly[was]

    @in_its_loop
    async def count(self, room: str) -> int:
        """How many connections are in `room`, over all processes.

        Raises:
            StoreUnavailable: the store did not answer in time.
        """
        if self._broker.local:
            return self.hub.count(room)
        return await self._roster("get_connection_count()").count(self._namespace + room)

    @in_its_loop
    async def members(self, room: str) -> list[Member]:
        """Who is in `room`, over all processes: `id` and `user` (its key, or None) of each.

        Raises:
            StoreUnavailable: the store did not answer in time.
        """
        if self._broker.local:
            return [{"id": each.id, "user": self._key_of(each.user)} for each in self.hub.members(room)]
        occupants = await self._roster("members()").occupants(self._namespace + room)
        return [{"id": each.id, "user": each.user} for each in occupants]

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

    # Publishing

    async def publish(
        self, room: str, body: Body, exclude: frozenset[str], keeping: Keeping, key: str | None
    ) -> Position:
        """Send `body` to the members of `room` in every process, by way of its history.

        Returns:
            Its position; that of the first with the same `key`, if there was one.

        Raises:
            StoreUnavailable: the store did not take it in time.
        """
        users = {self._key_of(self.connections[id].user) for id in exclude if id in self.connections}
        record = Record(0, body, exclude, frozenset(user for user in users if user is not None))
        append = partial(
            self._shared_histories().append, room, record, keeping, key=key, key_seconds=KEY_SECONDS
        )
        if self.announces:
            return await self._announce(Publication(self._namespace + room, body, exclude), append)
        position, is_new = await append()
        if is_new:
            publication = Publication(self._namespace + room, body, exclude, position=str(position))
            try:
                await self._broker.publish(publication)
            except BrokerUnavailable as exc:
                # It is in the history, where every process reads it when the broker is back.
                logger.debug("published to the history alone: %s", exc)
                self.receive(publication)
        return position

    async def _announce(
        self, publication: Publication, append: Callable[..., Awaitable[Appended]]
    ) -> Position:
        """Let the store publish what it appends; returns when it has come back."""
        topic, body = publication.topic, publication.body
        deadline = asyncio.get_running_loop().time() + ECHO
        async with self._broker.echoing(topic, body) as echo:
            position, is_new = await append(announcement=Announcement(topic, *pack_around(publication)))
            if is_new:
                await echo(deadline)
        return position

    @in_its_loop
    async def read(
        self, room: str, keeping: Keeping, at: Position | None, *, limit: int, reverse: bool
    ) -> Page:
        """A page of the history of `room`: what comes after `at`, or before it if `reverse`. Where `at` is of
        an epoch that has ended, the page begins at the end of the history.

        Raises:
            StoreUnavailable: the store did not answer in time.
        """
        return await self._shared_histories().read(room, keeping, at, limit, reverse)

    # What the broker brings

    def receive(self, publication: Publication) -> None:
        """Hand what was published in a room to its members here."""
        room, roster = publication.topic.removeprefix(self._namespace), self.roster
        if room.startswith(RESERVED):
            self._receive_besides(publication)
            return
        if roster is not None and roster.guarded and roster.withholds(publication.topic):
            return
        if publication.position and self.histories is not None and self.histories.take(room, publication):
            return
        self.hub.deliver(room, Frame(publication.body, name_of(room)), publication.exclude)

    def _receive_besides(self, publication: Publication) -> None:
        if publication.kind == "pulse":
            self.pulse.feel()
        else:
            self._personal(publication)

    def pass_on(self, room: str, frame: Frame, exclude: frozenset[str]) -> None:
        if exclude and self._formerly:
            # It may have been published before the client came back, and come after.
            exclude |= {self._formerly[id] for id in exclude if id in self._formerly}
        self.hub.deliver(room, frame, exclude)

    def missed(self, room: str, position: Position | None = None) -> None:
        """Tell the members of `room` that messages may be missing at this place; where it has a history, that
        those before `position` are."""
        if position is None and self.histories is not None and room in self.histories:
            self.histories.compare()
            return
        for connection in self.hub.members(room):
            connection._carrier.missed(name_of(room), position)

    def broker_changed(self, up: bool) -> None:
        if up:
            self.pulse.feel()
            if not self._broker.resumes:
                for room in list(self.hub.rooms):
                    self.missed(room)

    # Odds and ends

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

    def _shared_histories(self) -> Histories:
        self.check_store("history")
        assert self.histories is not None
        return self.histories

    def _roster(self, wanted: str) -> Roster:
        self.check_store(wanted)
        assert self.roster is not None
        return self.roster

    def _occupant(self, connection: Connection) -> Occupant:
        return Occupant(connection.id, self._key_of(connection.user), connection.seat)

    def _displaced(self, topic: str, id: str) -> None:
        """A connection has lost its place in a room to another."""
        room, connection = topic.removeprefix(self._namespace), self.connections.get(id)
        if connection is not None:
            self._displacements.warn(f"{id!r} had to give up its place in {name_of(room)!r} to another")
            self.leave(room, connection)
            self._tasks.spawn(connection._carrier.displaced(room))

    def _missed_topic(self, topic: str) -> None:
        self.missed(topic.removeprefix(self._namespace))

    def _fell_idle(self, room: str) -> None:
        del self._idle[room]
        self._tasks.spawn(self._unsubscribe(room))

    async def _unsubscribe(self, room: str) -> None:
        # Counted here, in one step with what follows: somebody may have come since the timer.
        if self.hub.count(room) == 0:
            if self.histories is not None:
                self.histories.close(room)
            await self._broker.unsubscribe(self._namespace + room)
