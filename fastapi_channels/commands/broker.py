"""The broker that a command speaks over, and the channel in whose words."""

from __future__ import annotations

import argparse
import os
from typing import Final

from fastapi_channels.channels.base import BaseChannel
from fastapi_channels.channels.publisher import Voice
from fastapi_channels.exceptions import ConfigurationError

from .application import find

VARIABLE: Final = "CHANNELS_URL"
"""In the environment: others can read the words of a command, and the URL may hold a password."""


def add_broker(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", help=f"the broker, as add_channel() has it; ${VARIABLE} unless given")
    parser.add_argument("--namespace", default="", help="that of the application")


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
