"""Presence: what an idle connection takes more, and what the members of a room get while others come and go.

    python -m benchmarks.presence

It runs for about two minutes, on the loopback interface only.

"idle" opens connections to a fresh server process, in rooms of 20, with presence and without it in turns. It
shows the resident memory for each connection, and what it is more: the medians of the rounds. "churn" has 200
members in a room, in one process or in two, and others who join and leave it as often as is said, each over a
WebSocket of its own. It shows the frames and the bytes that a member gets in a second, and the CPU time of a
join or a leave: of the servers, and of the clients, who share the machine with them. "plain" is the same
without presence.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from fastapi import FastAPI, WebSocket

from fastapi_channels import Channel, add_channel
from tests.support.live import RawClient, ServerProcess, Site, process
from tests.support.servers import RedisServer

ROUNDS: Final = 3
CONNECTIONS: Final = 1000
MEMBERS: Final = 200
SECONDS: Final = 10
CHANGES: Final = 500
"""Joins and leaves in a second."""
GUESTS: Final = 50
"""Who make them: so many that none has to be quick."""


class Plain(Channel):
    scope = "plain"


class Present(Channel):
    scope = "present"
    presence = True


def create_app() -> FastAPI:
    app = FastAPI()
    add_channel(app, url=os.environ["BROKER"], asyncapi_url=None)
    channels, numbers = {"plain": Plain(), "present": Present()}, itertools.count()

    @app.websocket("/{kind}")
    async def idle(websocket: WebSocket, kind: str) -> None:
        number = next(numbers)
        await channels[kind].connect(websocket, f"r{number // 20}", user=f"user{number}")

    @app.websocket("/{kind}/{room}")
    async def enter(websocket: WebSocket, kind: str, room: str, user: str) -> None:
        await channels[kind].connect(websocket, room, user=user)

    return app


@contextlib.contextmanager
def broker(kind: str) -> Iterator[str]:
    if kind == "memory":
        yield "memory://"
    else:
        with RedisServer() as server:
            yield server.url


def served(url: str) -> contextlib.AbstractAsyncContextManager[ServerProcess]:
    options = ("--factory", "--ws", "fastapi_channels.uvicorn:Protocol", "--ws-ping-interval", "600")
    return process("benchmarks.presence:create_app", *options, environment={"BROKER": url})


def spent(servers: list[ServerProcess]) -> float:
    """Seconds of CPU."""
    pids = [server._process.pid for server in servers if server._process is not None]
    times = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13] for pid in pids]
    return sum(int(ticks) for each in times for ticks in each) / os.sysconf("SC_CLK_TCK")


def resident(server: ServerProcess) -> int:
    """Bytes of memory that it has."""
    assert server._process is not None
    lines = Path(f"/proc/{server._process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


async def opened(site: Site, path: str, count: int, stack: AsyncExitStack) -> list[RawClient]:
    found: list[RawClient] = []
    while len(found) < count:
        some = min(50, count - len(found))
        found += await asyncio.gather(
            *(stack.enter_async_context(RawClient.open(site, path)) for _ in range(some))
        )
    return found


async def idle(url: str, path: str) -> float:
    """Bytes for each connection."""
    async with served(url) as server, AsyncExitStack() as stack:
        await opened(server.site, path, 200, stack)
        before = resident(server)
        await opened(server.site, path, CONNECTIONS, stack)
        await asyncio.sleep(3)
        found = (resident(server) - before) / CONNECTIONS
        await server.kill()  # which does not wait for so many to be let go
        return found


async def count(member: RawClient, got: list[int]) -> None:
    with contextlib.suppress(TimeoutError, ConnectionError):
        while True:
            _, payload = await member.receive()
            got[0] += 1
            got[1] += len(payload)


async def come_and_go(site: Site, kind: str, numbers: Iterator[int], done: list[int], rate: float) -> None:
    """Join and leave in turns, so many a second."""
    loop = asyncio.get_running_loop()
    due = loop.time()
    while True:
        async with RawClient.open(site, f"/{kind}/room?user=guest{next(numbers)}"):
            pass
        done[0] += 2
        due += 2 / rate
        await asyncio.sleep(max(0.0, due - loop.time()))


async def churn(url: str, processes: int, kind: str) -> str:
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(served(url)) for _ in range(processes)]
        sites = [server.site for server in servers]
        tallies: list[list[int]] = []
        reading: list[asyncio.Task[None]] = []
        for number in range(MEMBERS):
            (member,) = await opened(sites[number % processes], f"/{kind}/room?user=member{number}", 1, stack)
            tallies.append([0, 0])
            reading.append(asyncio.create_task(count(member, tallies[-1])))
        await asyncio.sleep(3)
        numbers, done = itertools.count(), [0]
        guests = [
            asyncio.create_task(come_and_go(sites[n % processes], kind, numbers, done, CHANGES / GUESTS))
            for n in range(GUESTS)
        ]
        await asyncio.sleep(2)
        before, began = [tuple(tally) for tally in tallies], done[0]
        server, client = spent(servers), time.process_time()
        await asyncio.sleep(SECONDS)
        server, client = spent(servers) - server, time.process_time() - client
        frames = [(now[0] - was[0]) / SECONDS for now, was in zip(tallies, before, strict=True)]
        sizes = [(now[1] - was[1]) / SECONDS for now, was in zip(tallies, before, strict=True)]
        changes = done[0] - began
        for task in (*guests, *reading):
            task.cancel()
        await asyncio.gather(*guests, *reading, return_exceptions=True)
    sent = f"{max(frames):.1f} | {statistics.median(sizes) / 1000:.1f}"
    return f"{changes / SECONDS:.0f} | {sent} | {1000 * server / changes:.2f} | {1000 * client / changes:.2f}"


async def main() -> None:
    kinds = ["memory", *(["redis"] if RedisServer.installed() else [])]
    print("| idle | without | with presence | more |\n| --- | --- | --- | --- |")
    for kind in kinds:
        found: dict[str, list[float]] = {"/plain": [], "/present": []}
        for _ in range(ROUNDS):
            for path, sizes in found.items():
                with broker(kind) as url:
                    sizes.append(await idle(url, path))
        plain, present = (statistics.median(sizes) for sizes in found.values())
        more = statistics.median(b - a for a, b in zip(found["/plain"], found["/present"], strict=True))
        print(f"| {kind} | {plain:.0f} B | {present:.0f} B | {more:.0f} B |", flush=True)
    print("\n| churn | joins and leaves/s | frames/s, at most | kB/s | ms of servers | ms of clients |")
    print("| --- | --- | --- | --- | --- | --- |")
    for place in ("plain, memory, 1", "present, memory, 1", "present, redis, 1", "present, redis, 2"):
        kind, where, processes = place.split(", ")
        if where in kinds:
            with broker(where) as url:
                print(f"| {place} | {await churn(url, int(processes), kind)} |", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
