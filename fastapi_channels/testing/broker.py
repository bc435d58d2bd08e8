"""A broker in memory for several applications in one event loop, that fails when it is told to."""

from __future__ import annotations

import asyncio
import random
from typing import Any, Final, Literal, TypeAlias

from broadcaster import BroadcastBackend, Event

from fastapi_channels.wire.rooms import RESERVED

Fate: TypeAlias = Literal["pass", "drop", "double", "swap"]

LATENCY: Final = 0.001
"""Seconds from one process to another."""


class FaultyBroker:
    """What the backends share.

    Give `backend()` of one to `add_channel(app, backend=…)` of each application.

    Args:
        drop, double, swap: by what chance a message to a room gets lost on its way to a process, comes twice,
            or comes behind the next one.
        seed: of the chance.

    Attributes:
        down: nobody can connect, and whoever is connected is cut off.
        fates: what becomes of the next messages to rooms, before chance decides: `"pass"`, `"drop"`,
            `"double"` or `"swap"`.
        published: every message, by whom and to which topic.
    """

    def __init__(self, *, drop: float = 0.0, double: float = 0.0, swap: float = 0.0, seed: int = 0) -> None:
        self.down = False
        self.fates: list[Fate] = []
        self._chances = (drop, double, swap)
        self._chance = random.Random(seed)  # noqa: S311
        self.backends: list[FaultyBackend] = []
        self.published: list[tuple[FaultyBackend, str]] = []

    def backend(self) -> FaultyBackend:
        """A connection for one more process."""
        return FaultyBackend(self)

    def fate(self, topic: str) -> Fate:
        """What becomes of a message on its way to one process."""
        if topic.startswith(RESERVED):
            return "pass"
        if self.fates:
            return self.fates.pop(0)
        point = self._chance.random()
        fates: tuple[Fate, ...] = ("drop", "double", "swap")
        for fate, chance in zip(fates, self._chances, strict=True):
            if point < chance:
                return fate
            point -= chance
        return "pass"

    def crash(self) -> None:
        """Cut everybody off."""
        self.down = True
        for backend in self.backends:
            backend.cut(ConnectionResetError("the bus is down"))

    def restart(self) -> None:
        self.down = False


class FaultyBackend(BroadcastBackend):
    """One process's connection.

    Attributes:
        topics: what is subscribed.
        deaf: nothing that is published arrives, and nothing says so.
        mute: nothing that this process publishes arrives anywhere else.
        delay: seconds more that publishing takes.
        failing: how many of the next subscriptions fail.
        gate: subscriptions wait until it is set.
    """

    def __init__(self, bus: FaultyBroker) -> None:
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
        self._held: list[Event] = []
        """What comes behind the next message."""

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
                backend._take(Event(channel, message), self._bus.fate(channel))

    async def next_published(self) -> Event:
        found = await self._arrived.get()
        if isinstance(found, Exception):
            raise found
        return found

    def _take(self, event: Event, fate: Fate) -> None:
        held, self._held = self._held, []
        if fate == "swap":
            self._held = [event]
        elif fate != "drop":
            self._arrived.put_nowait(event)
            if fate == "double":
                self._arrived.put_nowait(event)
        for late in held:
            self._arrived.put_nowait(late)

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
