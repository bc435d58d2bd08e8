"""Questions to a client: `connection.call`."""

import asyncio
import gc
import logging
from collections.abc import Awaitable, Callable
from datetime import date
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from fastapi_channels import (
    Call,
    CallFailed,
    Channel,
    ConfigurationError,
    Connection,
    Disconnected,
    Envelope,
    action,
)
from fastapi_channels.sessions.calls import Calls
from fastapi_channels.testing.clock import now, timeless
from tests.support.wire import Wire, dial, serving


class Asking(Channel):
    """Whose actions ask; `outcome` keeps what came of it, where no reply can tell."""

    ack = True

    def __init__(self) -> None:
        super().__init__()
        self.connection: Connection
        self.outcome: Any = None
        self.add_event_handler("join", self.on_joined)

    async def on_joined(self, connection: Connection) -> None:
        self.connection = connection

    @action()
    async def ask(self, connection: Connection, timeout: float = 10.0) -> Any:
        return await self.keep(connection.call("sure", {"n": 1}, timeout=timeout))

    @action(detached=True)
    async def ask_beside(self, connection: Connection) -> Any:
        return await self.keep(connection.call("sure", {"n": 2}))

    @action()
    async def ask_twice(self, connection: Connection) -> Any:
        return await asyncio.gather(connection.call("first"), connection.call("second"))

    @action()
    async def other(self) -> str:
        return "other"

    async def keep(self, call: Awaitable[Any]) -> Any:
        try:
            self.outcome = await call
        except BaseException as exc:
            self.outcome = exc
            raise
        return self.outcome


async def asked(wire: Wire) -> int:
    """Wait for the question; its number."""
    frame = await wire.receive()
    assert frame["type"] == "call", frame
    number: int = frame["call_id"]
    return number


def answer(number: Any, data: Any = None, **extra: Any) -> dict[str, Any]:
    return {"type": "answer", "call_id": number, "data": data, **extra}


async def test_a_question_and_its_answer():
    async with serving(Asking()) as app, dial(app, "/attic") as wire:
        wire.call("ask", request_id=7)
        assert await wire.receive() == {
            "type": "call",
            "call": "sure",
            "call_id": 1,
            "data": {"n": 1},
            "channel": "attic",
            "within": 10.0,
        }
        wire.send(answer(1, {"yes": True}))
        reply = await wire.receive()
        assert (reply["request_id"], reply["data"]) == (7, {"yes": True})


@pytest.mark.parametrize("name", ["ask", "ask_beside"])
async def test_an_answer_overtakes_what_waits(name: str):
    async with serving(Asking()) as app, dial(app, "/r") as wire:
        wire.call(name, request_id=1)
        number = await asked(wire)
        wire.call("other", request_id=2)
        wire.send(answer(number, "yes"))
        assert {(await wire.receive())["data"] for _ in range(2)} == {"other", "yes"}
        # Nobody reads beside the one who should: the next message is taken by the session.
        wire.call("other", request_id=3)
        assert (await wire.receive())["request_id"] == 3


async def test_a_question_from_outside_of_any_action():
    room = Asking()
    async with serving(room) as app, dial(app, "/r") as wire:
        wire.call("other")
        await wire.receive()
        asking = asyncio.ensure_future(room.connection.call("sure"))
        wire.send(answer(await asked(wire), "yes"))
        assert await asking == "yes"
        wire.call("other", request_id=3)
        assert (await wire.receive())["request_id"] == 3


async def test_answers_may_come_in_any_order():
    async with serving(Asking()) as app, dial(app, "/r") as wire:
        wire.call("ask_twice")
        first, second = await asked(wire), await asked(wire)
        wire.send(answer(second, "two"), answer(first, "one"))
        assert (await wire.receive())["data"] == ["one", "two"]


async def test_a_client_may_answer_with_an_error(caplog: pytest.LogCaptureFixture):
    room = Asking()
    caplog.set_level(logging.INFO, "fastapi_channels")
    async with serving(room) as app, dial(app, "/r") as wire:
        wire.call("ask", request_id=1)
        wire.send(answer(await asked(wire), "not this", errors=["not now"]))
        frame = await wire.receive()
        assert frame["code"] == "internal_error"
    (record,) = [each for each in caplog.records if "has not answered" in each.getMessage()]
    assert record.getMessage().split()[1] in frame["errors"]
    assert (record.levelno, record.exc_info) == (logging.INFO, None)
    assert "not now" not in caplog.text, "what a client sends is in no log"
    assert max(each.levelno for each in caplog.records) == logging.INFO
    assert isinstance(room.outcome, CallFailed)
    assert room.outcome.errors == ["not now"]


@pytest.mark.parametrize("number", [None, "1", 1.5, [1], {}, 0, -1, 2, 10**30, "x" * 1000])
async def test_an_answer_to_nothing_is_ignored(number: Any):
    async with serving(Asking()) as app, dial(app, "/r") as wire:
        wire.send(answer(number, "early"))
        wire.call("ask", request_id=1)
        right = await asked(wire)
        wire.send(answer(number, "wrong"), answer(right, "right"), answer(right, "twice"))
        assert (await wire.receive())["data"] == "right"
        wire.send(answer(right, "late"))
        wire.call("other")
        assert (await wire.receive())["data"] == "other"


