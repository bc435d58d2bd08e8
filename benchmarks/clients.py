"""What the clients take, and those of others: bytes of a page, memory of a process, CPU time for an event.

python -m benchmarks.clients

One server speaks to each in its own protocol, and says the same. Beside each stands what has no protocol: a
bare WebSocket whose frames are parsed. Rounds are interleaved.
"""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from fastapi_channels.client import Client
from tests.support.live import ROOT
from tests.support.npm import NODE, installed

from .environments import Environments
from .systems import System
from .tongues import speaking

ROUNDS: Final = 3
ROOMS: Final = 200
"""Clients of one process, for its memory."""
EVENTS: Final = 30_000
TOOLS: Final = {"esbuild": "0.28.2"}
OTHERS: Final = {"centrifuge": "5.7.1", "socket.io-client": "4.8.3", "phoenix": "1.8.0"}
WANTED: Final = {
    "centrifuge": "export { Centrifuge } from 'centrifuge'",
    "socket.io-client": "export { io } from 'socket.io-client'",
    "phoenix": "export { Socket, Presence } from 'phoenix'",
}
OF_OTHERS: Final = System(
    "clients in Python", "clients", ("python-socketio", "aiohttp", "centrifuge-python"), "", {}
)
THEIRS: Final = Environments(Path(os.environ.get("BENCH_CACHE", ROOT / ".bench")))
BUNDLE: Final = ROOT / "clients" / "typescript" / "fastapi-channels.js"


# Ours and a bare one, each a program: it tells its memory, or the seconds of CPU that the events took


async def in_python(url: str, rooms: int) -> float:
    async with Client(url, proxy=None) as client:
        await client.room("/ours").ready()
        begun = _memory()
        joined = [await client.room("/ours").ready() for _ in range(rooms or 1)]
        if rooms:
            return (_memory() - begun) / rooms
        heard = asyncio.Event()
        joined[0].on("said", lambda data: heard.set() if data["number"] == EVENTS - 1 else None)
        return await _timed(joined[0].call("flood", {"count": EVENTS}, timeout=60.0), heard.wait())


async def in_bare_python(url: str, rooms: int) -> float:
    from websockets.asyncio.client import connect

    address = url.replace("http", "ws") + "/bare"
    options: dict[str, Any] = {"proxy": None, "compression": None, "max_size": None, "ping_interval": None}
    first = await connect(address, **options)
    begun = _memory()
    sockets = [await connect(address, **options) for _ in range(rooms or 1)]
    if rooms:
        return (_memory() - begun) / rooms
    await first.close()

    async def hear() -> None:
        while json.loads(await sockets[0].recv())["data"]["number"] != EVENTS - 1:
            pass

    return await _timed(sockets[0].send(json.dumps({"count": EVENTS})), hear())


async def _timed(ask: Any, hear: Any) -> float:
    begun = time.process_time()
    await asyncio.gather(ask, hear)
    return time.process_time() - begun


def _memory() -> int:
    """Bytes that are this process's own."""
    gc.collect()
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Private_"))


def run(kind: str, url: str, rooms: int) -> float:
    language, _, which = kind.partition(" ")
    asked = [which, url, str(rooms)]
    if language == "node":
        folder, apps = installed("clients", {**TOOLS, **OTHERS}), Path(__file__).parent / "apps"
        words = [
            NODE,
            "--expose-gc",
            str(apps / "clients.mjs"),
            *asked,
            str(EVENTS),
            str(folder),
            BUNDLE.as_uri(),
        ]
    elif which in ("ours", "bare"):
        words = [sys.executable, "-m", "benchmarks.clients", *asked]
    else:
        words = [str(THEIRS.bin(OF_OTHERS) / "python"), "benchmarks/apps/clients_.py", *asked, str(EVENTS)]
    done = subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True, timeout=120)
    return float(done.stdout)


def sizes() -> dict[str, int]:
    """Bytes of each client, by one bundler: minified, and compressed by gzip -9."""
    folder = installed("clients", {**TOOLS, **OTHERS})

    def bundled(file: str) -> int:
        words = [
            str(folder / "node_modules/esbuild/bin/esbuild"),
            file,
            "--bundle",
            "--format=esm",
            "--minify",
        ]
        done = subprocess.run([NODE, *words, "--target=es2022"], cwd=folder, check=True, capture_output=True)
        return len(gzip.compress(done.stdout, 9))

    found = {"fastapi-channels": bundled(str(BUNDLE))}
    for name, wanted in WANTED.items():
        with tempfile.NamedTemporaryFile("w", suffix=".js", dir=folder) as entry:
            entry.write(wanted)
            entry.flush()
            found[name] = bundled(entry.name)
    return found


KINDS: Final = (
    *("python ours", "python bare", "python socketio", "python centrifuge"),
    *("node ours", "node bare", "node socket.io", "node centrifuge", "node phoenix"),
)


async def measure(url: str, rooms: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(ROUNDS):
        for kind in KINDS:
            found[kind].append(await asyncio.to_thread(run, kind, url, rooms))
    return found


def table(title: str, found: dict[str, list[float]], scale: float, unit: str) -> None:
    print(f"\n{title}\n")
    for kind, values in found.items():
        bare = found[kind.split()[0] + " bare"]
        ratio = statistics.median(one / other for one, other in zip(values, bare, strict=True))
        print(f"{kind:18} {statistics.median(values) * scale:8.1f} {unit}   {ratio:.2f} of bare")


async def main() -> None:
    print("Bytes, minified and compressed\n")
    for name, size in sizes().items():
        print(f"{name:18} {size:6}")
    async with speaking() as url:
        table(f"Memory of a client, of {ROOMS}", await measure(url, ROOMS), 1 / 1024, "KiB")
        table(f"CPU time for an event, of {EVENTS}", await measure(url, 0), 1e6 / EVENTS, "µs")


def program(words: Sequence[str]) -> None:
    which, url, rooms = words
    client = in_python if which == "ours" else in_bare_python
    print(asyncio.run(client(url, int(rooms))))


if __name__ == "__main__":
    program(sys.argv[1:]) if sys.argv[1:] else asyncio.run(main())
