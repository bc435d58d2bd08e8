"""Integers that are added to where something happens, and read when somebody asks."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final, TypeAlias

from fastapi_channels.wire.traffic import Timer

MAX_SERIES: Final = 1000
"""Series of one metric; what comes beyond them is counted under `OTHER`."""
OTHER: Final = "_other"

Values: TypeAlias = tuple[str, ...]
"""The values of the labels of one series."""
Sample: TypeAlias = tuple[str, list[str], float]
"""The end of the name, the values of its labels, the upper bound of a bucket among them, and the figure."""


class Histogram(Timer):
    """How often something took how long."""

    __slots__ = ("_bounds", "_counts")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        super().__init__(bounds[0])
        self._bounds = bounds
        self._counts = [0] * len(bounds)
        """Of those that are not quick."""

    def add(self, seconds: float) -> None:
        self.seconds += seconds
        if seconds <= self.least:
            self.quick += 1
        else:
            self.add_slow(seconds)

    def add_slow(self, seconds: float) -> None:
        self._counts[bisect_left(self._bounds, seconds) - 1] += 1

    def samples(self, labels: Values) -> list[Sample]:
        found: list[Sample] = []
        total = 0
        counts = (self.quick, *self._counts)
        for bound, count in zip((*map(str, self._bounds), "+Inf"), counts, strict=True):
            total += count
            found.append(("_bucket", [*labels, bound], total))
        return [*found, ("_count", [*labels], total), ("_sum", [*labels], self.seconds)]


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
