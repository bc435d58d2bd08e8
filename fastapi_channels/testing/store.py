"""A store in memory for several applications in one event loop, that fails when it is told to."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import wraps
from typing import Any, Final, Literal, TypeAlias, cast

from fastapi_channels.stores import (
    Entered,
    Lease,
    LeaseLost,
    Left,
    Limits,
    MemoryStore,
    Occupant,
    Store,
    StoreUnavailable,
)
from fastapi_channels.stores.store import NO_LIMITS

StoreFate: TypeAlias = Literal["pass", "fail", "lose", "double", "swap"]

LEASES: Final = ("renew", "resign", "evict")
PEOPLE: Final = ("enter", "leave", "count", "count_people", "occupancy")
HISTORY: Final = ("append", "read", "tops")
VALUES: Final = ("claim", "settle", "put", "get", "take")
LATENCY: Final = 0.002
"""Seconds that a call takes."""
PATIENCE: Final = 0.05
"""Seconds that a call which is to come behind the next one waits for that."""


class _Leasing(MemoryStore):
    """Its leases end, by the clock of the event loop: a process that is gone is taken out of its rooms."""

    shared = True

    def __init__(self) -> None:
        super().__init__()
        self._leases: dict[str, Lease] = {}
        self._token = 0
        self._evicted: list[Left] = []

    async def renew(self, node: str, token: int, seconds: float) -> Lease:
        await self._expire()
        now, held = asyncio.get_running_loop().time(), self._leases.get(node)
        if held is None or held.token != token:
            self._token += 1
            token = self._token
            await self._take_out(node)
        lease = self._leases[node] = Lease(node, token, now + seconds)
        return lease

    async def resign(self, lease: Lease) -> list[Left]:
        self._leases.pop(lease.node, None)
        return await self._take_out(lease.node)

    async def evict(self) -> list[Left]:
        await self._expire()
        evicted, self._evicted = self._evicted, []
        return evicted

    async def enter(
        self, room: str, occupants: Sequence[Occupant], lease: Lease, limits: Limits = NO_LIMITS
    ) -> Entered:
        await self._expire()
        held = self._leases.get(lease.node)
        if held is None or held.token != lease.token:
            raise LeaseLost(f"the lease {lease.token} of {lease.node} has ended")
        return await super().enter(room, occupants, lease, limits)

    async def _expire(self) -> None:
        now = asyncio.get_running_loop().time()
        for node in [node for node, lease in self._leases.items() if lease.until <= now]:
            del self._leases[node]
            self._evicted += await self._take_out(node)

    async def _take_out(self, node: str) -> list[Left]:
        # Of the memory store itself: what goes on within the store is no call.
        left = []
        for room, found in list(self._rooms.items()):
            ids = [id for id in found.occupants if id.startswith(f"{node}.")]
            if ids:
                left.append(await MemoryStore.leave(self, room, ids))
        return left


class FaultyStore(_Leasing):
    """Give the same one to `add_channel(app, store=…)` of each application; or to each a `view()`.

    Args:
        fail, lose, double, swap: by what chance a call fails without an effect, has its effect and loses its
            answer, is carried out twice, or is carried out behind the next one. Leases are not left to
            chance: a process would lose its own.
        seed: of the chance.

    Attributes:
        down: every call raises StoreUnavailable.
        delay: seconds more that every call takes.
        fates: what becomes of the next calls, those of leases aside, before chance decides: `"pass"`,
            `"fail"`, `"lose"`, `"double"` or `"swap"`.
        calls: the names of all calls.
    """

    def __init__(
        self,
        *,
        fail: float = 0.0,
        lose: float = 0.0,
        double: float = 0.0,
        swap: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.down = False
        self.delay = 0.0
        self.fates: list[StoreFate] = []
        self.calls: list[str] = []
        self._chances: dict[StoreFate, float] = {"fail": fail, "lose": lose, "double": double, "swap": swap}
        self._chance = random.Random(seed)  # noqa: S311
        self._held: list[asyncio.Event] = []
        """Calls that come behind the next one."""

    def view(self) -> StoreView:
        """The store as one more process reaches it."""
        return StoreView(self)

    async def travel(self, name: str) -> None:
        """What comes before each call.

        Raises:
            StoreUnavailable: the store is down.
        """
        self.calls.append(name)
        await asyncio.sleep(LATENCY + self.delay)
        if self.down:
            raise StoreUnavailable("the store is down")

    def fate(self, name: str) -> StoreFate:
        """What becomes of a call."""
        if name in LEASES:
            return "pass"
        if self.fates:
            return self.fates.pop(0)
        point = self._chance.random()
        for fate, chance in self._chances.items():
            if point < chance:
                return fate
            point -= chance
        return "pass"

    async def _carry_out(self, fate: StoreFate, call: Callable[[], Awaitable[Any]]) -> Any:
        """
        Raises:
            StoreUnavailable: it fails, or its answer is lost.
        """
        if fate == "fail":
            raise StoreUnavailable("this call fails")
        if fate == "swap":
            self._held.append(behind := asyncio.Event())
            with suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    await behind.wait()
        if fate == "double":
            await call()
        answer = await call()
        held, self._held = self._held, []
        for behind in held:
            behind.set()
        if fate == "lose":
            raise StoreUnavailable("the answer to this call is lost")
        return answer


def _faulty(name: str) -> Callable[..., Any]:
    call = getattr(_Leasing, name)

    @wraps(call)
    async def travelling(self: FaultyStore, *args: Any, **kwargs: Any) -> Any:
        await self.travel(name)
        return await self._carry_out(self.fate(name), lambda: call(self, *args, **kwargs))

    return travelling


for _name in (*LEASES, *PEOPLE, *HISTORY, *VALUES):
    setattr(FaultyStore, _name, _faulty(_name))


class StoreView:
    """A `FaultyStore` as one process reaches it.

    Attributes:
        down: nothing of this process reaches the store.
        delay: seconds more that a call takes.
    """

    def __init__(self, store: FaultyStore) -> None:
        self.down = False
        self.delay = 0.0
        self._store = store

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        return self._reached(cast("Callable[..., Awaitable[Any]]", found)) if callable(found) else found

    def _reached(self, method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def call(*args: Any, **options: Any) -> Any:
            await asyncio.sleep(self.delay)
            if self.down and method.__name__ not in ("open", "close"):
                raise StoreUnavailable("the store is not reached")
            return await method(*args, **options)

        return call

    @property
    def as_store(self) -> Store:
        return cast("Store", self)
