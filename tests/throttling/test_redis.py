import asyncio
import logging
import math
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any

import pytest
import redis as redis_sync
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis, RedisCluster
from redis.exceptions import ResponseError

from fastapi_channels import throttling
from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.throttling import MemoryLimiter, Rate, RedisLimiter, limit_key
from fastapi_channels.throttling import redis as store
from tests.support.environments import without
from tests.support.live import wait_until
from tests.support.servers import RedisServer
from tests.support.strategies import Item, bursts, moments, rates

ONCE = [("key", Rate(1, 3600.0))]


@asynccontextmanager
async def limiter_of(
    redis: str | Redis | RedisCluster, timeout: float = 20, **options: Any
) -> AsyncGenerator[RedisLimiter, None]:
    """A limiter that a busy machine does not make think that Redis is gone."""
    limiter = RedisLimiter(redis, timeout=timeout, **options)
    try:
        yield limiter
    finally:
        await limiter.close()


@pytest.fixture
async def limiter(redis_client: Redis, shared_redis: RedisServer) -> AsyncIterator[RedisLimiter]:
    async with limiter_of(shared_redis.url) as limiter:
        yield limiter


# What is counted


@pytest.fixture
def script(shared_redis: RedisServer) -> Iterator["ScriptAt"]:
    with redis_sync.Redis(port=shared_redis.port) as client:
        yield ScriptAt(client)


class ScriptAt:
    """The script with a clock that the test sets, in microseconds. By Redis' own, no key expires."""

    def __init__(self, client: redis_sync.Redis) -> None:
        told = store.SCRIPT
        for own, here in (
            ("redis.call('TIME')", "{0, ARGV[#ARGV]}"),
            (", 'PX', math.ceil(window / 1000)", ""),
        ):
            assert own in told
            told = told.replace(own, here)
        self._client = client
        self._script = client.register_script(told)

    def forget(self) -> None:
        self._client.flushall()

    def check(self, items: list[Item], now: int, *, consumes: bool = True) -> int:
        numbers = [number for _, rate in items for number in (rate.times, int(rate.window), rate.cost)]
        wait: int = self._script([key for key, _ in items], [*numbers, int(consumes), now])
        return wait


def cost_of(limit: Rate, wanted: int) -> int:
    return max(1, min(wanted, limit.times))


