"""What a backend may offer beyond broadcaster's contract."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, runtime_checkable

Receive: TypeAlias = Callable[[str, Any], None]
"""Takes the topic and the content of one message."""


@runtime_checkable
class Listening(Protocol):
    """A backend that hands messages over as they come, instead of being asked for each of them.

    Having `listen` says two things more. The backend may be called by several tasks at a time; any
    other gets one call at a time, because the clients of databases fail otherwise. And it raises
    `NotSent` where that is what happened, so that the call can be repeated.
    """

    async def listen(self, receive: Receive) -> None:
        """Call `receive` with each message, in order, in the event loop, until the connection is lost.

        Called once after each `connect`, and cancelled before `disconnect`. The messages that came
        before the call are the first. Never returns: raises what broke the connection.
        """


class NotSent(ConnectionError):
    """Raised by a call that surely had no effect: there is no connection any more."""
