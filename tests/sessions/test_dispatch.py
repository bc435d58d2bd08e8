"""One message of a client: who may send it, how often, what the handler gets, and what comes back."""

import asyncio
import math
import threading
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, ClassVar

import pyrate_limiter
import pytest
from fastapi import FastAPI, HTTPException, Request, WebSocket
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi_limiter.depends import WebSocketRateLimiter
from pydantic import BaseModel, Field

from fastapi_channels import (
    ActionIsDeprecated,
    AllowAny,
    BrokerUnavailable,
    Channel,
    Connection,
    IsAuthenticated,
    NotFound,
    PermissionDenied,
    RateLimitExceeded,
    RequestId,
    WebSocketException,
    action,
    add_channel,
    limiter,
    rate,
)
from tests.support.live import Client, application, serving


async def outcome(client: Client, name: str, **fields: Any) -> Any:
    """The code of the error that a call meets, or the data of its reply."""
    frame = await client.call(name, **fields)
    return frame.get("code", frame["data"])


# Replies


class Answers(Channel):
    @action()
    async def something(self) -> dict[str, int]:
        return {"n": 1}

    @action()
    async def nothing(self) -> None: ...

    @action()
    async def falsy(self) -> list[Any]:
        return []


async def test_a_reply():
    async with serving(application(Answers())) as site, site.connect("/r") as client:
        assert await client.call("something", request_id="q") == {
            "type": "response",
            "action": "something",
            "status": "ok",
            "request_id": "q",
            "data": {"n": 1},
        }
        assert (await client.call("something"))["request_id"] is None
        assert (await client.call("falsy"))["data"] == []


async def test_nothing_to_say_is_acknowledged_only_where_that_was_asked_for():
    class Acknowledging(Answers):
        ack = True

    async with serving(application(Answers())) as site, site.connect("/r") as client:
        await client.send({"action": "nothing", "request_id": 1})
        assert (await client.call("something", request_id=2))["request_id"] == 2
    async with serving(application(Acknowledging())) as site, site.connect("/r") as client:
        await client.send({"action": "nothing"})
        reply = await client.call("nothing", request_id=1)
        assert (reply["status"], reply["request_id"], reply["data"]) == ("ok", 1, None)


class Person(BaseModel):
    name: str
    born: date


class Secretive(Person):
    password: str = "secret"  # noqa: S105  the test's word for what must not go out


async def test_a_reply_is_what_its_model_lets_through():
    class Registry(Channel):
        @action()
        async def annotated(self) -> Person:
            return Secretive(name="Ann", born=date(1990, 1, 2))

        @action(response_model=list[Person])
        async def declared(self) -> Any:
            return [Secretive(name="Ann", born=date(1990, 1, 2))]

        @action()
        async def wrong(self) -> Person:
            return {"name": "Ann"}  # type: ignore[return-value]  # on purpose

    async with serving(application(Registry())) as site, site.connect("/r") as client:
        ann = {"name": "Ann", "born": "1990-01-02"}
        assert await outcome(client, "annotated") == ann
        assert await outcome(client, "declared") == [ann]
        assert await outcome(client, "wrong") == "internal_error"


# What a handler gets


async def test_a_handler_gets_what_it_names():
    seen: dict[str, Any] = {}

    class Room(Channel):
        @action()
        async def everything(self, **kwargs: Any) -> list[str]:
            seen.update(kwargs)
            return sorted(kwargs)

        @action()
        async def some(self, data: dict[str, Any], channel: str, request_id: RequestId) -> list[Any]:
            return [data["x"], channel, request_id]

        @action()
        async def typed(self, ws: WebSocket, me: Connection, number: RequestId) -> list[Any]:
            return [ws is me.websocket, number]

        @action()
        @staticmethod
        async def static(channel: str) -> str:
            return channel

        @action()
        @classmethod
        async def of_class(cls, channel: str) -> str:
            return cls.__name__

    names = ["action", "channel", "connection", "data", "request_id", "websocket"]
    async with serving(application(Room())) as site, site.connect("/r") as client:
        assert await outcome(client, "everything", x=1) == names
        assert (seen["action"], seen["data"]) == ("everything", {"action": "everything", "x": 1})
        assert await outcome(client, "some", x=1, request_id="q") == [1, "r", "q"]
        assert await outcome(client, "typed", request_id=5) == [True, 5]
        assert await outcome(client, "static") == "r"
        assert await outcome(client, "of_class") == "Room"


