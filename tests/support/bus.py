"""A broker in memory for several applications in one event loop, that fails when it is told to."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from broadcaster import BroadcastBackend, Event

LATENCY: Final = 0.001
"""Seconds from one process to another."""


class Bus:
    """What the backends share.

    Attributes:
        down: nobody can connect, and whoever is connected is cut off.
        published: every message, by whom and to which topic.
    """

    def __init__(self) -> None:
        self.down = False
        self.backends: list[BusBackend] = []
        self.published: list[tuple[BusBackend, str]] = []

    def backend(self) -> BusBackend:
        """A connection for one more process."""
        return BusBackend(self)

    def crash(self) -> None:
        """Cut everybody off."""
        self.down = True
        for backend in self.backends:
            backend.cut(ConnectionResetError("the bus is down"))

    def restart(self) -> None:
        self.down = False


class BusBackend(BroadcastBackend):
    """One process's connection.

    Attributes:
        topics: what is subscribed.
        deaf: nothing that is published arrives, and nothing says so.
        mute: nothing that this process publishes arrives anywhere else.
        delay: seconds more that publishing takes.
        failing: how many of the next subscriptions fail.
        gate: subscriptions wait until it is set.
    """

    def __init__(self, bus: Bus) -> None:
        self.topics: set[str] = set()
        self.deaf = False
        self.mute = False
        self.delay = 0.0
        self.failing = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.calls: list[str] = []
        self._bus = bus
        self._arrived: asyncio.Queue[Event | Exception] = asyncio.Queue()

    async def connect(self) -> None:
        await self._travel()
        self.deaf = False
        self.topics.clear()
        self._arrived = asyncio.Queue()
        self._bus.backends.append(self)

    async def disconnect(self) -> None:
        self.topics.clear()
        if self in self._bus.backends:
            self._bus.backends.remove(self)

    async def subscribe(self, group: str) -> None:
        await self._travel()
        await self.gate.wait()
        self.calls.append(f"subscribe {group}")
        if self.failing:
            self.failing -= 1
            raise ConnectionError("this subscription fails")
        self.topics.add(group)

    async def unsubscribe(self, group: str) -> None:
        await self._travel()
        self.calls.append(f"unsubscribe {group}")
        self.topics.discard(group)

    async def publish(self, channel: str, message: Any) -> None:
        await self._travel()
        await asyncio.sleep(self.delay)
        self._bus.published.append((self, channel))
        for backend in self._bus.backends:
            if channel in backend.topics and not backend.deaf and (backend is self or not self.mute):
                backend._arrived.put_nowait(Event(channel, message))

    async def next_published(self) -> Event:
        found = await self._arrived.get()
        if isinstance(found, Exception):
            raise found
        return found

    def cut(self, reason: Exception) -> None:
        """Lose the connection."""
        self._arrived.put_nowait(reason)

    def die(self) -> None:
        """Stop taking part, without a word."""
        self.deaf = self.mute = True

    async def _travel(self) -> None:
        await asyncio.sleep(LATENCY)
        if self._bus.down:
            raise ConnectionRefusedError("the bus is down")
