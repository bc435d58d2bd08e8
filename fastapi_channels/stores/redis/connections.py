"""Where a command goes: to the server that has its key, over a connection that is made when it is needed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    ReadOnlyError,
    RedisError,
    TryAgainError,
)

from fastapi_channels.brokers.backend import NotSent, describe
from fastapi_channels.brokers.redis.addresses import Address
from fastapi_channels.brokers.redis.link import Link
from fastapi_channels.brokers.redis.masters import Masters
from fastapi_channels.brokers.redis.server import Server
from fastapi_channels.brokers.shared import Shared
from fastapi_channels.stores.deadline import Deadline


class Connections(Protocol):
    async def ask(self, key: bytes, words: tuple[bytes, ...]) -> Any:
        """What the server that has `key` answers. Commands of one turn of the event loop share a write, and
        those for one key keep their order.

        Raises:
            NotSent: the command surely had no effect; the next attempt connects anew.
            ConnectionError: the connection broke before the answer.
            ResponseError: the server refuses the command.
        """
        ...

    async def close(self) -> None: ...


Prepare = Callable[[Link], Awaitable[None]]
"""Does with a connection what has to be done before it is used."""


class One:
    """To one server, or to the one that sentinels name."""

    def __init__(self, url: str, prepare: Prepare, deadline: Deadline) -> None:
        self._server = Server(url, None)
        self._prepare = prepare
        self._deadline = deadline
        self._link = Shared(self._open)

    async def ask(self, key: bytes, words: tuple[bytes, ...]) -> Any:
        try:
            link = await self._link.get()
        except (RedisError, OSError) as exc:
            raise NotSent(f"there is no connection: {describe(exc)}") from exc
        try:
            return await link.ask(*words)
        except (NotSent, ReadOnlyError) as exc:
            if self._link.is_made(link):
                await self._hang_up()
            raise NotSent(str(exc)) from exc

    async def close(self) -> None:
        await self._hang_up()
        await self._server.close()

    async def _open(self) -> Link:
        link = Link(self._server.connection(), _ignore)
        try:
            async with self._deadline.connecting():
                await self._server.open(link)
                await self._prepare(link)
        except BaseException:
            await link.close()
            raise
        return link

    async def _hang_up(self) -> None:
        link = await self._link.take()
        if link is not None:
            await link.close()


class Several:
    """To the masters of a cluster. One that is lost costs the others nothing."""

    def __init__(self, url: str, prepare: Prepare, deadline: Deadline) -> None:
        self._prepare = prepare
        self._deadline = deadline
        self._masters = Masters(url, self._open, Link.close)
        self._found = Shared(self._masters.find)

    async def ask(self, key: bytes, words: tuple[bytes, ...]) -> Any:
        await self._find()
        try:
            return await self._masters.at(key, lambda address, link: self._ask(address, link, words))
        except NotSent:
            if self._found.is_made(None):
                await self._found.take()  # a master that is gone has a successor, sooner or later
            raise

    async def close(self) -> None:
        await self._found.take()
        await self._masters.close()

    async def _find(self) -> None:
        try:
            await self._found.get()
        except (RedisError, OSError) as exc:
            raise NotSent(str(exc)) from exc

    async def _ask(self, address: Address, link: Link, words: tuple[bytes, ...]) -> Any:
        try:
            return await link.ask(*words)
        except MovedError:
            raise
        except AskError as elsewhere:  # the slot is on its way, and this key has gone ahead
            other = await self._masters.get((elsewhere.host or address[0], elsewhere.port))
            other.tell(b"ASKING")
            return await other.ask(*words)
        except (ClusterDownError, TryAgainError) as exc:
            raise NotSent(str(exc)) from exc
        except NotSent:
            await self._masters.drop(address, link)
            raise

    async def _open(self, address: Address) -> Link:
        link = Link(self._masters.connection(address), _ignore)
        try:
            async with self._deadline.connecting():
                await link.open()
                await self._prepare(link)
        except BaseException:
            await link.close()
            raise
        return link


def _ignore(lost: Exception) -> None:
    """Whoever needs the connection next finds that it is lost."""
