"""The node: what one process of the application is. It owns the broker, the hub and the limits."""

from __future__ import annotations

import asyncio
import logging
import operator
import secrets
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import Any, Final, Protocol

from broadcaster import BroadcastBackend
from starlette.types import Scope
from starlette.websockets import WebSocket

from fastapi_channels.brokers import Broker
from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.stores import MemoryStore, Store
from fastapi_channels.throttling import MemoryLimiter, RateLimiter, client_address
from fastapi_channels.wire.inbox import Watch
from fastapi_channels.wire.log import Once
from fastapi_channels.wire.messages import Body, Publication
from fastapi_channels.wire.packing import PLAIN, Packing
from fastapi_channels.wire.positions import Position
from fastapi_channels.wire.traffic import Traffic
from fastapi_channels.wire.wheel import COARSE, Wheel

from . import registry
from .bans import Ban, Bans
from .deliveries import receive
from .drain import Drain, Leaver
from .health import Health, Readiness, this_process
from .listeners import Listeners
from .observer import Observer, Observers
from .orders import Drain as DrainOrder
from .orders import Order, Revoke
from .personal import Personal
from .questions import Questions
from .recovery import Keeping
from .revocations import Revocations
from .rooms import Rooms
from .scopes import Scopes, why_no_lifespan
from .sender import Sender
from .settings import Settings
from .steward import Client, Steward
from .threads import in_its_loop
from .users import UserKeys, Users

__all__ = ["Node"]

logger = logging.getLogger("fastapi_channels")


SCOPE_KEY: Final = "fastapi_channels"
"""Where the scope of a request has the node."""

current_node: ContextVar[Node | None] = ContextVar("current_node", default=None)


class Companion(Protocol):
    """What runs beside the connections of a node, in its event loop."""

    async def start(self) -> None:
        """Begin; the broker may not be there yet. Must not fail for what comes back."""
        ...

    async def stop(self) -> None:
        """Undo `start`, before the broker and the store are let go."""
        ...


