"""Whether a client may receive what is published to a topic that it has subscribed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from fastapi_channels.wire.failures import raised
from fastapi_channels.wire.log import Seldom
from fastapi_channels.wire.rooms import RoomPattern

logger = logging.getLogger("fastapi_channels")

MAX_TOLD: Final = 200
"""Characters of what went wrong that the log is told."""


class Reception:
    """A channel's `may_receive`, asked with the parameters of the topic's name.

    Args:
        function: takes a connection, and those parameters.
        pattern: of the topics; None where they have no parameters.
    """

    def __init__(self, function: Callable[..., Any], pattern: RoomPattern | None) -> None:
        self._function = function
        self._pattern = pattern
        self._read: tuple[str, dict[str, Any] | None] = ("", None)
        """The topic that was read last: many are asked about one."""
        self._failures = Seldom(logger)

    def allows(self, connection: Any, topic: str) -> bool:
        """Only True allows. What fails refuses; so does a topic that does not fit the pattern."""
        if self._read[0] != topic:
            self._read = topic, {} if self._pattern is None else self._pattern.match(topic)
        params = self._read[1]
        try:
            return params is not None and self._function(connection, **params) is True
        except Exception as exc:
            name = getattr(self._function, "__qualname__", "may_receive")
            told = f"{type(exc).__name__}: {exc}"[:MAX_TOLD]
            self._failures.warn(f"{name} fails, and its client gets nothing: {told}")
            logger.debug("%s fails", name, exc_info=exc)
            raised(connection.websocket.scope, exc)
            return False
