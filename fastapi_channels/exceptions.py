"""The exception tree and the close codes.

::

    ChannelsError                      everything this package raises on purpose
    ├── ConfigurationError             wiring that cannot work (also a TypeError)
    ├── BrokerUnavailable              the broker did not take a message in time (also a ConnectionError)
    ├── Disconnected                   the client left before it answered (also a ConnectionError)
    ├── CallFailed                     the client answered a call with an error, or not as it was asked
    └── WebSocketException             an answer to a client; closes when `close` is true
        ├── Unauthenticated
        │   └── TokenExpired
        ├── PermissionDenied
        │   └── Banned
        ├── RateLimitExceeded
        ├── ActionNotExist
        ├── ActionIsDeprecated
        ├── NotFound
        ├── MethodNotAllowed
        ├── ParseError
        │   └── InvalidPayload
        ├── ChannelFull
        ├── MessageTooLarge
        ├── TooManyConnections
        ├── TooManyRooms
        ├── Unavailable
        └── Cancelled
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import IntEnum
from typing import Any, ClassVar, Final

from fastapi.exceptions import WebSocketException as FastAPIWebSocketException
from starlette.exceptions import HTTPException
from starlette.exceptions import WebSocketException as StarletteWebSocketException

from .texts import text


class CloseCode(IntEnum):
    """The close codes that this package sends.

    1000-1015 as RFC 6455 section 7.4.1 and the IANA registry define them. 4000-4499 tell a client to
    come back, 4500-4999 to stay away: the last two digits follow the HTTP status that says the same.
    """

    NORMAL = 1000
    UNSUPPORTED_DATA = 1003
    INVALID_DATA = 1007
    POLICY_VIOLATION = 1008
    TOO_BIG = 1009
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    BAD_GATEWAY = 1014
    SLOW_CONSUMER = 4000
    TOKEN_EXPIRED = 4001
    IDLE = 4008
    LIFETIME_OVER = 4010
    BAD_REQUEST = 4500
    UNAUTHENTICATED = 4501
    BANNED = 4503
    NOT_FOUND = 4504
    NOT_ALLOWED = 4505
    REPLACED = 4509
    GONE = 4510


def may_return(code: int | None) -> bool:
    """Whether a client that has left with this code may come back in a moment, as when it loads its page
    anew: not if it, or the server, meant to end it."""
    return code != CloseCode.NORMAL and code != CloseCode.POLICY_VIOLATION and (code or 0) < 4500


class ChannelsError(Exception):
    """Base of every exception that this package raises on purpose."""


class ConfigurationError(ChannelsError, TypeError):
    """The application is wired in a way that cannot work; raised while it starts or is imported."""


class BrokerUnavailable(ChannelsError, ConnectionError):
    """The broker did not accept a message, or a subscription, before the deadline."""


class Disconnected(ChannelsError, ConnectionError):
    """The client left before it answered a call."""


class CallFailed(ChannelsError):
    """The client answered a call with an error, or with what is no answer to it.

    Attributes:
        errors: the client's own text, trust it accordingly; or what is wrong with its answer, as an action's
            client is told of its payload.
    """

    def __init__(self, errors: Any) -> None:
        super().__init__(f"the call failed: {errors!r}")
        self.errors = errors


class WebSocketException(ChannelsError, FastAPIWebSocketException):
    """An error frame for the client, and a close when `close` is true.

    Args:
        code: close code, used only when the connection closes.
        reason: close reason; cut to 123 bytes on the wire (RFC 6455 section 5.5).
        close: whether the connection closes after the frame was sent; the class's `close` unless given.
        status: the frame's `status`, a text or a number; `"bad"` unless given.
        error_msg: the frame's `errors`; `reason`, then the class's translated text, unless given.
        data: the frame's `data`.
        request_id: the frame's `request_id`; the id of the message being handled unless given.
        context: values for the placeholders of the class's translated text.
        extra: further keys of the frame.
    """

    error_code: ClassVar[str] = "error"
    """What the frame's `code` says: stable, whatever the language of the text."""
    http_status: int = 403
    """Status of the HTTP response when the connection is refused before it is accepted."""

    code: int = CloseCode.NORMAL
    close: bool = True
    status: str | int = "bad"
    reason: str

    def __init__(
        self,
        code: int | None = None,
        reason: str | None = None,
        *,
        close: bool | None = None,
        status: str | int | None = None,
        error_msg: Any = None,
        data: Any = None,
        request_id: str | int | float | None = None,
        context: Mapping[str, object] | None = None,
        **extra: Any,
    ) -> None:
        cls = type(self)
        if code is not None and not isinstance(code, int):
            raise TypeError(
                f"the first argument of {cls.__name__} is a close code, got {code!r}: say error_msg="
            )
        self.context = dict(context or {})
        own_text = reason if reason is not None else getattr(cls, "reason", None)
        super().__init__(
            code=int(cls.code if code is None else code),
            reason=own_text if own_text is not None else text(self.error_code, "en", self.context),
        )
        self.close = cls.close if close is None else close
        self.status = cls.status if status is None else status
        self._error_msg = own_text if error_msg is None else error_msg
        self.data = data
        self.request_id = request_id
        self.extra = extra

    def message(self, language: str = "en") -> Any:
        """The frame's `errors`: what was given, else the text of `error_code` in `language`."""
        if self._error_msg is not None:
            return self._error_msg
        return text(self.error_code, language, self.context)

    @property
    def error_msg(self) -> Any:
        """The frame's `errors`, in English where it is a text of this package."""
        return self.message()

    @property
    def http_headers(self) -> dict[str, str]:
        """What HTTP wants beside the status: when to come back, in whole seconds (RFC 9110 section 10.2.3),
        and how to say who is there (section 11.6.1)."""
        wait = self.extra.get("retry_after")
        found = {} if wait is None else {"retry-after": str(math.ceil(wait))}
        return {**found, "www-authenticate": "Bearer"} if self.http_status == 401 else found

    @property
    def kwargs(self) -> dict[str, Any]:
        """What upstream called `extra`."""
        return self.extra

    def __str__(self) -> str:
        return str(self.message())


