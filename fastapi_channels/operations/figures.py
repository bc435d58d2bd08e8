"""Integers that are added to where something happens, and read when somebody asks."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final, TypeAlias

MAX_SERIES: Final = 1000
"""Series of one metric; what comes beyond them is counted under `OTHER`."""
OTHER: Final = "_other"

Values: TypeAlias = tuple[str, ...]
"""The values of the labels of one series."""
Sample: TypeAlias = tuple[str, list[str], float]
"""The end of the name, the values of its labels, the upper bound of a bucket among them, and the figure."""


class Histogram:
    """How often something took how long."""

    __slots__ = ("_bounds", "_counts", "_least", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._least = bounds[0]
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, seconds: float) -> None:
        self._sum += seconds
        # Most are there, and it is the dearest part to look for them.
        self._counts[0 if seconds <= self._least else bisect_left(self._bounds, seconds)] += 1

    def samples(self, labels: Values) -> list[Sample]:
        found: list[Sample] = []
        total = 0
        for bound, count in zip((*map(str, self._bounds), "+Inf"), list(self._counts), strict=True):
            total += count
            found.append(("_bucket", [*labels, bound], total))
        return [*found, ("_count", [*labels], total), ("_sum", [*labels], self._sum)]


class Counter:
    """Counts by the values of labels."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[Values, int] = {}

    def expect(self, *labels: str) -> None:
        """Have that series, at 0."""
        self._counts.setdefault(labels, 0)

    def add(self, *labels: str) -> None:
        counts = self._counts
        if labels not in counts and len(counts) >= MAX_SERIES:
            labels = (OTHER,) * len(labels)
        counts[labels] = counts.get(labels, 0) + 1

    def samples(self) -> list[Sample]:
        return [("_total", [*labels], count) for labels, count in list(self._counts.items())]
