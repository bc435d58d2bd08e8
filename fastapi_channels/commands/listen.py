"""`fastapi-channels listen`: prints what is sent to a room, or to the topics that fit a filter."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from contextlib import suppress
from typing import Any

from fastapi_channels.channels.base import BaseChannel, words_of
from fastapi_channels.cluster.outside import Outside
from fastapi_channels.topics.names import matches
from fastapi_channels.topics.spaces import TOPIC
from fastapi_channels.wire.messages import Envelope, Publication
from fastapi_channels.wire.rooms import name_of, source_of

from .broker import add_broker, add_room, add_store, outside_of, voice_of


def add(commands: Any) -> None:
    """Tell the parser's `commands` of this one."""
    parser = commands.add_parser("listen", help="print what is sent to a room, until Ctrl-C")
    add_room(parser)
    add_broker(parser)
    add_store(parser)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> None:
    voice = voice_of(given) or BaseChannel
    key, unread = words_of(voice).key(given.room), asyncio.Event()
    name, envelope = name_of(key), voice.envelope
    outside = outside_of(given, lambda publication: _show(publication, name, envelope, unread))
    with suppress(KeyboardInterrupt):
        asyncio.run(_listen(outside, key, unread))


async def _listen(outside: Outside, key: str, unread: asyncio.Event) -> None:
    try:
        await outside.subscribe(source_of(key))
        print("listening", file=sys.stderr, flush=True)
        await unread.wait()
    finally:
        await outside.close()


def _show(publication: Publication, name: str, envelope: Envelope, unread: asyncio.Event) -> None:
    of_topic = publication.kind == TOPIC and publication.to
    if publication.kind and not (of_topic and matches(name, of_topic[0])):
        return  # what the processes tell each other about the room; or a topic that does not fit
    body = publication.body
    if publication.position:
        with suppress(ValueError):  # of another envelope than this
            body = envelope.place(body, publication.position)
    try:
        print(body if isinstance(body, str) else repr(body), flush=True)
    except BrokenPipeError:
        # Whoever read it has gone, as in `… | head`. Python would say so once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        unread.set()
