"""Rate limits: what one hit costs, what a key weighs, and whether a limit holds.

    python -m benchmarks.limiter

It runs for less than a minute, on the loopback interface only, and needs no server: the Redis rows
start a redis-server of their own where there is one. Packages that are not installed are left out.

Why this package does not count with `limits`, which it was meant to. Each reason is measured or shown
in the report; the figures are those of limits 5.8.0 on Python 3.11.

- Its moving window keeps every hit: 1.4 MB for a key with 10,000, where ours stays under 4 kB.
- Its sliding window counter and its fixed window do not, but admit up to twice `times` in a window:
  195 and 199 of 100 in one second.
- Its windows are whole seconds: a quarter of one becomes none.
- It answers with a bool. The time to wait is a second call, on Redis a second round trip.
- Several limits are consumed one after another, so a call that the last refuses has used up the others.
- It joins the parts of a key with "/" and escapes none: a client that names a room can forge another key.

Speed is not the reason. In memory it takes 2 to 5 microseconds a hit and ours less than one; on Redis,
where the round trip is nearly all of it, it is up to a quarter faster than ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.metadata
import platform
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
import tracemalloc
from bisect import bisect_right
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from typing import Any

from fastapi_channels.throttling import MemoryLimiter, Rate

Hit = Callable[[str], Awaitable[bool]]
Open = Callable[[int, int], contextlib.AbstractAsyncContextManager[Hit]]

NAMES = (f"{number:032x}" for number in count())
"""New keys: on Redis they outlive the contender that made them."""
ROUNDS = 5
KEYS = 200
TIMES = 50


@dataclass(frozen=True)
class Contender:
    """A limiter: `open(times, seconds)` gives a fresh one, as a function of a key that says "admitted"."""

    name: str
    open: Open


# The contenders


@contextlib.asynccontextmanager
async def _ours(times: int, seconds: int) -> AsyncIterator[Hit]:
    limiter, rate = MemoryLimiter(), Rate(times, float(seconds))

    async def hit(key: str) -> bool:
        return not limiter.hit([(key, rate)])

    yield hit
    await limiter.close()


@contextlib.asynccontextmanager
async def _ours_on_redis(url: str, times: int, seconds: int) -> AsyncIterator[Hit]:
    from fastapi_channels.throttling import RedisLimiter

    limiter, rate = RedisLimiter(url, timeout=10), Rate(times, float(seconds))

    async def hit(key: str) -> bool:
        return not await limiter.hit([(key, rate)])

    yield hit
    await limiter.close()


@contextlib.asynccontextmanager
async def _limits(strategy: str, url: str, times: int, seconds: int) -> AsyncIterator[Hit]:
    from limits import RateLimitItemPerSecond
    from limits.aio.strategies import STRATEGIES
    from limits.storage import storage_from_string

    options = {"implementation": "redispy"} if "redis" in url else {}
    storage: Any = storage_from_string(url, **options)
    limiter, item = STRATEGIES[strategy](storage), RateLimitItemPerSecond(times, seconds)

    async def hit(key: str) -> bool:
        return await limiter.hit(item, key)

    yield hit
    sweep = getattr(storage, "timer", None)
    if sweep is not None:
        sweep.cancel()
        await asyncio.gather(sweep, return_exceptions=True)


@contextlib.asynccontextmanager
async def _pyrate(times: int, seconds: int) -> AsyncIterator[Hit]:
    import pyrate_limiter as pyrate

    class PerKey(pyrate.BucketFactory):
        def __init__(self) -> None:
            self.buckets: dict[str, pyrate.AbstractBucket] = {}

        def wrap_item(self, name: str, weight: int = 1) -> pyrate.RateItem:
            return pyrate.RateItem(name, clock.now(), weight=weight)

        def get(self, item: pyrate.RateItem) -> pyrate.AbstractBucket:
            bucket = self.buckets.get(item.name)
            if bucket is None:
                bucket = self.buckets[item.name] = self.create(pyrate.InMemoryBucket, rates)
            return bucket

    clock, rates = pyrate.MonotonicClock(), [pyrate.Rate(times, seconds * 1000)]
    with pyrate.Limiter(PerKey()) as limiter:

        async def hit(key: str) -> bool:
            return await limiter.try_acquire_async(key, blocking=False)

        yield hit


STRATEGY_NAMES = {
    "moving-window": "limits, moving window",
    "sliding-window-counter": "limits, sliding window counter",
    "fixed-window": "limits, fixed window",
}


def in_memory() -> Iterator[Contender]:
    yield Contender("fastapi_channels", _ours)
    if _version("limits"):
        for strategy, name in STRATEGY_NAMES.items():
            yield Contender(name, partial(_limits, strategy, "async+memory://"))
    if _version("pyrate-limiter"):
        yield Contender("pyrate, a bucket per key", _pyrate)


def on_redis(url: str) -> Iterator[Contender]:
    yield Contender("fastapi_channels", partial(_ours_on_redis, url))
    if _version("limits"):
        for strategy, name in STRATEGY_NAMES.items():
            yield Contender(name, partial(_limits, strategy, f"async+{url}"))


# What is measured


async def microseconds(contender: Contender, keys: int, times: int) -> tuple[float, float]:
    """Medians of one admitted and of one refused hit, over `keys` clients that each use up their limit."""
    async with contender.open(times, 3600) as hit:
        names = list(islice(NAMES, keys))
        admitted = [await _timed(hit, names) for _ in range(times)]
        refused = [await _timed(hit, names) for _ in range(times)]
    assert all(done == keys for _, done in admitted)
    assert not any(done for _, done in refused)
    return _median(admitted) / keys * 1e6, _median(refused) / keys * 1e6


def _median(runs: list[tuple[float, int]]) -> float:
    return statistics.median(taken for taken, _ in runs)


async def _timed(hit: Hit, names: list[str]) -> tuple[float, int]:
    started = time.perf_counter()
    done = 0
    for name in names:
        done += await hit(name)
    return time.perf_counter() - started, done


async def bytes_per_key(contender: Contender, keys: int, times: int, hits: int) -> float:
    """What a client adds to the process that has made `hits` of its `times` calls, its key included."""
    gc.collect()
    tracemalloc.start()
    try:
        async with contender.open(times, 3600) as hit:
            await hit("a key of its own, so that what is made once is not counted")
            before = tracemalloc.get_traced_memory()[0]
            for name in islice(NAMES, keys):
                for _ in range(hits):
                    await hit(name)
            return (tracemalloc.get_traced_memory()[0] - before) / keys
    finally:
        tracemalloc.stop()


async def fullest_window(contender: Contender, times: int) -> int:
    """The most hits admitted in a second, of a client that knows when windows of the clock begin.

    A hit happened between asking and the answer. Those counted together were asked and answered within
    a second, so a figure above the limit is none of the measuring's making.
    """
    async with contender.open(times, 1) as hit:
        await asyncio.sleep(1.05 - time.time() % 1)
        asked, answered = [], []
        end = time.time() + 2.2
        while (now := time.time()) < end:
            if await hit("key"):
                asked.append(now)
                answered.append(time.time())
            # One call at the start of a second, then nothing until almost its end.
            await asyncio.sleep(0.9 if len(asked) == 1 else 0)
    return max(index + 1 - bisect_right(asked, at - 1) for index, at in enumerate(answered))


async def what_limits_does() -> list[tuple[str, object]]:
    """The reasons that are no figures."""
    from limits import RateLimitItemPerHour, RateLimitItemPerSecond
    from limits.aio.storage import MemoryStorage
    from limits.aio.strategies import MovingWindowRateLimiter

    limiter = MovingWindowRateLimiter(MemoryStorage())
    wide, narrow = RateLimitItemPerHour(10), RateLimitItemPerHour(1, namespace="narrow")
    for _ in range(5):
        if await limiter.hit(wide, "key"):
            await limiter.hit(narrow, "key")
    left = (await limiter.get_window_stats(wide, "key")).remaining
    forged = narrow.key_for("a/b", "c") == narrow.key_for("a", "b/c")
    quarter = RateLimitItemPerSecond(1, multiples=0.25).get_expiry()  # type: ignore[arg-type]
    return [
        ("of 10 an hour, left after 5 calls of which another limit admitted 1", left),
        ('the key of ("a/b", "c") is that of ("a", "b/c")', forged),
        ("seconds in a window of 0.25 seconds", quarter),
    ]


# The report


async def report() -> None:
    print(f"Python {platform.python_version()}, {platform.machine()}; {_versions()}\n")
    contenders = list(in_memory())
    await report_times("in memory", contenders, KEYS, TIMES)
    await report_sizes(contenders)
    await report_windows(contenders)
    if _version("limits"):
        for reason, shown in await what_limits_does():
            print(f"limits: {reason}: {shown}")
    with redis_server() as url:
        if url:
            print()
            await report_times("on Redis", list(on_redis(url)), 20, 20)


async def report_times(where: str, contenders: list[Contender], keys: int, times: int) -> None:
    """The contenders take turns, so that what disturbs the machine disturbs all of them."""
    taken: dict[str, list[tuple[float, float]]] = {contender.name: [] for contender in contenders}
    for number in range(ROUNDS):
        for contender in contenders:
            taken[contender.name].append(await microseconds(contender, keys + number, times))
    rows = [(name, *map(statistics.median, zip(*runs, strict=True))) for name, runs in taken.items()]
    _table(f"microseconds a hit, {where}", ["admitted", "refused"], rows, "{:.2f}")


async def report_sizes(contenders: list[Contender]) -> None:
    cases = [(1000, 60, 1), (500, 60, 60), (3, 10_000, 10_000)]
    rows = [(each.name, *[await bytes_per_key(each, *case) for case in cases]) for each in contenders]
    _table("bytes a key", ["1 hit of 60", "60 of 60", "10,000 of 10,000"], rows, "{:,.0f}")


async def report_windows(contenders: list[Contender]) -> None:
    cases = [10, 100, 1000]
    names = [each.name for each in contenders]
    runs = [await asyncio.gather(*(fullest_window(each, times) for each in contenders)) for times in cases]
    rows = list(zip(names, *runs, strict=True))
    _table("most hits admitted in any second", [f"limit {times}" for times in cases], rows, "{:d}")


def _table(title: str, columns: list[str], rows: list[tuple[Any, ...]], form: str) -> None:
    print(f"{title:34}" + "".join(f"{column:>18}" for column in columns))
    for name, *values in rows:
        print(f"  {name:32}" + "".join(f"{form.format(value):>18}" for value in values))
    print()


@contextlib.contextmanager
def redis_server() -> Iterator[str | None]:
    """The URL of a redis-server that ends with the block; None where there is none."""
    if shutil.which("redis-server") is None or not _version("redis"):
        yield None
        return
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
    with tempfile.TemporaryDirectory() as folder:
        command = ["redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:  # our own words
            try:
                _wait_for(int(port))
                yield f"redis://127.0.0.1:{port}"
            finally:
                server.kill()


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise TimeoutError("redis-server did not start")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _versions() -> str:
    packages = ["limits", "pyrate-limiter", "redis", "hiredis"]
    return ", ".join(f"{package} {_version(package) or 'not installed'}" for package in packages)


def main() -> None:
    asyncio.run(report())


if __name__ == "__main__":
    main()
