import copy
import math
import pickle
from typing import Any

import pytest
from fastapi import WebSocketException as FastAPIWebSocketException

from fastapi_channels import exceptions
from fastapi_channels.exceptions import (
    ActionIsDeprecated,
    ActionNotExist,
    Banned,
    BrokerUnavailable,
    CallFailed,
    Cancelled,
    ChannelFull,
    ChannelsError,
    CloseCode,
    ConfigurationError,
    Disconnected,
    InvalidPayload,
    MessageTooLarge,
    MethodNotAllowed,
    NotFound,
    ParseError,
    PermissionDenied,
    RateLimitExceeded,
    TokenExpired,
    TooManyConnections,
    TooManyRooms,
    Unauthenticated,
    Unavailable,
    WebSocketException,
    may_return,
)
from fastapi_channels.texts import TEXTS

ANSWERS = [
    # exception, what the frame's `code` says, close code, status of a refused handshake
    (WebSocketException, "error", 1000, 403),
    (PermissionDenied, "permission_denied", 1008, 403),
    (Banned, "banned", 4503, 403),
    (Unauthenticated, "unauthenticated", 4501, 401),
    (TokenExpired, "token_expired", 4001, 401),
    (RateLimitExceeded, "rate_limited", 1013, 429),
    (ActionNotExist, "unknown_action", 4505, 404),
    (ActionIsDeprecated, "deprecated", 4510, 410),
    (NotFound, "not_found", 4504, 404),
    (MethodNotAllowed, "not_allowed", 4505, 405),
    (ParseError, "parse_error", 4500, 400),
    (InvalidPayload, "invalid_payload", 4500, 422),
    (ChannelFull, "channel_full", 1013, 503),
    (MessageTooLarge, "too_large", 1009, 413),
    (TooManyConnections, "too_many_connections", 1013, 429),
    (TooManyRooms, "too_many_rooms", 1013, 429),
    (Unavailable, "unavailable", 1013, 503),
    (Cancelled, "cancelled", 1000, 499),
]


@pytest.mark.parametrize(("cls", "error_code", "code", "http_status"), ANSWERS)
def test_what_each_exception_says(
    cls: type[WebSocketException], error_code: str, code: int, http_status: int
) -> None:
    exc = cls()
    assert (exc.error_code, exc.code, exc.http_status) == (error_code, code, http_status)
    assert type(exc.code) is int
    assert exc.status == "bad"
    assert exc.close is (cls is not Cancelled)
    assert (exc.data, exc.request_id, exc.extra) == (None, None, {})
    assert error_code in TEXTS["en"]
    assert isinstance(exc, FastAPIWebSocketException)
    assert isinstance(exc, ChannelsError)


def test_the_table_is_complete() -> None:
    public = [value for name, value in vars(exceptions).items() if not name.startswith("_")]
    answers = {value for value in public if isinstance(value, type) and issubclass(value, WebSocketException)}
    assert answers == {row[0] for row in ANSWERS}


@pytest.mark.parametrize(
    ("cls", "builtin"),
    [
        (ConfigurationError, TypeError),
        (BrokerUnavailable, ConnectionError),
        (Disconnected, ConnectionError),
        (CallFailed, Exception),
    ],
)
def test_what_is_not_for_a_client(cls: type[Exception], builtin: type[Exception]) -> None:
    assert issubclass(cls, ChannelsError)
    assert issubclass(cls, builtin)
    assert not issubclass(cls, WebSocketException)


def test_close_codes_keep_to_their_ranges() -> None:
    for code in CloseCode:
        assert code in range(1000, 1016) or code in range(4000, 5000)
        assert code not in (1001, 1002, 1004, 1005, 1006, 1015), "not for an application to send"


@pytest.mark.parametrize(
    ("code", "returns"),
    [(None, True), (1006, True), (4001, True), (1000, False), (1008, False), (4501, False)],
)
def test_who_may_return(code: int | None, returns: bool) -> None:
    assert may_return(code) is returns


def test_everything_can_be_given() -> None:
    exc = WebSocketException(
        4001, "why", close=False, status=418, error_msg={"a": 1}, data=[1], request_id=7, hint="slower"
    )
    assert (exc.code, exc.reason, exc.close, exc.status) == (4001, "why", False, 418)
    assert (exc.message(), exc.data, exc.request_id) == ({"a": 1}, [1], 7)
    assert exc.extra == {"hint": "slower"}
    assert str(exc) == "{'a': 1}"


