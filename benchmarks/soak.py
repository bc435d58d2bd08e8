"""What is left of 100,000 clients that came, joined rooms at random, and went.

    python -m benchmarks.soak [visits]

They go through the whole application in one process, over ASGI, with a Redis of its own as broker and store:
200 are there at a time, in 2,000 rooms. Three of four join three rooms over one WebSocket, one of them of
limited size, and leave one of them first. The fourth is in one room, and says something. It takes some
minutes; its speed is no figure of anything.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter

from redis.asyncio import Redis

from tests.support.servers import RedisServer
from tests.support.soak import Held, Soak, application

VISITS = 100_000
PARTS = 5
MB = 1024 * 1024


async def report(url: str, visits: int) -> None:
    app = application(url, "soak")
    async with app.router.lifespan_context(app), Redis.from_url(url) as redis:
        soak = Soak(app, redis, "soak")
        await soak.run(2_000)
        first = await soak.held()
        print(
            f"{'visits':>10}{'seconds':>10}{'RSS MB':>10}{'topics':>10}{'channels':>10}{'keys':>8}  objects"
        )
        show(0, 0.0, first, first)
        began = time.perf_counter()
        for part in range(1, PARTS + 1):
            await soak.run(visits // PARTS)
            show(visits // PARTS * part, time.perf_counter() - began, first, await soak.held())


def show(visits: int, seconds: float, first: Held, held: Held) -> None:
    more: Counter[str] = held.objects - first.objects
    counts = (len(held.topics), held.channels)
    objects = f"{held.objects.total():,}" + "".join(f", {name} +{count}" for name, count in more.items())
    print(f"{visits:10,}{seconds:10.0f}{held.resident / MB:10.1f}", end="")
    print(f"{counts[0]:10}{counts[1]:10}{len(held.keys):8}  {objects}", flush=True)


def main() -> None:
    visits = int(sys.argv[1]) if len(sys.argv) > 1 else VISITS
    with RedisServer() as server:
        asyncio.run(report(server.url, visits))


if __name__ == "__main__":
    main()
