"""Calls from other threads: nothing of a node may be touched by two."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

T = TypeVar("T")
P = ParamSpec("P")
F = TypeVar("F", bound=Callable[..., Any])


class Looped(Protocol):
    """What belongs to one event loop, which is None while it does not run."""

    loop: asyncio.AbstractEventLoop | None


N = TypeVar("N", bound=Looped)


def in_its_loop(
    method: Callable[Concatenate[N, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[N, P], Coroutine[Any, Any, T]]:
    """Run a method in its object's event loop, also where another thread calls it from a loop of its own, as
    `asyncio.run(channel.broadcast(...))` does."""

    @coroutine_function
    @wraps(method)
    def run(self: N, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
        work, loop = method(self, *args, **kwargs), self.loop
        if loop is None:
            return work
        try:
            is_here = loop is asyncio.get_running_loop()
        except RuntimeError:
            is_here = False  # called before its own loop runs, as in `asyncio.run(node.publish(...))`
        if is_here or not loop.is_running():
            return work
        return _forwarded(work, loop)

    return run


def coroutine_function(function: F) -> F:
    """What is a coroutine function by what it returns: asgiref's `async_to_sync`, and others, ask for it."""
    if sys.version_info >= (3, 12):
        return inspect.markcoroutinefunction(function)
    vars(function)["_is_coroutine"] = vars(asyncio.coroutines)["_is_coroutine"]
    return function


async def _forwarded(work: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop) -> T:
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))
