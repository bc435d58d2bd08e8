"""`fastapi-channels members`: lists who is in a room, over all processes."""

from __future__ import annotations

import argparse
import asyncio
import sys
from datetime import datetime
from typing import Any

from fastapi_channels.channels.base import BaseChannel, words_of
from fastapi_channels.stores import Occupant

from .broker import add_broker, add_room, add_store, outside_of, shown, voice_of


def add(commands: Any) -> None:
    """Tell the parser's `commands` of this one."""
    parser = commands.add_parser("members", help="list who is in a room: connection, since when, user")
    add_room(parser)
    add_broker(parser)
    add_store(parser)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> None:
    key = words_of(voice_of(given) or BaseChannel).key(given.room)
    found = asyncio.run(_occupants(given, key))
    for one in found:
        since = datetime.fromtimestamp(one.since).astimezone().isoformat(timespec="seconds")
        parts = (one.id, since, "-" if one.user is None else shown(one.user), shown(one.data))
        print("  ".join(filter(None, parts)))
    print(f"members: {len(found)}", file=sys.stderr)


async def _occupants(given: argparse.Namespace, key: str) -> list[Occupant]:
    outside = outside_of(given)
    try:
        return (await outside.occupancy(key)).occupants
    finally:
        await outside.close()
