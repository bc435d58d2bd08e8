"""Deadlines do what `asyncio.timeout_at` does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from fastapi_channels.brokers.deadlines import Deadlines
from fastapi_channels.testing.clock import timeless


def ours() -> Callable[[float], Any]:
    return Deadlines(0.05).at


class AsWithout:
    """asyncio's, without `async`."""

    def __init__(self, when: float) -> None:
        self._timeout = asyncio.timeout_at(when)

    def __enter__(self) -> None:
        self._run(self._timeout.__aenter__())

    def __exit__(self, *exc_info: Any) -> None:
        self._run(self._timeout.__aexit__(*exc_info))

    def _run(self, coroutine: Any) -> None:
        with pytest.raises(StopIteration):  # it awaits nothing
            coroutine.send(None)


@pytest.fixture(params=[ours, lambda: AsWithout], ids=["ours", "asyncio's"])
def at(request: pytest.FixtureRequest) -> Callable[[float], Any]:
    made: Callable[[float], Any] = request.param()
    return made


@timeless
async def test_what_takes_longer_ends_with_it_and_not_before(at: Callable[[float], Any]):
    loop = asyncio.get_running_loop()
    for seconds in (0.05, 0.02, 0.0, -1.0):
        when = loop.time() + seconds
        with pytest.raises(TimeoutError) as caught, at(when):
            await asyncio.sleep(60)
        assert isinstance(caught.value.__cause__, asyncio.CancelledError)
        assert when <= loop.time()
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]  # there is one


@timeless
async def test_what_is_done_in_time_goes_on(at: Callable[[float], Any]):
    when = asyncio.get_running_loop().time() + 0.03
    with at(when):
        await asyncio.sleep(0)
    with pytest.raises(KeyError), at(when):
        raise KeyError
    await asyncio.sleep(0.06)


@timeless
async def test_who_is_cancelled_by_somebody_else_is_cancelled(at: Callable[[float], Any]):
    """Also where the deadline comes in the same turn."""

    async def work(seconds: float) -> None:
        with at(asyncio.get_running_loop().time() + seconds):
            await asyncio.sleep(60)

    for seconds in (0.05, 0.0):
        task = asyncio.create_task(work(seconds))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@timeless
async def test_one_within_another(at: Callable[[float], Any]):
    loop = asyncio.get_running_loop()

    async def work(seconds: float) -> None:
        try:
            with at(loop.time() + seconds):
                await asyncio.sleep(60)
        except BaseException as exc:
            ended.append(type(exc))
            raise

    for outer, inner, end in ((0.05, 0.01, TimeoutError), (0.01, 0.05, asyncio.CancelledError)):
        ended: list[type[BaseException]] = []
        with pytest.raises(TimeoutError), at(loop.time() + outer):
            await work(inner)
        assert ended == [end]


@timeless
async def test_an_end_that_is_too_late_to_be_cancelled_is_a_failure_of_its_own(at: Callable[[float], Any]):
    async def work() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise KeyError from None

    with pytest.raises(KeyError), at(0.0):
        await work()


@timeless
async def test_many_share_a_timer_that_ends_with_them(monkeypatch: pytest.MonkeyPatch):
    loop = asyncio.get_running_loop()
    made = 0
    call_at = loop.call_at

    def count(*args: Any, **kwargs: Any) -> asyncio.TimerHandle:
        nonlocal made
        made += 1
        return call_at(*args, **kwargs)

    monkeypatch.setattr(loop, "call_at", count)
    deadlines = Deadlines(60.0)
    for _ in range(1000):
        with deadlines.at(loop.time() + 60.0):
            await asyncio.sleep(0)
    assert made == 1
    assert not any(deadlines._wheel._spokes)
