"""Brokers and stores that fail when they are told to, and what is sent, seen without a client."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from fastapi_channels.stores import Occupant
from fastapi_channels.testing import (
    ActionError,
    Broadcast,
    FaultyBroker,
    FaultyStore,
    Site,
    record,
    running,
    timeless,
)

from .app import Said, create_app


async def two(stack: AsyncExitStack, broker: FaultyBroker, store: FaultyStore | None = None) -> list[Site]:
    """Two processes, on a broker and a store."""
    store = store or FaultyStore()
    apps = [create_app(backend=broker.backend(), store=store) for _ in range(2)]
    return [await stack.enter_async_context(running(app, within=60)) for app in apps]


@timeless
async def test_a_broker_that_is_away():
    broker = FaultyBroker()
    async with AsyncExitStack() as stack:
        one, other = await two(stack, broker)
        ann, bob = await one.client("/rooms/lobby"), await other.client("/rooms/lobby")
        await ann.call("say", text="before")
        assert await bob.expect(Said, text="before")
        broker.crash()
        await ann.call("say", text="meanwhile")
        broker.restart()
        assert await bob.expect(Said, text="meanwhile")


@pytest.mark.parametrize("seed", range(2))
@timeless
async def test_messages_that_get_lost_come_twice_or_in_another_order(seed: int):
    """A room with history hides all of it."""
    broker = FaultyBroker(drop=0.2, double=0.2, swap=0.2, seed=seed)
    async with AsyncExitStack() as stack:
        one, other = await two(stack, broker)
        ann, bob = await one.client("/rooms/lobby"), await other.client("/rooms/lobby")
        for number in range(30):
            await ann.call("say", text=str(number))
        broker.fates = ["pass"] * 4
        await ann.call("say", text="end")
        heard = []
        while (said := (await bob.expect(Said)).text) != "end":
            heard.append(said)
        assert heard == [str(number) for number in range(30)]


@timeless
async def test_fates_are_scripted():
    broker = FaultyBroker()
    broker.fates = ["drop", "double", "swap"]
    assert [broker.fate("room") for _ in range(4)] == ["drop", "double", "swap", "pass"]
    assert broker.fate("fastapi-channels:nodes") == "pass"


@timeless
async def test_a_store_that_is_away():
    store = FaultyStore()
    async with AsyncExitStack() as stack:
        one, _ = await two(stack, FaultyBroker(), store)
        ann = await one.client("/rooms/lobby")
        store.fates = ["fail"]
        with pytest.raises(ActionError, match="unavailable"):
            await ann.call("say", text="x")
        store.down = True
        assert (await one.refusal("/rooms/other")).code == "unavailable"
        store.down = False
        store.delay = 1.0
        assert await ann.call("say", text="x") == 1
        assert store.calls.count("append") == 2


@timeless
async def test_what_becomes_of_calls_of_a_store_by_script_and_by_seed():
    """A call whose answer is lost has been made all the same; a lease is never lost by chance."""
    store = FaultyStore()
    async with running(create_app(store=store, backend=FaultyBroker().backend()), within=60) as site:
        ann = await site.client("/rooms/lobby")
        store.fates = ["lose", "fail"]
        for text in ("kept", "not kept"):
            with pytest.raises(ActionError, match="unavailable"):
                await ann.call("say", text=text)
        assert await ann.expect(Said, text="kept")
        await ann.expect_nothing()
    one, other = (FaultyStore(fail=0.2, lose=0.2, double=0.2, swap=0.2, seed=7) for _ in range(2))
    fates = [one.fate("append") for _ in range(100)]
    assert fates == [other.fate("append") for _ in range(100)]
    assert set(fates) == {"pass", "fail", "lose", "double", "swap"}
    assert {one.fate("renew") for _ in range(100)} == {"pass"}


@timeless
async def test_calls_of_a_store_that_are_made_twice_and_that_are_overtaken():
    store = FaultyStore()
    async with running(create_app(store=store, backend=FaultyBroker().backend()), within=60) as site:
        ann, bob = await site.client("/rooms/lobby"), await site.client("/rooms/lobby")
        await asyncio.sleep(1)  # which passes at once: the store knows who is in the room
        store.fates = ["double"]
        await ann.call("say", text="twice")
        store.fates = ["swap"]
        first = asyncio.create_task(ann.call("say", text="first"))
        while store.calls.count("append") < 2:
            await asyncio.sleep(0.001)
        await bob.call("say", text="second")
        await first
        store.fates = ["swap"]  # and nothing comes that could overtake it
        await ann.call("say", text="alone")
        for client in (ann, bob):
            said = [(await client.expect(Said)).text for _ in range(5)]
            assert said == ["twice", "twice", "second", "first", "alone"]


@timeless
async def test_the_members_of_a_process_that_is_gone_are_taken_out():
    store = FaultyStore()
    async with running(create_app(store=store, backend=FaultyBroker().backend()), within=60):
        lease = await store.renew("gone", 0, 3.0)
        await store.enter("lobby", [Occupant("gone.1")], lease)
        assert await store.count("lobby") == 1
        await asyncio.sleep(60)
        assert await store.count("lobby") == 0


async def test_what_is_sent_is_written_down():
    async with running(create_app()) as site:
        ann = await site.client("/rooms/lobby", user="ann")
        with site.record() as sent:
            await ann.call("say", text="hello")
            await ann.call("whisper", user="ann", text="psst")
            async with site.connect("/rooms/lobby") as bob:
                joined = bob.id
        await ann.call("say", text="not written down")
        assert sent.broadcasts == [Broadcast("lobby", "said", {"by": "ann", "text": "hello"})]
        assert sent.sends == [Broadcast("ann", "said", {"by": None, "text": "psst"})]
        assert (sent.joins, sent.leaves) == ([("lobby", joined)], [("lobby", joined)])
    with pytest.raises(AssertionError, match="add_channel"), record(object()):
        pass
