"""A process is killed in the midst of its jobs, and another goes on with them."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import pytest
from redis.asyncio import Redis

from tests.support.live import process, unique
from tests.support.servers import RedisServer

from .timed import OFTEN, SELDOM

FACTORY = "tests.faults.timed:create_app"


class Line(NamedTuple):
    """What a process has written down."""

    what: str
    job: str
    due: float
    pid: int


async def lines(redis: Redis, log: str) -> list[Line]:
    found = [str(line).split() for line in await redis.lrange(log, 0, -1)]
    return [Line(what, job, float(due), int(pid)) for what, job, due, pid in found]


def ticks(found: list[Line], what: str, job: str) -> list[float]:
    return [line.due for line in found if (line.what, line.job) == (what, job)]


@pytest.mark.parametrize("store", ["shared_redis", "shared_postgres"])
async def test_no_tick_is_run_twice_and_at_most_one_is_lost(
    shared_redis: RedisServer, store: str, request: pytest.FixtureRequest
):
    log = unique("log")
    environment = {"BROKER": shared_redis.url, "STORE": request.getfixturevalue(store).url, "LOG": log}
    async with (
        Redis.from_url(shared_redis.url, decode_responses=True) as redis,
        process(FACTORY, "--factory", environment=environment) as one,
        process(FACTORY, "--factory", environment=environment) as other,
        asyncio.timeout(60),
    ):
        while not (begun := [line for line in await lines(redis, log) if line.job == "seldom"]):
            await asyncio.sleep(0.01)
        victim = begun[-1]
        assert one._process is not None
        await (one if one._process.pid == victim.pid else other).kill()
        while max([0.0, *ticks(found := await lines(redis, log), "ended", "seldom")]) < victim.due + SELDOM:
            await asyncio.sleep(0.05)
    assert victim.due not in ticks(found, "ended", "seldom"), "it was killed in the midst of it"
    assert max(ticks(found, "ended", "seldom")) == victim.due + SELDOM, "the very next one is run"
    for job, seconds in (("often", OFTEN), ("seldom", SELDOM)):
        began, ended = ticks(found, "began", job), ticks(found, "ended", job)
        assert len(began) == len(set(began)), "none is run twice"
        # One may have been claimed, and not begun.
        assert round((max(began) - min(began)) / seconds) + 1 - len(began) <= 1
        assert len([due for due in began if due < max(ended) and due not in ended]) <= 1
