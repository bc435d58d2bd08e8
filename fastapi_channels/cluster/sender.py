"""What goes to the processes of an application: each thing to the topic of those that it is for."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from time import perf_counter
from typing import Any, Final, Protocol, TypeAlias

from fastapi_channels.brokers.backend import apart
from fastapi_channels.exceptions import BrokerUnavailable, ConfigurationError
from fastapi_channels.stores import Addition, Announcement, Record, Store
from fastapi_channels.topics.names import check_topic
from fastapi_channels.topics.spaces import TOPIC
from fastapi_channels.wire.messages import Body, Publication
from fastapi_channels.wire.packing import Packing
from fastapi_channels.wire.positions import Position
from fastapi_channels.wire.rooms import (
    EVERY_NODE,
    SPACE_END,
    InvalidRoom,
    check_room,
    name_of,
    node_topic,
    source_of,
)

from .marks import Marks
from .observer import Observers
from .orders import DisconnectConnection, Order, encode
from .recovery import Keeping
from .users import UserKeys

logger = logging.getLogger("fastapi_channels")

KEY_SECONDS: Final = 300.0
"""Seconds in which the key of a publication says that it is the same one."""
PERSONAL: Final = ("connection", "user")
"""Kinds of publications that are for clients, and for no room."""
ECHO: Final = 2.0
"""Seconds that a publisher waits at most for its own message to come back."""
Publish: TypeAlias = Callable[[Publication], Awaitable[None]]
Echoing: TypeAlias = Callable[[str, Body], AbstractAsyncContextManager[Callable[[float], Awaitable[None]]]]


class Here(Protocol):
    """The clients of this process."""

    def users_of(self, connections: frozenset[str]) -> frozenset[str]:
        """The keys of the users of those connections that are here."""
        ...

    def known(self, room: str) -> Position | None:
        """How far the history of `room` has come, as this process knows; None where it does not."""
        ...

    def published(self, room: str, position: Position) -> None:
        """A publication of this process has that position."""
        ...

    def receive(self, publication: Publication) -> None:
        """Hand on what the broker could not bring."""
        ...


class Nobody:
    """No clients."""

    def __init__(self) -> None:
        marks = Marks()
        self.known, self.published = marks.get, marks.note

    def users_of(self, connections: frozenset[str]) -> frozenset[str]:
        return frozenset()

    def receive(self, publication: Publication) -> None:
        pass


class Sender:
    """Sends to rooms, connections and users, and gives orders.

    Every method raises BrokerUnavailable when the broker did not take it before its deadline.

    Args:
        publish: hands a publication to the broker.
        echoing: the broker's; around what the store publishes.
        namespace: begins every topic.
        key_of: what names the users.
        store: has the histories, and the keys that were used; None where the processes share none.
        packing: the broker's.
        here: the clients of this process.
        observers: are told of what is published for clients.
    """

    def __init__(
        self,
        publish: Publish,
        echoing: Echoing,
        namespace: str,
        key_of: UserKeys,
        store: Store | None,
        packing: Packing,
        here: Here,
        observers: Observers,
    ) -> None:
        self.store = store
        self.key_of = key_of
        self._publish = publish
        self._echoing = echoing
        self._namespace = namespace
        self._packing = packing
        self._here = here
        self._observers = observers

    async def publish(
        self,
        room: str,
        body: Body,
        exclude: frozenset[str] = frozenset(),
        *,
        keeping: Keeping | None = None,
        key: str | None = None,
        for_each: str = "",
    ) -> Position | None:
        """As `Node.publish`.

        Raises:
            ConfigurationError: there is no store for a history, or for `key`; or that is no text, or empty.
        """
        check_sendable(room, body)
        if key is not None and (not isinstance(key, str) or not key):
            raise ConfigurationError(f"key= names a publication by a text that is not empty, got {key!r}")
        publication = Publication(self._namespace + room, body, exclude, for_each=for_each)
        if SPACE_END in room:
            space, to = self._namespace + source_of(room), (check_topic(name_of(room)),)
            publication = replace(publication, topic=space, kind=TOPIC, to=to)
        return await self._observed(publication, room, keeping, key)

    async def send_to_connection(self, connection_id: str, body: Body) -> None:
        """Send `body` to one connection, whichever process holds it; nothing if none does.

        Raises:
            ConfigurationError: `connection_id` is no text, or cannot be an id.
        """
        await self._send(_home_of(connection_id), body, "connection", connection_id)

    async def send_to_user(self, user: Any, body: Body) -> None:
        """Send `body` to every connection of a user.

        Raises:
            ConfigurationError: `user` is nobody, or has no key.
        """
        await self._send(EVERY_NODE, body, "user", self.key_of.named(user))

    async def order(self, order: Order) -> None:
        """Have the processes do something with their connections. It is done after this returned."""
        topic = _home_of(order.connection) if isinstance(order, DisconnectConnection) else EVERY_NODE
        await self._send(topic, encode(order), "order")

    async def report(self, asker: str, body: Body) -> None:
        """Answer the probe of a process of that id."""
        await self._send(node_topic(asker), body, "report")

    def wanted(self, what: str) -> Store:
        """The store.

        Raises:
            ConfigurationError: there is none for `what`.
        """
        if self.store is None:
            raise without_store(what)
        return self.store

    async def _observed(
        self,
        publication: Publication,
        room: str = "",
        keeping: Keeping | None = None,
        key: str | None = None,
    ) -> Position | None:
        """Publish, and tell who observes."""
        told, failure = self._observers, None
        for begin in told.publishing:
            publication = begin(publication, room)
        began = perf_counter() if told.published else 0.0
        try:
            if keeping is not None:
                return await self._publish_kept(room, publication, keeping, key)
            await (self._publish(publication) if key is None else self._publish_once(room, publication, key))
            return None
        except BaseException as exc:
            failure = exc
            raise
        finally:
            for tell in told.published:
                tell(publication, perf_counter() - began, failure)
            failure = None  # which refers to this frame

    async def _publish_kept(
        self, room: str, publication: Publication, keeping: Keeping, key: str | None
    ) -> Position:
        """Publish by way of the history."""
        store, here = self.wanted("history"), self._here
        users = here.users_of(publication.exclude)
        record = Record(0, publication.body, publication.exclude, users, for_each=publication.for_each)
        addition = Addition(record, keeping.keep, key, KEY_SECONDS, here.known(room))
        if store.announces:
            position = await self._announce(store, publication, addition)
            here.published(room, position)
            return position
        position, is_new = await store.append(publication.topic, addition)
        here.published(room, position)
        if is_new:
            kept = replace(publication, position=str(position))
            try:
                await self._publish(kept)
            except BrokerUnavailable as exc:
                # It is in the history, where every process reads it when the broker is back.
                logger.debug("published to the history alone: %s", exc)
                here.receive(kept)
        return position

    async def _announce(self, store: Store, publication: Publication, addition: Addition) -> Position:
        """Let the store publish what it appends; returns when it has come back."""
        deadline = asyncio.get_running_loop().time() + ECHO
        async with self._echoing(publication.topic, publication.body) as echo:
            announcement = Announcement(publication.topic, *self._packing.around(publication))
            announced = addition._replace(announcement=announcement)
            position, is_new = await store.append(publication.topic, announced)
            if is_new:
                await echo(deadline)
        return position

    async def _publish_once(self, room: str, publication: Publication, key: str) -> None:
        """Publish what has no history; nothing happens where `key` was used before."""
        store = self.wanted("key=")
        claimed, owner = f"{self._namespace}{room}\n{key}", secrets.token_hex(8)
        if (await store.claim(claimed, owner, KEY_SECONDS)).state != "new":
            return
        try:
            await self._publish(publication)
        except BrokerUnavailable:
            # No time may be left, and who tries again with the key has to find it free.
            with apart():
                await store.settle(claimed, owner, None, KEY_SECONDS)
            raise
        with apart():
            await store.settle(claimed, owner, "", KEY_SECONDS)

    async def _send(self, topic: str, body: Body, kind: str, *to: str) -> None:
        publication = Publication(self._namespace + topic, body, to=to, kind=kind)
        await (self._observed(publication) if kind in PERSONAL else self._publish(publication))


def without_store(wanted: str) -> ConfigurationError:
    return ConfigurationError(
        f"{wanted} needs a store that all processes share, and this broker brings none: "
        "say which with store_url=…"
    )


def check_sendable(room: str, body: Body) -> None:
    """
    Raises:
        ParseError: the name of the room is not usable.
        UnicodeEncodeError: a text that UTF-8 cannot hold, which no client could be sent.
    """
    check_room(name_of(room))
    if isinstance(body, str) and not body.isascii():
        body.encode()


def _home_of(connection_id: str) -> str:
    """The topic of the process that has a connection.

    Raises:
        ConfigurationError: it is no text, or cannot be an id.
    """
    if not isinstance(connection_id, str):
        raise ConfigurationError(f"a connection is its id, a text, not {connection_id!r}")
    try:
        return node_topic(check_room(connection_id.partition(".")[0]))
    except InvalidRoom:
        raise ConfigurationError(f"no connection has an id such as {connection_id[:64]!r}") from None
