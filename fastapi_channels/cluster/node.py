"""The node: what one process of the application is. It owns the broker, the hub and the limits."""

from __future__ import annotations

import asyncio
import logging
import operator
import os
import secrets
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from functools import partial
from socket import gethostname
from typing import Any, Final

from broadcaster import BroadcastBackend
from starlette.types import Scope
from starlette.websockets import WebSocket

from fastapi_channels.brokers import Broker
from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.stores import MemoryStore, Store
from fastapi_channels.throttling import MemoryLimiter, RateLimiter, client_address
from fastapi_channels.wire.inbox import Watch
from fastapi_channels.wire.log import Once
from fastapi_channels.wire.messages import Body, Frame, Publication, encode_json
from fastapi_channels.wire.positions import Position
from fastapi_channels.wire.rooms import EVERYWHERE
from fastapi_channels.wire.wheel import COARSE, Wheel

from . import registry
from .drain import Drain, Leaver
from .health import Health, Readiness
from .hub import Recipient
from .orders import Order
from .recovery import Keeping
from .rooms import Rooms
from .scopes import Scopes, why_no_lifespan
from .sender import Sender, check_sendable
from .settings import Settings
from .steward import Client, Steward
from .threads import in_its_loop
from .users import UserKeys, Users

__all__ = ["Node"]

logger = logging.getLogger("fastapi_channels")


SCOPE_KEY: Final = "fastapi_channels"
"""Where the scope of a request has the node."""

current_node: ContextVar[Node | None] = ContextVar("current_node", default=None)


