"""What it costs to find those whom a message on a topic is for, by the number of filters and of levels.

    python -m benchmarks.topics

It runs for about a minute in one process, and opens no connection.

"match" fills a trie with filters such as `tenant7/+/n2/n5/#`, two in five of them with a wildcard, and asks
it for topics: the median of 2,000, in microseconds, and what a look at each filter would take. "bytes" are
what the trie takes for a filter, measured by tracemalloc, without the text itself, which the room has anyway.
"all fit" is the most that a topic can make it look at: filters with a `+` or a name at each of its levels, in
all combinations.
"""

from __future__ import annotations

import gc
import itertools
import random
import statistics
import time
import tracemalloc
from collections.abc import Callable, Iterable
from typing import Final

from fastapi_channels.topics.names import matches
from fastapi_channels.topics.trie import Trie

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


def main() -> None:
    for count in COUNTS:
        measure(count, 5, naive=count <= 100_000)
    for levels in LEVELS:
        measure(100_000, levels, naive=False)
    for levels in (4, 8, 12, 16):
        worst(levels)


if __name__ == "__main__":
    main()
