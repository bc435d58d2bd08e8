"""Brokers: how many messages a second come back to the process that publishes them, and how soon.

    python -m benchmarks.brokers

It runs for less than two minutes, on the loopback interface only. The rows of a server start one of their
own, and are left out where there is none.

One process, one topic, one subscriber, 128 bytes. "one task" awaits each publish before the next, "16
tasks" do that at the same time; both end when the last message has been delivered. The round trip is
the median from calling publish to the delivery. Contenders take turns, so that what disturbs the machine
disturbs all of them, and the medians of the rounds are shown.

The client libraries are shown bare, each publish awaited until the server has taken it, as the floor that
any backend over them has. For Redis, broadcaster's own backend is that, and delivers nothing on redis-py 8.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import platform
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from broadcaster import Broadcast, BroadcastBackend

from fastapi_channels.brokers import Broker, MemoryBackend, create_backend
from fastapi_channels.wire.messages import Publication
from tests.support.redis_groups import RedisCluster, RedisFailover
from tests.support.servers import NatsServer, PostgresServer, RabbitServer, RedisServer, Server

Publish = Callable[[], Awaitable[object]]
Open = Callable[[Callable[[], None]], contextlib.AbstractAsyncContextManager[Publish]]

TOPIC = "room"
BODY = "x" * 128
ROUNDS = 5
TASKS = 16


@dataclass(frozen=True)
class Contender:
    """`open(delivered)` gives a function that publishes one message; `delivered` is called for each."""

    name: str
    open: Open
    messages: int
    """In each measurement."""


# The contenders


@contextlib.asynccontextmanager
async def ours(
    backend: Callable[[], BroadcastBackend], delivered: Callable[[], None]
) -> AsyncIterator[Publish]:
    broker = Broker(backend(), lambda publication: delivered())
    await broker.start()
    await broker.subscribe(TOPIC)
    yield lambda: broker.publish(Publication(TOPIC, BODY))
    await broker.stop()


@contextlib.asynccontextmanager
async def broadcaster_memory(delivered: Callable[[], None]) -> AsyncIterator[Publish]:
    async with Broadcast("memory://") as broadcast, broadcast.subscribe(TOPIC) as subscriber:

        async def read() -> None:
            while await subscriber.get():
                delivered()

        async with _reading(read()):
            yield lambda: broadcast.publish(TOPIC, BODY)


@contextlib.asynccontextmanager
async def redis_py(url: str, delivered: Callable[[], None]) -> AsyncIterator[Publish]:
    from redis.asyncio import Redis

    async with Redis.from_url(url) as client, client.pubsub() as pubsub:
        await pubsub.subscribe(TOPIC)

        async def read() -> None:
            async for message in pubsub.listen():
                if message["type"] == "message":
                    delivered()

        async with _reading(read()):
            yield lambda: client.publish(TOPIC, BODY)


@contextlib.asynccontextmanager
async def with_asyncpg(url: str, delivered: Callable[[], None]) -> AsyncIterator[Publish]:
    import asyncpg

    listener = await asyncpg.connect(url)
    await listener.add_listener(TOPIC, lambda *_: delivered())
    async with asyncpg.create_pool(url, min_size=4, max_size=4) as pool:
        yield lambda: pool.execute("SELECT pg_notify($1, $2)", TOPIC, BODY)
    await listener.close()


@contextlib.asynccontextmanager
async def with_nats_py(url: str, delivered: Callable[[], None]) -> AsyncIterator[Publish]:
    import nats

    async def receive(_: object) -> None:
        delivered()

    async def publish() -> None:
        await client.publish(TOPIC, BODY.encode())
        await client.flush()

    client = await nats.connect(url)
    await client.subscribe(TOPIC, cb=receive)
    await client.flush()
    yield publish
    await client.close()


@contextlib.asynccontextmanager
async def with_aiormq(url: str, delivered: Callable[[], None]) -> AsyncIterator[Publish]:
    import aiormq

    async def receive(_: object) -> None:
        delivered()

    connections = [await aiormq.connect(url) for _ in range(2)]
    publisher, consumer = [await connection.channel() for connection in connections]
    await consumer.exchange_declare("bench", exchange_type="direct", auto_delete=True)
    queue = (await consumer.queue_declare(exclusive=True)).queue or ""
    await consumer.queue_bind(queue, "bench", TOPIC)
    await consumer.basic_consume(queue, receive, no_ack=True)
    yield lambda: publisher.basic_publish(BODY.encode(), exchange="bench", routing_key=TOPIC)
    for connection in connections:
        await connection.close()


@contextlib.asynccontextmanager
async def _reading(reader: Awaitable[None]) -> AsyncIterator[None]:
    task = asyncio.ensure_future(reader)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait((task,))


def in_memory() -> list[Contender]:
    return [
        Contender("fastapi_channels", partial(ours, MemoryBackend), 20_000),
        Contender("broadcaster", broadcaster_memory, 20_000),
    ]


BARE: dict[str, tuple[type[Server], str, Callable[..., contextlib.AbstractAsyncContextManager[Publish]]]] = {
    "Redis": (RedisServer, "redis-py, publish and pubsub()", redis_py),
    "PostgreSQL": (PostgresServer, "asyncpg, add_listener(), pool of 4", with_asyncpg),
    "NATS": (NatsServer, "nats-py, publish and flush", with_nats_py),
    "RabbitMQ": (RabbitServer, "aiormq, with confirms", with_aiormq),
}
"""The server of each broker, and its client library without us."""


def _ours(url: str) -> Open:
    return partial(ours, lambda: create_backend(url))


def on(url: str, name: str, bare: Open) -> list[Contender]:
    return [
        Contender("fastapi_channels", _ours(url), 3200),
        Contender(name, bare, 3200),
    ]


# What is measured


class Deliveries:
    """Counts, and says when there were enough."""

    def __init__(self) -> None:
        self._missing = 0
        self._enough = asyncio.Event()

    def __call__(self) -> None:
        self._missing -= 1
        if self._missing == 0:
            self._enough.set()

    def expect(self, count: int) -> None:
        self._missing = count
        self._enough.clear()

    async def enough(self) -> None:
        async with asyncio.timeout(30):
            await self._enough.wait()


@dataclass(frozen=True)
class Figures:
    sequential: float
    """Messages a second."""
    concurrent: float
    round_trip: float
    """Microseconds."""


async def measure(contender: Contender) -> Figures:
    deliveries = Deliveries()
    async with contender.open(deliveries) as publish:
        await rate(publish, deliveries, 1, contender.messages // 10)  # to warm up
        return Figures(
            await rate(publish, deliveries, 1, contender.messages),
            await rate(publish, deliveries, TASKS, contender.messages),
            statistics.median([await round_trip(publish, deliveries) for _ in range(300)]) * 1e6,
        )


async def rate(publish: Publish, deliveries: Deliveries, tasks: int, messages: int) -> float:
    async def work() -> None:
        for _ in range(messages // tasks):
            await publish()

    deliveries.expect(messages // tasks * tasks)
    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(tasks)))
    await deliveries.enough()
    return messages / (time.perf_counter() - began)


async def round_trip(publish: Publish, deliveries: Deliveries) -> float:
    deliveries.expect(1)
    began = time.perf_counter()
    await publish()
    await deliveries.enough()
    return time.perf_counter() - began


# The report


async def report() -> None:
    print(f"Python {platform.python_version()}, {platform.machine()}; {_versions()}\n")
    await report_on("in memory", in_memory())
    for where, (kind, name, bare) in BARE.items():
        if kind.installed():
            with kind() as server, contextlib.ExitStack() as groups:
                url: str = getattr(server, "url")  # noqa: B009 - each kind has one
                contenders = on(url, name, partial(bare, url))
                if kind is RedisServer:
                    contenders[1:1] = [
                        Contender(f"fastapi_channels, {what}", _ours(other), 3200)
                        for what, other in others_of_redis(url, groups).items()
                    ]
                await report_on(f"on {where}", contenders)


def others_of_redis(url: str, groups: contextlib.ExitStack) -> dict[str, str]:
    """The other ways to use Redis, which take turns with it."""
    return {
        "Streams": url.replace("redis:", "redis-stream:"),
        "Sentinel": groups.enter_context(RedisFailover(1)).url,
        "Cluster of 3": groups.enter_context(RedisCluster(3)).url,
    }


async def report_on(where: str, contenders: list[Contender]) -> None:
    taken: dict[str, list[Figures]] = {contender.name: [] for contender in contenders}
    for _ in range(ROUNDS):
        for contender in contenders:
            taken[contender.name].append(await measure(contender))
    columns = ("one task", f"{TASKS} tasks", "round trip")
    print(f"{'messages a second, ' + where:34}" + "".join(f"{column:>14}" for column in columns))
    for name, figures in taken.items():
        rates = [statistics.median(each.sequential for each in figures)]
        rates.append(statistics.median(each.concurrent for each in figures))
        trip = statistics.median(each.round_trip for each in figures)
        print(f"  {name:32}" + "".join(f"{rate:>14,.0f}" for rate in rates) + f"{trip:>11.1f} us")
    print()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _versions() -> str:
    packages = ["broadcaster", "redis", "hiredis", "asyncpg", "nats-py", "aiormq"]
    return ", ".join(f"{package} {_version(package) or 'not installed'}" for package in packages)


def main() -> None:
    asyncio.run(report())


if __name__ == "__main__":
    main()
