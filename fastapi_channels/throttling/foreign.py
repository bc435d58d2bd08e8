"""Limiters of other packages: pyrate-limiter, and fastapi-limiter which wraps it.

Neither is imported here. They are known by what they have, so an application without them pays nothing.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeAlias, runtime_checkable

from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.signatures.callables import awaited

from .rates import Rate


@runtime_checkable
class PyrateLimiter(Protocol):
    """What is used of a `pyrate_limiter.Limiter`."""

    bucket_factory: Any

    async def try_acquire_async(self, name: str, *, blocking: bool) -> bool: ...


@runtime_checkable
class FastAPILimiter(Protocol):
    """What is used of a `fastapi_limiter` `WebSocketRateLimiter`."""

    limiter: Any
    identifier: Callable[..., Any]
    callback: Callable[..., Any]
    blocking: bool


class ForeignLimiter:
    """A pyrate limiter that is asked with this package's key, one per client, room and action.

    It keeps its own count, so it cannot be part of the all-or-none of a `RateLimiter`: hit it first, as a
    call that it admits and a later rate refuses has then cost only one of its permits.
    """

    def __init__(
        self,
        limiter: PyrateLimiter,
        identifier: Callable[..., Any] | None = None,
        ws_callback: Callable[..., Any] | None = None,
    ) -> None:
        self.budget = ""
        self.identifier = identifier
        self.ws_callback = ws_callback
        self._limiter = limiter
        _warn_of_one_bucket(limiter)

    def __str__(self) -> str:
        """As a part of a key: the same in every process, since its buckets may be shared."""
        return "foreign"

    async def hit(self, key: str) -> float:
        """0.0, or seconds to wait; `math.inf` when the limiter does not tell. It is never waited for."""
        if await self._limiter.try_acquire_async(key, blocking=False):
            return 0.0
        return await self._wait(key)

    async def _wait(self, key: str) -> float:
        factory = self._limiter.bucket_factory
        item = await awaited(factory.wrap_item(key))
        bucket = await awaited(factory.get(item))
        milliseconds = await awaited(bucket.waiting(item))
        return milliseconds / 1000 if milliseconds > 0 else math.inf


Limit: TypeAlias = Rate | ForeignLimiter
Throttle: TypeAlias = "Limit | PyrateLimiter | FastAPILimiter | Iterable[Throttle] | None"
"""What `throttle_classes` may be."""


def normalize(throttle_classes: Throttle) -> tuple[Limit, ...]:
    """The limits of a `throttle_classes=`: one, a list of them, or None."""
    if throttle_classes is None:
        return ()
    if isinstance(throttle_classes, list | tuple):
        return tuple(limit for value in throttle_classes for limit in normalize(value))
    return (_adapt(throttle_classes),)


def _adapt(value: Any) -> Limit:
    if isinstance(value, Rate | ForeignLimiter):
        return value
    if isinstance(value, type):
        raise ConfigurationError(f"throttle_classes takes instances, not the class {value.__name__}")
    if isinstance(value, PyrateLimiter):
        return ForeignLimiter(value)
    if isinstance(value, FastAPILimiter) and isinstance(value.limiter, PyrateLimiter):
        return _unwrap(value)
    raise ConfigurationError(
        "throttle_classes takes rate(times=..., seconds=...), a pyrate_limiter Limiter "
        f"or a fastapi_limiter WebSocketRateLimiter, not {value!r}"
    )


def _unwrap(outer: FastAPILimiter) -> ForeignLimiter:
    if outer.blocking:
        raise ConfigurationError("a limiter with blocking=True would hold up the connection that it limits")
    identifier, callback = _own(outer.identifier), _own(outer.callback)
    return ForeignLimiter(outer.limiter, identifier, callback and _without_milliseconds(callback))


def _own(function: Callable[..., Any]) -> Callable[..., Any] | None:
    """The user's function, or None for the package's default: that one keys by a header that any client
    can set, or raises an HTTPException that knows no time to wait."""
    return None if function.__module__.startswith("fastapi_limiter.") else function


def _without_milliseconds(callback: Callable[..., Any]) -> Callable[..., Any]:
    return lambda websocket, _milliseconds: callback(websocket)


def _warn_of_one_bucket(limiter: PyrateLimiter) -> None:
    single = getattr(sys.modules.get("pyrate_limiter"), "SingleBucketFactory", None)
    if single is not None and type(limiter.bucket_factory).get is single.get:
        warnings.warn(
            "this pyrate_limiter Limiter has one bucket for all clients: give it a BucketFactory that "
            "makes a bucket per key, or use rate(times=..., seconds=...)",
            UserWarning,
            stacklevel=3,
        )
