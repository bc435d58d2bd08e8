"""The small numbers of processes."""

from __future__ import annotations

import asyncio

from fastapi_channels.operations.numbers import HELD, RENEWAL, Number
from fastapi_channels.stores import Store
from fastapi_channels.testing.clock import timeless
from fastapi_channels.testing.store import FaultyStore


async def started(store: Store | None, name: str) -> Number:
    number = Number(name, "shop:", store)
    await number.start()
    return number


@timeless
async def test_each_has_the_lowest_that_is_free():
    store = FaultyStore()
    three = [await started(store.view().as_store, name) for name in "abc"]
    assert [*map(str, three)] == ["0", "1", "2"]
    await three[1].stop()
    again = await started(store.view().as_store, "d")
    assert str(again) == "1"
    await asyncio.sleep(3 * HELD)
    assert [str(three[0]), str(again), str(three[2])] == ["0", "1", "2"]
    for number in (three[0], again, three[2]):
        await number.stop()


@timeless
async def test_of_one_that_was_killed_the_number_is_free_when_its_time_is_over():
    store = FaultyStore()
    view = store.view()
    killed = await started(view.as_store, "a")
    view.down = True
    early = await started(store.view().as_store, "b")
    await asyncio.sleep(HELD + 1)
    late = await started(store.view().as_store, "c")
    assert (str(early), str(late)) == ("1", "0")
    view.down = False
    await asyncio.sleep(RENEWAL)
    assert str(killed) == "2", "it was given to another meanwhile"
    for number in (killed, early, late):
        await number.stop()


@timeless
async def test_without_a_store_and_while_it_is_away_the_id_stands_in():
    alone = await started(None, "a")
    assert str(alone) == "a"
    view = FaultyStore().view()
    view.down = True
    waiting = await started(view.as_store, "b")
    assert str(waiting) == "b"
    view.down = False
    await asyncio.sleep(RENEWAL + 1)
    assert str(waiting) == "0"
    view.down = True
    await asyncio.sleep(RENEWAL + 1)
    assert str(waiting) == "0", "it is held while the store is away"
    await waiting.stop()
    await alone.stop()
