"""Rate limits that every process on one Redis shares."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, TypeAlias, get_args

from fastapi_channels.exceptions import ConfigurationError

from .memory import MemoryLimiter
from .rates import Rate

try:
    from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import ConnectionError as RedisConnectionError
    from redis.exceptions import NoScriptError, RedisClusterException, RedisError

    from fastapi_channels.brokers.redis.addresses import check_one
except ImportError as error:  # pragma: no cover  # a test runs it in a process without redis
    raise ImportError('RedisLimiter needs redis: pip install "fastapi-channels[redis]"') from error

logger = logging.getLogger("fastapi_channels")

OnFailure: TypeAlias = Literal["local", "closed", "open"]

CONNECTIONS: Final = 16
"""Connections of a limiter that was given a URL: hits beyond wait for one, within their deadline."""
PAUSE: Final = 1.0
"""Seconds between two attempts at a Redis that did not answer."""

# The log of throttling/log.py, as a flat array of hit and count, in whole microseconds. The time is the
# server's, so that processes with different clocks agree. A hit from the future, after the server's clock
# was set back, is moved to now: it counts longer rather than less.
SCRIPT: Final = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local logs, wait = {}, 0
for i, key in ipairs(KEYS) do
  local times, window, cost = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
  local packed = redis.call('GET', key)
  local old, log, total = packed and cmsgpack.unpack(packed) or {}, {}, 0
  for j = 1, #old, 2 do
    local hit = math.min(old[j], now)
    if hit + window > now then
      log[#log + 1], log[#log + 2] = hit, old[j + 1]
      total = total + old[j + 1]
    end
  end
  local over, j = total + cost - times, 1
  while over > 0 and log[j] do
    over = over - log[j + 1]
    if over <= 0 then
      wait = math.max(wait, log[j] + window - now)
    end
    j = j + 2
  end
  logs[i] = log
end
if wait > 0 or ARGV[3 * #KEYS + 1] == '0' then
  return wait
end
for i, key in ipairs(KEYS) do
  local times, window, cost = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
  local log = logs[i]
  local last, grain = #log - 1, window / 64
  if times > 64 and last > 0 and math.floor(log[last] / grain) == math.floor(now / grain) then
    log[last], log[last + 1] = now, log[last + 1] + cost
  else
    log[last + 2], log[last + 3] = now, cost
  end
  redis.call('SET', key, cmsgpack.pack(log), 'PX', math.ceil(window / 1000))
end
return 0
"""
SHA: Final = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()


