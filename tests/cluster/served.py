"""Applications for the server processes of test_process."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from fastapi import APIRouter, FastAPI

from fastapi_channels import Channel, action, add_channel


class Room(Channel):
    finish_timeout = 30.0

    @action()
    async def work(self) -> None:
        await asyncio.Event().wait()


class Brief(Channel):
    finish_timeout = 0.2

    @action()
    async def work(self) -> None:
        print("works")
        await asyncio.Event().wait()

    @action()
    async def count(self) -> AsyncIterator[int]:
        yield 1
        await asyncio.Event().wait()


def create_app(**settings: Any) -> FastAPI:
    app = FastAPI()
    add_channel(app, drain_seconds=5.0, **settings)
    Room().mount(app, "/{channel}")
    Brief().mount(app, "/brief/{channel}", http=True)
    return app


def create_shared() -> FastAPI:
    """With a broker that is not there."""
    return create_app(url="redis://127.0.0.1:1", publish_timeout=0.05)


def create_two() -> FastAPI:
    """With two nodes."""
    app = create_app()
    router = APIRouter(prefix="/other")
    add_channel(router, drain_seconds=5.0)
    Room().mount(router, "/{channel}")
    app.include_router(router)
    return app


app = create_app()


async def serve_beside_other_work() -> None:
    """As a program does in which the server is a part, and which does not end with it."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0))
    await asyncio.gather(server.serve(), asyncio.Event().wait())


if __name__ == "__main__":
    sys.exit(asyncio.run(serve_beside_other_work()))
