"""What a client is told when something went wrong, and what the log is."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException, WebSocket
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.exceptions import WebSocketException as StarletteWebSocketException

from fastapi_channels import (
    BrokerUnavailable,
    Channel,
    Connection,
    InvalidPayload,
    NotFound,
    RateLimitExceeded,
    Unavailable,
    WebSocketException,
    action,
)
from fastapi_channels.sessions.report import STRIKES_ANSWERED, STRIKES_CLOSED
from fastapi_channels.testing.clock import timeless
from tests.support.wire import Close, Wire, dial, serving


class Failing(Channel):
    """Raises what it was told to."""

    def __init__(self, *errors: BaseException) -> None:
        super().__init__()
        self.errors = list(errors)

    @action()
    async def fail(self) -> None:
        raise self.errors.pop(0)

    @action()
    async def other(self) -> str:
        return "other"


async def told(error: BaseException, prepare: Callable[[FastAPI, Channel], object] | None = None) -> Any:
    """The frame that a client gets where an action raises `error`."""
    channel = Failing(error)
    async with serving(channel) as app:
        if prepare is not None:
            prepare(app, channel)
        async with dial(app, "/r") as wire:
            wire.call("fail", request_id="q")
            return await wire.receive()


class Payment(BaseModel):
    amount: int
    card: str


def invalid() -> ValidationError:
    payment = {"amount": "a secret", "card": "a secret"}
    with pytest.raises(ValidationError) as caught:
        Payment.model_validate(payment)
    return caught.value


# Which error is told how


@pytest.mark.parametrize(
    ("error", "status", "code", "errors", "data", "retry_after"),
    [
        (NotFound(close=False), "bad", "not_found", "Not Found", None, None),
        (InvalidPayload(close=False, data=[1], error_msg="no"), "bad", "invalid_payload", "no", [1], None),
        (
            RateLimitExceeded(close=False, retry_after=1.5, error_msg="slow"),
            *("bad", "rate_limited", "slow", None, 1.5),
        ),
        (
            WebSocketException(close=False, status=418, error_msg={"tea": 1}),
            418,
            "error",
            {"tea": 1},
            None,
            None,
        ),
        (HTTPException(404, {"no": "such"}), 404, "http_error", {"no": "such"}, None, None),
        (HTTPException(503), 503, "http_error", "Service Unavailable", None, None),
        (HTTPException(429, "x", {"Retry-After": "7"}), 429, "http_error", "x", None, 7.0),
        (HTTPException(429, "x", {"retry-after": "7"}), 429, "http_error", "x", None, 7.0),
        (
            HTTPException(429, "x", {"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}),
            429,
            "http_error",
            "x",
            None,
            None,
        ),
        (HTTPException(429, "x", {"Retry-After": "²"}), 429, "http_error", "x", None, None),
        (StarletteHTTPException(402, "pay"), 402, "http_error", "pay", None, None),
        (BrokerUnavailable("of a secret"), "bad", "unavailable", Unavailable().message(), None, None),
    ],
)
async def test_what_was_raised_for_the_client(
    error: Exception, status: Any, code: str, errors: Any, data: Any, retry_after: Any
):
    frame = await told(error)
    expected = {"type": "response", "action": "fail", "request_id": "q", "status": status}
    expected |= {"code": code, "errors": errors, "data": data}
    if retry_after is not None:
        expected["retry_after"] = retry_after
    assert frame == expected


@pytest.mark.parametrize(
    "error",
    [RuntimeError("a secret"), KeyError("a secret"), TimeoutError(), asyncio.CancelledError("a secret")],
)
async def test_of_anything_else_the_client_learns_an_id_and_the_log_the_rest(
    error: BaseException, caplog: pytest.LogCaptureFixture
):
    frame = await told(error)
    assert (frame["status"], frame["code"], frame["data"], frame["request_id"]) == (
        "bad",
        "internal_error",
        None,
        "q",
    )
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info is not None
    assert record.exc_info[1] is error
    error_id = record.getMessage().split()[1]
    assert error_id in frame["errors"]
    assert record.getMessage().endswith(f" in the action {frame['action']!r}")
    assert "secret" not in str(frame)


async def test_the_log_of_a_model_that_does_not_fit_has_no_values(caplog: pytest.LogCaptureFixture):
    frame = await told(invalid())
    assert frame["code"] == "internal_error"
    assert "Payment does not fit: [(('amount',), 'int_parsing')]" in caplog.text
    assert "secret" not in caplog.text


async def test_starlettes_own_exception_closes_as_it_does_in_a_route():
    async with serving(Failing(StarletteWebSocketException(4001, "bye"))) as app, dial(app, "/r") as wire:
        wire.call("fail")
        assert (await wire.receive())["errors"] == "bye"
        assert await wire.closed() == Close(4001, "bye")


async def test_what_cannot_be_encoded_is_our_fault(caplog: pytest.LogCaptureFixture):
    for error in (
        WebSocketException(close=False, error_msg=object()),
        NotFound(close=False, data={"x": object()}),
        HTTPException(400, object()),
    ):
        frame = await told(error)
        assert (frame["code"], frame["request_id"]) == ("internal_error", "q")
    assert "Unable to serialize" in caplog.text


@pytest.mark.parametrize("error", [HTTPException(400), RuntimeError()])
async def test_an_error_leaves_the_connection_as_it_is(error: Exception):
    async with serving(Failing(error, error)) as app, dial(app, "/r") as wire:
        for _ in range(2):
            wire.call("fail")
            wire.call("other")
            assert (await wire.receive())["status"] != "ok"
            assert (await wire.receive())["data"] == "other"


async def test_an_error_may_close():
    async with (
        serving(Failing(WebSocketException(4500, "go", error_msg="away"))) as app,
        dial(app, "/r") as wire,
    ):
        wire.call("fail")
        wire.call("other")
        assert (await wire.receive())["errors"] == "away"
        assert await wire.closed() == Close(4500, "go")
        assert len(wire.frames) == 1


async def test_a_client_is_told_in_its_language():
    async with serving(Failing(NotFound(close=False))) as app, dial(app, "/r?lang=zh") as wire:
        wire.call("fail")
        assert (await wire.receive())["errors"] == NotFound().message("zh") != NotFound().message("en")


# Handlers of exceptions


class Callable_:
    """A handler that is no function."""

    async def __call__(self, websocket: WebSocket, exc: Exception) -> Any:
        return {"by": "an instance"}


async def coroutine(websocket: WebSocket, exc: Exception) -> Any:
    return {"by": "a coroutine"}


def plain(websocket: WebSocket, exc: Exception) -> Any:
    return {"by": "a function"}


@pytest.mark.parametrize("handler", [coroutine, plain, Callable_()])
async def test_a_handler_may_be_anything_that_can_be_called(handler: Any):
    frame = await told(LookupError(), lambda app, channel: channel.exception_handler(LookupError)(handler))
    assert set(frame) == {"by"}


def returning(value: Any) -> Callable[[FastAPI, Channel], object]:
    async def handler(websocket: WebSocket, exc: Exception) -> Any:
        if isinstance(value, Exception):
            raise value
        return value

    return lambda app, channel: channel.exception_handler(LookupError)(handler)


HEAD = {"type": "response", "action": "fail", "request_id": "q", "data": None}


@pytest.mark.parametrize(
    ("value", "frame"),
    [
        ({"any": "thing"}, {"any": "thing"}),
        ('["a text"]', ["a text"]),
        (JSONResponse({"a": 1}, 409), {**HEAD, "status": 409, "errors": {"a": 1}, "code": "http_error"}),
        (PlainTextResponse("no", 400), {**HEAD, "status": 400, "errors": "no", "code": "http_error"}),
        (Response(b"\xff", 500), {**HEAD, "status": 500, "errors": "\ufffd", "code": "http_error"}),
        (NotFound(close=False), {**HEAD, "status": "bad", "errors": "Not Found", "code": "not_found"}),
        (HTTPException(402, "pay"), {**HEAD, "status": 402, "errors": "pay", "code": "http_error"}),
    ],
)
async def test_what_a_handler_may_answer(value: Any, frame: Any):
    assert await told(LookupError(), returning(value)) == frame


async def test_a_handler_that_answers_nothing_has_answered():
    channel = Failing(LookupError())
    returning(None)(FastAPI(), channel)
    async with serving(channel) as app, dial(app, "/r") as wire:
        wire.call("fail")
        wire.call("other")
        assert (await wire.receive())["data"] == "other"


@pytest.mark.parametrize("value", [RuntimeError("a secret"), object()])
async def test_a_handler_that_fails_is_an_internal_error(value: Any, caplog: pytest.LogCaptureFixture):
    channel = Failing(LookupError())
    returning(value)(FastAPI(), channel)
    async with serving(channel) as app, dial(app, "/r") as wire:
        wire.call("fail", request_id="q")
        frame = await wire.receive()
        assert (frame["code"], frame["request_id"]) == ("internal_error", "q")
        wire.call("other")
        assert (await wire.receive())["data"] == "other"
        assert "secret" not in str(wire.sent)
    assert frame["errors"].split()[-1] in caplog.text


async def test_the_nearest_class_counts():
    def prepare(app: FastAPI, channel: Channel) -> None:
        for kind in (Exception, LookupError):

            async def handler(websocket: WebSocket, exc: Exception, name: str = kind.__name__) -> Any:
                return {"for": name}

            channel.exception_handler(kind)(handler)

    assert await told(KeyError(), prepare) == {"for": "LookupError"}
    assert await told(ValueError(), prepare) == {"for": "Exception"}


async def test_the_application_is_asked_last():
    def prepare(app: FastAPI, channel: Channel) -> None:
        for kind in (LookupError, ValueError):

            @app.exception_handler(kind)
            async def answer(websocket: Any, exc: Exception) -> Any:
                return {"by": "the application"}

        channel.exception_handler(LookupError)(coroutine)

    assert await told(KeyError(), prepare) == {"by": "a coroutine"}
    assert await told(ValueError(), prepare) == {"by": "the application"}
    assert (await told(RuntimeError(), prepare))["code"] == "internal_error"


async def test_the_defaults_of_the_frameworks_are_not_asked():
    """They answer HTTP requests."""
    assert (await told(HTTPException(404, "no")))["code"] == "http_error"
    assert (await told(StarletteWebSocketException(4001, "bye")))["errors"] == "bye"


# Frames that cannot be read


async def strikes(wire: Wire, frame: Any, count: int) -> list[Any]:
    """Send a frame so often; the answers."""
    before = len(wire.frames)
    for _ in range(count):
        wire.send(frame)
    await wire.until(lambda: not wire.waiting)
    await asyncio.sleep(0.1)
    return wire.frames[before:]


@timeless
async def test_who_sends_nonsense_is_answered_for_a_while_and_then_closed():
    async with serving(Failing()) as app, dial(app, "/r") as wire:
        assert len(await strikes(wire, "nonsense", STRIKES_ANSWERED + 5)) == STRIKES_ANSWERED
        wire.call("other")
        await wire.until(lambda: "other" in str(wire.frames[-1]))
        wire.send(*["nonsense"] * STRIKES_CLOSED)
        assert (await wire.closed()).code == 1008
        assert "too_many_errors" in str(wire.frames[-1])


@timeless
async def test_strikes_are_forgiven_in_time():
    async with serving(Failing()) as app, dial(app, "/r") as wire:
        for _ in range(20):
            assert len(await strikes(wire, {"action": "missing"}, STRIKES_ANSWERED)) == STRIKES_ANSWERED
            await asyncio.sleep(60)


@timeless
async def test_a_payload_that_does_not_fit_is_no_strike():
    class Room(Channel):
        @action()
        async def add(self, number: int) -> int:
            return number

    async with serving(Room()) as app, dial(app, "/r") as wire:
        assert len(await strikes(wire, {"action": "add"}, 2 * STRIKES_CLOSED)) == 2 * STRIKES_CLOSED


async def test_who_cannot_join_is_told_and_closed():
    channel = Failing()

    async def refuse(connection: Connection) -> None:
        raise HTTPException(403, "not today")

    channel.add_event_handler("join", refuse)
    async with serving(channel) as app, dial(app, "/r") as wire:
        frame = await wire.receive()
        assert (frame["status"], frame["errors"], frame["request_id"]) == (403, "not today", None)
        assert "action" not in frame
        assert (await wire.closed()).code == 1011
