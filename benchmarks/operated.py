"""How late messages come to a room while operators look: a process with 10,000 WebSockets on Redis.

    python -m benchmarks.operated

It runs for about a minute, on the loopback interface. Half of the connections are in one room, the others are
each in one of their own; they only listen. In another room somebody says something all the time, and it is
measured when it comes back. In turns nobody looks, and operators do: at the figures, who is slow, the list of
rooms, and who is in the large one, each of them twice a second, which is what ten pages ask.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import httpx
from fastapi import FastAPI
from websockets.asyncio.client import ClientConnection, connect

from fastapi_channels import Admin, Channel, Connection, action, add_channel
from tests.support.live import RawClient, Site, process
from tests.support.servers import RedisServer

CONNECTIONS: Final = 10_000
AT_ONCE: Final = 20
"""Handshakes under way."""
ROUNDS: Final = 5
SECONDS: Final = 4.0
"""Of each turn."""
PAUSE: Final = 0.01
"""Between two messages."""
LOOKS: Final = 0.5
"""Seconds between two questions of one kind."""
QUESTIONS: Final = (
    "nodes",
    "slow",
    "rooms?limit=50",
    "rooms?limit=50&search=9",
    "rooms/hall/members?limit=50",
)


class Room(Channel):
    @action()
    async def say(self, number: int, connection: Connection) -> None:
        await self.broadcast(connection.room, "said", number)


def create_app() -> FastAPI:
    app = FastAPI()
    add_channel(app, url=os.environ["REDIS"], asyncapi_url=None)
    Room().mount(app, "/rooms/{channel}")
    Admin(app, allow_anybody=True)
    return app


class Listener(asyncio.Protocol):
    """Is there, and takes what comes."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self.is_there: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self.is_there.done():
            assert data.startswith(b"HTTP/1.1 101 "), data
            self.is_there.set_result(None)


async def fill(site: Site) -> list[asyncio.BaseTransport]:
    loop, turn = asyncio.get_running_loop(), asyncio.Semaphore(AT_ONCE)

    async def come(number: int) -> asyncio.BaseTransport:
        room = "hall" if number % 2 else f"cell-{number}"
        listener = Listener(RawClient.handshake(site, f"/rooms/{room}"))
        async with turn:
            transport, _ = await loop.create_connection(lambda: listener, "127.0.0.1", site.port)
            await asyncio.wait_for(listener.is_there, 60)
        return transport

    return await asyncio.gather(*map(come, range(CONNECTIONS)))


async def deliveries(speaker: ClientConnection) -> list[float]:
    """Milliseconds that each took."""
    times, loop = [], asyncio.get_running_loop()
    ends = loop.time() + SECONDS
    number = 0
    while loop.time() < ends:
        number += 1
        began = time.perf_counter()
        await speaker.send(json.dumps({"action": "say", "number": number}))
        while json.loads(await asyncio.wait_for(speaker.recv(), 30)).get("data") != number:
            pass
        times.append(1e3 * (time.perf_counter() - began))
        await asyncio.sleep(PAUSE)
    return times


@contextmanager
def looking(site: Site, answers: dict[str, list[float]]) -> Iterator[None]:
    async def look(question: str) -> None:
        async with httpx.AsyncClient(base_url=site.http, timeout=30, trust_env=False) as http:
            while True:
                began = time.perf_counter()
                (await http.get(f"/admin/{question}")).raise_for_status()
                answers[question].append(1e3 * (time.perf_counter() - began))
                await asyncio.sleep(LOOKS)

    tasks = [asyncio.create_task(look(question)) for question in QUESTIONS]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()


def shown(times: list[float]) -> str:
    cuts = statistics.quantiles(times, n=100)
    return f"p50 {cuts[49]:6.2f}  p99 {cuts[98]:6.2f}  most {max(times):6.2f} ms  of {len(times)}"


async def main() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    quiet: list[float] = []
    looked: list[float] = []
    answers: dict[str, list[float]] = defaultdict(list)
    command = ("benchmarks.operated:create_app", "--factory", "--ws-ping-interval", "600")
    with RedisServer() as redis:
        async with process(*command, environment={"REDIS": redis.url}) as server:
            site = server.site
            listeners = await fill(site)
            async with connect(f"ws://127.0.0.1:{site.port}/rooms/desk", proxy=None) as speaker:
                await deliveries(speaker)
                for _ in range(ROUNDS):
                    quiet += await deliveries(speaker)
                    with looking(site, answers):
                        looked += await deliveries(speaker)
            for transport in listeners:
                assert not transport.is_closing(), "a listener was lost"
                transport.close()
    print(f"{CONNECTIONS} connections; a delivery, while")
    print(f"  nobody looks     {shown(quiet)}")
    print(f"  operators look   {shown(looked)}")
    for question, times in answers.items():
        print(f"  GET {question:<30} median {statistics.median(times):6.1f} ms  of {len(times)}")


if __name__ == "__main__":
    asyncio.run(main())
