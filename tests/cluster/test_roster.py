"""What a process has entered in the store is who is in its rooms, whatever came when and what was lost."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastapi_channels.cluster import tenure
from fastapi_channels.cluster.roster import Roster
from fastapi_channels.exceptions import ChannelFull
from fastapi_channels.stores import Limits, Occupant
from fastapi_channels.testing import timeless
from fastapi_channels.testing.store import LATENCY, FaultyStore

PEOPLE = ("n.0", "n.1")
moves = st.tuples(
    st.sampled_from(["enlist", "update", "leave"]),
    st.sampled_from(PEOPLE),
    st.sampled_from([None, None, 0.0, LATENCY]),
)


async def started(store: FaultyStore) -> Roster:
    roster = Roster("n", store, lambda room, id, by_own: None, lambda room: None)
    roster.start()
    await roster.tenure.regain()
    return roster


@settings(max_examples=300)
@given(st.lists(moves, min_size=4, max_size=30), st.sampled_from([0.0, 0.3]), st.integers(0, 1000))
def test_whoever_comes_and_goes_the_store_has_those_who_are_there(
    steps: list[tuple[str, str, float | None]], chance: float, seed: int
):
    async def play() -> tuple[set[str], set[str]]:
        store = FaultyStore(fail=chance, lose=chance, seed=seed)
        roster = await started(store)
        there: set[str] = set()
        for move, who, pause in steps:
            if move == "enlist":
                roster.enlist("room", Occupant(who, None))
                there.add(who)
            elif move == "update":
                roster.update("room", Occupant(who, None, data="{}"))
            else:
                roster.leave("room", who)
                there.discard(who)
            if pause is not None:
                await asyncio.sleep(pause)
        store.fates = ["pass"] * 1000
        await asyncio.sleep(3 * tenure.RENEWAL)
        found = {occupant.id for occupant in (await roster.occupancy("room")).occupants}
        await roster.stop()
        return found, there

    found, there = timeless(play)()
    assert found == there


@timeless
async def test_a_count_waits_for_what_was_said_before_and_not_for_what_comes_meanwhile():
    roster = await started(FaultyStore())

    async def come_and_go() -> None:
        while True:
            roster.enlist("room", Occupant("n.1", None))
            await asyncio.sleep(LATENCY / 2)
            roster.leave("room", "n.1")

    roster.enlist("room", Occupant("n.0", None))
    others = asyncio.create_task(come_and_go())
    async with asyncio.timeout(100 * LATENCY):
        assert "n.0" in {occupant.id for occupant in (await roster.occupancy("room")).occupants}
    others.cancel()
    await roster.stop()


@timeless
async def test_who_asks_for_a_place_while_all_are_entered_again_is_told_that_there_is_none():
    store, limits = FaultyStore(), Limits(seats=3)
    roster = await started(store)
    for id in ("n.0", "n.1"):
        await roster.enter("room", Occupant(id, None, seat=id), limits)
    others = [Occupant(f"m.{number}", None, seat=f"m.{number}") for number in range(2)]
    await store.enter("room", others, await store.renew("m", 0, 60))
    store.fates = ["fail"]
    roster.update("room", Occupant("n.0", None, seat="n.0", data="{}"))
    await asyncio.sleep(2 * LATENCY)  # all are to be entered again
    roster.leave("room", "n.1")
    await asyncio.sleep(LATENCY / 2)  # that is under way
    with pytest.raises(ChannelFull):
        await roster.enter("room", Occupant("n.2", None, seat="n.2"), limits)
    assert not roster.has("room", "n.2")
    await roster.stop()
