from hypothesis import given
from hypothesis import strategies as st

from fastapi_channels.throttling.log import Log
from fastapi_channels.throttling.rates import Rate
from tests.support.strategies import bursts, fullest_window, moments, rates


def admit(rate: Rate, times: list[int]) -> list[int]:
    """The hits at `times` that a log lets through."""
    log, admitted = Log(rate), []
    for now in times:
        if not log.wait(now):
            log.add(now)
            admitted.append(now)
    return admitted


@given(rates(), st.one_of(moments(), bursts()))
def test_no_window_ever_holds_more_than_it_may(rate: Rate, times: list[int]) -> None:
    assert fullest_window(admit(rate, times), rate.window) <= rate.times


@given(rates(most=64), st.one_of(moments(), bursts()))
def test_up_to_64_times_a_hit_is_refused_only_when_its_window_is_full(rate: Rate, times: list[int]) -> None:
    log, admitted = Log(rate), []
    for now in times:
        full = sum(at > now - rate.window for at in admitted) >= rate.times
        refused = log.wait(now) > 0
        assert refused == full
        if not refused:
            log.add(now)
            admitted.append(now)


@given(st.integers(65, 300), st.integers(1, 2_000), bursts())
def test_above_64_times_a_permit_comes_back_at_most_a_grain_late(
    times: int, window: int, hits: list[int]
) -> None:
    rate, grain = Rate(times, window), window / 64
    log, admitted = Log(rate), []
    for now in hits:
        if not log.wait(now):
            log.add(now)
            admitted.append(now)
        else:
            assert sum(at > now - window - grain for at in admitted) >= times


@given(rates(most=10**9), st.one_of(moments(), bursts()))
def test_a_log_is_bounded_whatever_the_rate(rate: Rate, times: list[int]) -> None:
    log = Log(rate)
    for now in times:
        if not log.wait(now):
            log.add(now)
        assert len(log) <= min(rate.times, 65)


@given(rates(), st.one_of(moments(), bursts()))
def test_the_wait_is_neither_too_short_nor_too_long(rate: Rate, times: list[int]) -> None:
    log = Log(rate)
    for now in times:
        wait = log.wait(now)
        if wait:
            assert 0 < wait <= rate.window
            assert log.wait(now + wait - 0.5) == 0.5
            assert log.wait(now + wait) == 0
            break
        log.add(now)


def test_a_window_is_open_at_its_end() -> None:
    log = Log(Rate(1, 10.0))
    log.add(0.0)
    assert log.wait(9.75) == 0.25
    assert log.wait(10.0) == 0.0


def test_a_log_without_hits_is_long_over() -> None:
    log = Log(Rate(1, 10.0))
    assert log.end < -1e9
    log.add(0.0)
    assert log.end == 10.0
    log.wait(10.0)
    assert log.end < -1e9


def test_hits_of_one_grain_share_an_entry_that_ends_with_the_latest() -> None:
    log = Log(Rate(100, 64.0))
    for now in (0.0, 0.25, 0.75):
        log.add(now)
    assert (len(log), log.end) == (1, 64.75)
    log.add(1.0)
    assert (len(log), log.end) == (2, 65.0)


@given(rates(most=64), st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), max_size=60))
def test_a_hit_that_costs_more_counts_as_so_many(rate: Rate, hits: list[tuple[int, int]]) -> None:
    log, now = Log(rate), 0
    admitted: list[tuple[int, int]] = []
    for step, wanted in hits:
        now += step
        cost = max(1, min(wanted, rate.times))
        used = sum(paid for at, paid in admitted if at > now - rate.window)
        wait = log.wait(now, cost)
        assert (wait == 0) == (used + cost <= rate.times)
        if not wait:
            log.add(now, cost)
            admitted.append((now, cost))
        elif rate.times:
            later = sum(paid for at, paid in admitted if at > now + wait - rate.window)
            sooner = sum(paid for at, paid in admitted if at >= now + wait - rate.window)
            assert later + cost <= rate.times < sooner + cost, "neither too long nor too short"
