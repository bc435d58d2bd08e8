"""`fastapi-channels bench`: how many round trips a server makes with many clients, and how long they take."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from array import array
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final

from fastapi_channels.client.settings import Closed, Dial, Wire
from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.wire.messages import SUBPROTOCOL

from .broker import shown
from .connect import add_headers, fields, headers_of

PONG: Final = '{"type": "pong"}'
PATIENCE: Final = 30.0
"""Seconds that a handshake may take."""
GRACE: Final = 1.0
"""Seconds in which is answered, after the end, what was asked before it."""
AT_ONCE: Final = 100
"""Handshakes that are under way at a time."""
MOST: Final = 50_000
"""Connections: one address has few more ports."""
WIDTH: Final = 30
"""Characters of the bar."""
FAILED: Final = 1
"""The exit status where a connection was refused or lost, or a request was not answered."""


def add(commands: Any) -> None:
    """Tell the parser's `commands` of this one."""
    parser = commands.add_parser("bench", help="measure a server of yours: connections, round trips, latency")
    parser.add_argument("url", help="of the WebSocket: ws://127.0.0.1:8000/rooms/lobby")
    parser.add_argument(
        "words", nargs="*", metavar="ACTION name=value", help="what is called; a ping unless given"
    )
    parser.add_argument("--connections", type=_count, default=100, help="100")
    parser.add_argument("--seconds", type=_seconds, default=10.0, help="10")
    add_headers(parser)
    parser.set_defaults(run=run)


def _count(text: str) -> int:
    number = int(text)
    if not 0 < number <= MOST:
        raise argparse.ArgumentTypeError(f"1 to {MOST} connections, got {text}")
    return number


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= 3600:
        raise argparse.ArgumentTypeError(f"more than 0 and at most 3600 seconds, got {text}")
    return seconds


def run(given: argparse.Namespace) -> int:
    call = {"action": given.words[0], **fields(given.words[1:])} if given.words else None
    try:
        from fastapi_channels.client.sockets import dialer
    except ModuleNotFoundError:
        raise ConfigurationError('bench needs websockets: pip install "fastapi-channels[client]"') from None
    bench = Bench(given.url, dialer(proxy=None), headers_of(given), call)
    with suppress(KeyboardInterrupt):
        return asyncio.run(bench.run(given.connections, given.seconds))
    return FAILED


class Bench:
    """Clients that each send the next request when the last is answered.

    Args:
        url: of the WebSocket.
        dial: opens one.
        headers: of the handshakes.
        call: the frame of an action; None for pings.
    """

    def __init__(
        self, url: str, dial: Dial, headers: Mapping[str, str], call: Mapping[str, Any] | None
    ) -> None:
        self._open = partial(dial, url, [SUBPROTOCOL], headers)
        self._call = call
        self._latencies = array("d")
        self._codes: Counter[str] = Counter()
        self._problems: Counter[str] = Counter()
        self._events = 0
        self._unanswered = 0

    async def run(self, connections: int, seconds: float) -> int:
        """Measure, and print what was found; the exit status."""
        began = time.perf_counter()
        wires = await self._connected(connections)
        took = time.perf_counter() - began
        print(f"connections: {len(wires)} of {connections} opened in {took:.2f} s", flush=True)
        try:
            began = time.perf_counter()
            await self._measure(wires, began + seconds)
            took = time.perf_counter() - began
        finally:
            await asyncio.gather(*(wire.close(1000) for wire in wires))
        self._report(took)
        return FAILED if self._problems or self._unanswered else 0

    async def _connected(self, number: int) -> list[Wire]:
        door = asyncio.Semaphore(AT_ONCE)
        wires: list[Wire] = []

        async def connect() -> None:
            async with door:
                await self._guarded("refused", self._welcomed(wires))

        await self._watched([connect() for _ in range(number)], lambda: len(wires) / number)
        return wires

    async def _welcomed(self, wires: list[Wire]) -> None:
        async with asyncio.timeout(PATIENCE):
            wire = await self._open()
            if wire.subprotocol is None:
                await wire.close(1000)
                raise Closed(0, f"it does not speak {SUBPROTOCOL}, in which every request is answered")
            # In a room with a history `joined`, and what was missed, come before.
            while (first := json.loads(await wire.receive())).get("type") not in ("welcome", "response"):
                pass
        if first.get("type") != "welcome":
            await wire.close(1000)
            raise Closed(0, str(first.get("code") or first.get("type")))
        wires.append(wire)

    async def _measure(self, wires: list[Wire], ends: float) -> None:
        began = time.perf_counter()
        work = [self._guarded("lost", self._ask_until(wire, ends)) for wire in wires]
        await self._watched(work, lambda: (time.perf_counter() - began) / (ends - began))

    async def _ask_until(self, wire: Wire, ends: float) -> None:
        try:
            async with asyncio.timeout(ends + GRACE - time.perf_counter()):
                await self._ask(wire, ends)
        except TimeoutError:
            self._unanswered += 1

    async def _ask(self, wire: Wire, ends: float) -> None:
        number = 0
        while (began := time.perf_counter()) < ends:
            number += 1
            request = {"type": "ping"} if self._call is None else {**self._call, "request_id": number}
            await wire.send(json.dumps(request))
            await self._answered(wire, number)
            self._latencies.append(time.perf_counter() - began)

    async def _answered(self, wire: Wire, number: int) -> None:
        """Read until the answer has come; what else comes are events."""
        while True:
            frame = json.loads(await wire.receive())
            is_answer = (
                frame.get("type") == "pong" if self._call is None else frame.get("request_id") == number
            )
            if is_answer and frame.get("status") == "bad":
                self._codes[str(frame.get("code"))] += 1
            if is_answer and not frame.get("more"):
                return
            if frame.get("type") == "ping":
                await wire.send(PONG)
            self._events += frame.get("type") == "event"

    async def _guarded(self, what: str, work: Awaitable[None]) -> None:
        """Count what ends it, in place of the others' being ended too."""
        try:
            await work
        except Closed as exc:
            self._problems[f"{what}: {exc.code or ''} {exc.reason}".replace(":  ", ": ").rstrip()] += 1
        except TimeoutError:
            self._problems[f"{what}: no answer within {PATIENCE:g} s"] += 1

    async def _watched(self, work: Iterable[Awaitable[None]], share: Callable[[], float]) -> None:
        """Do all of it, and show in a terminal how much of it is done."""
        doing = asyncio.gather(*work)
        while sys.stderr.isatty() and not doing.done():
            bar = "#" * round(WIDTH * min(1.0, share()))
            print(
                f"\r[{bar:.<{WIDTH}}] {len(self._latencies):,} round trips ",
                end="",
                file=sys.stderr,
                flush=True,
            )
            await asyncio.wait((doing,), timeout=0.2)
        await doing
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def _report(self, seconds: float) -> None:
        found = sorted(self._latencies)
        print(f"round trips: {len(found):,} in {seconds:.1f} s, {len(found) / seconds:,.0f} a second")
        if found:
            half, most, longest = (1000 * found[int(part * (len(found) - 1))] for part in (0.5, 0.99, 1.0))
            print(f"latency: {half:.2f} ms half, {most:.2f} ms all but a hundredth, {longest:.2f} ms longest")
        if self._events:
            print(f"events: {self._events:,} received")
        for code, number in self._codes.most_common():
            print(f"answered with {code}: {number:,}")
        if self._unanswered:
            print(f"not answered: {self._unanswered:,}")
        for problem, number in self._problems.most_common():
            print(f"{shown(problem)}: {number:,}")