MICRO = 128_000
"""So many microseconds to one of the test's units."""


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.lists(rates(), min_size=1, max_size=3), st.one_of(moments(most=60), bursts()), st.integers(1, 9))
@example([Rate(100, 640)], [3 * index for index in range(250)], 1)
@example([Rate(65, 64), Rate(64, 100)], [index // 2 for index in range(250)], 3)
def test_the_script_decides_as_the_memory_limiter_does(
    script: ScriptAt, limits: list[Rate], times: list[int], most: int
) -> None:
    script.forget()
    at = 0
    memory = MemoryLimiter(clock=lambda: at)
    for number, now in enumerate(times[:250]):
        at = (now + 1) * MICRO
        items = [
            (str(index), replace(limit, window=limit.window * MICRO, cost=cost_of(limit, number % most + 1)))
            for index, limit in enumerate(limits)
        ]
        if number % 5 == 0:
            assert script.check(items, at, consumes=False) == memory.wait(items)
        assert script.check(items, at) == memory.check(items, at)


def test_a_server_clock_set_back_lets_nothing_through_early_and_locks_nobody_out(script: ScriptAt) -> None:
    script.forget()
    hour, second = 3600 * 10**6, 10**6
    items = [("key", Rate(2, 10 * second))]
    assert script.check(items, 2 * hour) == 0
    assert script.check(items, hour) == 0
    assert script.check(items, hour + 1) == 10 * second - 1
    assert script.check(items, hour + 10 * second) == 0


async def test_two_limiters_share_a_limit(limiter: RedisLimiter, shared_redis: RedisServer) -> None:
    async with limiter_of(shared_redis.url) as other:
        items = [("key", Rate(3, 3600.0))]
        waits = [await each.hit(items) for each in (limiter, other, limiter, other, limiter)]
    assert waits[:3] == [0, 0, 0]
    assert all(3590 < wait <= 3600 for wait in waits[3:])


async def test_who_only_asks_consumes_nothing(limiter: RedisLimiter) -> None:
    items = [("key", Rate(1, 3600.0))]
    assert [await limiter.wait(items), await limiter.wait(items), await limiter.hit(items)] == [0, 0, 0]
    assert 3590 < await limiter.wait(items) <= 3600
    assert await limiter.wait([("never", Rate(0, 1.0))]) == math.inf


async def test_simultaneous_hits_admit_exactly_the_times(
    limiter: RedisLimiter, shared_redis: RedisServer
) -> None:
    async with limiter_of(shared_redis.url) as other:
        items = [("key", Rate(10, 3600.0))]
        waits = await asyncio.gather(*((limiter, other)[index % 2].hit(items) for index in range(200)))
    assert waits.count(0.0) == 10


async def test_no_window_holds_more_than_it_may(limiter: RedisLimiter) -> None:
    items, admitted = [("key", Rate(20, 0.05))], []
    while len(admitted) < 100:
        sent = time.monotonic()
        if not await limiter.hit(items):
            admitted.append((sent, time.monotonic()))
    # The server's time of a hit is between those here; its microseconds are rounded down.
    for (sent, _), (_, answered) in zip(admitted, admitted[20:], strict=False):
        assert answered - sent > 0.05 - 1e-6


async def test_a_hit_is_admitted_after_the_wait_and_not_before(limiter: RedisLimiter) -> None:
    items = [("key", Rate(2, 2.0))]
    started = time.monotonic()
    assert [await limiter.hit(items), await limiter.hit(items)] == [0, 0]
    assert 0 < await limiter.hit(items) <= 2.0

    async def admitted() -> bool:
        return await limiter.hit(items) == 0

    await wait_until(admitted)
    assert time.monotonic() - started >= 2.0 - 1e-3


async def test_a_refused_call_consumes_nothing(limiter: RedisLimiter, redis_client: Redis) -> None:
    wide, narrow = ("wide", Rate(2, 3600.0)), ("narrow", Rate(1, 3600.0))
    assert await limiter.hit([wide, narrow]) == 0
    assert await limiter.hit([wide, narrow]) > 0
    assert await limiter.hit([narrow, wide]) > 0
    assert await limiter.hit([wide]) == 0
    assert await limiter.hit([wide]) > 0


async def test_zero_times_is_never_and_asks_nobody(redis_client: Redis, limiter: RedisLimiter) -> None:
    assert await limiter.hit([("key", Rate(5, 1.0)), ("other", Rate(0, 1.0))]) == math.inf
    assert await redis_client.keys() == []


async def test_a_call_without_limits_passes(limiter: RedisLimiter) -> None:
    assert await limiter.hit([]) == 0


# What is kept


async def test_keys_expire(limiter: RedisLimiter, redis_client: Redis) -> None:
    await limiter.hit([("long", Rate(100, 90.0)), ("short", Rate(1, 0.05))])
    assert 89_000 < await redis_client.pttl("fastapi-channel:{limit}:long") <= 90_000

    async def expired() -> bool:
        return not await redis_client.exists("fastapi-channel:{limit}:short")

    await wait_until(expired)


async def test_a_key_is_bounded_whatever_the_times(limiter: RedisLimiter, redis_client: Redis) -> None:
    items = [("key", Rate(10**9, 0.2))]
    end = time.monotonic() + 0.4
    while time.monotonic() < end:
        assert await limiter.hit(items) == 0
    size = await redis_client.strlen("fastapi-channel:{limit}:key")
    assert size <= 3 + 65 * (9 + 3)


async def test_a_prefix_keeps_applications_apart(
    redis_client: Redis, shared_redis: RedisServer, limiter: RedisLimiter
) -> None:
    async with limiter_of(shared_redis.url, prefix="other") as other:
        assert [await limiter.hit(ONCE), await other.hit(ONCE), await other.hit(ONCE) > 0] == [0, 0, True]
    assert sorted(await redis_client.keys()) == [b"fastapi-channel:{limit}:key", b"other:{limit}:key"]


@pytest.mark.parametrize(
    "room", ["a:b", "{a}b", "*", "key 1 x", "\r\nFLUSHALL\r\n", "\0", "\ud800", "x" * 100_000]
)
async def test_a_room_name_reaches_no_other_key(limiter: RedisLimiter, room: str) -> None:
    limit = Rate(1, 3600.0)
    assert await limiter.hit([(limit_key("ada", "lobby"), limit)]) == 0
    assert await limiter.hit([(limit_key("ada", room), limit)]) == 0
    assert await limiter.hit([(limit_key("ada", room), limit)]) > 0
    assert await limiter.hit([(limit_key("ada", "lobby"), limit)]) > 0


async def test_the_limits_of_a_call_are_on_one_node_of_a_cluster(redis_cluster_node: RedisServer) -> None:
    async with Redis.from_url(redis_cluster_node.url) as client:
        await client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)

        async def ready() -> bool:
            return b"cluster_state:ok" in (await client.execute_command("CLUSTER", "INFO") or b"")

        await wait_until(ready)
        with pytest.raises(ResponseError, match="slot"):
            await client.mget("a", "b")
    cluster = RedisCluster.from_url(redis_cluster_node.url)
    items = [(limit_key(name), Rate(1, 3600.0)) for name in "abc"]
    async with limiter_of(cluster, on_failure="closed") as limiter:
        assert await limiter.hit(items) == 0
        assert await limiter.hit(items) > 3590
    await cluster.aclose()


# Whose client it is


async def test_a_client_that_was_given_stays_open(redis_client: Redis) -> None:
    connection = await redis_client.client_id()
    async with limiter_of(redis_client) as limiter:
        assert await limiter.hit(ONCE) == 0
        assert await limiter.hit(ONCE) > 0
    assert await redis_client.client_id() == connection


async def test_a_client_that_decodes_is_fine(shared_redis: RedisServer, redis_client: Redis) -> None:
    client = Redis.from_url(shared_redis.url, decode_responses=True)
    async with client, limiter_of(client) as limiter:
        assert await limiter.hit(ONCE) == 0
        assert await limiter.hit(ONCE) > 0


async def test_a_pool_of_connections_bounds_what_a_rush_opens(
    limiter: RedisLimiter, redis_client: Redis
) -> None:
    before = (await redis_client.info("clients"))["connected_clients"]
    await asyncio.gather(*(limiter.hit([("key", Rate(10**6, 60.0))]) for _ in range(200)))
    after = (await redis_client.info("clients"))["connected_clients"]
    assert after - before <= store.CONNECTIONS


@pytest.mark.parametrize("url", ["http://localhost", "localhost:6379", ""])
def test_a_url_of_something_else_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="limiter_url"):
        RedisLimiter(url)


