"""What a proxy adds to a WebSocket: `WebSocketProxy` and nginx, beside the server behind them.

    python -m benchmarks.proxying

It runs for about a minute, on the loopback interface; nginx is left out where it is not on PATH. One echo
server, both gateways and nginx run all the time, each idle until its turn. A round has one turn of each. It
shows the time of a round trip, with one client that has one message in flight, and how many messages a second
come back to eight clients with 32 in flight each, with the CPU time of the process between: the medians of
the rounds, with the least and the most. Behind the first two is the median of their ratios to no proxy, each
taken within its round. Compare these: the load generator, the echo server and what is measured share cores.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from websockets.frames import Opcode

from fastapi_channels import add_channel
from fastapi_channels.proxying import WebSocketProxy
from tests.support.live import PROTOCOL, RawClient, Site, process
from tests.support.nginx import Nginx

ROUNDS: Final = 7
TRIPS: Final = 1000
CLIENTS: Final = 8
IN_FLIGHT: Final = 32
MESSAGES: Final = 1000
"""Of each client, for the throughput."""
FRAME: Final = RawClient.frame(Opcode.TEXT, b"x" * 100)
ANSWERED: Final = 102
"""Bytes of a frame that comes back: it is not masked."""
QUIET: Final = ("--ws-ping-interval", "600")


async def echo(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": event["text"]})


def create_app() -> FastAPI:
    app = FastAPI()
    add_channel(app, asyncapi_url=None)
    WebSocketProxy(os.environ["TARGET"]).mount(app, "/")
    return app


class Sender(asyncio.Protocol):
    """Sends messages, and another for each that has come back.

    Args:
        window: that are in flight.
        count: in all.
    """

    def __init__(self, handshake: bytes, window: int, count: int) -> None:
        self._handshake = handshake
        self._window = window
        self._count, self._to_send, self._received = count, count, 0
        loop = asyncio.get_running_loop()
        self.is_there, self.done = loop.create_future(), loop.create_future()
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(self._handshake)

    def connection_lost(self, exc: Exception | None) -> None:
        for waits in (self.is_there, self.done):
            if not waits.done():
                waits.set_exception(ConnectionError("the server has closed the connection"))

    def begin(self) -> None:
        self._send(self._window)

    def end(self) -> None:
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if not self.is_there.done():
            assert data.startswith(b"HTTP/1.1 101 "), data
            self.is_there.set_result(None)
            return
        before = self._received // ANSWERED
        self._received += len(data)
        back = self._received // ANSWERED
        if back == self._count:
            self.done.set_result(None)
        else:
            self._send(back - before)

    def _send(self, count: int) -> None:
        count = min(count, self._to_send)
        self._to_send -= count
        self._transport.write(FRAME * count)


async def seconds(port: int, clients: int, window: int, count: int) -> float:
    """Until each client has had all of its messages back."""
    loop = asyncio.get_running_loop()
    handshake = RawClient.handshake(Site(echo, port), "/")
    senders: list[Sender] = []
    try:
        for _ in range(clients):
            sender = Sender(handshake, window, count)
            await loop.create_connection(lambda sender=sender: sender, "127.0.0.1", port)
            senders.append(sender)
            await sender.is_there
        began = time.perf_counter()
        for sender in senders:
            sender.begin()
        await asyncio.wait_for(asyncio.gather(*(sender.done for sender in senders)), 60)
        return time.perf_counter() - began
    finally:
        for sender in senders:
            sender.end()


def cpu(pids: Iterable[int]) -> float:
    """Seconds that processes have used."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def processes(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]


async def main() -> None:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(
            process("benchmarks.proxying:echo", "--lifespan", "off", *QUIET)
        )
        target = {"TARGET": f"ws://127.0.0.1:{server.site.port}/"}
        ports: dict[str, tuple[int, list[int]]] = {"no proxy": (server.site.port, [])}
        if Nginx.installed():
            nginx = Nginx()
            stack.callback(nginx.stop)
            upgrade = (
                "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; "
                'proxy_set_header Connection "Upgrade";'
            )
            nginx.configure(
                f"server {{ listen 127.0.0.1:{nginx.port}; "
                f"location / {{ proxy_pass http://127.0.0.1:{server.site.port}; {upgrade} }} }}"
            )
            nginx.start()
            ports["nginx"] = (nginx.port, processes(nginx.pid))
        for name, options in {"WebSocketProxy": (), "with ours-protocol": ("--ws", PROTOCOL)}.items():
            command = ("benchmarks.proxying:create_app", "--factory", *QUIET, *options)
            gateway = await stack.enter_async_context(process(*command, environment=target))
            ports[name] = (gateway.site.port, [gateway.pid])
        found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ports}
        for number in range(ROUNDS + 1):
            for name, (port, pids) in ports.items():
                trip = await seconds(port, 1, 1, TRIPS) / TRIPS * 1e3
                before = cpu(pids)
                took = await seconds(port, CLIENTS, IN_FLIGHT, MESSAGES)
                used = (cpu(pids) - before) / CLIENTS / MESSAGES * 1e6
                if number:  # the first round warms up
                    found[name].append((trip, CLIENTS * MESSAGES / took, used))
    packages = ", ".join(f"{name} {version(name)}" for name in ("uvicorn", "websockets", "fastapi"))
    print(f"{packages}; {ROUNDS} rounds")
    print(f"{'':20}{'ms / round trip':>32}{'messages / s':>32}{'us of CPU / message':>26}")
    bare = list(zip(*found["no proxy"], strict=True))
    for name, rows in found.items():
        trip, rate, used = zip(*rows, strict=True)
        columns = f"{shown(trip, '.3f', bare[0]):>32}{shown(rate, ',.0f', bare[1]):>32}"
        print(f"{name:20}{columns}{shown(used, '.1f'):>26}")


def shown(values: Sequence[float], form: str, bare: Sequence[float] = ()) -> str:
    """The median, with the least and the most, and with the median of the ratios to `bare`."""
    least, most = min(values), max(values)
    text = f"{statistics.median(values):{form}} ({least:{form}}-{most:{form}})"
    if not bare:
        return text
    return f"{text} {statistics.median(a / b for a, b in zip(values, bare, strict=True)):5.2f}"


if __name__ == "__main__":
    asyncio.run(main())
