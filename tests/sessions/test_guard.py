"""May this call go ahead: who is asked, in which order, and whom a rate counts."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import HTTPException, WebSocket

from fastapi_channels import BasePermission, Channel, Connection, PermissionDenied, action, limiter, rate
from tests.support.wire import Wire, dial, dialing, serving

Log = list[Any]


class Says(BasePermission):
    """Answers what it was told to, and keeps what it was asked."""

    def __init__(self, name: str, answer: Any = True, log: Log | None = None) -> None:
        self.name = name
        self.answer = answer
        self.log = log if log is not None else []

    async def has_permission(self, websocket: WebSocket, action: str | None, **extras: Any) -> Any:
        self.log.append((self.name, action))
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer(extras) if callable(self.answer) else self.answer


async def outcome(wire: Wire, name: str, **fields: Any) -> Any:
    """The code of the error that a call meets, or the data of its reply."""
    wire.call(name, **fields)
    frame = await wire.receive()
    return frame.get("code", frame["data"])


# Permissions


async def test_everybody_is_asked_from_the_outside_in():
    log: Log = []

    class Room(Channel):
        permission_classes = [Says("channel", log=log)]

        @action(permission=Says("action", log=log))
        async def run(self) -> str:
            return "ran"

        @action()
        async def other(self) -> str:
            return "other"

    async with (
        serving(Room(), permission_classes=Says("application", log=log)) as app,
        dial(app, "/r") as wire,
    ):
        assert log == [("application", None), ("channel", None)]
        log.clear()
        assert await outcome(wire, "run") == "ran"
        assert await outcome(wire, "other") == "other"
        assert log == [(name, "run") for name in ("application", "channel", "action")] + [
            (name, "other") for name in ("application", "channel")
        ]


async def test_who_refuses_is_the_last_who_is_asked():
    log: Log = []

    class Room(Channel):
        permission_classes = [Says("channel", lambda extras: extras["data"] is None, log=log)]

        @action(permission=Says("action", log=log))
        async def run(self) -> str:
            return "ran"

    async with serving(Room()) as app, dial(app, "/r") as wire:
        assert await outcome(wire, "run") == "permission_denied"
        assert log == [("channel", None), ("channel", "run")]


async def test_a_permission_knows_the_room_the_connection_and_what_was_sent():
    seen: Log = []

    def see(extras: dict[str, Any]) -> bool:
        seen.append((extras["channel"], extras["connection"].user, extras["data"]))
        return True

    class Room(Channel):
        permission_classes = [Says("channel", see)]

        @action()
        async def run(self, text: str) -> str:
            return text

    async with serving(Room()) as app, dial(app, "/attic?user=ada") as wire:
        assert await outcome(wire, "run", text="hi") == "hi"
    assert seen == [("attic", "ada", None), ("attic", "ada", {"action": "run", "text": "hi"})]


@pytest.mark.parametrize("trouble", [RuntimeError("a secret"), asyncio.CancelledError(), KeyError("user")])
async def test_a_permission_that_fails_refuses(trouble: BaseException, caplog: pytest.LogCaptureFixture):
    class Room(Channel):
        @action(permission=Says("action", trouble))
        async def run(self) -> str:
            return "ran"

        @action()
        async def other(self) -> str:
            return "other"

    async with serving(Room()) as app, dial(app, "/r") as wire:
        assert await outcome(wire, "run") == "permission_denied"
        assert await outcome(wire, "other") == "other"
        assert "secret" not in str(wire.frames)
    assert "a permission failed, and so refuses" in caplog.text


@pytest.mark.parametrize(
    ("trouble", "said"),
    [(HTTPException(402, "pay"), "pay"), (PermissionDenied(close=False, reason="not you"), "not you")],
)
async def test_a_permission_may_say_why(trouble: Exception, said: str):
    class Room(Channel):
        @action(permission=Says("action", trouble))
        async def run(self) -> str:
            return "ran"

    async with serving(Room()) as app, dial(app, "/r") as wire:
        wire.call("run", request_id=1)
        frame = await wire.receive()
        assert (frame["errors"], frame["request_id"]) == (said, 1)


async def test_a_refused_action_leaves_the_connection_and_a_refused_connection_does_not():
    class Room(Channel):
        permission_classes = [Says("channel", lambda extras: extras["connection"].user == "ada")]

        @action(permission=False)
        async def never(self) -> None: ...

        @action()
        async def run(self) -> str:
            return "ran"

    async with serving(Room()) as app:
        async with dial(app, "/r?user=ada") as wire:
            assert await outcome(wire, "never") == "permission_denied"
            assert await outcome(wire, "run") == "ran"
        async with dialing(app, "/r?user=eve") as wire:
            await wire.ended()
            assert wire.sent[0]["code"] == 1008


# Rates


class Limited(Channel):
    """Whose clients may log in, and be somebody else from then on."""

    @action()
    async def login(self, user: str, connection: Connection) -> str:
        connection.user = user
        return user

    @action()
    @limiter(times=1, seconds=3600)
    async def rare(self) -> str:
        return "ok"


async def test_a_rate_counts_a_user_over_all_connections_and_the_others_by_address():
    async with serving(Limited()) as app:
        async with dial(app, "/r?user=ada") as one, dial(app, "/r?user=ada") as two, dial(app, "/r") as other:
            assert await outcome(one, "rare") == "ok"
            assert await outcome(two, "rare") == "rate_limited"
            assert await outcome(other, "rare") == "ok"
        async with dial(app, "/r") as again, dial(app, "/other") as elsewhere:
            assert await outcome(again, "rare") == "rate_limited"
            assert await outcome(elsewhere, "rare") == "ok"


async def test_a_rate_counts_who_the_client_is_now():
    async with serving(Limited()) as app, dial(app, "/r") as wire:
        outcomes: Log = []
        for user in ("ada", "ada", "bob", "ada", "bob"):
            await outcome(wire, "login", user=user)
            outcomes.append(await outcome(wire, "rare"))
        assert outcomes == ["ok", "rate_limited", "ok", "rate_limited", "rate_limited"]


async def plain(websocket: WebSocket) -> str:
    return websocket.query_params["key"]


def in_turn(websocket: WebSocket) -> int:
    return len(websocket.query_params["key"])


@pytest.mark.parametrize("identifier", [plain, in_turn])
@pytest.mark.parametrize("level", ["application", "limit"])
async def test_an_identifier_of_ones_own(identifier: Callable[..., Any], level: str):
    class Room(Channel):
        @action()
        @limiter(times=1, seconds=3600, identifier=identifier if level == "limit" else None)
        async def rare(self) -> str:
            return "ok"

    options = {"identifier": identifier} if level == "application" else {}
    async with serving(Room(), **options) as app:
        outcomes: Log = []
        for key in ("a", "a", "bb"):
            async with dial(app, f"/r?key={key}") as wire:
                outcomes.append(await outcome(wire, "rare"))
        assert outcomes == ["ok", "rate_limited", "ok"]


async def test_a_refused_call_is_not_counted():
    class Room(Channel):
        @action(permission=Says("action", lambda extras: extras["data"].get("please")))
        @limiter(times=1, seconds=3600)
        async def rare(self) -> str:
            return "ok"

    async with serving(Room()) as app, dial(app, "/r") as wire:
        for _ in range(3):
            assert await outcome(wire, "rare") == "permission_denied"
        assert await outcome(wire, "rare", please=True) == "ok"
        assert await outcome(wire, "rare", please=True) == "rate_limited"


async def test_of_all_rates_over_a_call_the_same_one_counts_once():
    class Room(Channel):
        throttle_classes = [rate(2, hours=1)]

        @action()
        async def run(self) -> str:
            return "ok"

    async with serving(Room(), throttle_classes=[rate(2, hours=1)]) as app, dial(app, "/r") as wire:
        assert [await outcome(wire, "run") for _ in range(3)] == ["ok", "ok", "rate_limited"]


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_callback_answers_in_place_of_the_error(is_async: bool):
    waits: list[int] = []

    def plain(websocket: WebSocket, milliseconds: int) -> None:
        waits.append(milliseconds)

    async def later(websocket: WebSocket, milliseconds: int) -> None:
        waits.append(milliseconds)
        await websocket.send_json({"code": "slow down", "data": None})

    class Room(Channel):
        @action()
        @limiter(times=1, seconds=100, ws_callback=later if is_async else plain)
        async def rare(self) -> str:
            return "ok"

        @action()
        async def other(self) -> str:
            return "other"

    async with serving(Room()) as app, dial(app, "/r") as wire:
        assert await outcome(wire, "rare") == "ok"
        wire.call("rare")
        assert await outcome(wire, "other") == ("slow down" if is_async else "other")
    (wait,) = waits
    assert 90_000 < wait <= 100_000