class RedisLimiter:
    """Counts hits in Redis: one script and one round trip for a call, by the server's clock.

    When Redis does not answer within `timeout`, hits are decided here until it does, which is tried
    again once a second: `"local"` limits each process by itself with the same rates, `"closed"` refuses,
    `"open"` admits. The log says so once per outage, and when it ends.

    Args:
        redis: a URL, or a `redis.asyncio` client, which stays the caller's to close.
        prefix: what every key begins with. The keys share one hash tag, so that the limits of a call are
            on one node of a cluster.
        timeout: seconds that one hit waits for Redis, for a connection from the pool included.
    """

    def __init__(
        self,
        redis: str | Redis | RedisCluster,
        prefix: str = "fastapi-channel",
        *,
        timeout: float = 0.5,
        on_failure: OnFailure = "local",
    ) -> None:
        if on_failure not in get_args(OnFailure):
            raise ConfigurationError(f'on_failure must be "local", "closed" or "open", not {on_failure!r}')
        self._owns_client = isinstance(redis, str)
        self._client: Any = _connect(redis, timeout) if isinstance(redis, str) else _checked(redis)
        self._prefix = f"{prefix}:{{limit}}:"
        self._timeout = timeout
        self._on_failure = on_failure
        self._local = MemoryLimiter()
        self._down = False
        self._ask_at = -math.inf

    async def hit(self, items: Sequence[tuple[str, Rate]]) -> float:
        """As `RateLimiter.hit`."""
        return await self._decide(items, self._local.hit, consumes=True)

    async def wait(self, items: Sequence[tuple[str, Rate]]) -> float:
        """As `RateLimiter.wait`."""
        return await self._decide(items, self._local.wait, consumes=False)

    async def close(self) -> None:
        """Close the client if it was made from a URL."""
        await self._local.close()
        if self._owns_client:
            await self._client.aclose()

    async def _decide(
        self,
        items: Sequence[tuple[str, Rate]],
        local: Callable[[Sequence[tuple[str, Rate]]], float],
        *,
        consumes: bool,
    ) -> float:
        if not all(rate.times for _, rate in items):
            return math.inf
        if not self._may_ask():
            return self._decide_here(items, local)
        try:
            wait = await self._ask(items, consumes=consumes)
        except (RedisError, RedisClusterException, OSError) as error:
            self._went_down(error)
            return self._decide_here(items, local)
        self._came_up()
        return wait

    async def _ask(self, items: Sequence[tuple[str, Rate]], *, consumes: bool) -> float:
        keys = [self._prefix + key for key, _ in items]
        numbers = [
            number for _, rate in items for number in (rate.times, _microseconds(rate.window), rate.cost)
        ]
        numbers.append(int(consumes))
        async with asyncio.timeout(self._timeout):
            try:
                wait = await self._run(keys, numbers)
            except RedisConnectionError:
                # A connection from before a restart of Redis, most often; a new one is made. Should the
                # first attempt have arrived, the hit counts twice: too strict by one, never too lax.
                wait = await self._run(keys, numbers)
        return wait / 1_000_000

    async def _run(self, keys: list[str], numbers: list[int]) -> int:
        try:
            wait: int = await self._client.evalsha(SHA, len(keys), *keys, *numbers)
        except NoScriptError:  # the first hit, or Redis was started anew; EVAL loads it too
            wait = await self._client.eval(SCRIPT, len(keys), *keys, *numbers)
        return wait

    def _may_ask(self) -> bool:
        if not self._down:
            return True
        now = time.monotonic()
        if now < self._ask_at:
            return False
        # Only this hit asks: those beside it do not wait for a Redis that may still be gone.
        self._ask_at = now + PAUSE
        return True

    def _decide_here(
        self,
        items: Sequence[tuple[str, Rate]],
        local: Callable[[Sequence[tuple[str, Rate]]], float],
    ) -> float:
        if self._on_failure == "local":
            return local(items)
        if self._on_failure == "open":
            return 0.0
        return max(self._ask_at - time.monotonic(), 0.001)

    def _went_down(self, error: Exception) -> None:
        self._ask_at = time.monotonic() + PAUSE
        if not self._down:
            self._down = True
            logger.warning(
                "rate limits: Redis does not answer (%s: %s), on_failure=%r until it does",
                type(error).__name__,
                error,
                self._on_failure,
            )

    def _came_up(self) -> None:
        if self._down:
            self._down = False
            logger.info("rate limits: Redis answers again")


def _connect(url: str, timeout: float) -> Redis:
    try:
        pool = BlockingConnectionPool.from_url(
            check_one(url),
            max_connections=CONNECTIONS,
            timeout=None,
            socket_connect_timeout=timeout,
            # The limiter has its own answer to a failure; redis would wait seconds between its attempts.
            retry=Retry(NoBackoff(), 0),
        )
    except ValueError as error:
        raise ConfigurationError(f"limiter_url: {error}") from error
    return Redis.from_pool(pool)


def _checked(client: Any) -> Redis | RedisCluster:
    if not isinstance(client, Redis | RedisCluster):
        raise ConfigurationError(
            f"RedisLimiter takes a URL or a redis.asyncio client, not {type(client).__module__}."
            f"{type(client).__qualname__}"
        )
    return client


def _microseconds(seconds: float) -> int:
    return max(1, round(seconds * 1_000_000))
