"""What goes to the processes of an application: each thing to the topic of those that it is for."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

from fastapi_channels.exceptions import BrokerUnavailable, ConfigurationError
from fastapi_channels.stores import Record, Store
from fastapi_channels.wire.messages import Body, Publication
from fastapi_channels.wire.positions import Position
from fastapi_channels.wire.rooms import EVERY_NODE, check_room, name_of, node_topic

from .orders import DisconnectConnection, Order, encode
from .recovery import Keeping
from .users import UserKeys

logger = logging.getLogger("fastapi_channels")

KEY_SECONDS: Final = 300.0
"""Seconds in which the key of a publication says that it is the same one."""
Publish: TypeAlias = Callable[[Publication], Awaitable[None]]


class Sender:
    """Sends to rooms, connections and users, and gives orders.

    Every method raises BrokerUnavailable when the broker did not take it before its deadline.

    Args:
        publish: hands a publication to the broker.
        namespace: begins every topic.
        key_of: what names the users.
        store: has the histories, and the keys that were used; None where the processes share none.
    """

    def __init__(
        self, publish: Publish, namespace: str, key_of: UserKeys, store: Store | None = None
    ) -> None:
        self.store = store
        self._publish = publish
        self.key_of = key_of
        self._namespace = namespace

    async def publish(
        self,
        room: str,
        body: Body,
        exclude: frozenset[str] = frozenset(),
        *,
        keeping: Keeping | None = None,
        key: str | None = None,
    ) -> Position | None:
        """Send `body` to the members of `room` in every process.

        Args:
            keeping: the history of the room, if it has one.
            key: what was published with it before is not published again.

        Returns:
            The position in the history.

        Raises:
            ConfigurationError: there is no store for a history, or for `key`.
            StoreUnavailable: the store did not answer in time.
            ParseError: the name is not usable.
            UnicodeEncodeError: a text that UTF-8 cannot hold, which no client could be sent.
        """
        check_sendable(room, body)
        publication = Publication(self._namespace + room, body, exclude)
        if keeping is not None:
            return await self._publish_kept(publication, keeping, key)
        await (self._publish(publication) if key is None else self._publish_once(publication, key))
        return None

    async def send_to_connection(self, connection_id: str, body: Body) -> None:
        """Send `body` to one connection; nothing if there is none of that id."""
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

    async def _publish_kept(self, publication: Publication, keeping: Keeping, key: str | None) -> Position:
        store = self._wanted("history")
        topic, body, exclude = publication.topic, publication.body, publication.exclude
        record = Record(0, body, exclude)
        position, is_new = await store.append(topic, record, keeping.keep, key=key, key_seconds=KEY_SECONDS)
        if is_new:
            try:
                await self._publish(Publication(topic, body, exclude, position=str(position)))
            except BrokerUnavailable as exc:
                # It is in the history, where every process reads it when the broker is back.
                logger.debug("published to the history alone: %s", exc)
        return position

    async def _publish_once(self, publication: Publication, key: str) -> None:
        """Publish what has no history; nothing happens where `key` was used before."""
        store = self._wanted("key=")
        claimed, owner = f"{publication.topic}\n{key}", secrets.token_hex(8)
        if (await store.claim(claimed, owner, KEY_SECONDS)).state != "new":
            return
        try:
            await self._publish(publication)
        except BrokerUnavailable:
            await store.settle(claimed, owner, None, KEY_SECONDS)
            raise
        await store.settle(claimed, owner, "", KEY_SECONDS)

    def _wanted(self, what: str) -> Store:
        if self.store is None:
            raise without_store(what)
        return self.store

    async def _send(self, topic: str, body: Body, kind: str, *to: str) -> None:
        await self._publish(Publication(self._namespace + topic, body, to=to, kind=kind))


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
        ParseError: the id cannot be one.
    """
    return node_topic(check_room(connection_id.partition(".")[0]))
