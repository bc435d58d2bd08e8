"""What a backend may offer beyond broadcaster's contract."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, Protocol, TypeAlias, runtime_checkable

from broadcaster import BroadcastBackend

from fastapi_channels.exceptions import ConfigurationError

Receive: TypeAlias = Callable[[str, Any], None]
"""Takes the topic and the content of one message; or the topic and `MISSED`."""
_until: Final[ContextVar[float]] = ContextVar("_until", default=math.inf)
"""When all that is asked has to be answered, in the loop's time."""
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
    if isinstance(exc, NotSent) and text:
        return text
    return f"{type(exc).__name__}: {text}" if text else type(exc).__name__


async def connect(backend: BroadcastBackend, seconds: float) -> None:
    """Connect within `seconds`.

    Raises:
        ConnectionError: it took longer; or whatever the backend raises.
    """
    try:
        async with asyncio.timeout(seconds):
            await backend.connect()
    except TimeoutError as exc:
        raise ConnectionError(no_connection(seconds)) from exc


async def pull(backend: BroadcastBackend, receive: Receive) -> None:
    """Hand on the messages of a backend that has to be asked for each."""
    while True:
        event = await backend.next_published()
        receive(event.channel, event.message)


def no_connection(seconds: float) -> str:
    """What to say where nothing came of a connection, and no reason either."""
    return (
        f"no connection within {seconds:g} s; a server that is there says nothing where only one of the two "
        "means TLS, as with rediss:// and a plain Redis"
    )


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """All that is asked of brokers and stores meanwhile has `seconds` together."""
    token = _until.set(end_of(seconds))
    try:
        yield
    finally:
        _until.reset(token)


@contextmanager
def apart() -> Iterator[None]:
    """What is asked meanwhile, or by tasks that begin meanwhile, is none of what `within` counts."""
    token = _until.set(math.inf)
    try:
        yield
    finally:
        _until.reset(token)


def end_of(seconds: float) -> float:
    """When a call that begins now, and may take `seconds`, has to be answered, in the loop's time."""
    return min(asyncio.get_running_loop().time() + seconds, _until.get())


def checked_deadline(seconds: float) -> float:
    """
    Raises:
        ConfigurationError: it is no number of seconds above 0.
    """
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not is_number or not 0 < seconds < math.inf:
        raise ConfigurationError(f"publish_timeout must be more than 0 seconds, got {seconds!r}")
    return seconds