async def test_a_payload_is_validated():
    class Say(BaseModel):
        text: Annotated[str, Field(max_length=5)]
        loud: bool = False

    class Room(Channel):
        @action()
        async def say(self, payload: Say) -> str:
            return payload.text.upper() if payload.loud else payload.text

        @action()
        async def add(self, a: int, b: Annotated[int, Field(ge=0)] = 1) -> int:
            return a + b

    async with serving(application(Room())) as site, site.connect("/r") as client:
        assert await outcome(client, "say", text="hello", loud=True) == "HELLO"
        assert await outcome(client, "add", a=1) == 2
        assert await outcome(client, "add", a="2", b=2) == 4
        error = await client.call("add", a="x", b=-1, request_id=3)
        assert (error["code"], error["request_id"]) == ("invalid_payload", 3)
        assert [(fault["loc"], fault["type"]) for fault in error["data"]] == [
            (["a"], "int_parsing"),
            (["b"], "greater_than_equal"),
        ]
        error = await client.call("say", text="too long")
        assert error["data"][0]["loc"] == ["text"]


async def test_a_plain_handler_runs_in_a_thread():
    class Room(Channel):
        @action()
        def block(self) -> bool:
            return threading.current_thread() is threading.main_thread()

    async with serving(application(Room())) as site, site.connect("/r") as client:
        assert await outcome(client, "block") is False


async def test_actions_are_inherited_overridden_and_taken_away():
    class Greeting:
        @action()
        async def greet(self) -> str:
            return "hello"

    class Base(Channel):
        @action()
        async def hidden(self) -> str:
            return "hidden"

        @action("renamed")
        async def original(self) -> str:
            return "base"

    class Room(Greeting, Base):
        @action("renamed")
        async def original(self) -> str:
            return await super().original() + " and more"

        async def hidden(self) -> str:
            return "no action any more"

    room = Room()

    @room.action()
    async def own(channel: str) -> str:
        return f"own of {channel}"

    assert sorted(room.actions) == ["greet", "own", "renamed"]
    assert sorted(Room().actions) == ["greet", "renamed"]
    async with serving(application(room)) as site, site.connect("/r") as client:
        assert await outcome(client, "greet") == "hello"
        assert await outcome(client, "renamed") == "base and more"
        assert await outcome(client, "own") == "own of r"
        assert await outcome(client, "hidden") == "unknown_action"
        assert await outcome(client, "original") == "unknown_action"


# Who may


class Guarded(Channel):
    @action()
    async def free(self) -> str:
        return "free"

    @action(permission=False)
    async def never(self) -> str:
        return "never"

    @action(permission=AllowAny)
    async def anybody(self) -> str:
        return "anybody"

    @action(permission=IsAuthenticated)
    async def member(self) -> str:
        return "member"

    @action(permission=lambda websocket, action, data: data.get("word") == action)
    async def password(self) -> str:
        return "password"


async def test_permissions_of_actions():
    async with serving(application(Guarded())) as site, site.connect("/r") as client:
        assert await outcome(client, "free") == "free"
        assert await outcome(client, "anybody") == "anybody"
        assert await outcome(client, "never") == "permission_denied"
        assert await outcome(client, "member") == "permission_denied"
        assert await outcome(client, "password") == "permission_denied"
        assert await outcome(client, "password", word="password") == "password"


@pytest.mark.parametrize("level", ["application", "channel"])
async def test_wider_permissions_are_asked_for_each_action_too(level: str):
    def no_free(websocket: WebSocket, action: str | None) -> bool:
        return action != "free"

    own, wide = (no_free, None) if level == "channel" else (None, no_free)
    app = application(Guarded(permission_classes=own), permission_classes=wide)
    async with serving(app) as site, site.connect("/r") as client:
        assert await outcome(client, "free") == "permission_denied"
        assert await outcome(client, "anybody") == "anybody"
        assert await outcome(client, "never") == "permission_denied"


async def test_a_permission_may_say_why_and_may_close():
    def explain(websocket: WebSocket, action: str | None) -> bool:
        raise PermissionDenied(reason="you are banned", close=True)

    class Room(Channel):
        @action(permission=explain)
        async def go(self) -> None: ...

    async with serving(application(Room())) as site, site.connect("/r") as client:
        assert (await client.call("go", request_id=1))["errors"] == "you are banned"
        assert await client.closed() == (1008, "you are banned")


