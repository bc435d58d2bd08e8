"""Telling who observes of a WebSocket: its handshake, that it was accepted, and, at its end, what it was."""

from __future__ import annotations

import logging
from time import monotonic
from typing import Any, Protocol

from starlette.websockets import WebSocket

from fastapi_channels.cluster.node import Node
from fastapi_channels.cluster.observer import Stay
from fastapi_channels.wire.traffic import Tally
from fastapi_channels.wire.writer import Writer

from .http import Headers

logger = logging.getLogger("fastapi_channels")


class Guest(Protocol):
    """The session of a WebSocket."""

    node: Node
    websocket: WebSocket
    writer: Writer
    user: Any

    async def _enter(self, subprotocol: str | None, headers: Headers) -> bool: ...

    @property
    def ending(self) -> tuple[int | None, str | None]: ...


async def answered(guest: Guest, subprotocol: str | None, headers: Headers) -> bool:
    """Have a handshake answered, and tell of it."""
    told, failure = guest.node.observers, None
    for begins in told.asked:
        begins(guest.writer.name, guest.websocket)
    try:
        return await guest._enter(subprotocol, headers)
    except BaseException as exc:
        failure = exc
        raise
    finally:
        for ends in told.answered:
            ends(failure)
        failure = None  # which refers to this frame


def begin(node: Node, tally: Tally) -> None:
    """It was accepted."""
    tally.began = monotonic()
    for tell in node.observers.opened:
        tell()


def end(guest: Guest, tally: Tally) -> None:
    """It has ended; nobody is told of one that was not accepted."""
    if not tally.began:
        return
    node, code = guest.node, guest.ending[0]
    stay = Stay(
        connection=guest.writer.name,
        address=node.address_of(guest.websocket),
        user=node.key_of(guest.user),
        rooms=tuple(tally.rooms),
        seconds=monotonic() - tally.began,
        received=tally.received,
        received_bytes=tally.received_bytes,
        code=1006 if code is None else int(code),
        by_us=guest.writer.closing is not None,
    )
    for tell in node.observers.closed:
        try:
            tell(stay)
        except Exception:
            # The others are told, and the rest of the connection is undone.
            name = type(getattr(tell, "__self__", tell)).__name__
            logger.exception("%s could not be told that a connection has ended", name)
