"""Who is in which room: here, and with the other processes."""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import Any, Final

from fastapi_channels.brokers import Broker
from fastapi_channels.connection import Connection
from fastapi_channels.exceptions import BrokerUnavailable, ChannelFull, ConfigurationError
from fastapi_channels.stores import Page, Record, Store
from fastapi_channels.wire.messages import Body, Frame, Publication
from fastapi_channels.wire.positions import Position
from fastapi_channels.wire.rooms import check_room, name_of

from .history import Histories
from .hub import Hub
from .peers import Cluster
from .recovery import Arrival, Keeping, Since
from .seats import Seats
from .tasks import Tasks
from .threads import in_its_loop
from .users import Member, UserKeys

logger = logging.getLogger("fastapi_channels")

IDLE: Final = 1.0
"""Seconds that a subscription outlives the last member of its room."""
KEY_SECONDS: Final = 300.0
"""Seconds in which the key of a publication says that it is the same one."""


class Rooms:
    """The rooms of one node.

    Args:
        node: its id.
        namespace: begins every topic.
        broker: of the node, which brings what is published in the rooms.
        store: what outlives a connection; None where the processes share none.
        key_of: what names a user.
    """

    def __init__(
        self, node: str, namespace: str, broker: Broker, store: Store | None, key_of: UserKeys
    ) -> None:
        # pyright binds the functions that a Connection has in slots, as if they were methods.
        self.hub: Hub[Connection]  # pyright: ignore[reportInvalidTypeArguments]
        self.hub = Hub(lambda flush: asyncio.get_running_loop().call_soon(flush))
        self.connections: dict[str, Connection] = {}
        """By id: those that are in a room."""
        self.seats = Seats()
        answers = {"count": self._answer_count, "members": self._answer_members, "seats": self._answer_seats}
        self.cluster = Cluster(node, namespace, broker.publish, answers, broker.suspect)
        self.loop: asyncio.AbstractEventLoop | None = None
        self.histories = Histories(store, namespace, self) if store is not None else None
        self.wants_store = False
        """Whether a channel needs the store: it is opened at the start then, and else by the first call."""
        self._store = store
        self._node = node
        self._namespace = namespace
        self._broker = broker
        self._key_of = key_of
        self._idle: dict[str, asyncio.TimerHandle] = {}
        self._tasks = Tasks()

    # Life

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        if not self._broker.local:
            self._tasks.spawn(self._join_cluster())

    async def stop(self) -> None:
        for handle in self._idle.values():
            handle.cancel()
        await self._tasks.stop()
        if not self._broker.local:
            await self.cluster.stop()
        if self.histories is not None:
            await self.histories.stop()
        self.reset()

    def reset(self) -> None:
        """Run in whatever event loop comes next."""
        self.loop = None
        self.cluster.reset()
        if self.histories is not None:
            self.histories.reset()
        self._idle.clear()
        self._tasks = Tasks()

    async def _join_cluster(self) -> None:
        for topic in self.cluster.topics:
            while True:
                try:
                    await self._broker.subscribe(topic)
                    break
                except ConnectionError as exc:
                    logger.debug("the other processes are not reached yet: %s", exc)
                    await asyncio.sleep(0.1)
        self.cluster.start()

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
            await self._take_seat(room, connection, limit)
        histories = self._shared_histories() if keeping is not None else None
        if histories is not None:
            await histories.reach(room, since)
        self.connections[connection.id] = connection
        connection.keys.add(room)
        begins = histories.enter(room, keeping) if histories is not None and keeping is not None else None
        self.hub.add(room, connection)
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
        self.seats.release(room, connection.seat, connection.id)
        if self.hub.discard(room, connection) and self.loop is not None:
            self._idle[room] = self.loop.call_later(IDLE, self._fell_idle, room)
        if not connection.keys:
            self.connections.pop(connection.id, None)

    @in_its_loop
    async def count(self, room: str) -> int:
        """How many connections are in `room`, over all processes."""
        here = self.hub.count(room)
        if self._broker.local:
            return here
        answers = await self.cluster.ask("count", room=room)
        return here + sum(int(count) for count in answers.values())

    @in_its_loop
    async def members(self, room: str) -> list[Member]:
        """Who is in `room`, over all processes: `id` and `user` (its key, or None) of each."""
        here = self._answer_members({"room": room})
        if self._broker.local:
            return here
        others = await self.cluster.ask("members", room=room)
        return [*here, *(member for answer in others.values() for member in answer)]

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
        position, is_new = await self._shared_histories().append(
            room, record, keeping, key=key, key_seconds=KEY_SECONDS
        )
        if is_new:
            publication = Publication(self._namespace + room, body, exclude, position=str(position))
            try:
                await self._broker.publish(publication)
            except BrokerUnavailable as exc:
                # It is in the history, where every process reads it when the broker is back.
                logger.debug("published to the history alone: %s", exc)
                self.deliver(room, publication)
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

    async def publish_once(self, publication: Publication, key: str) -> None:
        """Publish what has no history; nothing happens where `key` was used before.

        Raises:
            BrokerUnavailable: the broker did not take it before its deadline.
            StoreUnavailable: whether `key` was used is not known.
        """
        self.check_store("key=")
        assert self._store is not None
        claimed, owner = f"{publication.topic}\n{key}", secrets.token_hex(8)
        if (await self._store.claim(claimed, owner, KEY_SECONDS)).state != "new":
            return
        try:
            await self._broker.publish(publication)
        except BrokerUnavailable:
            await self._store.settle(claimed, owner, None, KEY_SECONDS)
            raise
        await self._store.settle(claimed, owner, "", KEY_SECONDS)

    # What the broker brings

    def deliver(self, room: str, publication: Publication) -> None:
        """Hand what was published in `room` to its members here."""
        if publication.position and self.histories is not None and self.histories.take(room, publication):
            return
        self.hub.deliver(room, Frame(publication.body, name_of(room)), publication.exclude)

    def pass_on(self, room: str, frame: Frame, exclude: frozenset[str]) -> None:
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
            self.cluster.outage()
            if not self._broker.resumes:
                for room in list(self.hub.rooms):
                    self.missed(room)

    # Odds and ends

    def check_store(self, wanted: str) -> None:
        """
        Raises:
            ConfigurationError: there is no store for what is wanted.
        """
        if self._store is None:
            raise ConfigurationError(
                f"{wanted} needs a store that all processes share, and this broker brings none: "
                "say which with add_channel(…, store_url=…)"
            )
        self.wants_store = True

    def _shared_histories(self) -> Histories:
        self.check_store("history")
        assert self.histories is not None
        return self.histories

    async def _take_seat(self, room: str, connection: Connection, limit: int) -> None:
        """Claim a seat, and compare the claim with those of the other processes.

        Raises:
            ChannelFull: `limit` seats are taken, or were claimed before.
        """
        seat, holder = connection.seat, connection.id
        if not self._broker.local:
            # The clocks of the others come first: a newcomer's claim must not stand before theirs.
            await self.cluster.settle()
        if not self.seats.claim(room, seat, holder, limit, self.cluster.tick()):
            raise ChannelFull(close=False, context={"limit": limit})
        if self._broker.local:
            return
        try:
            answers = await self.cluster.ask("seats", room=room)
            if not self.seats.confirm(room, seat, limit, self._node, answers):
                raise ChannelFull(close=False, context={"limit": limit})
        except BaseException:
            self.seats.release(room, seat, holder)
            raise

    def _answer_count(self, question: dict[str, Any]) -> int:
        return self.hub.count(str(question.get("room")))

    def _answer_members(self, question: dict[str, Any]) -> list[Member]:
        members = self.hub.members(str(question.get("room")))
        return [{"id": member.id, "user": self._key_of(member.user)} for member in members]

    def _answer_seats(self, question: dict[str, Any]) -> list[Any]:
        return self.seats.claims(str(question.get("room")))

    def _fell_idle(self, room: str) -> None:
        del self._idle[room]
        self._tasks.spawn(self._unsubscribe(room))

    async def _unsubscribe(self, room: str) -> None:
        # Counted here, in one step with what follows: somebody may have come since the timer.
        if self.hub.count(room) == 0:
            if self.histories is not None:
                self.histories.close(room)
            await self._broker.unsubscribe(self._namespace + room)
