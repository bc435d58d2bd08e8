"""What is open to the masters of a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Final, Generic, TypeVar

from redis.asyncio.connection import Connection, SSLConnection
from redis.crc import key_slot
from redis.exceptions import MovedError, RedisError

from fastapi_channels.brokers.backend import NotSent
from fastapi_channels.brokers.shared import Shared
from fastapi_channels.exceptions import ConfigurationError

from .addresses import Address, Several
from .link import connection
from .slots import PORT, Slots, ask_slots

REDIRECTIONS: Final = 16
"""How often one call follows a slot, in case that two masters send it to each other for a moment."""
PAUSE: Final = 0.01
"""Seconds more before each further redirection."""

M = TypeVar("M")
T = TypeVar("T")


class Masters(Generic[M]):
    """Which master has which slot, and what is open to each: it is opened when it is first needed.

    Args:
        url: `redis+cluster://user:password@host:port,host:port?option=value`, or `rediss+cluster://`
            for TLS, with the options of redis-py. Any nodes will do; the others are asked for.
        open: opens what is wanted of the master at an address.
        close: closes it.

    Raises:
        ConfigurationError: the URL names a database, or has an option that is unknown.
    """

    def __init__(
        self,
        url: str,
        open: Callable[[Address], Coroutine[Any, Any, M]],
        close: Callable[[M], Awaitable[None]],
    ) -> None:
        several = Several.of(url)
        if several.path not in ([], ["0"]) or several.options.get("db"):
            raise ConfigurationError("a Redis Cluster has one database, 0: leave it out of the URL")
        self._options = several.options
        self._kind = SSLConnection if several.tls else Connection
        self._seeds = [(host, port or PORT) for host, port in several.addresses]
        self._open = open
        self._close = close
        self._slots = Slots([], [])
        self._opened: dict[Address, Shared[M]] = {}

    async def find(self) -> None:
        """Ask where the slots are.

        Raises:
            ConnectionError: nobody could tell, or some have no master.
        """
        self._slots = await ask_slots([*self._slots.nodes, *self._seeds], self.connection)

    async def open_all(self) -> None:
        """Have what is wanted open to every master."""
        async with asyncio.TaskGroup() as opening:
            for address in set(self._slots.owners):
                opening.create_task(self.get(address))

    async def close(self) -> None:
        self._slots = Slots([], self._slots.nodes)
        opened, self._opened = self._opened, {}
        await asyncio.gather(*map(self._end, opened.values()))

    async def at(self, name: bytes, do: Callable[[Address, M], Awaitable[T]]) -> T:
        """Do something with the master of a name's slot, wherever that is by now.

        Raises:
            NotSent: there is no connection to it.
        """
        slot = key_slot(name)
        for attempt in range(REDIRECTIONS):
            address = self._slots.owner(slot)
            try:
                return await do(address, await self.get(address))
            except MovedError as moved:
                self._slots.move(slot, (moved.host or address[0], moved.port))
                if attempt:
                    await asyncio.sleep(attempt * PAUSE)
        raise NotSent(f"the slot {slot} has no master that wants it")

    async def get(self, address: Address) -> M:
        """What is open to one master.

        Raises:
            NotSent: there is no connection to it.
        """
        shared = self._opened.setdefault(address, Shared(partial(self._open, address)))
        try:
            return await shared.get()
        except (RedisError, OSError) as exc:
            raise NotSent(f"the master {address[0]}:{address[1]} cannot be reached: {exc}") from exc

    async def drop(self, address: Address, what: M) -> None:
        """Close what is lost; what is open to the master is opened anew when it is needed."""
        if address in self._opened and self._opened[address].is_made(what):
            await self._end(self._opened.pop(address))

    async def _end(self, shared: Shared[M]) -> None:
        opened = await shared.take()
        if opened is not None:
            await self._close(opened)

    def connection(self, address: Address) -> Any:
        """A connection to a node, not connected yet."""
        host, port = address
        return connection(self._kind, {**self._options, "host": host, "port": port})
