"""Carries out the orders that concern the clients of this process."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final, Protocol

from fastapi_channels.connection import Connection
from fastapi_channels.exceptions import ChannelsError
from fastapi_channels.wire.log import Once
from fastapi_channels.wire.messages import Body
from fastapi_channels.wire.writer import Writer

from .orders import (
    Banish,
    DisconnectConnection,
    DisconnectUser,
    Drain,
    Join,
    Leave,
    Order,
    Probe,
    Revoke,
    decode,
)
from .tasks import Tasks
from .users import Users

logger = logging.getLogger("fastapi_channels")

MAX_WAITING: Final = 1000
"""How many rooms one client may be waiting to join, or to leave; an order beyond them is refused."""


class Client(Protocol):
    """A WebSocket, as what is sent to its user reaches it."""

    writer: Writer

    @abstractmethod
    async def expel(self, connection: Connection | None, code: int, reason: str) -> None:
        """End one connection, or all that the WebSocket has."""
        ...

    @abstractmethod
    def enroll(self, key: str) -> Awaitable[None] | None:
        """Have it in a room, if its channel has that room, and if it may."""
        ...

    @abstractmethod
    def dismiss(self, key: str) -> None:
        """Have it out of a room."""
        ...


class Steward:
    """A disconnect is begun at once. Of what is ordered about one client and one room the last counts.

    Args:
        users: the WebSockets of each user.
        connections: by id.
        answer: answers a question of another process.
        revoke: closes what was revoked.
        banish: closes those of who is banned.
        drain: lets all of them go, where the process of that id is this one.
    """

    def __init__(
        self,
        users: Users[Client],
        connections: Mapping[str, Connection],
        answer: Callable[[Probe], Awaitable[None]],
        revoke: Callable[[Revoke], None],
        banish: Callable[[Banish], None],
        drain: Callable[[str], Awaitable[None] | None],
    ) -> None:
        self._users = users
        self._connections = connections
        self._answer = answer
        self._revoke = revoke
        self._banish = banish
        self._drain = drain
        self._refused = Once("orders that are refused")
        self.reset()

    def reset(self) -> None:
        """Have nothing to do, and run in whatever event loop comes next."""
        self._tasks = Tasks()
        self._wishes: dict[Client, dict[str, bool]] = {}
        """Of the clients that wait: by room, whether they are to be in it."""

    async def stop(self) -> None:
        await self._tasks.stop()
        self.reset()

    def receive(self, body: Body) -> None:
        """Take an order as it came from the broker."""
        try:
            order = decode(body)
        except ValueError as exc:
            if self._refused.is_new(str(exc)):
                logger.warning("an order is ignored, and all others like it: %s", exc)
            return
        self.carry_out(order)

    def sockets_of(self, user: str = "") -> int:
        """How many WebSockets the user of that key has here."""
        return len(self._users.recipients(user))

    def has_connection(self, id: str = "") -> int:
        """1 if the connection of that id is here, else 0."""
        return int(id in self._connections)

    def carry_out(self, order: Order) -> None:
        """Begin to do what is ordered; never fails."""
        match order:
            case DisconnectUser():
                for client in self._users.recipients(order.user):
                    self._spawn(partial(client.expel, None, order.code, order.reason))
            case DisconnectConnection():
                connection = self._connections.get(order.connection)
                if connection is not None:
                    self._spawn(partial(connection.close, order.code, order.reason))
            case Join() | Leave():
                for client in self._users.recipients(order.user):
                    self._wish(client, order.room, isinstance(order, Join))
            case Revoke():
                self._revoke(order)
            case Banish():
                self._banish(order)
            case Drain():
                self._spawn(partial(self._drain, order.node))
            case Probe():
                self._spawn(partial(self._answer, order))

    def _spawn(self, step: Callable[[], Awaitable[None] | None]) -> None:
        self._tasks.spawn(_done(step))

    def _wish(self, client: Client, room: str, inside: bool) -> None:
        wishes = self._wishes.get(client)
        if wishes is None:
            wishes = self._wishes[client] = {}
            self._tasks.spawn(self._fulfil(client, wishes))
        if len(wishes) >= MAX_WAITING and room not in wishes:
            if self._refused.is_new(client.writer.name):
                logger.warning("orders are refused: %s waits for %d rooms", client.writer.name, MAX_WAITING)
            return
        wishes.pop(room, None)
        wishes[room] = inside

    async def _fulfil(self, client: Client, wishes: dict[str, bool]) -> None:
        while wishes and not client.writer.closed:
            room = next(iter(wishes))
            await _done(partial(client.enroll if wishes.pop(room) else client.dismiss, room))
        del self._wishes[client]


async def _done(step: Callable[[], Awaitable[None] | None]) -> None:
    try:
        work = step()
        if work is not None:
            await work
    except ChannelsError as exc:
        logger.info("an order could not be carried out: %s", exc)
    except Exception:
        logger.exception("an order could not be carried out")
