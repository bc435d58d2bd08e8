"""What is asked of the store that all processes share: how often, what came of it, and how long it took."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any, Final, TypeVar, cast

from fastapi_channels.stores import LeaseLost, Store, StoreUnavailable

from .families import ROUND_TRIP
from .figures import Counter, Histogram

C = TypeVar("C", bound=Callable[..., Awaitable[Any]])

OPERATIONS: Final = (
    *("renew", "resign", "evict"),
    *("enter", "leave", "count", "count_people", "occupancy"),
    *("append", "read", "tops"),
    *("claim", "settle"),
    *("put", "get", "take"),
)


class CountedStore:
    """A store whose calls are counted.

    Args:
        store: answers them.

    Attributes:
        calls: by operation and outcome: `ok`, `unavailable`, `lost` where the lease had ended, `cancelled`,
            or `error`.
        durations: by operation, those that failed too.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.calls = Counter()
        self.durations: dict[str, Histogram] = {}
        for operation in OPERATIONS:
            self.calls.expect(operation, "ok")
            self.calls.expect(operation, "unavailable")
            self.durations[operation] = Histogram(ROUND_TRIP)
        self.shared, self.announces = store.shared, store.announces
        self.open, self.close = store.open, store.close
        self.renew = self._counted("renew", store.renew)
        self.resign = self._counted("resign", store.resign)
        self.evict = self._counted("evict", store.evict)
        self.enter = self._counted("enter", store.enter)
        self.leave = self._counted("leave", store.leave)
        self.count = self._counted("count", store.count)
        self.count_people = self._counted("count_people", store.count_people)
        self.occupancy = self._counted("occupancy", store.occupancy)
        self.append = self._counted("append", store.append)
        self.read = self._counted("read", store.read)
        self.tops = self._counted("tops", store.tops)
        self.claim = self._counted("claim", store.claim)
        self.settle = self._counted("settle", store.settle)
        self.put = self._counted("put", store.put)
        self.get = self._counted("get", store.get)
        self.take = self._counted("take", store.take)

    @property
    def connects(self) -> int:
        return self._store.connects

    def _counted(self, operation: str, call: C) -> C:
        calls, duration = self.calls, self.durations[operation]

        async def counted(*args: Any, **kwargs: Any) -> Any:
            began, outcome = perf_counter(), "cancelled"
            try:
                found = await call(*args, **kwargs)
                outcome = "ok"
                return found
            except StoreUnavailable:
                outcome = "unavailable"
                raise
            except LeaseLost:
                outcome = "lost"
                raise
            except Exception:
                outcome = "error"
                raise
            finally:
                calls.add(operation, outcome)
                duration.add(perf_counter() - began)

        return cast(C, counted)
