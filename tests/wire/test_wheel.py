"""One timer for many: who rides is called when its time is over, and at most one spoke later."""

from __future__ import annotations

import asyncio
from typing import Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastapi_channels.testing.clock import TimelessLoop, now, timeless
from fastapi_channels.wire.wheel import SPOKES, Wheel

TURN: Final = 10.0
STEP: Final = TURN / SPOKES
RIDES: Final = st.lists(st.tuples(st.floats(0, 30), st.floats(0, 2 * TURN)), min_size=1, max_size=20)


@given(RIDES)
@example([(0, TURN), (0, 0), (STEP / 2, TURN), (STEP / 2, STEP / 2), (3 * TURN, 0)])
def test_each_is_called_once_when_its_time_is_over(rides: list[tuple[float, float]]) -> None:
    """Rides of any length get on at any time; none is longer than a turn."""

    async def run() -> None:
        called: dict[int, float] = {}
        due: dict[int, float] = {}

        def call(rider: int) -> None:
            assert rider not in called
            called[rider] = now()

        wheel = Wheel(TURN, call)
        began = now()
        for rider, (at, seconds) in enumerate(sorted(rides)):
            await asyncio.sleep(began + at - now())
            wheel.ride(rider, seconds)
            due[rider] = now() + min(seconds, TURN)
        await asyncio.sleep(2 * TURN)
        assert called.keys() == due.keys()
        assert all(-1e-6 <= called[rider] - due[rider] <= STEP + 1e-6 for rider in called)

    with asyncio.Runner(loop_factory=TimelessLoop) as runner:
        runner.run(run())


def timers() -> int:
    loop: TimelessLoop = asyncio.get_running_loop()  # type: ignore[assignment]
    return sum(not timer.cancelled() for timer in loop._scheduled)  # type: ignore[attr-defined]


@timeless
async def test_a_thousand_have_one_timer_and_nobody_has_none() -> None:
    wheel: Wheel[int] = Wheel(TURN, lambda rider: None)
    assert timers() == 0
    spokes = [wheel.ride(rider, rider / 100) for rider in range(1000)]
    assert timers() == 1
    for rider, spoke in enumerate(spokes):
        spoke.discard(rider)
    await asyncio.sleep(2 * STEP)
    assert timers() == 0


@timeless
async def test_who_got_off_is_not_called() -> None:
    called: list[str] = []
    wheel = Wheel(TURN, called.append)
    spoke = wheel.ride("a")
    wheel.ride("b")
    spoke.discard("a")
    await asyncio.sleep(2 * TURN)
    assert called == ["b"]


@timeless
async def test_a_rider_may_throw_another_off() -> None:
    called: list[str] = []

    def call(rider: str) -> None:
        called.append(rider)
        spoke.clear()

    wheel = Wheel(TURN, call)
    wheel.ride("a")
    spoke = wheel.ride("b")
    await asyncio.sleep(2 * TURN)
    assert len(called) == 1


@timeless
async def test_a_rider_may_get_on_again() -> None:
    called: list[float] = []

    def call(rider: str) -> None:
        called.append(now() - began)
        if len(called) < 4:
            wheel.ride(rider, 1.0)

    began = now()
    wheel = Wheel(TURN, call)
    wheel.ride("a")
    await asyncio.sleep(3 * TURN)
    assert called == [pytest.approx(TURN + n, abs=4 * STEP) for n in range(4)]


@timeless
async def test_one_that_raises_stops_nobody_else() -> None:
    called: list[str] = []

    def call(rider: str) -> None:
        called.append(rider)
        if rider == "a":
            raise RuntimeError("a")

    told: list[str] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: told.append(str(context["exception"]))
    )
    wheel = Wheel(TURN, call)
    wheel.ride("a", 1.0)
    wheel.ride("b", 2.0)
    await asyncio.sleep(TURN)
    assert (called, told) == (["a", "b"], ["a"])