# What is going away


async def test_a_deprecated_action_is_refused_and_the_connection_stays():
    class Room(Channel):
        @action(deprecated=True, permission=False)
        async def old(self) -> str:
            return "old"

    async with serving(application(Room())) as site, site.connect("/r") as client:
        for _ in range(2):
            error = await client.call("old", request_id=1)
            assert (error["code"], error["request_id"]) == (ActionIsDeprecated.error_code, 1)


async def test_an_action_with_a_sunset_works_until_that_day_and_says_so():
    today = datetime.now(UTC).date()

    class Room(Channel):
        @action(sunset=today + timedelta(days=7))
        async def soon(self) -> str:
            return "still"

        @action(sunset=today)
        async def over(self) -> str:
            return "still"

        @action(sunset=today + timedelta(days=7))
        async def quiet(self) -> None: ...

    async with serving(application(Room())) as site, site.connect("/r") as client:
        reply = await client.call("soon")
        assert (reply["data"], reply["deprecated"]) == ("still", True)
        assert reply["sunset"] == (today + timedelta(days=7)).isoformat()
        assert (await client.call("quiet", request_id=1))["deprecated"] is True
        assert await outcome(client, "over") == "deprecated"


# How often


class Limited(Channel):
    @limiter(times=2, hours=1)
    @action()
    async def above(self) -> str:
        return "ok"

    @action()
    @limiter(times=2, hours=1)
    async def below(self) -> str:
        return "ok"

    @limiter(times=3, hours=1)
    @action()
    @limiter(times=1, milliseconds=1)
    async def both(self) -> str:
        return "ok"

    @limiter(times=1, hours=1, identifier=lambda websocket: websocket.query_params["name"])
    @action()
    async def by_name(self) -> str:
        return "ok"

    @action()
    async def free(self) -> str:
        return "ok"


@pytest.mark.parametrize("name", ["above", "below"])
async def test_a_limit_in_either_order(name: str):
    async with serving(application(Limited())) as site, site.connect("/r") as client:
        assert [await outcome(client, name) for _ in range(3)] == ["ok", "ok", RateLimitExceeded.error_code]
        error = await client.call(name, request_id=9)
        assert error["request_id"] == 9
        assert 3500 < error["retry_after"] <= 3600
        assert f" {math.ceil(error['retry_after'])} " in error["errors"]
        assert await outcome(client, "free") == "ok"


async def test_of_several_limits_all_must_pass_and_a_refused_call_costs_nothing():
    async with serving(application(Limited())) as site, site.connect("/r") as client:
        served = 0
        async with asyncio.timeout(30):
            while served < 3:
                served += await outcome(client, "both") == "ok"
        error = await client.call("both")
        assert error["retry_after"] > 3000


async def test_a_limit_is_per_client_room_and_action_and_outlives_the_connection():
    app = FastAPI()
    add_channel(app)
    room = Limited()

    @app.websocket("/{channel}")
    async def enter(websocket: WebSocket, channel: str, user: str | None = None) -> None:
        await room.connect(websocket, channel, user=user)

    async with serving(app) as site:
        for path, expected in [
            ("/r", ["ok", "ok", "rate_limited"]),
            ("/r", ["rate_limited"]),
            ("/other", ["ok", "ok", "rate_limited"]),
            ("/r?user=ann", ["ok", "ok", "rate_limited"]),
            ("/r?user=ann", ["rate_limited"]),
            ("/r?user=bob", ["ok"]),
        ]:
            async with site.connect(path) as client:
                assert [await outcome(client, "above") for _ in expected] == expected
        async with site.connect("/r") as client:
            assert await outcome(client, "below") == "ok"


async def test_whom_a_limit_counts():
    async with serving(application(Limited())) as site:
        async with site.connect("/r?name=a") as client:
            assert [await outcome(client, "by_name") for _ in range(2)] == ["ok", "rate_limited"]
        async with site.connect("/r?name=b") as client:
            assert await outcome(client, "by_name") == "ok"


