"""Why something that a client was asked for failed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fastapi_channels.exceptions import ChannelsError
from fastapi_channels.wire.messages import Envelope

FOR_NOW: Final = frozenset({"unavailable", "channel_full", "rate_limited", "too_many_rooms"})
"""Errors after which a room may be asked for again."""


class ClientError(ChannelsError):
    """Base of what a client raises."""


class ActionError(ClientError):
    """The error frame of a server. Decide by `code`; the text is for people.

    Args:
        names: of the fields of the frame.

    Attributes:
        code: stable, whatever the language of the text.
        status: `"bad"`, or the status of an HTTPException.
        errors: what the server said: a text, as a rule.
        data: with `invalid_payload`, the list of faults.
        retry_after: seconds; None where the server does not say when to try again.
        action: the one that was called, where that could be read.
    """

    def __init__(self, frame: Mapping[str, Any], names: Envelope = Envelope()) -> None:  # noqa: B008 - frozen
        self.code: str = frame.get(names.code) or "error"
        self.status: str | int = frame.get(names.status, "bad")
        self.errors: Any = frame.get(names.errors)
        self.data: Any = frame.get(names.data)
        self.retry_after: float | None = frame.get("retry_after")
        self.action: str | None = frame.get(names.action)
        super().__init__(f"{self.code}: {self.errors}")


class NotSent(ClientError, ConnectionError):
    """It was not sent: to call again is safe."""


class ConnectionLost(ClientError, ConnectionError):
    """It was sent, and the connection was lost before the reply: nobody knows whether it was handled."""


class TimedOut(ClientError, TimeoutError):
    """It was sent, and no reply came in time: nobody knows whether it was handled. The server was told to
    stop."""


class Overflow(ClientError):
    """Nobody took what came: more waited than may."""


class Refused(ClientError):
    """A room, or a connection, that is closed for good: by what the server said, or by its close code.

    Attributes:
        close_code: of the close; 0 where a room refused and the connection stayed, or there never was one.
        reason: of the close, as the server wrote it; empty where it wrote none.
        error: the error frame, where there was one.
    """

    def __init__(self, close_code: int, reason: str, error: ActionError | None = None) -> None:
        super().__init__(str(error or reason or f"closed with {close_code}"))
        self.close_code = close_code
        self.reason = reason
        self.error = error

    @property
    def code(self) -> str:
        """The `code` of the error frame; empty where there was none."""
        return "" if self.error is None else self.error.code
