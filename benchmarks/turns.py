"""Echoes compared in short turns, for a machine whose speed changes from one second to the next.

    python -m benchmarks.turns --systems plain,plain-protocol,bare --scenario raw --window 1

All servers run at the same time, each idle until it is its turn: a burst of a third of a second, one system
after the other, many times over. A ratio is taken within each round, so between moments that are close.
"""

from __future__ import annotations

import argparse
import os
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from .environments import ROOT, Environments
from .processes import compile_load, cpu_seconds, drive, server, tree
from .runs import Plan, alone, options_of
from .scenarios import SCENARIOS
from .systems import BASELINE, SYSTEMS


def burst(load: Path, pids: list[int], options: dict[str, Any]) -> float:
    """Microseconds of the server's CPU time for one reply."""
    before = used = 0.0
    received = 0
    for event in drive(load, options):
        if event["event"] == "measure":
            before = cpu_seconds(pids)
        elif event["event"] == "measured":
            used = cpu_seconds(pids) - before
        elif event["event"] == "done":
            received = event["received"]
    return used / received * 1e6


def compare(names: list[str], scenario: str, window: int, rounds: int, cache: Path) -> dict[str, list[float]]:
    """What each system took in each round."""
    work, load = replace(SCENARIOS[scenario], windows=(window,)), compile_load(cache)
    plan = Plan(names, (scenario,), warmup=0.1, seconds=0.25)
    found: dict[str, list[float]] = {name: [] for name in names}
    with ExitStack() as stack:
        turns: list[tuple[str, list[int], dict[str, Any]]] = []
        for name in names:
            system = SYSTEMS[name]
            pid, port = stack.enter_context(server(system, Environments(cache)))
            options = options_of(system, work, plan, [port])
            turns.append((name, tree(pid), options))
        for _ in range(rounds):
            for name, pids, options in turns:
                found[name].append(burst(load, pids, options))
    return found


def show(found: dict[str, list[float]], baseline: str) -> None:
    for name, costs in found.items():
        ratios = [base / cost for base, cost in zip(found[baseline], costs, strict=True)]
        low, _, high = quantiles(ratios, n=4)
        print(
            f"{name:16} µs of CPU: least {min(costs):6.2f}, median {median(costs):6.2f}; "
            f"ratio {median(ratios):5.2f}, half of the rounds {low:.2f} to {high:.2f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.turns", description="Compare echoes in short turns. See the module."
    )
    parser.add_argument("--systems", default="plain,plain-protocol,asgi-protocol,bare")
    parser.add_argument("--scenario", choices=("raw", "echo", "typed", "depends"), default="raw")
    parser.add_argument("--window", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--cache", type=Path, default=Path(os.environ.get("BENCH_CACHE", ROOT / ".bench")))
    given = parser.parse_args()
    names = given.systems.split(",")
    with alone(given.cache):
        found = compare(names, given.scenario, given.window, given.rounds, given.cache)
    show(found, BASELINE if BASELINE in names else names[0])


if __name__ == "__main__":
    main()