FOR_CLIENTS: Final = (StarletteWebSocketException, HTTPException)
"""What code may raise to tell its client something: this package's exceptions among them."""


class Unauthenticated(WebSocketException):
    """The client has not said who it is, or with what does not hold."""

    error_code = "unauthenticated"
    http_status = 401
    code = CloseCode.UNAUTHENTICATED


class TokenExpired(Unauthenticated):
    """What the client has said it with is over: it may come back with a new token."""

    error_code = "token_expired"
    code = CloseCode.TOKEN_EXPIRED


class PermissionDenied(WebSocketException):
    error_code = "permission_denied"
    code = CloseCode.POLICY_VIOLATION


class Banned(PermissionDenied):
    """The user, or the address, is banned for a time."""

    error_code = "banned"
    code = CloseCode.BANNED


class RateLimitExceeded(WebSocketException):
    """Too many requests; `retry_after` is in seconds."""

    error_code = "rate_limited"
    http_status = 429
    code = CloseCode.TRY_AGAIN_LATER

    def __init__(self, *args: Any, retry_after: float | None = None, **kwargs: Any) -> None:
        if retry_after is not None:
            # Upwards: whoever waits so long is let through.
            retry_after = math.ceil(retry_after * 1000) / 1000
            # The text is for people: whole seconds, and not too few. The number is for programs.
            kwargs["context"] = {"retry_after": math.ceil(retry_after), **(kwargs.get("context") or {})}
            kwargs["retry_after"] = retry_after
        super().__init__(*args, **kwargs)
        self.retry_after = retry_after


class ActionNotExist(WebSocketException):
    error_code = "unknown_action"
    http_status = 404
    code = CloseCode.NOT_ALLOWED


class ActionIsDeprecated(WebSocketException):
    error_code = "deprecated"
    http_status = 410
    code = CloseCode.GONE


class NotFound(WebSocketException):
    error_code = "not_found"
    http_status = 404
    code = CloseCode.NOT_FOUND


class MethodNotAllowed(WebSocketException):
    error_code = "not_allowed"
    http_status = 405
    code = CloseCode.NOT_ALLOWED


class ParseError(WebSocketException):
    """A frame that cannot be read: not JSON, not an object, no action."""

    error_code = "parse_error"
    http_status = 400
    code = CloseCode.BAD_REQUEST


class InvalidPayload(ParseError):
    """A payload that does not fit its action; `data` lists `loc`, `msg` and `type` of each fault."""

    error_code = "invalid_payload"
    http_status = 422


class ChannelFull(WebSocketException):
    """The room holds `max_connection` connections already; or a layer's channel, all messages it takes."""

    error_code = "channel_full"
    http_status = 503
    code = CloseCode.TRY_AGAIN_LATER


class MessageTooLarge(WebSocketException):
    """A message has more bytes than it may have: a call over HTTP, or one that is sent to a layer."""

    error_code = "too_large"
    http_status = 413
    code = CloseCode.TOO_BIG


class TooManyConnections(WebSocketException):
    """The user has `max_per_user` connections in the room already, or `max_connections_per_user` in all."""

    error_code = "too_many_connections"
    http_status = 429
    code = CloseCode.TRY_AGAIN_LATER


class TooManyRooms(WebSocketException):
    """The connection is in `max_rooms` rooms already, or its user in `max_rooms_per_user`."""

    error_code = "too_many_rooms"
    http_status = 429
    code = CloseCode.TRY_AGAIN_LATER


class Unavailable(WebSocketException):
    """Something that the request needs, such as the broker, does not answer now."""

    error_code = "unavailable"
    http_status = 503
    code = CloseCode.TRY_AGAIN_LATER


class Cancelled(WebSocketException):
    """The client has cancelled the request."""

    error_code = "cancelled"
    http_status = 499
    close = False
