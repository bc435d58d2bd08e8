"""Rate limits in the memory of one process."""

from __future__ import annotations

import logging
import math
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final

from .log import Log
from .rates import Rate

logger = logging.getLogger("fastapi_channels")

SWEEP: Final = 8
"""Expired keys that one hit forgets: more than it can add, so the table shrinks after a rush."""


def _now() -> float:
    """Asks the module each time: in a test time may pass at once."""
    return time.monotonic()


class MemoryLimiter:
    """Counts hits in this process alone; for one event loop, no task and no thread.

    A key is remembered from its first admitted hit until `window` after its last one. Expired keys are
    swept a few with each later hit, so memory follows the traffic down, and stays while there is none.

    Args:
        max_keys: keys remembered per length of window. Beyond it the key whose hits end first is
            forgotten, and with it its limit, rather than letting many clients shut out others.
        clock: seconds that never go back.
    """

    def __init__(self, *, max_keys: int = 250_000, clock: Callable[[], float] = _now) -> None:
        self._max_keys = max_keys
        self._clock = clock
        # One table per window: the order of the last hits is then the order in which keys expire.
        self._tables: defaultdict[float, OrderedDict[str, Log]] = defaultdict(OrderedDict)
        self._sweep_at = math.inf
        self._overflown = False

    def __len__(self) -> int:
        """Keys remembered now."""
        return sum(map(len, self._tables.values()))

    def hit(self, items: Sequence[tuple[str, Rate]]) -> float:
        """As `RateLimiter.hit`."""
        return self.check(items, self._clock())

    def check(self, items: Sequence[tuple[str, Rate]], now: float) -> float:
        """`hit` at the moment `now`, which never goes back."""
        if now >= self._sweep_at:
            self._sweep(now)
        wait = 0.0
        logs = []
        for key, rate in items:
            table = self._tables[rate.window]
            log = table.get(key)
            if log is None:
                log = Log(rate)
            logs.append((table, key, log, rate.cost))
            more = log.wait(now, rate.cost)
            if more > wait:
                wait = more
        if not wait:
            for table, key, log, cost in logs:
                if key in table:
                    table.move_to_end(key)  # its hits are going to be those that end last
                else:
                    self._remember(table, key, log)
                end = log.add(now, cost)
                if end < self._sweep_at:
                    self._sweep_at = end
        return wait

    def wait(self, items: Sequence[tuple[str, Rate]]) -> float:
        """As `RateLimiter.wait`."""
        now = self._clock()
        logs = [(self._tables[rate.window].get(key) or Log(rate), rate.cost) for key, rate in items]
        return max((log.wait(now, cost) for log, cost in logs), default=0.0)

    async def close(self) -> None:
        """Forget every hit."""
        self._tables.clear()
        self._sweep_at = math.inf

    def _remember(self, table: OrderedDict[str, Log], key: str, log: Log) -> None:
        if len(table) >= self._max_keys:
            table.popitem(last=False)
            if not self._overflown:
                self._overflown = True
                logger.warning("rate limits: over %d keys, the oldest are forgotten", self._max_keys)
        table[key] = log

    def _sweep(self, now: float) -> None:
        self._sweep_at = math.inf
        for table in self._tables.values():
            for key, log in list(islice(table.items(), SWEEP)):
                if log.end > now:
                    break
                del table[key]
            if table:
                self._sweep_at = min(self._sweep_at, next(iter(table.values())).end)
