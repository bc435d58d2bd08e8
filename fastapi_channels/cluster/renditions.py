"""Broadcasts that each recipient gets in a way of its own: as a function of its channel says."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Any, Final

from fastapi_channels.connection import Connection
from fastapi_channels.wire.failures import raised
from fastapi_channels.wire.log import Seldom
from fastapi_channels.wire.messages import Body, Frame

from .hub import Hub

logger = logging.getLogger("fastapi_channels")

MAX_TOLD: Final = 200
"""Characters of what went wrong that the log is told."""


class Renditions:
    """
    Args:
        hub: has the members of the rooms of this process.
    """

    def __init__(self, hub: Hub[Connection]) -> None:  # pyright: ignore[reportInvalidTypeArguments]  # as Rooms
        self._hub = hub
        self._failures = Seldom(logger)

    def by(self, name: str) -> Callable[[str, Frame, Collection[str]], None]:
        """In place of `Hub.deliver`: hands to each member what the function of that name makes of the frame
        for it, framed once for all who get the same."""
        return partial(self._deliver, name)

    def frame(self, connection: Connection, name: str, frame: Frame) -> Frame | None:
        """What `connection` gets of `frame`; None for nothing, and where the function is missing or fails."""
        function = connection._carrier.for_each(name)
        if function is None:
            kind = type(connection.channel).__name__
            self._failures.warn(f"{kind} does not declare for_each = [{name}]: its clients get nothing")
            return None
        envelope = connection.envelope
        try:
            # Each gets an object of its own, so what one changes in it no other sees.
            given = envelope.decode(frame.body)
            position = given.get(envelope.position)
            seen = function(connection, given)
            if seen is None:
                return None
            if not isinstance(seen, dict):
                raise TypeError(f"expected a frame or None, got {type(seen).__name__}")
            if position is not None:
                seen = {**seen, envelope.position: position}
            return Frame(envelope.encode(seen), frame.room, frame.position)
        except Exception as exc:
            told = f"{type(exc).__name__}: {exc}"[:MAX_TOLD]
            self._failures.warn(f"for_each={name} fails, and its client gets nothing: {told}")
            logger.debug("for_each=%s fails", name, exc_info=exc)
            raised(connection.websocket.scope, exc)
            return None

    def _deliver(self, name: str, room: str, frame: Frame, exclude: Collection[str]) -> None:
        self.send(name, [each for each in self._hub.members(room) if each.id not in exclude], frame)

    def send(self, name: str, recipients: Iterable[Connection], frame: Frame) -> None:
        """The same for some connections."""
        # Any: pyright binds the function in a Connection's slot as a method.
        found: dict[Body, tuple[Frame, list[Any]]] = {}
        for connection in recipients:
            seen = self.frame(connection, name, frame)
            if seen is not None:
                found.setdefault(seen.body, (seen, []))[1].append(connection)
        for seen, alike in found.values():
            self._hub.send(alike, seen)