def test_a_client_of_another_kind_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"redis\.asyncio client, not redis\.client\.Redis"):
        RedisLimiter(redis_sync.Redis())  # type: ignore[arg-type]


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="on_failure must be"):
        RedisLimiter("redis://127.0.0.1", on_failure="maybe")  # type: ignore[arg-type]


def test_the_package_does_without_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    without("redis", "throttling.redis", monkeypatch)
    throttling.MemoryLimiter()
    told = r'^RedisLimiter needs redis: pip install "fastapi-channels\[redis\]"$'
    with pytest.raises(ImportError, match=told):
        throttling.RedisLimiter  # noqa: B018


# When Redis does not answer


@contextmanager
def deaf_server() -> Generator[str, None, None]:
    """A server that takes connections and never says anything."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}"


def outages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.levelname for record in caplog.records if record.name == "fastapi_channels"]


async def test_without_redis_each_process_limits_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    with deaf_server() as url:
        async with limiter_of(url, timeout=0.05) as limiter:
            waits = [await limiter.hit([("key", Rate(3, 3600.0))]) for _ in range(5)]
    assert waits[:3] == [0, 0, 0]
    assert min(waits[3:]) > 3500
    assert outages(caplog) == ["WARNING"]
    assert "TimeoutError" in caplog.text


async def test_an_outage_is_told_once_however_many_notice_it(caplog: pytest.LogCaptureFixture) -> None:
    with deaf_server() as url:
        async with limiter_of(url, timeout=0.05) as limiter:
            waits = await asyncio.gather(*(limiter.hit([("key", Rate(3, 3600.0))]) for _ in range(10)))
    assert waits.count(0.0) == 3
    assert outages(caplog) == ["WARNING"]


async def test_a_cluster_that_is_not_there_is_an_outage(caplog: pytest.LogCaptureFixture) -> None:
    with deaf_server() as url:
        gone = url
    cluster = RedisCluster.from_url(gone)
    async with limiter_of(cluster) as limiter:
        assert await limiter.hit(ONCE) == 0
        assert await limiter.hit(ONCE) > 0
    assert outages(caplog) == ["WARNING"]
    await cluster.aclose()


async def test_closed_refuses_until_redis_is_asked_again() -> None:
    with deaf_server() as url:
        async with limiter_of(url, timeout=0.05, on_failure="closed") as limiter:
            waits = [await limiter.hit(ONCE) for _ in range(5)]
    assert all(0 < wait <= store.PAUSE for wait in waits)


async def test_open_admits() -> None:
    with deaf_server() as url:
        async with limiter_of(url, timeout=0.05, on_failure="open") as limiter:
            assert [await limiter.hit(ONCE) for _ in range(5)] == [0] * 5


async def test_zero_times_is_never_without_redis_too() -> None:
    with deaf_server() as url:
        async with limiter_of(url, timeout=0.05, on_failure="open") as limiter:
            assert await limiter.hit([("key", Rate(0, 1.0))]) == math.inf


async def test_an_outage_does_not_slow_every_hit() -> None:
    with deaf_server() as url:
        async with limiter_of(url, timeout=0.1) as limiter:
            started = time.monotonic()
            for index in range(500):
                assert await limiter.hit([(f"key {index}", Rate(1, 60.0))]) == 0
            assert time.monotonic() - started < 25, "a deadline for each would be 50 s"


async def test_a_cancelled_hit_is_no_outage(caplog: pytest.LogCaptureFixture) -> None:
    with deaf_server() as url:
        async with limiter_of(url, timeout=30) as limiter:
            hit = asyncio.create_task(limiter.hit(ONCE))
            await asyncio.sleep(0)
            hit.cancel()
            with pytest.raises(asyncio.CancelledError):
                await hit
    assert outages(caplog) == []


async def test_a_killed_redis_is_used_again_when_it_is_back(
    mortal_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "fastapi_channels")

    async def back() -> bool:
        await limiter.hit([("probe", Rate(10**6, 60.0))])
        return outages(caplog)[-1] == "INFO"

    async with limiter_of(mortal_redis.url) as limiter, limiter_of(mortal_redis.url) as other:
        for outage in range(1, 3):
            assert await limiter.hit([(f"before {outage}", Rate(1, 60.0))]) == 0
            mortal_redis.kill()
            here = [(f"here {outage}", Rate(1, 60.0))]
            assert await limiter.hit(here) == 0
            assert await limiter.hit(here) > 0
            mortal_redis.start()
            await wait_until(back)
            # The script and the counts went with the server; what is counted now is shared again.
            shared = [(f"shared {outage}", Rate(1, 60.0))]
            assert await limiter.hit(shared) == 0
            assert await other.hit(shared) > 0
    assert outages(caplog) == ["WARNING", "INFO"] * 2


async def test_a_restart_between_two_hits_is_not_noticed(
    mortal_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with limiter_of(mortal_redis.url, on_failure="closed") as limiter:
        for _ in range(2):
            assert await limiter.hit(ONCE) == 0
            mortal_redis.kill()
            mortal_redis.start()
    assert outages(caplog) == []


async def test_a_full_redis_is_an_outage(mortal_redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    async with Redis.from_url(mortal_redis.url) as client, limiter_of(mortal_redis.url) as limiter:
        await client.config_set("maxmemory", 1)
        assert await limiter.hit(ONCE) == 0
        assert await limiter.hit(ONCE) > 0
    assert outages(caplog) == ["WARNING"]


async def test_one_hit_at_a_time_asks_whether_redis_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "PAUSE", 0.0)
    with deaf_server() as url:
        async with limiter_of(url, timeout=0.05) as limiter:
            await limiter.hit(ONCE)
            monkeypatch.setattr(store, "PAUSE", 60.0)
            limiter._timeout = 60
            asking = asyncio.create_task(limiter.hit(ONCE))
            await asyncio.sleep(0)
            for index in range(50):
                assert await limiter.hit([(str(index), Rate(1, 60.0))]) == 0
            assert not asking.done()
            asking.cancel()
            await asyncio.wait([asking])
