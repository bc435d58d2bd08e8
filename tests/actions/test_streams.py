"""Replies that come one after the other, and requests that the client cancels."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

import pytest
from fastapi import Depends, HTTPException
from pydantic import BaseModel

from fastapi_channels import Channel, Connection, action
from fastapi_channels.actions.spec import DETACHED
from fastapi_channels.testing.clock import timeless, turns
from tests.support.wire import Wire, dial, others, serving

Log = list[Any]


class Piece(BaseModel):
    text: str


class Streaming(Channel):
    """What its actions leave in `log` tells how far they came, and how they ended."""

    ack = True
    finish_timeout = 0.05

    def __init__(self) -> None:
        super().__init__()
        self.log: Log = []
        self.gate = asyncio.Event()

    @action()
    async def count(self, to: int) -> AsyncIterator[int]:
        for number in range(to):
            self.log.append(number)
            yield number

    @action()
    async def forever(self) -> AsyncIterator[int]:
        try:
            yield 0
            await asyncio.Event().wait()
        finally:
            self.log.append("ended")

    @action()
    async def endless(self, size: int = 1) -> AsyncIterator[str]:
        try:
            while True:
                self.log.append("yields")
                yield "x" * size
        finally:
            self.log.append("ended")

    @action()
    async def pieces(self) -> AsyncIterator[Piece]:
        yield Piece(text="a")
        yield {"text": "b", "secret": 1}  # type: ignore[misc]  # the model filters it

    @action(response_model=Piece)
    async def wrong(self) -> AsyncIterator[Any]:
        yield {"text": "a"}
        yield {"txt": "b"}

    @action()
    async def nones(self) -> AsyncIterator[None]:
        yield None

    @action()
    async def empty(self) -> AsyncIterator[int]:
        return
        yield

    @action()
    async def breaks(self) -> AsyncIterator[int]:
        yield 0
        raise HTTPException(418, "no more")

    @action()
    async def unencodable(self) -> AsyncIterator[Any]:
        yield object()

    @action(concurrent=1)
    async def wait(self) -> str:
        """In the task that reads the messages, which a cancel must not end."""
        try:
            await self.gate.wait()
        finally:
            self.log.append("ended")
        return "waited"

    @action(detached=True)
    async def wait_beside(self) -> str:
        return await self.wait()

    @action()
    async def deaf(self) -> str:
        """Does not care that it is cancelled."""
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            return "nevertheless"
        return "waited"

    @action()
    async def slow_to_stop(self) -> None:
        try:
            await self.gate.wait()
        finally:
            self.log.append("stops")
            await turns()
            self.log.append("stopped")

    @action()
    async def fails_to_stop(self) -> None:
        try:
            await self.gate.wait()
        finally:
            raise HTTPException(409, "half done")

    @action()
    async def cancels_itself(self) -> None:
        raise asyncio.CancelledError

    @action()
    async def other(self) -> str:
        return "other"


async def whole(wire: Wire) -> list[Any]:
    """The frames of one stream: whatever has no `more`, or a false one, is its last."""
    frames = [await wire.receive()]
    while frames[-1].get("more"):
        frames.append(await wire.receive())
    return frames


# Streams


async def test_a_stream():
    async with serving(Streaming()) as app, dial(app, "/r") as wire:
        wire.call("count", request_id="q", to=2)
        head = {"type": "response", "action": "count", "status": "ok", "request_id": "q"}
        assert await whole(wire) == [
            {**head, "data": 0, "more": True},
            {**head, "data": 1, "more": True},
            {**head, "data": None, "more": False},
        ]


@pytest.mark.parametrize(("name", "data"), [("empty", [None]), ("nones", [None, None])])
async def test_a_stream_of_nothing_has_an_end(name: str, data: Log):
    async with serving(Streaming()) as app, dial(app, "/r") as wire:
        wire.call(name)
        assert [frame["data"] for frame in await whole(wire)] == data


async def test_each_piece_is_validated_and_filtered():
    async with serving(Streaming()) as app, dial(app, "/r") as wire:
        wire.call("pieces")
        assert [frame["data"] for frame in await whole(wire)] == [{"text": "a"}, {"text": "b"}, None]
        wire.call("wrong")
        first, last = await whole(wire)
        assert (first["data"], last["code"]) == ({"text": "a"}, "internal_error")


@pytest.mark.parametrize(("name", "code"), [("breaks", "http_error"), ("unencodable", "internal_error")])
async def test_an_error_ends_a_stream(name: str, code: str):
    async with serving(Streaming()) as app, dial(app, "/r") as wire:
        wire.call(name, request_id=1)
        frames = await whole(wire)
        assert (frames[-1]["code"], frames[-1]["request_id"]) == (code, 1)
        wire.call("other", request_id=2)
        assert (await wire.receive())["data"] == "other"


async def test_what_does_not_fit_is_told_before_a_stream_begins():
    async with serving(Streaming()) as app, dial(app, "/r") as wire:
        wire.call("count", request_id=1)
        assert [frame["code"] for frame in await whole(wire)] == ["invalid_payload"]


async def test_streams_run_beside_other_requests():
    async with serving(Streaming()) as app, dial(app, "/r") as wire:
        wire.call("forever", request_id=1)
        assert (await wire.receive())["data"] == 0
        wire.call("forever", request_id=2)
        assert (await wire.receive())["request_id"] == 2
        wire.call("other", request_id=3)
        assert (await wire.receive())["data"] == "other"


async def test_a_stream_that_never_waits_leaves_others_their_turn():
    async with serving(Streaming()) as app, dial(app, "/r") as first, dial(app, "/r") as second:
        first.call("endless", request_id=1)
        await first.until(lambda: len(first.frames) > 10)
        second.call("other")
        assert (await second.receive())["data"] == "other"
        first.send({"type": "cancel", "request_id": 1})
        await first.until(lambda: "cancelled" in str(first.frames[-1]))


async def test_a_stream_waits_for_a_client_that_does_not_read():
    room = Streaming()
    async with serving(room) as app, dial(app, "/r") as wire:
        wire.block()
        wire.call("endless", size=1000)
        await wire.until(lambda: wire.blocked)
        for _ in range(100):
            await asyncio.sleep(0)
        assert room.log == ["yields"]
        wire.unblock()
        await wire.until(lambda: len(wire.frames) > 3)


@pytest.mark.parametrize("name", ["forever", "endless"])
async def test_a_stream_ends_when_its_client_leaves(name: str):
    room = Streaming()
    before = others()
    async with serving(room) as app:
        async with dial(app, "/r") as wire:
            wire.call(name)
            await wire.receive()
        assert room.log[-1] == "ended"
    assert others() <= before


async def test_dependencies_stay_open_while_a_stream_lasts():
    log: Log = []

    async def session() -> AsyncIterator[str]:
        log.append("opened")
        yield "session"
        log.append("closed")

    class Room(Channel):
        @action()
        async def items(self, session: Annotated[str, Depends(session)]) -> AsyncIterator[str]:
            yield session
            log.append("last")

    async with serving(Room()) as app, dial(app, "/r") as wire:
        wire.call("items")
        assert [frame["data"] for frame in await whole(wire)] == ["session", None]
        assert log == ["opened", "last", "closed"]


@pytest.mark.parametrize("swallows", [False, True])
async def test_a_dependency_sees_how_a_stream_ends(swallows: bool):
    log: Log = []

    async def session() -> AsyncIterator[None]:
        try:
            yield
        except BaseException as exc:
            log.append(type(exc).__name__)
            if not swallows:
                raise

    class Room(Channel):
        @action(dependencies=[Depends(session)])
        async def items(self) -> AsyncIterator[int]:
            yield 0
            raise ValueError

    async with serving(Room()) as app, dial(app, "/r") as wire:
        wire.call("items")
        assert [frame.get("code") for frame in await whole(wire)] == [None, "internal_error"]
        assert log == ["ValueError"]


async def test_a_stream_that_is_not_read_to_its_end_closes_its_dependencies():
    log: Log = []

    async def session() -> AsyncIterator[None]:
        try:
            yield
        finally:
            await asyncio.sleep(0)
            log.append("closed")

    class Room(Channel):
        @action(dependencies=[Depends(session)])
        async def items(self, connection: Connection) -> AsyncIterator[int]:
            await connection.close()
            yield 0
            log.append("never")

    async with serving(Room()) as app, dial(app, "/r") as wire:
        wire.call("items")
        await wire.closed()
    assert log == ["closed"]


# Cancels


def cancel(request_id: Any) -> dict[str, Any]:
    return {"type": "cancel", "request_id": request_id}


@pytest.mark.parametrize("name", ["forever", "endless", "wait", "wait_beside", "slow_to_stop"])
@pytest.mark.parametrize("request_id", ["q", 7, 1.5, ""])
async def test_a_client_cancels_its_own_request(name: str, request_id: Any):
    room = Streaming()
    async with serving(room) as app, dial(app, "/r") as wire:
        wire.call(name, request_id=request_id)
        wire.call("other", request_id="other")
        await wire.until(lambda: not wire.waiting)
        wire.send(cancel(request_id))
        frames = [await wire.receive()]
        while frames[-1].get("code") != "cancelled":
            frames.append(await wire.receive())
        assert frames[-1]["request_id"] == request_id
        assert room.log[-1] in ("ended", "stopped")
        # The connection is as good as new.
        wire.call("other", request_id="last")
        while (await wire.receive())["request_id"] != "last":
            pass


@pytest.mark.parametrize("name", ["wait", "slow_to_stop"])
async def test_cancelling_twice_is_cancelling_once(name: str):
    room = Streaming()
    async with serving(room) as app, dial(app, "/r") as wire:
        wire.call(name, request_id=1)
        for _ in range(3):
            wire.send(cancel(1))
        assert (await wire.receive())["code"] == "cancelled"
        assert room.log == (["ended"] if name == "wait" else ["stops", "stopped"])
        wire.call("other", request_id=2)
        assert (await wire.receive())["data"] == "other"


async def test_a_request_that_does_not_care():
    async with serving(Streaming()) as app, dial(app, "/r") as wire:
        wire.call("deaf", request_id=1)
        wire.send(cancel(1))
        assert (await wire.receive())["data"] == "nevertheless"
        wire.call("other")
        assert (await wire.receive())["data"] == "other"


async def test_a_request_that_fails_in_stopping_says_so():
    async with serving(Streaming()) as app, dial(app, "/r") as wire:
        wire.call("fails_to_stop", request_id=1)
        wire.send(cancel(1))
        assert (await wire.receive())["errors"] == "half done"


async def test_a_handler_that_was_cancelled_by_something_else_is_our_fault():
    async with serving(Streaming()) as app, dial(app, "/r") as wire:
        wire.call("cancels_itself", request_id=1)
        assert (await wire.receive())["code"] == "internal_error"
        wire.call("other")
        assert (await wire.receive())["data"] == "other"


async def test_a_cancel_right_behind_its_request_costs_no_slot():
    """The task of the request has not even started then."""
    async with serving(Streaming()) as app, dial(app, "/r") as wire:
        for number in range(3 * DETACHED):
            wire.call("wait_beside", request_id=number)
            wire.send(cancel(number))
        codes = [(await wire.receive())["code"] for _ in range(3 * DETACHED)]
        assert codes == ["cancelled"] * 3 * DETACHED


async def test_a_request_that_waits_for_its_turn_can_be_cancelled():
    room = Streaming()
    async with serving(room) as app, dial(app, "/r") as wire:
        wire.call("wait", request_id=1)
        wire.call("count", request_id=2, to=9)
        wire.call("other", request_id=3)
        wire.send(cancel(2))
        await wire.until(lambda: not wire.waiting)
        room.gate.set()
        frames = [await wire.receive() for _ in range(3)]
        outcomes = {frame["request_id"]: frame.get("code") for frame in frames}
        assert outcomes == {1: None, 2: "cancelled", 3: None}
        wire.call("other", request_id=2)
        assert (await wire.receive())["data"] == "other"


async def test_one_that_waits_for_a_slot_can_be_cancelled():
    room = Streaming()
    async with serving(room) as app, dial(app, "/r") as wire:
        for number in range(DETACHED + 1):
            wire.call("wait_beside", request_id=number)
        await wire.until(lambda: not wire.waiting)
        wire.send(cancel(DETACHED), cancel(0))
        codes = {(frame := await wire.receive())["request_id"]: frame["code"] for _ in range(2)}
        assert codes == {0: "cancelled", DETACHED: "cancelled"}


@pytest.mark.parametrize("request_id", [None, "unknown", 8, 10**30, [1], {"a": 1}, True, "x" * 5000])
async def test_a_cancel_of_nothing_is_ignored(request_id: Any):
    room = Streaming()
    async with serving(room) as app, dial(app, "/r") as wire:
        wire.call("wait", request_id=7)
        wire.call("wait_beside")
        wire.send(cancel(request_id))
        await wire.until(lambda: not wire.waiting)
        room.gate.set()
        assert [(await wire.receive())["status"]] == ["ok"]
        wire.send(cancel(7), cancel(request_id))
        wire.call("other", request_id="last")
        while (await wire.receive())["request_id"] != "last":
            pass


async def test_nobody_cancels_the_requests_of_others():
    room = Streaming()
    async with serving(room) as app, dial(app, "/r") as ann, dial(app, "/r") as eve:
        ann.call("wait", request_id=1)
        await ann.until(lambda: not ann.waiting)
        eve.send(cancel(1))
        eve.call("other")
        await eve.receive()
        room.gate.set()
        assert (await ann.receive())["data"] == "waited"


async def test_a_cancel_that_comes_with_the_last_reply_is_too_late():
    """Either the reply or the error, never both: the client has one answer for its request."""
    room = Streaming()
    async with serving(room) as app, dial(app, "/r") as wire:
        wire.block()
        wire.call("other", request_id=1)
        await wire.until(lambda: wire.blocked)
        wire.send(cancel(1))
        await wire.until(lambda: not wire.waiting)
        wire.unblock()
        assert (await wire.receive())["data"] == "other"
        wire.call("other", request_id=2)
        assert (await wire.receive())["request_id"] == 2


async def test_a_cancel_that_comes_while_an_error_is_told_is_too_late():
    room = Streaming()
    async with serving(room) as app, dial(app, "/r") as wire:
        wire.block()
        wire.call("cancels_itself", request_id=1)
        await wire.until(lambda: wire.blocked)
        wire.send(cancel(1))
        await wire.until(lambda: not wire.waiting)
        wire.unblock()
        assert (await wire.receive())["code"] == "internal_error"
        wire.call("other", request_id=2)
        assert (await wire.receive())["request_id"] == 2


@timeless
async def test_a_client_that_leaves_while_its_cancelled_request_stops():
    room = Streaming()
    room.finish_timeout = 1.0
    before = others()
    async with serving(room) as app, dial(app, "/r") as wire:
        wire.call("slow_to_stop", request_id=1)
        await wire.until(lambda: not wire.waiting)
        wire.send(cancel(1))
        await wire.until(lambda: not wire.waiting)
    assert room.log == ["stops", "stopped"]
    assert others() <= before