@pytest.mark.parametrize("level", ["application", "action"])
async def test_an_answer_of_ones_own_in_place_of_the_error(level: str):
    async def answer(websocket: WebSocket, milliseconds: int) -> None:
        await websocket.send_json({"slow down": milliseconds > 3_500_000})

    class Room(Channel):
        @limiter(times=1, hours=1, ws_callback=answer if level == "action" else None)
        @action()
        async def go(self) -> str:
            return "ok"

    app = application(Room(), ws_callback=answer if level == "application" else None)
    async with serving(app) as site, site.connect("/r") as client:
        assert await outcome(client, "go") == "ok"
        assert await client.call("go") == {"slow down": True}


@pytest.mark.parametrize("level", ["application", "channel", "argument"])
async def test_a_rate_over_all_messages(level: str):
    slow = rate(times=2, hours=1)

    class Room(Limited):
        throttle_classes = slow if level == "channel" else None

    room = Room(throttle_classes=[slow] if level == "argument" else None)
    app = application(room, throttle_classes=[slow] if level == "application" else None)
    async with serving(app) as site, site.connect("/r") as client:
        assert [await outcome(client, name) for name in ("free", "above", "free")] == [
            *("ok", "ok"),
            "rate_limited",
        ]


class BucketPerKey(pyrate_limiter.BucketFactory):
    def __init__(self) -> None:
        self.buckets: dict[str, pyrate_limiter.InMemoryBucket] = {}

    def wrap_item(self, name: str, weight: int = 1) -> pyrate_limiter.RateItem:
        return pyrate_limiter.RateItem(name, pyrate_limiter.MonotonicClock().now(), weight=weight)

    def get(self, item: pyrate_limiter.RateItem) -> pyrate_limiter.AbstractBucket:
        rates = [pyrate_limiter.Rate(2, pyrate_limiter.Duration.HOUR)]
        return self.buckets.setdefault(item.name, pyrate_limiter.InMemoryBucket(rates))


async def test_a_limiter_of_fastapi_limiter_counts_each_client_alone():
    with pyrate_limiter.Limiter(BucketPerKey()) as buckets:
        app = application(Limited(throttle_classes=WebSocketRateLimiter(buckets)))
        async with serving(app, proxy_headers=False) as site:
            for room in ("a", "b"):
                headers = {"X-Forwarded-For": "10.0.0.1"}
                async with site.connect(f"/{room}", additional_headers=headers) as client:
                    outcomes = [await outcome(client, "free") for _ in range(3)]
                    assert outcomes == ["ok", "ok", "rate_limited"]


# What goes wrong


class Refused(WebSocketException):
    error_code = "refused_here"
    reason = "not here"


class Failing(Channel):
    errors: ClassVar[dict[str, Exception]] = {
        "http": HTTPException(404, {"what": "no such thing"}),
        "http_later": HTTPException(429, "slow down", headers={"Retry-After": "7"}),
        "not_found": NotFound(close=False),
        "own": Refused(close=False, status=418, data=[1], hint="try tea"),
        "other_id": Refused(close=False, request_id="another"),
        "words": WebSocketException(error_msg={"text": "too long", "max": 5}, close=False),
        "bye": WebSocketException(4500, "go away", error_msg="you must go", data=1),
        "broker": BrokerUnavailable("down"),
        "lookup": KeyError("a secret"),
        "timeout": TimeoutError(),
    }

    @action()
    async def fail(self, kind: str) -> None:
        raise self.errors[kind]

    @action()
    async def send(self, text: str, close: bool) -> None:
        await self.send_error(text, close=close)


async def test_an_exception_for_the_client_is_what_it_says():
    async with serving(application(Failing())) as site, site.connect("/r") as client:
        http = await client.call("fail", kind="http", request_id=1)
        assert (http["status"], http["errors"], http["code"]) == (
            404,
            {"what": "no such thing"},
            "http_error",
        )
        assert http["request_id"] == 1
        later = await client.call("fail", kind="http_later")
        assert (later["status"], later["retry_after"]) == (429, 7)
        assert (await client.call("fail", kind="not_found"))["code"] == "not_found"
        own = await client.call("fail", kind="own", request_id=2)
        assert own == {
            "type": "response",
            "action": "fail",
            "status": 418,
            "request_id": 2,
            "data": [1],
            "errors": "not here",
            "code": "refused_here",
            "hint": "try tea",
        }
        assert (await client.call("fail", kind="other_id", request_id=3))["request_id"] == "another"
        assert (await client.call("fail", kind="words"))["errors"] == {"text": "too long", "max": 5}
        assert (await client.call("fail", kind="broker"))["code"] == "unavailable"
        for kind in ("lookup", "timeout"):
            error = await client.call("fail", kind=kind)
            assert error["code"] == "internal_error"
            assert "secret" not in error["errors"]
        bye = await client.call("fail", kind="bye")
        assert (bye["errors"], bye["data"]) == ("you must go", 1)
        assert await client.closed() == (4500, "go away")


