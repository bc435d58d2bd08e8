import gc
import logging
import math
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_channels.throttling import MemoryLimiter, Rate
from fastapi_channels.throttling.memory import SWEEP
from tests.support.strategies import Item, bursts, fullest_window, moments, rates


def items_of(limits: list[Rate]) -> list[Item]:
    return [(f"{index} {limit}", limit) for index, limit in enumerate(limits)]


@given(st.lists(rates(), min_size=1, max_size=3), st.one_of(moments(), bursts()))
def test_no_window_of_any_rate_holds_more_than_it_may(limits: list[Rate], times: list[int]) -> None:
    limiter, items = MemoryLimiter(), items_of(limits)
    admitted = [now for now in times if not limiter.check(items, now)]
    for limit in limits:
        assert fullest_window(admitted, limit.window) <= limit.times


@given(st.lists(st.tuples(rates(most=6), st.booleans()), min_size=2, max_size=3), moments())
def test_a_refused_call_consumes_nothing(choices: list[tuple[Rate, bool]], times: list[int]) -> None:
    """Calls under all the rates are decided as if only the admitted ones had ever been made."""
    items = items_of([limit for limit, _ in choices])
    some = [item for item, (_, chosen) in zip(items, choices, strict=True) if chosen]
    limiter, undisturbed = MemoryLimiter(), MemoryLimiter()
    for index, now in enumerate(times):
        call = items if index % 2 else some
        wait = limiter.check(call, now)
        if not wait:
            assert undisturbed.check(call, now) == 0
    assert limiter.check(items, times[-1]) == undisturbed.check(items, times[-1])


@given(st.lists(rates(), min_size=1, max_size=3), st.one_of(moments(), bursts()))
def test_retry_after_is_the_moment_of_the_next_admission(limits: list[Rate], times: list[int]) -> None:
    limiter, items = MemoryLimiter(), items_of(limits)
    for now in times:
        wait = limiter.check(items, now)
        if wait:
            assert wait <= max(limit.window for limit in limits)
            assert limiter.check(items, now + wait - 0.25) > 0
            assert limiter.check(items, now + wait) == 0
            return


@given(st.floats(1e-3, 1e6), st.floats(0, 1e9), st.lists(st.floats(0, 1), min_size=3, max_size=9))
def test_retry_after_holds_for_fractions(window: float, start: float, gaps: list[float]) -> None:
    limiter, items, now = MemoryLimiter(), [("key", Rate(2, window))], start
    for gap in gaps:
        now += gap * window
        wait = limiter.check(items, now)
        if wait:
            assert limiter.check(items, now + wait + 1e-6 + 1e-15 * start) == 0
            return


def test_the_longest_wait_of_several_rates_is_told() -> None:
    limiter = MemoryLimiter()
    items = items_of([Rate(1, 1.0), Rate(1, 60.0), Rate(1, 5.0)])
    assert limiter.check(items, 0.0) == 0
    assert limiter.check(items, 0.5) == 59.5


def test_zero_times_is_never() -> None:
    limiter = MemoryLimiter()
    assert limiter.check(items_of([Rate(5, 1.0), Rate(0, 1.0)]), 0.0) == math.inf
    assert len(limiter) == 0


def test_a_call_without_limits_passes() -> None:
    assert MemoryLimiter().check([], 0.0) == 0


def test_keys_and_windows_are_counted_apart() -> None:
    limiter, limit = MemoryLimiter(), Rate(1, 1.0)
    assert limiter.check([("ada", limit)], 0.0) == 0
    assert limiter.check([("bob", limit)], 0.0) == 0
    assert limiter.check([("ada", Rate(1, 2.0))], 0.0) == 0
    assert limiter.check([("ada", limit)], 0.5) == 0.5


async def test_a_hit_happens_at_the_clocks_time() -> None:
    now = 100.0
    limiter = MemoryLimiter(clock=lambda: now)
    items = [("key", Rate(1, 10.0))]
    assert limiter.hit(items) == 0
    now = 104.0
    assert limiter.hit(items) == 6
    now = 110.0
    assert limiter.hit(items) == 0


async def test_simultaneous_hits_admit_exactly_the_times() -> None:
    limiter, items = MemoryLimiter(), [("key", Rate(10, 3600.0))]
    waits = [limiter.hit(items) for _ in range(200)]
    assert waits.count(0.0) == 10


def test_who_only_asks_consumes_nothing() -> None:
    now = 100.0
    limiter = MemoryLimiter(clock=lambda: now)
    items = [("key", Rate(2, 10.0)), ("other", Rate(1, 30.0))]
    assert [limiter.wait(items), limiter.wait(items), limiter.wait([])] == [0, 0, 0]
    assert len(limiter) == 0
    assert limiter.hit(items) == 0
    now = 104.0
    assert [limiter.wait(items), limiter.wait(items[:1])] == [26, 0]
    assert limiter.wait([("never", Rate(0, 1.0))]) == math.inf