@timeless
async def test_who_does_not_answer_in_time():
    room = Asking()
    async with serving(room) as app, dial(app, "/r") as wire:
        wire.call("ask", request_id=1, timeout=5)
        number = await asked(wire)
        start = now()
        assert (await wire.receive())["code"] == "internal_error"
        assert 4.9 < now() - start < 5.1
        assert isinstance(room.outcome, TimeoutError)
        wire.send(answer(number, "late"))
        wire.call("other")
        assert (await wire.receive())["data"] == "other"


@pytest.mark.parametrize("name", ["ask", "ask_beside"])
async def test_who_leaves_instead(name: str, caplog: pytest.LogCaptureFixture):
    room = Asking()
    async with serving(room) as app, dial(app, "/r") as wire:
        wire.call(name)
        await asked(wire)
        wire.leave()
        await wire.ended()
    assert isinstance(room.outcome, Disconnected)
    assert [each.message for each in caplog.records if each.levelno >= logging.ERROR] == []


async def test_who_has_left_is_not_asked():
    room = Asking()
    async with serving(room) as app, dial(app, "/r") as wire:
        wire.leave()
        await wire.ended()
        with pytest.raises(Disconnected, match="before it was asked"):
            await room.connection.call("sure")


async def test_who_cancels_the_request_that_asks():
    room = Asking()
    async with serving(room) as app, dial(app, "/r") as wire:
        wire.call("ask", request_id=1)
        number = await asked(wire)
        wire.send({"type": "cancel", "request_id": 1})
        assert (await wire.receive())["code"] == "cancelled"
        wire.send(answer(number, "late"))
        wire.call("other")
        assert (await wire.receive())["data"] == "other"
    assert isinstance(room.outcome, asyncio.CancelledError)


async def test_another_envelope():
    class Renamed(Asking):
        envelope = Envelope(type="kind", data="body", errors="wrong", channel="room")

    async with serving(Renamed()) as app, dial(app, "/r") as wire:
        wire.call("ask")
        call = await wire.receive()
        assert call == {
            "kind": "call",
            "call": "sure",
            "call_id": 1,
            "body": {"n": 1},
            "room": "r",
            "within": 10.0,
        }
        wire.send({"kind": "answer", "call_id": 1, "body": "yes"})
        assert (await wire.receive())["body"] == "yes"


# Calls with types


class Place(BaseModel):
    x: int
    on: date


class Where(Call[Place]):
    piece: str


class Playing(Asking):
    call_types = (Where,)

    @action()
    async def where(self, connection: Connection) -> str:
        place = await self.keep(connection.call(Where(piece="rook")))
        return f"{place.x} {place.on:%Y}"

    @action()
    async def by_name(self, connection: Connection, piece: Any) -> int:
        place: Place = await self.keep(connection.call("where", {"piece": piece}))
        return place.x

    @action()
    async def other_call(self, connection: Connection) -> Any:
        return await self.keep(connection.call("sure"))


async def test_an_answer_becomes_the_type_that_was_asked_for():
    async with serving(Playing()) as app, dial(app, "/r") as wire:
        wire.call("where", request_id=1)
        call = await wire.receive()
        assert (call["call"], call["data"]) == ("where", {"piece": "rook"})
        wire.send(answer(call["call_id"], {"x": 3, "on": "2030-01-01"}))
        assert (await wire.receive())["data"] == "3 2030"
        wire.call("by_name", request_id=2, piece="rook")
        wire.send(answer(await asked(wire), {"x": 4, "on": "2030-01-01"}))
        assert (await wire.receive())["data"] == 4


@pytest.mark.parametrize("data", [None, "here", {"x": "no", "on": "2030-01-01"}, [], {"x": 1}])
async def test_what_is_no_answer_is_a_failure_of_the_call(data: Any):
    room = Playing()
    async with serving(room) as app, dial(app, "/r") as wire:
        wire.call("where", request_id=1)
        wire.send(answer(await asked(wire), data))
        assert (await wire.receive())["code"] == "internal_error"
        wire.call("other", request_id=2)
        assert (await wire.receive())["data"] == "other"
    assert isinstance(room.outcome, CallFailed)
    assert all("input" not in fault for fault in room.outcome.errors), "what a client sends is in no log"


async def test_a_call_that_is_not_declared_is_not_sent():
    room = Playing()
    async with serving(room) as app, dial(app, "/r") as wire:
        wire.call("other_call", request_id=1)
        assert (await wire.receive())["code"] == "internal_error"
        assert isinstance(room.outcome, ConfigurationError)
        wire.call("by_name", request_id=2, piece=["rook"])
        assert (await wire.receive())["code"] == "internal_error"
        assert isinstance(room.outcome, ValidationError)


# What nobody waits for any more leaves nothing behind


async def test_an_outcome_that_nobody_takes_is_no_error():
    """As when the request was cancelled in the same turn."""
    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
    endings: list[Callable[[Calls], None]] = [
        lambda calls: calls.fail(),
        lambda calls: calls.answer(1, None, "no"),
        lambda calls: calls.answer(1, "yes", None),
    ]
    for ending in endings:
        calls = Calls()
        number = calls.ask()[0]
        ending(calls)
        calls.answer(number, "once more", None)
        calls.fail()
        calls.forget(number)
        calls.forget(number)
    gc.collect()
    await asyncio.sleep(0)
    assert told == []
