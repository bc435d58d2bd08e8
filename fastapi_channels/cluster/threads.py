"""Calls from other threads: nothing of a node may be touched by two."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

T = TypeVar("T")
P = ParamSpec("P")


class Looped(Protocol):
    """What belongs to one event loop, which is None while it does not run."""

    loop: asyncio.AbstractEventLoop | None


N = TypeVar("N", bound=Looped)


def in_its_loop(
    method: Callable[Concatenate[N, P], Awaitable[T]],
) -> Callable[Concatenate[N, P], Awaitable[T]]:
    """Run a method in its object's event loop, also where another thread calls it from a loop of its own, as
    `asyncio.run(channel.broadcast(...))` does."""

    @wraps(method)
    def run(self: N, /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
        work, loop = method(self, *args, **kwargs), self.loop
        if loop is None or loop is asyncio.get_running_loop() or not loop.is_running():
            return work
        return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_awaited(work), loop))

    return run


async def _awaited(work: Awaitable[T]) -> T:
    return await work