@pytest.mark.parametrize(
    ("given", "english", "chinese", "reason"),
    [
        ({}, "Permission Denied", "权限不足", "Permission Denied"),
        ({"reason": "no"}, "no", "no", "no"),
        ({"error_msg": "not you"}, "not you", "not you", "Permission Denied"),
        ({"reason": "no", "error_msg": "not you"}, "not you", "not you", "no"),
        ({"error_msg": 0}, 0, 0, "Permission Denied"),
        ({"error_msg": ""}, "", "", "Permission Denied"),
    ],
)
def test_the_text_is_what_was_given_or_else_translated(
    given: dict[str, Any], english: Any, chinese: Any, reason: str
) -> None:
    exc = PermissionDenied(**given)
    assert exc.message() == english
    assert exc.message("zh") == chinese
    assert exc.reason == reason
    assert str(exc) == str(english)


def test_the_context_fills_the_text() -> None:
    exc = ChannelFull(context={"limit": 2})
    assert exc.message() == exc.reason == "The room is full: there is place for 2"
    assert "2" in exc.message("zh")
    assert ChannelFull().message() == "The room is full"


class Closed(WebSocketException):
    """An application's own, as it was written for upstream."""

    code = 4000
    status = 423
    reason = "closed for today"


class Tired(WebSocketException):
    error_code = "tired"


def test_a_subclass_may_say_its_own() -> None:
    exc = Closed()
    assert (exc.code, exc.status, exc.reason, exc.message("zh")) == (
        4000,
        423,
        "closed for today",
        "closed for today",
    )
    assert Closed(4001, "for ever").message() == "for ever"
    assert Closed(4001).code == 4001


def test_an_error_code_without_a_text_has_the_general_one() -> None:
    assert Tired().message() == "The request was refused"


@pytest.mark.parametrize(
    ("retry_after", "text"),
    [(2.41, "3"), (0.0004, "1"), (1.00049, "2"), (90, "90"), (0, "0"), (None, "…")],
)
def test_retry_after_is_a_field_and_in_the_text(retry_after: float | None, text: str) -> None:
    exc = RateLimitExceeded(close=False, retry_after=retry_after)
    expected = None if retry_after is None else math.ceil(retry_after * 1000) / 1000
    assert exc.retry_after == expected
    assert exc.extra == ({} if retry_after is None else {"retry_after": expected})
    when = "" if text == "…" else f". Retry after {text} seconds."
    assert exc.message() == f"Too Many Requests{when}"


def test_the_context_of_a_rate_limit_can_be_said_otherwise() -> None:
    assert "a while" in RateLimitExceeded(retry_after=3, context={"retry_after": "a while"}).message()


@pytest.mark.parametrize("cls", [row[0] for row in ANSWERS])
def test_it_can_be_copied_and_sent_to_another_process(cls: type[WebSocketException]) -> None:
    exc = cls(4001, "why", close=False, data={"a": 1}, hint=1)
    for same in (copy.copy(exc), pickle.loads(pickle.dumps(exc))):  # noqa: S301  our own
        assert vars(same) == vars(exc)
        assert str(same) == "why"


def test_a_clients_own_error_is_kept_apart() -> None:
    exc = CallFailed({"why": "no"})
    assert exc.errors == {"why": "no"}
    assert str(exc) == "the call failed: {'why': 'no'}"


def test_upstreams_names_of_what_an_exception_carries() -> None:
    assert PermissionDenied().error_msg == "Permission Denied"
    assert PermissionDenied(error_msg={"why": 1}).error_msg == {"why": 1}
    assert PermissionDenied(hint=1).kwargs == {"hint": 1}


def test_a_class_may_say_that_it_does_not_close() -> None:
    class Busy(WebSocketException):
        close = False

    assert Busy().close is False
    assert Busy(close=True).close is True


def test_a_text_in_the_place_of_the_close_code_is_told() -> None:
    with pytest.raises(TypeError, match="is a close code, got 'no'"):
        WebSocketException("no")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("exc", "headers"),
    [
        (NotFound(), {}),
        (RateLimitExceeded(retry_after=1.5), {"retry-after": "2"}),
        (TokenExpired(), {"www-authenticate": "Bearer"}),
    ],
)
def test_what_http_is_told_beside_the_status(exc: WebSocketException, headers: dict[str, str]) -> None:
    assert exc.http_headers == headers
