"""Sharded pub/sub on a Redis Cluster, over two connections of our own to each master."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any

from redis.exceptions import MovedError

from fastapi_channels.brokers.backend import MISSED, NotSent
from fastapi_channels.brokers.backlog import LIMIT

from .addresses import Address
from .link import Link
from .masters import Masters
from .pubsub import PubSubBackend, packed
from .subscriber import Subscriber


@dataclass(frozen=True, slots=True)
class Master:
    publisher: Link
    subscriber: Subscriber

    async def close(self) -> None:
        await self.publisher.close()
        await self.subscriber.close()


class ClusterBackend(PubSubBackend):
    """Broadcasts over sharded pub/sub (Redis 7 or newer): each topic has a slot, each slot a master.

    A topic costs only the nodes of its shard, where plain pub/sub on a cluster costs each node each
    message. The order within a topic is kept. A slot that moves to another master is followed, and
    listeners are told `MISSED` for its topics: what was published between the two is lost. The loss of
    a connection to any master ends all, and `connect` succeeds when every slot has a master again.

    Args:
        url: `redis+cluster://user:password@host:port,host:port?option=value`, or `rediss+cluster://`
            for TLS, with the options of redis-py. Any nodes will do; the others are asked for.
        limit: bytes that wait in a plain `Broadcast`; beyond them the oldest messages are dropped.
    """

    def __init__(self, url: str, *, limit: int = LIMIT) -> None:
        super().__init__(limit)
        self._masters: Masters[Master] = Masters(url, self._open, Master.close)
        self._homes: dict[str, Address] = {}
        """Where each topic is subscribed, or is being."""
        self._ended: set[str] = set()
        """The topics whose subscriptions have been ended by a server."""
        self._moves: dict[str, asyncio.Task[None]] = {}

    async def connect(self) -> None:
        self._backlog.open()
        try:
            await self._masters.find()
            await self._masters.open_all()
        except BaseException as exc:
            await self.disconnect()
            raise exc.exceptions[0] if isinstance(exc, BaseExceptionGroup) else exc from None

    async def disconnect(self) -> None:
        moves = [*self._moves.values()]
        for move in moves:
            move.cancel()
        if moves:
            await asyncio.wait(moves)
        await self._masters.close()
        self._moves.clear()
        self._homes.clear()
        self._ended.clear()

    async def subscribe(self, group: str) -> None:
        def at(address: Address, master: Master) -> Awaitable[Any]:
            self._homes[group] = address  # before the answer: the slot can move right behind it
            return master.subscriber.ask(b"SSUBSCRIBE", group.encode())

        try:
            await self._masters.at(group.encode(), at)
        except ConnectionError as exc:
            raise NotSent(str(exc)) from exc  # a subscription ends with its connection

    async def unsubscribe(self, group: str) -> None:
        if group in self._moves:
            await asyncio.wait((self._moves[group],))
        address = self._homes.pop(group, None)
        if address is None:
            return
        try:
            master = await self._masters.get(address)
            await master.subscriber.ask(b"SUNSUBSCRIBE", group.encode())
        except MovedError:
            pass  # the subscription went with the slot
        except ConnectionError as exc:
            raise NotSent(str(exc)) from exc

    async def publish(self, channel: str, message: str | bytes) -> None:
        topic, body = channel.encode(), packed(message)
        await self._masters.at(topic, lambda _, master: master.publisher.ask(b"SPUBLISH", topic, body))

    async def _open(self, address: Address) -> Master:
        lost = self._backlog.fail
        subscriber = Subscriber(self._masters.connection(address), lost, self._backlog.put, self._follow)
        master = Master(Link(self._masters.connection(address), lost), subscriber)
        try:
            await master.publisher.open()
            await master.subscriber.open()
        except BaseException:
            await master.close()
            raise
        return master

    # Slots that move

    def _follow(self, topic: str) -> None:
        """The server ended the subscription of `topic`: begin it again, where its slot is now."""
        if topic in self._homes:
            self._ended.add(topic)
            if topic not in self._moves:
                self._moves[topic] = asyncio.create_task(self._move(topic))

    async def _move(self, topic: str) -> None:
        try:
            while topic in self._ended:  # it can end again before it is known to have begun
                self._ended.discard(topic)
                await self.subscribe(topic)
            self._backlog.put(topic, MISSED)
        except Exception as exc:
            self._backlog.fail(ConnectionError(f"a subscription that moved could not be made again: {exc}"))
        finally:
            self._moves.pop(topic, None)