class Node:
    """One process of one application.

    Args:
        backend: carries publications to the other processes.
        limiter: counts for the rate limits.
        settings: what holds for every channel.
        store: keeps what outlives a connection; None where the processes share none.
    """

    def __init__(
        self,
        backend: BroadcastBackend,
        limiter: RateLimiter | None = None,
        settings: Settings | None = None,
        store: Store | None = None,
    ) -> None:
        self.id = secrets.token_hex(6)
        self.settings = settings or Settings()
        self.key_of = UserKeys(self.settings.user_key)
        self.users: Users[Client] = Users(self.key_of)
        self.refused_origins = Once()
        self.scopes = Scopes()
        self.sessions: set[Leaver] = set()
        """The WebSockets that were accepted and are open."""
        self._drain = Drain(self.sessions, self.settings.retry_after)
        self.watch = Watch()
        self.wheel: Wheel[Callable[[], None]] = Wheel(COARSE, operator.call)
        self.limiter: RateLimiter = limiter or MemoryLimiter()
        self.broker = Broker(
            backend,
            lambda publication: self.rooms.receive(publication),
            publish_timeout=self.settings.publish_timeout,
            on_change=lambda up: self.rooms.broker_changed(up),
            on_missed=lambda topic: self.rooms.missed(topic.removeprefix(self._namespace)),
        )
        self._namespace = self.settings.namespace
        if store is None and self.broker.local:
            store = MemoryStore()
        elif store is not None and not store.shared and not self.broker.local:
            raise ConfigurationError(
                "the broker leaves this process, and the store does not: its state would be that of one "
                "process; give a store_url= that all processes share"
            )
        self.store = store
        self.rooms = Rooms(
            self.id, self._namespace, self.broker, store, self.key_of, personal=self._send_personally
        )
        self.hub = self.rooms.hub
        self._sender = Sender(self.broker.publish, self._namespace, self.key_of, store)
        self._steward = Steward(self.users, self.rooms.connections, self._report)
        self._readiness: Readiness | None = None
        self._starts = 0
        self._numbers = 0
        self.loop: asyncio.AbstractEventLoop | None = None
        self._turns: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None

    # Life

    @staticmethod
    def of(scope: Scope | None = None) -> Node:
        """The node that serves `scope`, or the one of the request or lifespan that is being run.

        Raises:
            ConfigurationError: there is none; says how to make one.
        """
        node = (scope or {}).get(SCOPE_KEY) or registry.of_endpoint(scope) or current_node.get()
        if node is None:
            raise ConfigurationError(
                "no add_channel() covers this call: call add_channel(app) on the application, or on the "
                "router that holds the endpoint, before the first connection; outside of a request or "
                "lifespan, use the channel's bind(app)"
            )
        return node

    def attach(self, target: Any) -> None:
        """Make `target`, an application or a router, find this node."""
        registry.put(target, self)

    @staticmethod
    def attached(target: Any) -> Node | None:
        found: Node | None = registry.get(target)
        return found

    async def start(self) -> None:
        """Connect to the broker. Calls beyond the first are counted, and undone by as many `stop`s.

        Raises:
            ConfigurationError: the node runs in another event loop that is still alive.
        """
        loop = asyncio.get_running_loop()
        if self.loop is not None and self.loop is not loop:
            if self.loop.is_running():
                raise ConfigurationError(
                    "this application runs in another event loop; with Starlette's TestClient, open every "
                    "connection inside one `with TestClient(app) as client:`"
                )
            self._forget_loop()
        async with self._turn():
            self._starts += 1
            if self.loop is None:
                self.loop = loop
                await self._start()

    async def ensure_started(self, scope: Scope | None = None) -> None:
        """Start for a connection that came before, or without, the application's lifespan."""
        if self.loop is not asyncio.get_running_loop():
            logger.warning(
                "started by a connection, not by the lifespan: nothing will stop the broker cleanly (%s)",
                why_no_lifespan(scope),
            )
            await self.start()

    async def stop(self) -> None:
        """Undo one `start`; the last one disconnects."""
        async with self._turn():
            self._starts = max(0, self._starts - 1)
            if self._starts == 0 and self.loop is not None:
                await self._stop()

    @property
    def draining(self) -> bool:
        """Whether it lets its connections go, and takes no new ones."""
        return self._drain.began

    async def drain(self, seconds: float | None = None) -> None:
        """Take no new connections, and close those that are open, spread over at most `seconds`
        (`drain_seconds` unless given). What runs gets its `finish_timeout`. Returns when all have gone."""
        await self._drain.run(self.settings.drain_seconds if seconds is None else seconds)

    def health(self) -> Health:
        """What is known without asking anybody."""
        return Health(
            started=self.loop is not None,
            draining=self.draining,
            broker_away=self.broker.away,
            store_away=self.rooms.store_away,
            connections=len(self.sessions),
            rooms=len(self.hub.rooms),
        )

    def _turn(self) -> asyncio.Lock:
        """For one start or stop at a time: a start during the last stop is a start."""
        loop = asyncio.get_running_loop()
        if self._turns is None or self._turns[0] is not loop:
            self._turns = (loop, asyncio.Lock())
        return self._turns[1]

    async def _stop(self) -> None:
        await self.rooms.stop()
        await self._steward.stop()
        await self.broker.stop()
        if self.store is not None:
            await self.store.close()
        await self.limiter.close()
        self._forget_loop()

    async def _start(self) -> None:
        if self.store is not None and self.rooms.wants_store:
            await self.store.open()
        await self.broker.start()
        self.rooms.start(asyncio.get_running_loop())
        if not self.broker.local or (self.store is not None and self.store.shared):
            self._readiness = Readiness()
            self._look_after(self._readiness)

    def _look_after(self, readiness: Readiness) -> None:
        """Once a second, until the node stops."""
        if readiness is self._readiness:
            readiness.look(self.health())
            self.wheel.ride(partial(self._look_after, readiness), 1.0)

    def _forget_loop(self) -> None:
        self.loop, self._starts, self._readiness = None, 0, None
        self._drain = Drain(self.sessions, self.settings.retry_after)
        self.watch.stop()
        self.wheel = Wheel(COARSE, operator.call)
        self.broker.reset()
        self.rooms.reset()
        self._steward.reset()

    # Publishing

    @in_its_loop
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
            ParseError: the name is not usable.
            UnicodeEncodeError: a text that UTF-8 cannot hold, which no client could be sent.
            BrokerUnavailable: the broker did not take it before its deadline.
            StoreUnavailable: the store did not answer in time.
        """
        if self.loop is None or self.loop.is_closed():
            await self.ensure_started()
        if keeping is not None:
            check_sendable(room, body)
            return await self.rooms.publish(room, body, exclude, keeping, key)
        return await self._sender.publish(room, body, exclude, key=key)

    @in_its_loop
    async def send_to_connection(self, connection_id: str, body: Body) -> None:
        """Send `body` to one connection, whichever process holds it; nothing if none does."""
        if connection_id.startswith(self.id + "."):
            self._send_here([connection_id], body)
        else:
            await self._sender.send_to_connection(connection_id, body)

    @in_its_loop
    async def send_to_user(self, user: Any, body: Body) -> None:
        """Send `body` to every connection of a user, in every process.

        Raises:
            ConfigurationError: `user` is nobody, or has no key.
        """
        if self.broker.local:
            self._send_to_users([self.key_of.named(user)], body)
        else:
            await self._sender.send_to_user(user, body)

    @in_its_loop
    async def order(self, order: Order) -> None:
        """Have the processes do something with their connections. It is done after this returned."""
        if self.broker.local:
            self._steward.carry_out(order)
        else:
            await self._sender.order(order)

    def _send_personally(self, publication: Publication) -> None:
        """Hand what the broker brings for connections, or for users, to those of them that are here."""
        if publication.kind == "connection":
            self._send_here(publication.to, publication.body)
        elif publication.kind == "user":
            self._send_to_users(publication.to, publication.body)
        elif publication.kind == "order":
            self._steward.receive(publication.body)

    def _send_here(self, ids: Iterable[str], body: Body) -> None:
        """Send `body` to those of the connections that are in this process."""
        here = self.rooms.connections
        found: list[Any] = [here[id] for id in ids if id in here]
        self._deliver_to(found, body)  # Any: pyright binds the function in a Connection's slot as a method

    def _send_to_users(self, keys: Iterable[str], body: Body) -> None:
        for key in keys:
            self._deliver_to((client.writer for client in self.users.recipients(key)), body)

    def _deliver_to(self, recipients: Iterable[Recipient], body: Body) -> None:
        frame = Frame(body, EVERYWHERE)
        self.hub.flush()
        for recipient in recipients:
            if recipient.direct is not None:
                recipient.direct.write(frame.wire)
            else:
                recipient.push(frame)

    # Odds and ends

    async def _report(self, asker: str) -> None:
        """Tell the process of that id how this one is."""
        found = {"node": self.id, "host": gethostname(), "pid": os.getpid(), **self.health().as_dict()}
        await self._sender.report(asker, encode_json(found))

    def next_id(self) -> str:
        """An id for a connection, unique over all processes."""
        self._numbers += 1
        return f"{self.id}.{self._numbers}"

    def address_of(self, websocket: WebSocket) -> str:
        return client_address(websocket, self.settings.trusted_proxies)
