"""`fastapi-channels rooms`: lists the rooms that have members, over all processes."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from typing import Any

from fastapi_channels.wire.rooms import SCOPE_END, name_of

from .broker import add_broker, add_store, shown
from .processes import UNHEARD, Processes, add_wait


def add(commands: Any) -> None:
    """Tell the parser's `commands` of this one."""
    parser = commands.add_parser("rooms", help="list the rooms, those with the most members first")
    parser.add_argument(
        "text", metavar="TEXT", nargs="?", default="", help="of those with this in their names"
    )
    add_broker(parser)
    add_store(parser)
    add_wait(parser)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    return asyncio.run(_list(given))


async def _list(given: argparse.Namespace) -> int:
    async with Processes(given) as processes:
        (answers,) = await processes.ask("rooms", within=given.wait, about=given.text)
    members: Counter[str] = Counter()
    for _, largest in answers.values():
        members.update(largest)
    for key, number in members.most_common():
        scope, _, _ = key.rpartition(SCOPE_END)
        print(f"{number:7}  {shown(name_of(key))}{f'  (of {shown(scope)})' if scope else ''}")
    more = any(total > len(largest) for total, largest in answers.values())
    rest = ", and smaller ones" if more else ""
    print(f"rooms: {len(members)}{rest}; processes: {len(answers)}", file=sys.stderr)
    return 0 if answers else UNHEARD
