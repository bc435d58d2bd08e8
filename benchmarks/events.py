"""Server-Sent Events beside WebSockets: 1,000 members of a room, who are sent messages.

    python -m benchmarks.events

It runs for about three minutes, on the loopback interface. Each row is a fresh uvicorn process, in turns:
WebSockets on uvicorn's own protocol, by the way past ASGI and without it, and streams of events on httptools,
likewise, and on h11. It shows the CPU time of the server for each delivery, how long a message takes to all,
and the resident memory for each member: the medians of the rounds.
"""

from __future__ import annotations

import asyncio
import os
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import httpx
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from fastapi_channels import Channel, action, add_channel
from tests.support.live import RawClient, Site, process

ROUNDS: Final = 3
MEMBERS: Final = 1000
MESSAGES: Final = 100
MARK: Final = b"~"
"""Is in each message once, and in nothing else."""
TEXT: Final = MARK.decode() + "x" * 100


class Room(Channel):
    @action()
    async def say(self, text: str, channel: str) -> None:
        await self.broadcast(channel, "said", text)


class Wrapped:
    """An application behind a middleware, which takes the way past ASGI away."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def pass_on(event: Any) -> None:
            await send(event)

        await self._app(scope, receive, pass_on)


def create_app() -> FastAPI:
    app = FastAPI()
    add_channel(app, asyncapi_url=None)
    Room().mount(app, "/{channel}", sse=True, http=True)
    if os.environ.get("WRAPPED"):
        app.add_middleware(Wrapped)

    @app.get("/used")
    async def used() -> dict[str, float]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        pages = int(Path("/proc/self/statm").read_text().split()[1])  # noqa: ASYNC240 - it is in memory
        return {"cpu": usage.ru_utime + usage.ru_stime, "memory": pages * resource.getpagesize()}

    return app


class Member(asyncio.Protocol):
    """Counts messages in whatever comes.

    Args:
        request: sent first.
        on_message: called for each.
    """

    def __init__(self, request: bytes, on_message: Callable[[int], None]) -> None:
        self._request = request
        self._on_message = on_message
        self.is_there = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self.is_there.done():
            assert data.startswith((b"HTTP/1.1 101 ", b"HTTP/1.1 200 ")), data
            self.is_there.set_result(None)
        self._on_message(data.count(MARK))


class Count:
    """How many messages have come to all, and when the first and the last one did."""

    def __init__(self) -> None:
        self.done = asyncio.Event()
        self.first = self.last = 0.0
        self._missing = 0

    def expect(self, messages: int) -> None:
        self.done.clear()
        self.first, self._missing = 0.0, messages

    def take(self, messages: int) -> None:
        if messages:
            self.last = time.perf_counter()
            self.first = self.first or self.last
            self._missing -= messages
            if not self._missing:
                self.done.set()


SYSTEMS: Final[dict[str, tuple[bool, tuple[str, ...], dict[str, str]]]] = {
    "WebSockets": (False, (), {}),
    "WebSockets, by ASGI": (False, (), {"WRAPPED": "1"}),
    "events": (True, ("--http", "httptools"), {}),
    "events, by ASGI": (True, ("--http", "httptools"), {"WRAPPED": "1"}),
    "events, h11": (True, ("--http", "h11"), {}),
}
"""Whether it is a stream, the options of uvicorn, and the environment."""


async def measure(streams: bool, options: tuple[str, ...], environment: dict[str, str]) -> tuple[float, ...]:
    """Microseconds for a delivery, milliseconds for a message, KB for a member."""
    loop, count = asyncio.get_running_loop(), Count()
    command = ("benchmarks.events:create_app", "--factory", "--ws-ping-interval", "600", *options)
    async with process(*command, environment=environment) as server:
        site = server.site
        async with httpx.AsyncClient(base_url=site.http, timeout=30) as http:

            async def used() -> dict[str, float]:
                found: dict[str, float] = (await http.get("/used")).json()
                return found

            before = await used()
            members = []
            for _ in range(MEMBERS):
                member = Member(request(site, streams), count.take)
                members.append(await loop.create_connection(lambda m=member: m, "127.0.0.1", site.port))
                await member.is_there
            there = await used()
            memory = (there["memory"] - before["memory"]) / MEMBERS / 1024
            times: list[float] = []
            for number in range(MESSAGES + 5):
                if number == 5:
                    before = await used()
                count.expect(MEMBERS)
                began = time.perf_counter()
                assert (await http.post("/room/actions/say", json={"text": TEXT})).status_code == 204
                await asyncio.wait_for(count.done.wait(), 30)
                times.append(count.last - began)
            after = await used()
            for transport, _ in members:
                transport.abort()
    cpu = (after["cpu"] - before["cpu"]) / MEMBERS / MESSAGES * 1e6
    return cpu, statistics.median(times[5:]) * 1e3, memory


def request(site: Site, streams: bool) -> bytes:
    if streams:
        return f"GET /room/events HTTP/1.1\r\nHost: 127.0.0.1:{site.port}\r\n\r\n".encode()
    return RawClient.handshake(site, "/room")


async def main() -> None:
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in SYSTEMS}
    for _ in range(ROUNDS):
        for name, how in SYSTEMS.items():
            found[name].append(await measure(*how))
    print(f"{MEMBERS} members, {MESSAGES} messages of {len(TEXT)} characters, {ROUNDS} rounds")
    print(f"{'':22}{'us of CPU / delivery':>22}{'ms until all have it':>22}{'KB / member':>13}")
    for name, rows in found.items():
        cpu, wait, memory = (statistics.median(column) for column in zip(*rows, strict=True))
        print(f"{name:22}{cpu:22.2f}{wait:22.1f}{memory:13.1f}")


if __name__ == "__main__":
    asyncio.run(main())
