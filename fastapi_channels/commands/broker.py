"""The broker that a command speaks over, the store beside it, and the channel in whose words."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from typing import Final

from fastapi_channels.brokers import create_backend
from fastapi_channels.channels.base import BaseChannel
from fastapi_channels.channels.publisher import Voice
from fastapi_channels.cluster.outside import Outside
from fastapi_channels.encryption import encryption_by
from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.stores import store_beside
from fastapi_channels.wire.messages import Publication

from .application import find

VARIABLE: Final = "CHANNELS_URL"
"""In the environment: others can read the words of a command, and the URL may hold a password."""
STORE: Final = "CHANNELS_STORE_URL"
KEYS: Final = "CHANNELS_ENCRYPTION_KEYS"
"""In the environment, and nowhere else."""


def add_broker(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", help=f"the broker, as add_channel() has it; ${VARIABLE} unless given")
    parser.add_argument("--namespace", default="", help="that of the application")


def add_store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--store-url", help=f"the store, where it is another server; ${STORE} unless given")


def add_room(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("room", metavar="ROOM")
    parser.add_argument("--channel", help="the channel that has the room, module:Class, where it has a scope")


def url_of(given: argparse.Namespace) -> str:
    """
    Raises:
        ConfigurationError: nobody has said where the broker is.
    """
    url: str = given.url or os.environ.get(VARIABLE, "")
    if not url:
        raise ConfigurationError(f"say where the broker is: --url, or {VARIABLE} in the environment")
    return url


def store_url_of(given: argparse.Namespace) -> str | None:
    """None for the store that comes with the broker."""
    return given.store_url or os.environ.get(STORE)


def keys() -> str | None:
    """The application's `encryption_keys`."""
    return os.environ.get(KEYS)


def voice_of(given: argparse.Namespace) -> Voice | None:
    """
    Raises:
        ConfigurationError: what `--channel` names is no channel.
    """
    if given.channel is None:
        return None
    found = find(given.channel)
    if isinstance(found, BaseChannel) or (isinstance(found, type) and issubclass(found, BaseChannel)):
        return found
    raise ConfigurationError(f"{given.channel!r} is no channel, but {found!r}")


def outside_of(given: argparse.Namespace, deliver: Callable[[Publication], None] | None = None) -> Outside:
    """What speaks to the processes of the application, and reads its store.

    Raises:
        ConfigurationError: nobody has said where the broker is; or as `Outside`.
    """
    url, namespace = url_of(given), given.namespace
    return Outside(
        create_backend(url),
        deliver,
        namespace=namespace,
        encryption=encryption_by(keys()),
        make_store=lambda: store_beside(url, store_url_of(given), namespace=namespace),
    )


def shown(text: str) -> str:
    """What clients have chosen, as a terminal may be given it: a control sequence is written out."""
    return text if text.isprintable() else json.dumps(text)
