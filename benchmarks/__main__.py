"""Measure this project beside what would be used in its place. See README.md in this folder."""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import sys
import time
from collections.abc import Collection
from pathlib import Path
from typing import Final

from .environments import ROOT, Unavailable
from .report import publish, write
from .runs import Bench, Plan, alone
from .scenarios import SCENARIOS
from .systems import BASELINE, SYSTEMS

QUICK_SYSTEMS: Final = (BASELINE, "ours", "ours-protocol", "plain-protocol", "ours-redis")
OTHERS: Final = {
    "limiter": "rate limits",
    "brokers": "brokers",
    "stores": "stores",
    "authentication": "tokens",
}
"""Benchmarks of parts, each a module of its own."""


def main() -> int:
    arguments = _parser().parse_args()
    # So that servers are ended in any case.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    plan = Plan(
        systems=_chosen(arguments.systems, SYSTEMS, QUICK_SYSTEMS if arguments.quick else tuple(SYSTEMS)),
        scenarios=_chosen(
            arguments.scenarios,
            SCENARIOS,
            tuple(name for name, scenario in SCENARIOS.items() if scenario.quick or not arguments.quick),
        ),
        rounds=arguments.rounds or (1 if arguments.quick else 3),
        seconds=1.0 if arguments.quick else arguments.seconds,
        warmup=0.3 if arguments.quick else 0.5,
        attempts=1 if arguments.quick else 3,
    )
    began = time.monotonic()
    try:
        with alone(arguments.cache):
            bench = Bench(arguments.cache)
            bench.prepare(plan)
            samples = bench.run(plan, resume=arguments.resume)
    except Unavailable as exc:
        print(f"not measured: {exc}", file=sys.stderr)
        return 1
    folder = write(samples, bench, arguments.cache)
    print((folder / "results.md").read_text())
    print(f"{time.monotonic() - began:.0f} s; the table, the chart and every sample are in {folder}")
    if arguments.publish:
        publish(folder, ROOT / "docs")
    for name, what in OTHERS.items():
        if importlib.util.find_spec(f"benchmarks.{name}") is not None:
            print(f"more about {what}: python -m benchmarks.{name}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    quick = os.environ.get("QUICK", "") not in ("", "0")
    parser.add_argument("--quick", action="store_true", default=quick, help="under two minutes (QUICK=1)")
    parser.add_argument("--systems", default="", help=f"of {', '.join(SYSTEMS)}")
    parser.add_argument("--scenarios", default="", help=f"of {', '.join(SCENARIOS)}")
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--resume", action="store_true", help="go on with a run that was interrupted")
    parser.add_argument("--publish", action="store_true", help="put the table and the chart into docs/")
    cache = Path(os.environ.get("BENCH_CACHE", ROOT / ".bench"))
    parser.add_argument("--cache", type=Path, default=cache, help="folder of environments and results")
    return parser


def _chosen(text: str, known: Collection[str], usual: tuple[str, ...]) -> tuple[str, ...]:
    names = tuple(filter(None, text.split(","))) or usual
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"not known: {', '.join(unknown)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
