"""`fastapi-channels jobs`: lists the jobs of an application, when each ran last, and when it is due."""

from __future__ import annotations

import argparse
import asyncio
import sys
from datetime import datetime
from typing import Any

from fastapi_channels.operations.jobs.keeper import QUESTION, Run

from .broker import add_broker, add_store
from .processes import UNHEARD, Processes, add_wait


def add(commands: Any) -> None:
    """Tell the parser's `commands` of this one."""
    parser = commands.add_parser(
        "jobs", help="list the jobs: when each is due, when it ran last, and how it ended"
    )
    add_broker(parser)
    add_store(parser)
    add_wait(parser)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    return asyncio.run(_list(given))


async def _list(given: argparse.Namespace) -> int:
    async with Processes(given) as processes:
        (answers,) = await processes.ask(QUESTION, within=given.wait)
    names = sorted({name for answer in answers.values() for name in answer})
    for name in names:
        states = [answer[name] for answer in answers.values() if name in answer]
        runs = [state["last"] for state in states if state["last"] is not None]
        last = max(runs, key=lambda each: each["due"], default=None)
        print(f"{name}: due {_time(min(state['next'] for state in states))}, {_ended(last)}")
    print(f"jobs: {len(names)}; processes: {len(answers)}", file=sys.stderr)
    return 0 if answers else UNHEARD


def _ended(run: Run | None) -> str:
    if run is None:
        return "not run yet"
    return f"last {_time(run['due'])} ({run['outcome']}, {run['seconds']:.3f} s)"


def _time(moment: float) -> str:
    return datetime.fromtimestamp(moment).astimezone().isoformat(timespec="seconds")
