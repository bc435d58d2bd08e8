"""`fastapi-channels kick`: closes the WebSockets of a user, or one connection."""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from typing import Any, Final

from fastapi_channels.channels.publisher import Publisher
from fastapi_channels.exceptions import CloseCode

from .broker import add_broker, add_store, keys, store_url_of, url_of
from .processes import UNHEARD, Processes, add_wait

CONNECTION: Final = re.compile(r"[0-9a-f]{12}\.\d+")
"""The id of one: that of its process, and a number."""


def add(commands: Any) -> None:
    """Tell the parser's `commands` of this one."""
    parser = commands.add_parser("kick", help="close the WebSockets of a user, or one connection")
    parser.add_argument("who", metavar="WHO", help="the key of the user, or the id of the connection")
    parser.add_argument("--user", action="store_true", help="it is a user, although it looks like an id")
    parser.add_argument(
        "--code",
        type=int,
        default=int(CloseCode.NORMAL),
        help="of the close: 4000 to 4499 say come back, 4500 to 4999 stay away; 1000",
    )
    parser.add_argument("--reason", default="", help="that the client is told, in at most 123 bytes")
    add_broker(parser)
    add_store(parser)
    add_wait(parser)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    return asyncio.run(_kick(given))


async def _kick(given: argparse.Namespace) -> int:
    is_connection = CONNECTION.fullmatch(given.who) and not given.user
    async with Publisher(
        url_of(given), store_url=store_url_of(given), encryption_keys=keys(), namespace=given.namespace
    ) as publisher:
        close = publisher.disconnect_connection if is_connection else publisher.disconnect_user
        async with Processes(given) as processes:
            question = "has_connection" if is_connection else "sockets_of"
            (answers,) = await processes.ask(question, within=given.wait, about=given.who)
            await close(given.who, given.code, given.reason)
    told = sum(answers.values())
    print(f"closed: {told}; processes: {len(answers)}", file=sys.stderr)
    return 0 if told else UNHEARD
