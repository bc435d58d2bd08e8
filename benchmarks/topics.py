"""What it costs to find those whom a message on a topic is for, by the number of filters and of levels.

    python -m benchmarks.topics

It runs for about a minute in one process, and opens no connection.

"match" fills a trie with filters such as `tenant7/+/n2/n5/#`, two in five of them with a wildcard, and asks
it for topics: the median of 2,000, in microseconds, and what a look at each filter would take. "bytes" are
what the trie takes for a filter, measured by tracemalloc, without the text itself, which the room has anyway.
"all fit" is the most that a topic can make it look at: filters with a `+` or a name at each of its levels, in
all combinations. "subscribed" are as many filters of connections, 100 of each, with all that a process keeps
of them but the connections; "delivery" is a message for 1,000 connections, whose filter it fits by one, or by
three of them, up to the bytes for their transports.
"""

from __future__ import annotations

import gc
import itertools
import random
import statistics
import time
import tracemalloc
from collections.abc import Callable, Iterable
from typing import Any, Final

from fastapi_channels.cluster.hub import Hub
from fastapi_channels.cluster.renditions import Renditions
from fastapi_channels.topics.names import matches
from fastapi_channels.topics.spaces import Spaces
from fastapi_channels.topics.trie import Trie
from fastapi_channels.wire.messages import Publication
from fastapi_channels.wire.rooms import SPACE_END

COUNTS: Final = (100, 1_000, 10_000, 100_000, 1_000_000)
TOPICS: Final = 2_000
LEVELS: Final = (3, 5, 10, 20)


def levels_of(chance: random.Random, count: int, levels: int) -> list[str]:
    """Of a topic, among so many filters."""
    tenants = count // 10 + 1
    return [f"tenant{chance.randrange(tenants)}", *(f"n{chance.randrange(10)}" for _ in range(levels - 1))]


def filters(count: int, levels: int) -> list[str]:
    """So many different ones."""
    chance, found = random.Random(1), dict[str, None]()
    while len(found) < count:
        names, kind = levels_of(chance, count, levels), chance.random()
        if kind < 0.2:
            names[chance.randrange(1, levels)] = "+"
        elif kind < 0.4:
            names[chance.randrange(1, levels) :] = ["#"]
        found["/".join(names)] = None
    return list(found)


def topics(count: int, levels: int) -> list[str]:
    chance = random.Random(2)
    return ["/".join(levels_of(chance, count, levels)) for _ in range(TOPICS)]


def filled(names: Iterable[str]) -> Trie[str]:
    trie: Trie[str] = Trie()
    for name in names:
        trie.put(name, name)
    return trie


def median(call: Callable[[str], object], over: Iterable[str]) -> float:
    """Microseconds of a call."""
    times = []
    for each in over:
        began = time.perf_counter_ns()
        call(each)
        times.append(time.perf_counter_ns() - began)
    return statistics.median(times) / 1000


def measure(count: int, levels: int, *, naive: bool) -> None:
    names, asked = filters(count, levels), topics(count, levels)
    gc.collect()
    tracemalloc.start()
    trie = filled(names)
    size = tracemalloc.get_traced_memory()[0] / count
    tracemalloc.stop()
    gc.freeze()
    found = statistics.fmean(len(trie.match(topic)) for topic in asked)
    took = median(trie.match, asked)
    said = f"{took:7.2f} µs a topic, {found:5.1f} of them fit, {size:4.0f} bytes each"
    if naive:
        alone = median(lambda topic: [name for name in names if matches(name, topic)], asked[:5])
        said += f"; each by itself {alone:,.0f} µs"
    print(f"{count:>9,} filters, {levels:>2} levels: {said}")
    gc.unfreeze()


def worst(levels: int) -> None:
    names = ["/".join(each) for each in itertools.product("a+", repeat=levels)]
    trie, topic = filled(names), "/".join("a" * levels)
    took = median(trie.match, [topic] * 20)
    said = f"{took:,.0f} µs, {took / len(names):.2f} for each"
    print(f"{len(names):>9,} filters, {levels:>2} levels: {said}, all fit")


class Pipe:
    """A transport that takes what it is given."""

    def write(self, data: bytes) -> None: ...


class Carrier:
    def __init__(self) -> None:
        self.writer = self
        self.reception = None


class Client:
    def __init__(self, number: int) -> None:
        self.id = f"node.{number}"
        self.direct = Pipe()
        self._carrier = Carrier()

    def push(self, frame: object) -> None: ...


def spaces() -> tuple[Any, Spaces]:
    hub: Any = Hub(lambda flush: None)
    return hub, Spaces(hub, Renditions(hub), {})


def subscribe(hub: Any, space: Spaces, client: Client, filter: str) -> None:
    room = f"Prices{SPACE_END}{filter}"
    space.enter(room, client)
    hub.add(room, client)


def subscribed(count: int) -> None:
    names, clients = filters(count, 5), [Client(number) for number in range(count // 100)]
    gc.collect()
    tracemalloc.start()
    hub, space = spaces()
    for number, name in enumerate(names):
        subscribe(hub, space, clients[number // 100], name)
    size = tracemalloc.get_traced_memory()[0] / count
    tracemalloc.stop()
    print(f"{count:>9,} filters subscribed: {size:,.0f} bytes each")


def delivery(overlapping: int) -> None:
    hub, space = spaces()
    for number in range(1000):
        client = Client(number)
        for filter in ("price/+/last", "price/#", "#")[:overlapping]:
            subscribe(hub, space, client, filter)
    message = Publication(f"Prices{SPACE_END}", "x" * 128, kind="topic", to=("price/acme/last",))

    def deliver(_: str) -> None:
        space.receive(f"Prices{SPACE_END}", message)
        hub.flush()

    took = median(deliver, [""] * 200)
    print(f"to 1,000 connections by {overlapping} of their filters: {took:,.0f} µs")


def main() -> None:
    for count in COUNTS:
        measure(count, 5, naive=count <= 100_000)
    for levels in LEVELS:
        measure(100_000, levels, naive=False)
    for levels in (4, 8, 12, 16):
        worst(levels)
    subscribed(100_000)
    for overlapping in (1, 3):
        delivery(overlapping)


if __name__ == "__main__":
    main()
