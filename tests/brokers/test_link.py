"""Batches, their order, and what becomes of them when the connection breaks."""

from __future__ import annotations

import asyncio
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_channels.brokers import NotSent
from fastapi_channels.brokers.link import (
    HASHED,
    MAX_BATCH,
    MAX_MESSAGE,
    Errand,
    Link,
    decoded,
    encoded,
    server_name,
)
from fastapi_channels.testing.clock import turns
from tests.support.brokers import other_tasks
from tests.support.live import wait_until


class Wire:
    """A connection that does what a test lets it do."""

    def __init__(self, *, excused: bool = False) -> None:
        self.batches: list[list[str]] = []
        self.free = asyncio.Event()
        self.free.set()
        self.fault: Exception | None = None
        self.aborted = 0
        self.lost: list[Exception] = []
        self.signs = 0
        """How many signs of life it was asked for."""
        self.asked = 0
        """How often it was asked whether it is excused."""
        self._excused = excused
        self.link: Link[str] = Link(self.perform, self.abort, self.lost.append, self.excused)
        self.link.open()

    async def perform(self, batch: list[Errand[str]]) -> None:
        if batch:
            self.batches.append([errand.what for errand in batch])
        else:
            self.signs += 1
        await self.free.wait()
        if self.fault is not None:
            raise self.fault
        for errand in batch:
            if errand.what == "refused":
                errand.fail(PermissionError("no"))

    def abort(self) -> None:
        self.aborted += 1

    async def excused(self) -> bool:
        self.asked += 1
        return self._excused

    async def all(self, *whats: str) -> list[object]:
        asking = (asyncio.create_task(self.link.do(what)) for what in whats)
        return await asyncio.gather(*asking, return_exceptions=True)


async def held() -> Wire:
    """One that has had its first sign of life, and answers nothing from now on."""
    wire = Wire()
    await wire.link.do("begin")
    await wait_until(lambda: wire.link.idle)
    wire.batches.clear()
    wire.free.clear()
    return wire


async def test_one_turn_is_one_batch_and_what_comes_meanwhile_the_next():
    wire = await held()
    first = asyncio.create_task(wire.all("a", "b", "c"))
    await wait_until(lambda: bool(wire.batches))
    second = asyncio.create_task(wire.all("d", "e"))
    await asyncio.sleep(0)
    third = asyncio.create_task(wire.all("f"))
    await wait_until(lambda: len(wire.link._unsent) == 3)
    assert wire.batches == [["a", "b", "c"]]
    wire.free.set()
    await asyncio.gather(first, second, third)
    assert wire.batches == [["a", "b", "c"], ["d", "e", "f"]]
    assert wire.link.idle
    await wire.link.close()
    assert other_tasks() == set()


