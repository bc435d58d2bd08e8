"""A file of TypeScript for an AsyncAPI document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from fastapi_channels.contract.parsed import Parsed

from .channel import Own, Written
from .text import Member, comment, members
from .types import EMPTY, Names, Types

__all__ = ["typescript"]

HEAD: Final = "// Written by `fastapi-channels typescript` from the application. Do not edit.\n"
ALL: Final = "Channels"
"""The interface that has all channels."""


def typescript(document: Mapping[str, Any]) -> str:
    """The types of all that passes over the WebSockets of an application: the same for the same document.

    Args:
        document: its AsyncAPI document.
    """
    return "\n".join(_parts(Parsed(document)))


def _parts(parsed: Parsed) -> Iterator[str]:
    names = Names([ALL])
    # Channels first: they keep their names whatever models there are.
    channels = {key: names.new(key) for key in parsed.channels}
    owned = {key: _own(parsed, key, channel, names) for key, channel in channels.items()}
    types = Types(parsed.schemas, names)
    yield HEAD
    about = comment("All that the application serves over WebSockets.", 0)
    listed = members([Member(name, name) for name in channels.values()], 0) if channels else EMPTY
    yield f"{about}export interface {ALL} {listed}\n"
    for key, own in owned.items():
        yield from Written(parsed, key, own, types).text()
    yield from types.declared()


def _own(parsed: Parsed, key: str, channel: str, names: Names) -> Own:
    rooms = {name: names.new(name) for name in parsed.channels[key].get("x-rooms", ())}
    sent, received = names.new(f"{channel}Sent"), names.new(f"{channel}Received")
    return Own(channel, sent, received, names.new(f"{sent}Other"), names.new(f"{received}Other"), rooms)