class Node:
    """One process of one application.

    Args:
        backend: carries publications to the other processes.
        limiter: counts for the rate limits.
        settings: what holds for every channel.
        store: keeps what outlives a connection; None where the processes share none.
        packing: makes the texts that the broker carries.
    """

    def __init__(
        self,
        backend: BroadcastBackend,
        limiter: RateLimiter | None = None,
        settings: Settings | None = None,
        store: Store | None = None,
        packing: Packing = PLAIN,
    ) -> None:
        self.id = secrets.token_hex(6)
        self.settings = settings or Settings()
        self.key_of = UserKeys(self.settings.user_key)
        self.users: Users[Client] = Users(self.key_of)
        self.refused_origins = Once("refused origins")
        self.wrappers = Once("routes with an instrumentation around them")
        self.scopes = Scopes()
        self.sessions: set[Leaver] = set()
        """The WebSockets that were accepted and are open."""
        self.calls: set[Leaver] = set()  # requests that were let in, each for one action
        self.served = 0
        """How many WebSockets there are, those counted whose handshake is not answered."""
        self._drain = Drain(self.sessions, self.settings.retry_after, self.calls)
        self.watch = Watch()
        self.wheel: Wheel[Callable[[], None]] = Wheel(COARSE, operator.call)
        self.limiter: RateLimiter = limiter or MemoryLimiter()
        self.broker = Broker(
            backend,
            self._receive,
            packing=packing,
            publish_timeout=self.settings.publish_timeout,
            on_change=self._broker_changed,
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
            *(self.id, self._namespace, self.broker, store, self.key_of),
            personal=lambda publication: self._personal.receive(publication),
        )
        self.hub = self.rooms.hub
        self.listeners = Listeners(self.rooms, self.broker)
        self.observers = Observers()
        """Are told of what happens, if anybody asked: see `observe`."""
        publish, echoing, told = self.broker.publish, self.broker.echoing, self.observers
        self._sender = Sender(
            publish, echoing, self._namespace, self.key_of, store, packing, self.rooms, told
        )
        self.revocations = Revocations(store, self._namespace, self._sender.order)
        self.bans = Bans(store, self._namespace, self._sender.order, on=self.settings.bans)
        self.questions = Questions(self.id, self._sender.order, self._sender.report, alone=self.broker.local)
        self.questions.answers["health"] = self._described
        self.questions.answers["rooms"] = self.hub.listed
        self._steward = Steward(
            self.users,
            self.rooms.connections,
            self.questions.answer,
            self.revocations.carry_out,
            self.bans.carry_out,
            lambda id: self.drain() if id == self.id else None,
        )
        self.questions.answers["sockets_of"] = self._steward.sockets_of
        self.questions.answers["has_connection"] = self._steward.has_connection
        others = {"order": self._steward.receive, "report": self.questions.receive}
        self._personal = Personal(self.hub, self.rooms.connections, self.users, others)
        self.companions: list[Companion] = []
        """What runs beside the connections: starts and stops with the node."""
        self._readiness: Readiness | None = None
        self._starts = 0
        self._numbers = 0
        self._started = False
        self._why = why_no_lifespan(None)
        self.loop: asyncio.AbstractEventLoop | None = None
        """That in which it runs, or will when it is started; None while nobody knows."""
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
            if not self._started:
                self.loop, self._started = loop, True
                await self._start()

    def meet(self, scope: Scope) -> None:
        """Take note of a request that came before, or without, the application's lifespan. What it starts
        runs in its event loop, also where it does that from a thread."""
        self.loop, self._why = asyncio.get_running_loop(), why_no_lifespan(scope)

    async def ensure_started(self, scope: Scope | None = None) -> None:
        """Start for a use that came before, or without, the application's lifespan."""
        if not self._started or self.loop is not asyncio.get_running_loop():
            logger.warning(
                "started by its first use, not by the lifespan: nothing will stop the broker cleanly (%s)",
                self._why if scope is None else why_no_lifespan(scope),
            )
            await self.start()

    async def stop(self) -> None:
        """Undo one `start`; the last one disconnects."""
        async with self._turn():
            self._starts = max(0, self._starts - 1)
            if self._starts == 0 and self._started:
                await self._stop()

    def observe(self, observer: Observer) -> None:
        """Tell `observer` of what happens, from before the first connection on, and count what passes."""
        self.observers.add(observer)
        self.hub.traffic = self.hub.traffic or Traffic()

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
            started=self._started,
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
        for companion in reversed(self.companions):
            await companion.stop()
        await self.listeners.stop()
        await self.rooms.stop()
        await self._steward.stop()
        await self.revocations.stop()
        await self.bans.stop()
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
        for companion in self.companions:
            await companion.start()
        if not self.broker.local or (self.store is not None and self.store.shared):
            self._readiness = Readiness()
            self._look_after(self._readiness)

    def _look_after(self, readiness: Readiness) -> None:
        """Once a second, until the node stops."""
        if readiness is self._readiness:
            readiness.look(self.health())
            self.wheel.ride(partial(self._look_after, readiness), 1.0)

    def _forget_loop(self) -> None:
        self.loop, self._started, self._starts, self._readiness = None, False, 0, None
        self._drain = Drain(self.sessions, self.settings.retry_after, self.calls)
        self.watch.stop()
        self.wheel = Wheel(COARSE, operator.call)
        self.broker.reset()
        self.rooms.reset()
        self._steward.reset()
        self.revocations.reset()
        self.bans.reset()

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
        for_each: str = "",
    ) -> Position | None:
        """Send `body` to the members of `room` in every process.

        Args:
            keeping: the history of the room, if it has one.
            key: what was published with it before is not published again.
            for_each: names the function of the members' channels that says what each gets.

        Returns:
            The position in the history.

        Raises:
            ParseError: the name is not usable.
            UnicodeEncodeError: a text that UTF-8 cannot hold, which no client could be sent.
            BrokerUnavailable: the broker did not take it before its deadline.
            StoreUnavailable: the store did not answer in time.
        """
        if not self._started or (self.loop is not None and self.loop.is_closed()):
            await self.ensure_started()
        return await self._sender.publish(room, body, exclude, keeping=keeping, key=key, for_each=for_each)

    @in_its_loop
    async def send_to_connection(self, connection_id: str, body: Body) -> None:
        """As `Sender.send_to_connection`."""
        if isinstance(connection_id, str) and connection_id.startswith(self.id + "."):
            self._personal.send_to_connections([connection_id], body)
        else:
            await self._sender.send_to_connection(connection_id, body)

    @in_its_loop
    async def send_to_user(self, user: Any, body: Body) -> None:
        """Send `body` to every connection of a user, in every process.

        Raises:
            ConfigurationError: `user` is nobody, or has no key.
        """
        if self.broker.local:
            self._personal.send_to_users([self.key_of.named(user)], body)
        else:
            await self._sender.send_to_user(user, body)

    @in_its_loop
    async def order(self, order: Order) -> None:
        """Have the processes do something with their connections. It is done after this returned."""
        own = isinstance(order, DrainOrder) and order.node == self.id
        if self.broker.local or own:  # one that is cut off from the others can be told to let its clients go
            self._steward.carry_out(order)
        else:
            await self._sender.order(order)

    @in_its_loop
    async def revoke(self, order: Revoke, seconds: float) -> None:
        """As `Revocations.revoke`."""
        await self.revocations.revoke(order, seconds)

    @in_its_loop
    async def ban(self, ban: Ban) -> None:
        """As `Bans.ban`."""
        await self.bans.ban(ban)

    @in_its_loop
    async def unban(self, ban: Ban) -> None:
        """As `Bans.unban`."""
        await self.bans.unban(ban)

    @in_its_loop
    async def banned(self) -> list[Ban]:
        """As `Book.listed`."""
        return await self.bans.book.listed()

    def _broker_changed(self, up: bool) -> None:
        self.rooms.broker_changed(up)
        for tell in self.observers.broker_changed:
            tell(up)
        if up:
            self.revocations.heal()
            self.bans.heal()

    def _receive(self, publication: Publication) -> None:
        """Hand what the broker brings to whom it is for."""
        if publication.traceparent and self.observers.delivering:
            receive(
                publication, self.listeners.receive, self._namespace, self.rooms, self.users, self.observers
            )
        else:
            self.listeners.receive(publication)

    # Odds and ends

    def _described(self) -> dict[str, Any]:
        """How this process is, for whoever asks."""
        return {**this_process(), "bans": self.settings.bans, **self.health().as_dict()}

    def next_id(self) -> str:
        """An id for a connection, unique over all processes."""
        self._numbers += 1
        return f"{self.id}.{self._numbers}"

    def address_of(self, websocket: WebSocket) -> str:
        return client_address(websocket, self.settings.trusted_proxies)
