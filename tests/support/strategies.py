"""Sequences of hits, and what must hold of those that were admitted."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate

from hypothesis import strategies as st

from fastapi_channels.throttling import Rate

Item = tuple[str, Rate]

# Gaps and windows are whole numbers, so that a test of the edges is about the limit and not about rounding.
GAPS = st.one_of(st.just(0), st.integers(0, 5), st.integers(0, 300), st.integers(0, 3_000))


def moments(least: int = 1, most: int = 120) -> st.SearchStrategy[list[int]]:
    """Times of hits, in order; several may fall together."""
    return st.lists(GAPS, min_size=least, max_size=most).map(lambda gaps: list(accumulate(gaps)))


def rates(most: int = 300) -> st.SearchStrategy[Rate]:
    """Rates of few and of many times, windows that divide by 64 and that do not."""
    times = st.one_of(st.integers(1, 8), st.integers(60, 70), st.integers(1, most))
    windows = st.one_of(st.integers(1, 2_000), st.integers(1, 32).map(lambda n: 64 * n))
    return st.builds(Rate, times.map(lambda n: min(n, most)), windows)


@st.composite
def bursts(draw: st.DrawFn) -> list[int]:
    """Many hits with few choices: `count` hits, `gap` apart, some such runs one after another."""
    runs = draw(st.lists(st.tuples(st.integers(1, 400), st.integers(0, 7), GAPS), min_size=1, max_size=4))
    now, times = 0, []
    for count, gap, pause in runs:
        times += [now + gap * index for index in range(count)]
        now = times[-1] + pause
    return times


def fullest_window(admitted: list[int], window: float) -> int:
    """The most admitted hits that any half-open window of that length holds."""
    held = (index + 1 - bisect_right(admitted, at - window) for index, at in enumerate(admitted))
    return max(held, default=0)
