"""Groups that Django Channels and FastAPI share, while one side is killed, or the Redis between them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from fastapi import FastAPI

from fastapi_channels import add_channel
from fastapi_channels.layers.django import DjangoChannelLayer
from tests.layers.test_django import Chat
from tests.support.live import Client, ServerProcess, Site, process, serving, wait_until
from tests.support.servers import RedisServer

GROUP = "/ws/lobby"


@pytest.fixture
async def django(mortal_redis: RedisServer) -> AsyncIterator[ServerProcess]:
    options = ("tests.layers.django_site:application", "--lifespan", "off")
    async with process(*options, environment={"REDIS_URL": mortal_redis.url}) as server:
        yield server


@pytest.fixture
async def here(mortal_redis: RedisServer) -> AsyncIterator[Site]:
    app, layer = FastAPI(), DjangoChannelLayer(mortal_redis.url)
    add_channel(app)
    app.add_api_websocket_route("/ws/{group}", Chat.as_route(layer=layer))
    async with serving(app) as site:
        yield site
    await layer.close()


@asynccontextmanager
async def member(site: Site) -> AsyncIterator[Client]:
    async with site.connect(GROUP) as client:
        assert (await client.receive())["channel"].startswith("asgi")
        yield client


async def hears(client: Client, text: str) -> None:
    await client.receive_until(lambda frame: frame.get("text") == text)


async def until_heard(speak: Callable[[], Awaitable[Any]], text: str, *clients: Client) -> None:
    """What is said over and over comes to everybody."""
    heard = asyncio.gather(*(hears(client, text) for client in clients))
    while not heard.done():
        await speak()
        await asyncio.wait([heard], timeout=0.1)
    await heard


async def shared_again(django: Site, ada: Client, bob: Client) -> None:
    """A view there says it: the first call after an outage may find a dead connection in its pool."""
    said = secrets.token_hex(4)
    await until_heard(lambda: bob.send({"text": f"{said} of FastAPI"}), f"{said} of FastAPI", ada, bob)
    async with django.client() as http:
        post = partial(http.post, "/announce/lobby", content=f"{said} of Django")
        await until_heard(post, f"{said} of Django", ada, bob)


async def test_a_django_process_is_killed_and_started_again(
    django: ServerProcess, here: Site, mortal_redis: RedisServer
):
    async with member(here) as bob:
        async with member(django.site) as ada:
            await shared_again(django.site, ada, bob)
            await django.kill()
            await ada.closed()
        await bob.send({"text": "alone"})
        await hears(bob, "alone")
        await django.start()
        async with member(django.site) as ada:
            await shared_again(django.site, ada, bob)
    await wait_until(lambda: len(mortal_redis.channels()) == 0)


async def test_their_redis_is_killed_and_started_again(
    django: ServerProcess, here: Site, mortal_redis: RedisServer
):
    """Nobody is dropped. Who sends meanwhile here is told, and stays."""
    async with member(here) as bob, member(django.site) as ada:
        for turn in range(3):
            await shared_again(django.site, ada, bob)
            await asyncio.to_thread(mortal_redis.kill)
            await bob.send({"text": f"lost {turn}"})
            assert (await bob.receive_until(lambda frame: "code" in frame))["code"] == "unavailable"
            await asyncio.to_thread(mortal_redis.restart)
        await shared_again(django.site, ada, bob)
