"""`fastapi-channels listen`: prints what is sent to a room, or to the topics that fit a filter."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from contextlib import suppress
from typing import Any

from fastapi_channels.brokers import create_backend
from fastapi_channels.channels.base import BaseChannel, words_of
from fastapi_channels.cluster.outside import Outside
from fastapi_channels.encryption import encryption_by
from fastapi_channels.topics.names import matches
from fastapi_channels.topics.spaces import TOPIC
from fastapi_channels.wire.messages import Publication
from fastapi_channels.wire.rooms import name_of, source_of

from .broker import add_broker, add_room, keys, url_of, voice_of


def add(commands: Any) -> None:
    """Tell the parser's `commands` of this one."""
    parser = commands.add_parser("listen", help="print what is sent to a room, until Ctrl-C")
    add_room(parser)
    add_broker(parser)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> None:
    key = words_of(voice_of(given) or BaseChannel).key(given.room)
    with suppress(KeyboardInterrupt):
        asyncio.run(_listen(url_of(given), given.namespace, key))


async def _listen(url: str, namespace: str, key: str) -> None:
    unread = asyncio.Event()
    outside = Outside(
        create_backend(url),
        lambda publication: _show(publication, name_of(key), unread),
        namespace=namespace,
        encryption=encryption_by(keys()),
    )
    await outside.subscribe(source_of(key))
    print("listening", file=sys.stderr, flush=True)
    try:
        await unread.wait()
    finally:
        await outside.close()


def _show(publication: Publication, name: str, unread: asyncio.Event) -> None:
    of_topic = publication.kind == TOPIC and publication.to
    if publication.kind and not (of_topic and matches(name, of_topic[0])):
        return  # what the processes tell each other about the room; or a topic that does not fit
    body = publication.body
    try:
        print(body if isinstance(body, str) else repr(body), flush=True)
    except BrokenPipeError:
        # Whoever read it has gone, as in `… | head`. Python would say so once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        unread.set()
