"""A stream that a test does not read to its end, in process and over a server, with a loop and without."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any

import pytest
from fastapi import FastAPI

from fastapi_channels import Channel, action, add_channel
from fastapi_channels.testing import Client, Site, SyncSite, running, serving
from tests.support.live import wait_until

Opening = Callable[[Any], AbstractAsyncContextManager[Site]]


class Counting(Channel):
    def __init__(self) -> None:
        super().__init__()
        self.ended: list[str] = []

    @action()
    async def count(self, name: str = "") -> AsyncIterator[int]:
        try:
            for number in range(1_000_000):
                yield number
                await asyncio.sleep(0)
        finally:
            self.ended.append(name)

    @action()
    async def breaks(self) -> AsyncIterator[int]:
        try:
            yield 0
            await asyncio.Event().wait()
        finally:
            raise ZeroDivisionError("as it is cancelled")


@pytest.fixture
def channel() -> Counting:
    return Counting()


@pytest.fixture(params=[running, serving])
def site(request: pytest.FixtureRequest, channel: Counting) -> AbstractAsyncContextManager[Site]:
    app = FastAPI()
    add_channel(app)
    channel.mount(app, "/")
    opened: AbstractAsyncContextManager[Site] = request.param(app)
    return opened


async def broken_off(client: Client) -> None:
    async for number in client.stream("count", name="break"):
        if number == 3:
            break


async def test_who_reads_no_more_ends_it_on_the_server(
    site: AbstractAsyncContextManager[Site], channel: Counting
):
    async with site as opened:
        client = await opened.client("/")
        async with aclosing(client.stream("count", name="aclosing")) as items:
            assert await anext(items) == 0
        assert channel.ended == ["aclosing"]
        await broken_off(client)
        await wait_until(lambda: channel.ended == ["aclosing", "break"])
        items = client.stream("count", name="cancel", request_id="mine")
        assert [await anext(items) for _ in range(2)] == [0, 1]
        reading = asyncio.ensure_future(broken_off(client))
        await wait_until(lambda: len(channel.ended) == 3)
        await reading
        await items.aclose()
        assert sorted(channel.ended[2:]) == ["break", "cancel"]
        await client.expect_nothing()
        # The id is free again.
        items = client.stream("count", name="again", request_id="mine")
        assert await anext(items) == 0
        await client.close()
        await items.aclose()


async def test_what_is_raised_as_it_ends_is_told_next(site: AbstractAsyncContextManager[Site]):
    async with site as opened:
        client = await opened.client("/")
        async with aclosing(client.stream("breaks")) as items:
            await anext(items)
        with pytest.raises(ZeroDivisionError, match="as it is cancelled"):
            await client.expect_nothing()


def test_without_a_loop(site: AbstractAsyncContextManager[Site], channel: Counting):
    with SyncSite(site) as opened:
        client = opened.client("/")
        for number in client.stream("count", name="break"):
            if number == 3:
                break
        assert channel.ended == ["break"]
        left_over = client.stream("count", name="left over")
        assert next(left_over) == 0
    assert channel.ended == ["break", "left over"]
    left_over.close()
