"""Which master of a cluster serves which slot."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from typing import Any, Final

from redis.crc import REDIS_CLUSTER_HASH_SLOTS as COUNT
from redis.exceptions import RedisError

from fastapi_channels.brokers.backend import NotSent, no_connection

from .addresses import Address
from .link import Link

PORT: Final = 6379
PATIENCE: Final = 0.5
"""Seconds that one node has to tell, before the next one is asked."""


class Slots:
    """Which master of a cluster has which slot.

    Args:
        owners: the address of the master of each slot.
        nodes: the addresses of all that can be asked, replicas too.
    """

    def __init__(self, owners: list[Address], nodes: list[Address]) -> None:
        self.owners = owners
        self.nodes = nodes

    def owner(self, slot: int) -> Address:
        """The master of a slot.

        Raises:
            NotSent: no node has been asked yet.
        """
        if not self.owners:
            raise NotSent("not connected")
        return self.owners[slot]

    def move(self, slot: int, address: Address) -> None:
        self.owners[slot] = address


async def ask_slots(addresses: Iterable[Address], connection: Callable[[Address], Any]) -> Slots:
    """The first good answer of a node, those of `addresses` being asked in random order.

    Raises:
        ConnectionError: no node answered, or some slots have no master; says what the last one did.
    """
    rest = [*dict.fromkeys(addresses)]
    random.shuffle(rest)
    problem: Exception | None = None
    for address in rest:
        try:
            async with asyncio.timeout(PATIENCE):
                return _read(await _ask(connection(address)), address[0])
        except TimeoutError:
            problem = ConnectionError(no_connection(PATIENCE))
        except (RedisError, OSError) as exc:
            problem = exc
    raise ConnectionError(f"no node of the cluster could tell where the slots are: {problem}") from problem


async def _ask(connection: Any) -> Any:
    link = Link(connection, lambda _: None)
    try:
        await link.open()
        return await link.ask(b"CLUSTER", b"SLOTS")
    finally:
        await link.close()


def _read(ranges: list[Any], host: str) -> Slots:
    """From the answer to CLUSTER SLOTS of `host`: first slot, last slot, the master, its replicas."""
    owners: dict[int, Address] = {}
    nodes: list[Address] = []
    for first, last, *members in ranges:
        addresses = [(name.decode() if name else host, port) for name, port, *_ in members]
        owners |= dict.fromkeys(range(first, last + 1), addresses[0])
        nodes += addresses
    if len(owners) < COUNT:
        raise ConnectionError(f"{COUNT - len(owners)} of {COUNT} slots have no master")
    return Slots([owners[slot] for slot in range(COUNT)], nodes)