async def test_a_batch_is_bounded_and_one_errand_may_be_larger():
    wire = Wire()
    sizes = {"small": 10, "large": 2 * MAX_BATCH, "half": MAX_BATCH // 2, "half too": MAX_BATCH // 2}
    await asyncio.gather(*(wire.link.do(what, size) for what, size in sizes.items()))
    assert wire.batches == [["small"], ["large"], ["half"], ["half too"]]
    await wire.link.close()


async def test_a_refusal_harms_no_other():
    wire = Wire()
    before, refused, after = await wire.all("before", "refused", "after")
    assert before is after is None
    assert isinstance(refused, PermissionError)
    assert wire.lost == []
    await wire.link.close()


async def test_what_its_caller_gave_up_before_it_was_sent_is_not_sent():
    wire = await held()
    first = asyncio.create_task(wire.link.do("first"))
    await wait_until(lambda: bool(wire.batches))
    given_up, kept = (asyncio.create_task(wire.link.do(what)) for what in ("given up", "kept"))
    await asyncio.sleep(0)
    given_up.cancel()
    wire.free.set()
    await asyncio.gather(first, kept)
    assert wire.batches == [["first"], ["kept"]]
    await wire.link.close()


async def test_what_was_sent_when_it_broke_is_in_doubt_and_the_rest_is_not():
    wire = await held()
    wire.fault = OSError("broken")
    sent = asyncio.create_task(wire.link.do("sent"))
    await wait_until(lambda: bool(wire.batches))
    unsent = asyncio.create_task(wire.link.do("unsent"))
    await asyncio.sleep(0)
    wire.free.set()
    with pytest.raises(ConnectionError, match="broke before the answer: broken") as caught:
        await sent
    assert not isinstance(caught.value, NotSent)
    with pytest.raises(NotSent):
        await unsent
    with pytest.raises(NotSent, match="broken"):
        await wire.link.do("later")
    assert (wire.lost, wire.aborted, wire.batches) == ([wire.fault], 1, [["sent"]])
    wire.link.lose(OSError("again"))
    await wire.link.close()
    assert (len(wire.lost), wire.aborted) == (1, 1)


async def test_a_batch_that_was_surely_not_sent_can_be_repeated():
    wire = Wire()
    wire.fault = NotSent("gone")
    assert [type(outcome) for outcome in await wire.all("a", "b")] == [NotSent, NotSent]
    await wire.link.close()


async def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("fastapi_channels.brokers.link.MAX_WAITING", 1500)
    wire = await held()
    asking = [asyncio.create_task(wire.link.do(str(number), 872)) for number in range(5)]
    await turns()
    assert wire.link._size == 2000
    wire.free.set()
    await asyncio.gather(*asking)
    assert [what for batch in wire.batches for what in batch] == list("01234")
    assert wire.link._size == 0
    await wire.link.close()


async def test_those_that_wait_for_room_are_told_of_a_loss(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("fastapi_channels.brokers.link.MAX_WAITING", 100)
    wire = await held()
    asking = [asyncio.create_task(wire.link.do(str(number))) for number in range(3)]
    await wait_until(lambda: bool(wire.batches))
    await turns()
    wire.link.lose(OSError("broken"))
    outcomes = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ConnectionError, NotSent, NotSent]
    await wire.link.close()


async def test_silence_is_noticed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("fastapi_channels.brokers.link.PING_INTERVAL", 0.1)
    wire, excused = Wire(), Wire(excused=True)
    await wait_until(lambda: wire.signs > 3)
    assert wire.lost == []
    wire.free.clear()
    excused.free.clear()
    await wait_until(lambda: bool(wire.lost))
    assert "no sign of life" in str(wire.lost[0])
    asked = excused.asked
    await wait_until(lambda: excused.asked > asked + 2)
    assert excused.lost == []
    await wire.link.close()
    await excused.link.close()


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(TEXTS, TEXTS)
def test_two_topics_have_two_names(one: str, two: str):
    allowed = re.compile("[^\0]+")
    names = [server_name(topic, allowed, 63) for topic in (one, two)]
    assert (names[0] == names[1]) == (one == two)
    assert all(len(name.encode()) <= 63 and "\0" not in name for name in names)


def test_the_name_of_a_topic():
    allowed = re.compile("[a-z]+")
    assert server_name("room", allowed, 4) == "room"
    hashed = [
        server_name(topic, allowed, 4) for topic in ("rooms", "r m", "", server_name("rooms", allowed, 4))
    ]
    assert all(name.startswith(HASHED) for name in hashed)
    assert len(set(hashed)) == 4


def test_messages_are_bytes_on_the_way():
    assert encoded("é") == "é".encode()
    assert encoded(b"\xff") == b"\xff"
    assert encoded(bytes(MAX_MESSAGE)) == bytes(MAX_MESSAGE)
    with pytest.raises(ValueError, match="16777217 bytes: at most 16777216"):
        encoded("x" * (MAX_MESSAGE + 1))
    assert [decoded(message) for message in ("é", "é".encode(), b"\xff")] == ["é", "é", b"\xff"]
