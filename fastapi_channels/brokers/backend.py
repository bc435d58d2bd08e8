"""What a backend may offer beyond broadcaster's contract."""

from __future__ import annotations

import re
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Any, Final, Protocol, TypeAlias, runtime_checkable

Receive: TypeAlias = Callable[[str, Any], None]
"""Takes the topic and the content of one message; or the topic and `MISSED`."""
MISSED: Final = object()
"""In the place of a message: some of the topic's were missed here, although the connection was not lost."""


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


@runtime_checkable
class Resuming(Listening, Protocol):
    """A backend that goes on where it was when its connection was lost, so that nothing is missed.

    What is missed all the same, it tells by `MISSED`.
    """

    def resume(self, topics: AbstractSet[str]) -> None:
        """Go on with these topics, which will be subscribed again; forget where others were.

        Called after each `connect`, before the first message is received.
        """


class NotSent(ConnectionError):
    """Raised by a call that surely had no effect: there is no connection any more."""


def describe(exc: BaseException) -> str:
    """What to say about `exc`, without the credentials of a URL in it."""
    text = re.sub(r"//\S*@", "//", str(exc))
    return f"{type(exc).__name__}: {text}" if text else type(exc).__name__
