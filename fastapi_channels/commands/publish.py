"""`fastapi-channels publish`: sends an event to everybody in a room."""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

from pydantic import ValidationError

from fastapi_channels.channels.publisher import Publisher
from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.signatures.dependencies import told
from fastapi_channels.wire.messages import decode_json

from .broker import add_broker, add_room, add_store, keys, store_url_of, url_of, voice_of


def add(commands: Any) -> None:
    """Tell the parser's `commands` of this one."""
    parser = commands.add_parser("publish", help="send an event to everybody in a room")
    add_room(parser)
    parser.add_argument("event", metavar="EVENT")
    parser.add_argument("data", metavar="DATA", help="JSON; null for none")
    add_broker(parser)
    add_store(parser)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> None:
    asyncio.run(_publish(given, _data(given.data)))


async def _publish(given: argparse.Namespace, data: Any) -> None:
    async with Publisher(
        url_of(given), store_url=store_url_of(given), encryption_keys=keys(), namespace=given.namespace
    ) as publisher:
        try:
            await publisher.broadcast(given.room, given.event, data, channel=voice_of(given))
        except ValidationError as exc:
            raise ConfigurationError(f"the data does not fit the event: {_faults(exc)}") from None


def _faults(exc: ValidationError) -> str:
    return "; ".join(": ".join([".".join(map(str, each["loc"])), each["msg"]]) for each in told(exc.errors()))


def _data(text: str) -> Any:
    try:
        return decode_json(text)
    except ValueError as exc:
        raise ConfigurationError(f"the data is no JSON (a text is in quotes: '\"hello\"'): {exc}") from None
