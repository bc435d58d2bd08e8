"""An application with jobs, as a process of its own: Redis gets a line as a run begins, and as it ends."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Any

from fastapi import Depends, FastAPI
from redis.asyncio import Redis
from starlette.requests import HTTPConnection

from fastapi_channels import add_channel, every

OFTEN, SELDOM = 1.0, 6.0


async def redis_of(connection: HTTPConnection) -> Any:
    return connection.app.state.redis


Log = Annotated[Any, Depends(redis_of)]


@every(seconds=OFTEN, overlap=True)
async def often(due: datetime, redis: Log) -> None:
    await _note(redis, "often", due, 0.4)


@every(seconds=SELDOM)
async def seldom(due: datetime, redis: Log) -> None:
    await _note(redis, "seldom", due, 2.0)


async def _note(redis: Any, job: str, due: datetime, lasts: float) -> None:
    run = f"{job} {due.timestamp():.0f} {os.getpid()}"
    await redis.rpush(os.environ["LOG"], f"began {run}")
    await asyncio.sleep(lasts)
    await redis.rpush(os.environ["LOG"], f"ended {run}")


def create_app() -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with Redis.from_url(os.environ["BROKER"]) as app.state.redis:
            yield

    app = FastAPI(lifespan=lifespan)
    broker, store, log = (os.environ[name] for name in ("BROKER", "STORE", "LOG"))
    add_channel(app, url=broker, store_url=store, namespace=log, jobs=[often, seldom])
    return app
