"""Channel layers beside those of Django Channels, in memory and on one Redis.

    python -m benchmarks.channel_layers

It runs for less than two minutes, in one process beside the server, with uvloop. A message has 128 bytes of
text.

"send" is one message to a channel that somebody receives from: the time until it is there. "group of 1,000"
is one `group_send` to so many channels, each with a task that waits in `receive()`, as each consumer has: the
time until all have it. On Redis who sends has a layer of its own, as another process has. Turns are
interleaved, a twentieth of a second for each layer, many times over. A figure is the least of all turns,
which is what it takes when nobody else uses the machine. The ratio to the first of its kind is taken within
each round; it is the median of these.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import platform
import statistics
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import uvloop
from channels.layers import InMemoryChannelLayer
from channels_redis.core import RedisChannelLayer
from channels_redis.pubsub import RedisPubSubChannelLayer

from fastapi_channels.layers import ChannelLayer
from fastapi_channels.layers.django import DjangoChannelLayer
from tests.support.servers import RedisServer

MEMBERS: Final = (1, 100, 1000)
ROUNDS: Final = 25
SECONDS: Final = 0.05
"""Of one turn."""
MESSAGE: Final = {"type": "chat.message", "text": "x" * 128}

Layers = tuple[Any, Any]
"""That of who receives, and that of who sends."""


def in_memory() -> dict[str, Layers]:
    theirs, ours = InMemoryChannelLayer(), ChannelLayer()
    return {"Django Channels' in-memory layer": (theirs, theirs), "ChannelLayer, memory://": (ours, ours)}


def on_redis(url: str) -> dict[str, Layers]:
    makes: dict[str, Callable[[], Any]] = {
        "channels_redis' core layer": lambda: RedisChannelLayer(hosts=[url]),
        "channels_redis' pub/sub layer": lambda: RedisPubSubChannelLayer(hosts=[url]),
        "ChannelLayer, redis://": lambda: ChannelLayer(url),
        "DjangoChannelLayer": lambda: DjangoChannelLayer(url),
    }
    return {name: (make(), make()) for name, make in makes.items()}


class Audience:
    """The members of one group, each of which waits for what comes."""

    def __init__(self, layers: Layers, members: int) -> None:
        self._here, self._there = layers
        self._members = members
        self._missing = 0
        self._all = asyncio.Event()
        self._channels: list[str] = []

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Audience]:
        self._channels = [await self._here.new_channel() for _ in range(self._members)]
        for channel in self._channels:
            await self._here.group_add("group", channel)
        tasks = [asyncio.create_task(self._listen(channel)) for channel in self._channels]
        try:
            yield self
        finally:
            for channel in self._channels:
                await self._here.group_discard("group", channel)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def send(self) -> None:
        """To the first of them, until it has it."""
        await self._until(1, self._there.send(self._channels[0], MESSAGE))

    async def group_send(self) -> None:
        """To the group, until all of them have it."""
        await self._until(self._members, self._there.group_send("group", MESSAGE))

    async def _until(self, receipts: int, sent: Coroutine[Any, Any, None]) -> None:
        self._missing = receipts
        self._all.clear()
        await sent
        async with asyncio.timeout(10):
            await self._all.wait()

    async def _listen(self, channel: str) -> None:
        while True:
            await self._here.receive(channel)
            self._missing -= 1
            if not self._missing:
                self._all.set()


async def turn(call: Callable[[], Coroutine[Any, Any, None]]) -> float:
    """Microseconds of a call, one after the other for a moment."""
    calls, began = 0, time.perf_counter()
    while (spent := time.perf_counter() - began) < SECONDS:
        await call()
        calls += 1
    return spent / calls * 1e6


async def compare(layers: dict[str, Layers], members: int, which: str) -> dict[str, list[float]]:
    """What a call took in each round."""
    found: dict[str, list[float]] = {name: [] for name in layers}
    async with AsyncExitStack() as stack:
        audiences = {
            name: await stack.enter_async_context(Audience(each, members).listening())
            for name, each in layers.items()
        }
        for _ in range(ROUNDS):
            for name, audience in audiences.items():
                found[name].append(await turn(getattr(audience, which)))
    return found


def show(title: str, found: dict[str, list[float]]) -> None:
    base = next(iter(found.values()))
    for name, times in found.items():
        ratio = statistics.median(mine / first for mine, first in zip(times, base, strict=True))
        print(f"{title:>14}  {name:33} {min(times):>9,.0f} µs  {ratio:5.2f}", flush=True)


async def measure(layers: dict[str, Layers]) -> None:
    show("send", await compare(layers, 1, "send"))
    for members in MEMBERS:
        show(f"group of {members:,}", await compare(layers, members, "group_send"))
    for each in (layer for both in layers.values() for layer in both):
        await each.flush()
        if isinstance(each, ChannelLayer | DjangoChannelLayer):
            await each.close()


async def all_of_them() -> None:
    await measure(in_memory())
    if RedisServer.installed():
        with RedisServer() as server:
            await measure(on_redis(server.url))


def main() -> None:
    packages = {name: importlib.metadata.version(name) for name in ("channels", "channels-redis", "redis")}
    print(f"Python {platform.python_version()},", ", ".join(map(" ".join, packages.items())))
    uvloop.run(all_of_them())


if __name__ == "__main__":
    main()
