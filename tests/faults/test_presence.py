"""Who is present is right in every process, whatever ends: over real servers and real processes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI

from fastapi_channels import Channel, add_channel
from fastapi_channels.cluster.tenure import LEASE, RENEWAL
from tests.support.live import Client, ServerProcess, process, wait_until
from tests.support.servers import PostgresServer, RedisServer, required, running

GRACE = 3.0
BUSY = 16.0
"""Seconds more, for a machine that does other things too."""


class Room(Channel):
    presence = True
    presence_interval = 0.2
    presence_grace = GRACE


def named(name: str) -> str:
    return name


def create_app() -> FastAPI:
    app = FastAPI()
    add_channel(app, url=os.environ["BROKER"], asyncapi_url=None)
    Room().mount(app, "/{channel}", user=named)
    return app


class Follower:
    """A client that keeps the list of who is there, as the protocol says.

    Attributes:
        told: who came, and who went, as its frames have told.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self.devices: dict[str, str] = {}
        self.told: list[tuple[set[str], set[str]]] = []
        self._version = -1
        self._task = asyncio.create_task(self._read())

    @property
    def users(self) -> set[str]:
        return set(self.devices.values())

    async def _read(self) -> None:
        while True:
            frame = await self.client.receive(within=300)
            if frame["type"] not in ("presence", "presence_diff"):
                continue
            before = self.users
            if frame["type"] == "presence":
                self.devices = {each["id"]: each["user"] for each in frame["present"]}
            else:
                assert frame["version"] == self._version + 1
                self.devices |= {each["id"]: each["user"] for each in frame["joined"]}
                for id in frame["left"]:
                    del self.devices[id]
            self._version = frame["version"]
            if self.users != before:
                self.told.append((self.users - before, before - self.users))

    async def sees(self, *users: str, within: float = 30.0) -> None:
        try:
            await wait_until(lambda: self.users == set(users), within=within)
        except TimeoutError:
            raise AssertionError(f"{sorted(self.users)} are shown, not {sorted(users)}") from None
        assert not self._task.done(), self._task.exception()

    def stop(self) -> None:
        self._task.cancel()


@asynccontextmanager
async def following(server: ServerProcess, name: str) -> AsyncIterator[Follower]:
    async with server.site.connect(f"/room?name={name}") as client:
        follower = Follower(client)
        yield follower
        follower.stop()


@pytest.fixture(
    params=[pytest.param(kind, marks=required(kind)) for kind in (RedisServer, PostgresServer)],
    ids=["redis", "postgres"],
)
def server(request: pytest.FixtureRequest) -> Iterator[Any]:
    yield from running(request.param)


async def test_members_are_right_after_a_reload_a_restart_of_the_server_and_the_death_of_a_process(
    server: Any,
):
    environment = {"BROKER": server.url}
    async with AsyncExitStack() as stack:
        one, two, three = await asyncio.gather(
            *(
                stack.enter_async_context(
                    process("tests.faults.test_presence:create_app", "--factory", environment=environment)
                )
                for _ in range(3)
            )
        )
        ann = await stack.enter_async_context(following(one, "ann"))
        bob = await stack.enter_async_context(following(two, "bob"))
        for follower in (ann, bob):
            await follower.sees("ann", "bob")

        # A page that is loaded anew, and lands elsewhere.
        before = len(ann.told)
        for number in range(3):
            client = await stack.enter_async_context((one, two, three)[number].site.connect("/room?name=cid"))
            await ann.sees("ann", "bob", "cid")
            await client.close(1001)
        assert ann.told[before:] == [({"cid"}, set())], "each was told once that somebody came, and no more"
        for follower in (ann, bob):
            await follower.sees("ann", "bob")

        # The server dies, and comes back.
        await asyncio.to_thread(server.kill)
        await asyncio.sleep(1)
        await asyncio.to_thread(server.restart)
        dan = await stack.enter_async_context(following(three, "dan"))
        await stack.enter_async_context(three.site.connect("/room?name=eve"))
        for follower in (ann, bob, dan):
            await follower.sees("ann", "bob", "dan", "eve", within=60)

        # A process is killed: nobody says that its members have left.
        before = len(ann.told)
        loop = asyncio.get_running_loop()
        began = loop.time()
        dan.stop()
        await three.kill()
        for follower in (ann, bob):
            await follower.sees("ann", "bob")
        assert loop.time() - began < LEASE + RENEWAL + BUSY
        assert ann.told[before:] == [(set(), {"dan", "eve"})], "once, and both together"
