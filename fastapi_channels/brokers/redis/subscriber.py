"""The connection that is subscribed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from fastapi_channels.brokers.backend import Receive

from .link import Link

MESSAGES: Final = (b"message", b"smessage")
CHANGES: Final = (b"subscribe", b"unsubscribe", b"ssubscribe", b"sunsubscribe")


class Subscriber(Link):
    """A link that is also sent what nobody asked for: messages, and the end of a subscription.

    Args:
        receive: called with the topic and the content of each message that is published.
        on_ended: called with a topic whose subscription the server ended: its slot has left the server.
    """

    def __init__(
        self,
        connection: Any,
        on_lost: Callable[[Exception], None],
        receive: Receive,
        on_ended: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(connection, on_lost)
        self._receive = receive
        self._on_ended = on_ended

    def _take(self, reply: Any) -> None:
        if not isinstance(reply, list):
            super()._take(reply)
        elif reply[0] in MESSAGES:
            self._receive(reply[1].decode(), reply[2])
        elif reply[0] not in CHANGES or self._is_next(reply):
            super()._take(reply)
        elif reply[0] == b"sunsubscribe" and self._on_ended is not None:
            self._on_ended(reply[1].decode())
        else:
            raise ConnectionError(f"an answer to another command: {reply!r:.100}")

    def _is_next(self, change: list[Any]) -> bool:
        """Whether `change` is what the oldest command asked for.

        An end that nobody asked for can come while the same was asked for, and then the answer to that
        is one too many. No answer may be taken for another's: what is out of step is found here.
        """
        return bool(self._unanswered) and [*self._unanswered[0].words] == [change[0].upper(), change[1]]
