"""`fastapi-channels listen`: prints what is sent to a room."""

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
from fastapi_channels.wire.messages import Publication

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
        lambda publication: _show(publication, unread),
        namespace=namespace,
        encryption=encryption_by(keys()),
    )
    await outside.subscribe(key)
    print("listening", file=sys.stderr, flush=True)
    try:
        await unread.wait()
    finally:
        await outside.close()


def _show(publication: Publication, unread: asyncio.Event) -> None:
    if publication.kind:
        return  # what the processes tell each other about the room
    body = publication.body
    try:
        print(body if isinstance(body, str) else repr(body), flush=True)
    except BrokenPipeError:
        # Whoever read it has gone, as in `… | head`. Python would say so once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        unread.set()
