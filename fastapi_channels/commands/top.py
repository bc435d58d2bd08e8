"""`fastapi-channels top`: shows the processes of an application as they are, anew every few seconds."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, TypeAlias

from fastapi_channels.exceptions import BrokerUnavailable

from .broker import add_broker, add_store, shown
from .processes import UNHEARD, Processes

HEADS: Final = (
    "process",
    "host",
    "pid",
    "state",
    "connections",
    "rooms",
    "in/s",
    "out/s",
    "calls/s",
    "errors/s",
)
CLEAR: Final = "\x1b[H\x1b[2J"
"""Of a terminal (ECMA-48: CUP, ED)."""
RATES: Final = {
    "received_messages": "_total",
    "sent_messages": "_total",
    "action_duration_seconds": "_count",
    "errors": "_total",
}
"""The metrics that the rates are of, and the ends of their samples' names."""

Totals: TypeAlias = tuple[float, list[float]]
"""When a process was asked, and how much it had counted of each of `RATES`."""


def add(commands: Any) -> None:
    """Tell the parser's `commands` of this one."""
    parser = commands.add_parser(
        "top", help="watch the processes, and how much passes where they have metrics"
    )
    add_broker(parser)
    add_store(parser)
    parser.add_argument("--every", type=_seconds, default=2.0, help="seconds between two looks; 2")
    parser.add_argument("--times", type=int, default=None, help="looks; for ever unless given")
    parser.set_defaults(run=run)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0.1 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"0.1 to 3600 seconds, got {text}")
    return seconds


def run(given: argparse.Namespace) -> int:
    with suppress(KeyboardInterrupt):
        return asyncio.run(_watch(given))
    return 0


async def _watch(given: argparse.Namespace) -> int:
    before: dict[str, Totals] = {}
    heard = 0
    async with Processes(given) as processes:
        for look in itertools.count(1):
            try:
                heard, before = await _look(processes, given.every, before)
            except BrokerUnavailable as exc:
                heard = 0
                _show(f"no process can be asked: {exc}")
                await asyncio.sleep(given.every)
            if look == given.times:
                break
    return 0 if heard else UNHEARD


async def _look(
    processes: Processes, every: float, before: Mapping[str, Totals]
) -> tuple[int, dict[str, Totals]]:
    """Print one table; how many processes are in it, and what each has counted so far.

    Raises:
        BrokerUnavailable: nobody could be asked.
    """
    health, metrics = await processes.ask("health", "metrics", within=every)
    now = time.monotonic()
    totals = {node: (now, _totals(answer["samples"])) for node, answer in metrics.items()}
    rows = [_row(node, health[node], before.get(node), totals.get(node)) for node in sorted(health)]
    _show(table([HEADS, *rows]))
    return len(health), totals


def _show(text: str) -> None:
    print((CLEAR if sys.stdout.isatty() else "") + text, flush=True)


def _totals(samples: Mapping[str, Any]) -> list[float]:
    return [
        sum(figure for suffix, _, figure in samples.get(name, ()) if suffix == end)
        for name, end in RATES.items()
    ]


def _row(
    node: str,
    report: Mapping[str, Any],
    before: Totals | None,
    now: Totals | None,
) -> tuple[str, ...]:
    state = "ready" if report["ready"] else "draining" if report["draining"] else "not ready"
    rates = ["-"] * len(RATES)
    if before is not None and now is not None:
        seconds = now[0] - before[0]
        rates = [f"{(new - old) / seconds:.1f}" for old, new in zip(before[1], now[1], strict=True)]
    where = (node, shown(report["host"]), str(report["pid"]), state)
    return (*where, str(report["connections"]), str(report["rooms"]), *rates)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns of one width each; figures, from the fifth on, end below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place < 4 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