async def test_closing_forgets() -> None:
    limiter, items = MemoryLimiter(), [("key", Rate(1, 3600.0))]
    assert limiter.hit(items) == 0
    await limiter.close()
    assert len(limiter) == 0
    assert limiter.hit(items) == 0


def test_expired_keys_are_swept_with_later_hits() -> None:
    limiter, short, long = MemoryLimiter(), Rate(5, 10.0), Rate(5, 1000.0)
    for index in range(100):
        limiter.check([(f"key {index}", short), (f"key {index}", long)], index / 1000)
    assert len(limiter) == 200
    for index in range(100 // SWEEP + 1):
        limiter.check([("late", short)], 20.0 + index)
    assert len(limiter) == 101
    for index in range(100 // SWEEP + 2):
        limiter.check([("later", short)], 2000.0 + index)
    assert len(limiter) == 1


def test_a_key_in_use_is_not_swept() -> None:
    limiter, limit = MemoryLimiter(), Rate(3, 10.0)
    for now in range(0, 100, 4):
        limiter.check([("busy", limit), ("one more", limit)], float(now))
    limiter.check([("once", limit)], 100.0)
    assert limiter.check([("busy", limit)], 101.0) == 0
    assert limiter.check([("busy", limit)], 101.0) > 0


def model(admitted: dict[str, list[int]], items: list[Item], now: int) -> float:
    """What a limiter that forgets nothing says of a call."""
    wait = 0.0
    for key, limit in items:
        counting = [at for at in admitted.get(key, []) if at + limit.window > now]
        if len(counting) >= limit.times:
            wait = max(wait, counting[-limit.times] + limit.window - now)
    if not wait:
        for key, _ in items:
            admitted.setdefault(key, []).append(now)
    return wait


WINDOWS = {"short": Rate(2, 6), "middle": Rate(1, 30), "long": Rate(3, 90)}
GAPS = st.sampled_from([0, 0, 0, 0, 1, 2, 3, 20, 50])
CALLS = st.lists(
    st.tuples(st.integers(0, 30), st.sets(st.sampled_from(sorted(WINDOWS)), min_size=1), GAPS),
    max_size=150,
)


@given(CALLS)
def test_sweeping_never_changes_a_decision(calls: list[tuple[int, set[str], int]]) -> None:
    limiter, admitted, now = MemoryLimiter(), {}, 0
    for client, limits, gap in calls:
        now += gap
        items = [(f"{client} {name}", WINDOWS[name]) for name in sorted(limits)]
        assert limiter.check(items, now) == model(admitted, items, now)


def test_a_refused_call_on_an_expired_key_leaves_nothing_to_trip_over() -> None:
    limiter, short, long = MemoryLimiter(), Rate(1, 10.0), Rate(1, 1000.0)
    for index in range(3 * SWEEP):
        limiter.check([(f"key {index}", short)], 0.0)
    limiter.check([("full", long)], 0.0)
    # The sweep has not come to this key yet when it is found to be empty.
    assert limiter.check([(f"key {3 * SWEEP - 1}", short), ("full", long)], 20.0) == 980
    for now in range(21, 25):
        assert limiter.check([(f"new {now}", short)], float(now)) == 0
    assert len(limiter) == 5


def test_too_many_keys_push_out_those_that_end_first(caplog: pytest.LogCaptureFixture) -> None:
    limiter, limit = MemoryLimiter(max_keys=3), Rate(1, 100.0)
    with caplog.at_level(logging.WARNING, "fastapi_channels"):
        for now, key in enumerate("abcde"):
            assert limiter.check([(key, limit)], float(now)) == 0
    assert len(limiter) == 3
    assert [record.getMessage() for record in caplog.records] == [
        "rate limits: over 3 keys, the oldest are forgotten"
    ]
    assert limiter.check([("c", limit)], 5.0) > 0
    assert limiter.check([("a", limit)], 5.0) == 0


def test_a_key_that_was_used_again_is_not_the_first_to_go() -> None:
    limiter, limit = MemoryLimiter(max_keys=2), Rate(2, 100.0)
    for now, key in enumerate("aba"):
        assert limiter.check([(key, limit)], float(now)) == 0
    assert limiter.check([("c", limit)], 3.0) == 0
    assert limiter.check([("a", limit)], 4.0) > 0


def test_memory_is_bounded_and_comes_back() -> None:
    keys, limit = [f"{index:032x}" for index in range(20_000)], Rate(1_000_000, 10.0)
    gc.collect()
    tracemalloc.start()
    try:
        limiter = MemoryLimiter()
        before = tracemalloc.get_traced_memory()[0]
        for key in keys:
            limiter.check([(key, limit)], 0.0)
        full = tracemalloc.get_traced_memory()[0] - before
        for index in range(len(keys) // SWEEP + 1):
            limiter.check([("late", limit)], 20.0 + index / 1000)
        gc.collect()
        empty = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert full < 600 * len(keys)
    assert len(limiter) == 1
    # A dict keeps its table until it grows again; what it held is gone.
    assert empty < full / 4
