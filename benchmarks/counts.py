"""Who is in a room of several processes: one call of the store, beside a question to every process.

    python -m benchmarks.counts

It runs for less than three minutes, with a Redis of its own, on the loopback interface only. There are 1, 2,
4, 8 and 16 processes, real ones, with 100 members of the room in all. One of them asks, one call after the
other.

A question is published to all; each process answers to the one that asks, which waits for as many answers as
there are processes, for a second at most. That is how this package had it before there were stores. A count
adds the answers up, the members are put together, and for a place all are counted before somebody is let in.

The two ways take turns, and the medians of the rounds are shown: calls a second, messages on the broker for
each call, and milliseconds of CPU for each call, of all processes and of Redis. Then one process is stopped
(SIGSTOP), where there are others: the median of what a call takes, and how many it finds (for a place in the
store, how many were let in).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi_channels.brokers import Broker, create_backend
from fastapi_channels.stores import Store, create_store
from fastapi_channels.stores.store import Lease, Limits, Occupant
from fastapi_channels.wire.messages import Publication, decode_json, encode_json
from tests.support.servers import RedisServer

PROCESSES = (1, 2, 4, 8, 16)
MEMBERS = 100
ROOM = "room"
ROUNDS = 3
SECONDS = 0.5
"""For each figure of a round."""
PATIENCE = 1.0
"""Seconds that a question waits for the answers."""
QUESTIONS = "questions"
LIMITS = Limits(seats=1000)

Call = Callable[[], Awaitable[int]]
"""How many were found."""


@dataclass
class Process:
    """One process, with its part of the members."""

    id: str
    broker: Broker
    store: Store
    lease: Lease
    members: list[str]
    processes: int
    answers: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    enough: dict[int, asyncio.Event] = field(default_factory=dict)
    calls: int = 0

    def receive(self, publication: Publication) -> None:
        body = decode_json(publication.body)
        if publication.topic == QUESTIONS:
            asyncio.get_running_loop().create_task(self._answer(body))
        elif body["number"] in self.answers:
            found = self.answers[body["number"]]
            found.append(body)
            if len(found) == self.processes:
                self.enough[body["number"]].set()

    async def _answer(self, question: dict[str, Any]) -> None:
        answer = {"number": question["number"], "count": len(self.members)}
        if question["wanted"] == "members":
            answer["members"] = self.members
        await self.broker.publish(Publication(str(question["asker"]), encode_json(answer)))

    async def _ask(self, wanted: str) -> int:
        self.calls += 1
        number = self.calls
        self.answers[number], self.enough[number] = [], asyncio.Event()
        question = {"number": number, "asker": self.id, "wanted": wanted}
        await self.broker.publish(Publication(QUESTIONS, encode_json(question)))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await self.enough[number].wait()
        del self.enough[number]
        answers = self.answers.pop(number)
        if wanted == "members":
            return len([member for answer in answers for member in answer["members"]])
        return sum(answer["count"] for answer in answers)

    def ways(self) -> dict[str, tuple[Call, Call]]:
        """By question: the store, and all processes."""
        return {
            "count": (lambda: self.store.count(ROOM), lambda: self._ask("count")),
            "members": (self._occupancy, lambda: self._ask("members")),
            "place": (self._place, lambda: self._ask("count")),
        }

    async def _occupancy(self) -> int:
        return len((await self.store.occupancy(ROOM)).occupants)

    async def _place(self) -> int:
        self.calls += 1
        id = f"{self.id}.{10_000 + self.calls}"
        found = await self.store.enter(ROOM, [Occupant(id, seat=id)], self.lease, LIMITS)
        await self.store.leave(ROOM, [id])
        return len(found.occupants)


@contextlib.asynccontextmanager
async def running(url: str, number: int, processes: int) -> AsyncIterator[Process]:
    store = create_store(url)
    assert store is not None
    await store.open()
    id = f"process{number}"
    ids = [f"{id}.{member}" for member in range(number, MEMBERS, processes)]
    lease = await store.renew(id, 0, 600)
    await store.enter(ROOM, [Occupant(each, user=each, seat=each) for each in ids], lease)
    broker = Broker(create_backend(url), lambda publication: process.receive(publication))
    process = Process(id, broker, store, lease, ids, processes)
    await broker.start()
    await broker.subscribe(QUESTIONS)
    await broker.subscribe(id)
    yield process
    await store.resign(lease)
    await broker.stop()
    await store.close()


async def stand_by(url: str, number: int, processes: int) -> None:
    async with running(url, number, processes):
        print("ready", flush=True)
        await asyncio.Event().wait()


@contextlib.contextmanager
def others(url: str, processes: int) -> Iterator[list[int]]:
    """All processes but the one that asks; their ids."""
    command = (sys.executable, "-m", "benchmarks.counts", url)
    started = [
        subprocess.Popen((*command, str(number), str(processes)), stdout=subprocess.PIPE)
        for number in range(1, processes)
    ]
    try:
        for each in started:
            assert each.stdout is not None
            each.stdout.readline()
        yield [each.pid for each in started]
    finally:
        for each in started:
            each.kill()
            each.wait()


def cpu(pids: list[int]) -> float:
    """Seconds that the processes have run."""
    return sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in pids) / 1e9


def published(server: RedisServer) -> int:
    for line in server.ask("INFO", "commandstats").splitlines():
        if line.startswith("cmdstat_publish:calls="):
            return int(line.partition("=")[2].partition(",")[0])
    return 0


@dataclass(frozen=True)
class Figures:
    rate: float
    messages: float
    cpu: float


async def measure(call: Call, server: RedisServer, pids: list[int]) -> Figures:
    await call()
    before, cpu_before, began, calls = published(server), cpu(pids), time.perf_counter(), 0
    while (took := time.perf_counter() - began) < SECONDS:
        await call()
        calls += 1
    spent = cpu(pids) - cpu_before
    return Figures(calls / took, (published(server) - before) / calls, 1000 * spent / calls)


async def stopped(call: Call, pid: int) -> str:
    """What a call takes while a process is stopped, and what it finds."""
    os.kill(pid, signal.SIGSTOP)
    try:
        took: list[float] = []
        found = 0
        for _ in range(3):
            began = time.perf_counter()
            found = await call()
            took.append(1000 * (time.perf_counter() - began))
        return f"{statistics.median(took):,.1f} ms, {found}"
    finally:
        os.kill(pid, signal.SIGCONT)


async def report(server: RedisServer, processes: int) -> None:
    with others(server.url, processes) as pids:
        async with running(server.url, 0, processes) as process:
            everybody = [*pids, os.getpid(), server.pid]
            taken: dict[tuple[str, str], list[Figures]] = {}
            for _ in range(ROUNDS):
                for what, ways in process.ways().items():
                    for way, call in zip(("store", "question"), ways, strict=True):
                        taken.setdefault((what, way), []).append(await measure(call, server, everybody))
            for (what, way), figures in taken.items():
                rate, messages, spent = (
                    statistics.median(getattr(each, name) for each in figures)
                    for name in ("rate", "messages", "cpu")
                )
                call = process.ways()[what][way == "question"]
                end = await stopped(call, pids[-1]) if pids else ""
                print(
                    f"| {processes} | {what} | {way} | {rate:,.0f} | {messages:.0f} | {spent:.2f} | {end} |",
                    flush=True,
                )
    server.ask("FLUSHALL")


def main() -> None:
    if len(sys.argv) > 1:
        asyncio.run(stand_by(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
        return
    print("| processes | asked for | of | calls a second | messages | CPU ms | one is stopped |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    with RedisServer() as server:
        for processes in PROCESSES:
            asyncio.run(report(server, processes))


if __name__ == "__main__":
    main()
