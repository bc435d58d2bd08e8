"""`fastapi-channels ban`: refuses a user, or an address, for a time; ends that; or says who is banned."""

from __future__ import annotations

import argparse
import asyncio
import sys
from datetime import UTC, datetime
from typing import Any

from fastapi_channels.channels.publisher import Publisher
from fastapi_channels.cluster.revocations import REMEMBERED
from fastapi_channels.exceptions import ConfigurationError

from .broker import add_broker, add_store, keys, shown, store_url_of, url_of
from .processes import Processes, add_wait


def add(commands: Any) -> None:
    """Tell the parser's `commands` of this one."""
    parser = commands.add_parser(
        "ban", help="refuse a user, or an address, for a time; list who is, where nobody is named"
    )
    parser.add_argument("who", metavar="WHO", nargs="?", help="the key of the user, or the address")
    parser.add_argument("--address", action="store_true", help="it is an address")
    parser.add_argument("--seconds", type=float, default=REMEMBERED, help="86400, which is a day")
    parser.add_argument("--reason", default="", help="for the list")
    parser.add_argument("--end", action="store_true", help="end the ban of WHO")
    add_broker(parser)
    add_store(parser)
    add_wait(parser)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> None:
    if given.who is None and (given.end or given.address):
        raise ConfigurationError("say WHO: the key of a user, or an address")
    asyncio.run(_ban(given))


async def _check(given: argparse.Namespace) -> None:
    """
    Raises:
        ConfigurationError: processes answer, and none of them asks for bans.
    """
    async with Processes(given) as processes:
        (health,) = await processes.ask("health", within=given.wait)
    asking = [node for node, answer in health.items() if answer.get("bans")]
    if health and not asking:
        raise ConfigurationError("nobody is refused for a ban without add_channel(bans=True)")
    if len(asking) < len(health) or not health:
        print(f"processes that refuse who is banned: {len(asking)} of {len(health)}", file=sys.stderr)


async def _ban(given: argparse.Namespace) -> None:
    whom = {"address" if given.address else "user": given.who}
    async with Publisher(
        url_of(given),
        store_url=store_url_of(given),
        encryption_keys=keys(),
        namespace=given.namespace,
    ) as publisher:
        if given.who is None:
            for ban in await publisher.bans():
                until = datetime.fromtimestamp(ban.until, UTC).isoformat(timespec="seconds")
                print(*map(shown, (ban.name, until, ban.reason, ban.by)), sep="\t")
        elif given.end:
            await publisher.unban(**whom)
        else:
            await _check(given)
            await publisher.ban(**whom, seconds=given.seconds, reason=given.reason, by="the command line")
