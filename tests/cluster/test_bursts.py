"""Bursts arrive as bursts: what is published at once leaves in one write to each connection."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest

from fastapi_channels import BaseChannel
from tests.support.live import application, serving

BURST = 8
MEMBERS = 5
ROUNDS = 10

pytestmark = pytest.mark.direct


class Counting:
    """A transport that counts what is written to it."""

    def __init__(self, transport: Any) -> None:
        self.writes: list[bytes] = []
        self._transport = transport

    def write(self, data: bytes) -> None:
        self.writes.append(data)
        self._transport.write(data)


@pytest.mark.parametrize(
    ("fixture", "scheme", "most"),
    [
        ("shared_redis", "redis", 1),
        ("shared_cluster", "redis+cluster", 1),
        # The server wakes a reader at the first entry; the others come with the next read.
        ("shared_redis", "redis-stream", 2),
    ],
)
async def test_from_redis_to_every_connection(
    request: pytest.FixtureRequest, fixture: str, scheme: str, most: int
):
    _, _, where = request.getfixturevalue(fixture).url.partition("://")
    app = application(BaseChannel(), url=f"{scheme}://{where}")
    async with serving(app) as site, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(site.connect("/burst")) for _ in range(MEMBERS)]
        transports = site.node.hub._rooms["burst"].transports
        counted = [Counting(transport) for transport in transports.values()]
        transports.update(zip(transports, counted, strict=True))
        for _ in range(ROUNDS):
            bodies = [f"message {number}" for number in range(BURST)]
            await asyncio.gather(*(site.node.publish("burst", body) for body in bodies))
            for client in clients:
                assert [await client.read() for _ in bodies] == bodies
        for transport in counted:
            assert sum(data.count(b"message") for data in transport.writes) == BURST * ROUNDS
            assert len(transport.writes) <= most * ROUNDS