async def test_send_error():
    async with serving(application(Failing())) as site, site.connect("/r") as client:
        error = await client.call("send", text="no", close=False, request_id=1)
        assert (error["errors"], error["request_id"]) == ("no", 1)
        assert (await client.call("send", text="out", close=True))["errors"] == "out"
        assert (await client.closed()).code == 1000


class Upset(Exception):
    pass


class VeryUpset(Upset):
    pass


def upsetting(**settings: Any) -> tuple[FastAPI, Channel]:
    room = Channel()

    @room.action()
    async def upset(very: bool = False) -> None:
        raise VeryUpset("very") if very else Upset("a bit")

    return application(room, **settings), room


async def test_a_handler_of_the_channel_answers_for_its_exceptions():
    app, room = upsetting()

    @app.exception_handler(Upset)
    async def never(request: Request, exc: Exception) -> JSONResponse:
        raise AssertionError("the channel's own comes first")

    @room.exception_handler(Upset)
    async def calm(websocket: WebSocket, exc: Upset) -> dict[str, str]:
        return {"calm": str(exc)}

    @room.exception_handler(VeryUpset)
    def soothe(websocket: WebSocket, exc: VeryUpset) -> str:
        return f"there, {exc}"

    async with serving(app) as site, site.connect("/r") as client:
        assert await client.call("upset") == {"calm": "a bit"}
        await client.send({"action": "upset", "very": True})
        assert await client.read() == "there, very"


async def test_a_handler_of_the_application_is_offered_exceptions_too():
    app, _ = upsetting()

    @app.exception_handler(Upset)
    async def handle(websocket: Any, exc: Exception) -> Any:
        if isinstance(exc, VeryUpset):
            await websocket.send_json({"sent": "by the handler"})
            return None
        return JSONResponse({"told": str(exc)}, status_code=409)

    @app.exception_handler(HTTPException)
    async def plain(websocket: Any, exc: Exception) -> PlainTextResponse:
        return PlainTextResponse("as HTTP", status_code=400)

    async with serving(app) as site, site.connect("/r") as client:
        told = await client.call("upset", request_id=1)
        assert (told["status"], told["errors"], told["request_id"]) == (409, {"told": "a bit"}, 1)
        assert await client.call("upset", very=True) == {"sent": "by the handler"}


async def test_a_handler_for_upstreams_exception_answers_in_its_place():
    """As it was written for upstream: it reads `error_msg` and `kwargs`."""

    class Room(Channel):
        @action()
        async def refuse(self) -> None:
            raise PermissionDenied(close=False, hint="no")

    app = application(Room())

    @app.exception_handler(WebSocketException)
    async def mine(websocket: WebSocket, exc: WebSocketException) -> None:
        await websocket.send_json({"errors": exc.error_msg, **exc.kwargs})

    async with serving(app) as site, site.connect("/r") as client:
        assert await client.call("refuse") == {"errors": "Permission Denied", "hint": "no"}


async def test_payloads_that_do_not_fit_are_answered_however_many_come():
    class Room(Channel):
        @action()
        async def add(self, number: int) -> int:
            return number + 1

    async with serving(application(Room())) as site, site.connect("/r") as client:
        for number in range(150):
            assert (await client.call("add", number="x", request_id=number))["request_id"] == number
        assert (await client.call("add", number=1))["data"] == 2


async def test_a_handler_of_exceptions_that_fails_itself(caplog: pytest.LogCaptureFixture):
    app, room = upsetting()

    @room.exception_handler(Upset)
    async def fail(websocket: WebSocket, exc: Upset) -> None:
        raise RuntimeError("even here")

    async with serving(app) as site, site.unharmed(), site.connect("/r") as client:
        told = await client.call("upset", request_id=1)
        assert (told["code"], told["request_id"]) == ("internal_error", 1)
    assert "even here" in caplog.text
