"""Stores: how many calls a second, and how long each takes.

    python -m benchmarks.stores

It runs for less than a minute, on the loopback interface only. Each server is one of its own, and is left out
where there is none. Redis writes nothing to the disk; PostgreSQL confirms what is on the disk.

A room has 100 occupants, and a history of 100 publications of 128 bytes. "one task" awaits each call before
the next: the median, and what 99 of 100 calls stay below. "16 tasks" do that at the same time, each in a room
of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import itertools
import platform
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial

from fastapi_channels.stores import Addition, Part, Record, Retention, Store, create_store
from fastapi_channels.stores.store import NO_LIMITS, Lease, Limits, Occupant
from tests.support.redis_groups import RedisCluster
from tests.support.servers import PostgresServer, RedisServer

TASKS = 16
SECONDS = 0.25
"""For each figure."""
OCCUPANTS = 100
KEEP = Retention(messages=100, size=1_000_000, seconds=3600)
NODE = "bench"
BODY = "x" * 128

Call = Callable[[str], Awaitable[object]]
"""Calls a store once, about a room."""


@dataclass(frozen=True)
class Calls:
    """Each call of a store, as a process makes it."""

    store: Store
    lease: Lease
    numbers: Iterator[int]

    def all(self) -> dict[str, Call]:
        store = self.store
        return {
            "enter, and leave": self.pass_through,
            "enter with limits, and leave": partial(self.pass_through, limits=Limits(seats=200, per_user=5)),
            f"leave what is not in (of {OCCUPANTS})": lambda room: store.leave(room, ["none.1"]),
            "count": store.count,
            "count people": store.count_people,
            f"occupancy of {OCCUPANTS}": store.occupancy,
            f"the first 10 of {OCCUPANTS}": lambda room: store.occupancy(room, 0, 10),
            "append": lambda room: store.append(room, Addition(Record(0, BODY), KEEP)),
            "append with a key": lambda room: store.append(
                room, Addition(Record(0, BODY), KEEP, key=str(next(self.numbers)), key_seconds=60)
            ),
            "read 1": lambda room: store.read(room, KEEP, Part(limit=1, reverse=True)),
            "read 100": lambda room: store.read(room, KEEP, Part(limit=100)),
            "the top of 1": lambda room: store.tops({room: None}),
            "the tops of 100": lambda room: store.tops(dict.fromkeys(f"{room} {n}" for n in range(100))),
            "claim, and settle": self.claim,
            "renew": lambda room: store.renew(NODE, self.lease.token, 60),
            "evict nothing": lambda room: store.evict(),
        }

    async def pass_through(self, room: str, limits: Limits = NO_LIMITS) -> None:
        id = f"{NODE}.{next(self.numbers)}"
        await self.store.enter(room, [Occupant(id, user=id, seat=id)], self.lease, limits)
        await self.store.leave(room, [id])

    async def claim(self, room: str) -> None:
        key = f"{room} {next(self.numbers)}"
        await self.store.claim(key, NODE, 60)
        await self.store.settle(key, NODE, "{}", 60)


@contextlib.asynccontextmanager
async def prepared(url: str) -> AsyncIterator[Calls]:
    store = create_store(url)
    assert store is not None
    await store.open()
    lease = await store.renew(NODE, 0, 600)
    numbers = itertools.count(OCCUPANTS)
    for room in map(room_of, range(TASKS)):
        inside = [Occupant(f"{NODE}.{n}", str(n), seat=str(n), data='"here"') for n in range(OCCUPANTS)]
        await store.enter(room, inside, lease)
        for _ in range(KEEP.messages):
            await store.append(room, Addition(Record(0, BODY), KEEP))
    yield Calls(store, lease, numbers)
    await store.close()


def room_of(number: int) -> str:
    return f"room {number}"


async def alone(call: Call) -> list[float]:
    """Seconds that each call of one task took."""
    took: list[float] = []
    ends = time.perf_counter() + SECONDS
    while (began := time.perf_counter()) < ends:
        await call(room_of(0))
        took.append(time.perf_counter() - began)
    return took


async def together(call: Call) -> float:
    """Calls a second of all tasks."""
    began = time.perf_counter()

    async def work(room: str) -> int:
        done = 0
        while time.perf_counter() < began + SECONDS:
            await call(room)
            done += 1
            await asyncio.sleep(0)  # a store in memory would not let the others in
        return done

    done = await asyncio.gather(*(work(room_of(number)) for number in range(TASKS)))
    return sum(done) / (time.perf_counter() - began)


async def measure(name: str, url: str) -> None:
    print(f"\n{name}\n{'':34}{'median ms':>10}{'99 % ms':>10}{'1 task /s':>11}{f'{TASKS} tasks /s':>13}")
    async with prepared(url) as calls:
        for what, call in calls.all().items():
            await call(room_of(0))
            took = sorted(await alone(call))
            median, worst = statistics.median(took), took[int(len(took) * 0.99)]
            rate, many = 1 / statistics.fmean(took), await together(call)
            print(f"{what:34}{median * 1000:10.3f}{worst * 1000:10.3f}{rate:11,.0f}{many:13,.0f}")


def urls(stack: contextlib.ExitStack) -> Iterator[tuple[str, str]]:
    yield "memory", "memory://"
    if RedisServer.installed():
        yield "Redis", stack.enter_context(RedisServer()).url
        yield "Redis Cluster, 3 masters", stack.enter_context(RedisCluster(3)).url
    if PostgresServer.installed():
        yield "PostgreSQL", stack.enter_context(PostgresServer("fsync=on")).url


def main() -> None:
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("redis", "asyncpg"))
    print(f"Python {platform.python_version()}, {versions}")
    with contextlib.ExitStack() as stack:
        for name, url in urls(stack):
            asyncio.run(measure(name, url))


if __name__ == "__main__":
    main()
