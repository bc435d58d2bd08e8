"""Rate limits: `@limiter` on actions, `throttle_classes` on channels, and the stores that count."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .decorators import limiter
from .foreign import ForeignLimiter, normalize
from .identity import address_group, budget_key, client_address, limit_key, parse_proxies
from .memory import MemoryLimiter
from .protocol import RateLimiter
from .rates import Rate, rate

if TYPE_CHECKING:
    from .redis import RedisLimiter

__all__ = [
    "ForeignLimiter",
    "MemoryLimiter",
    "Rate",
    "RateLimiter",
    "RedisLimiter",
    "address_group",
    "budget_key",
    "client_address",
    "limit_key",
    "limiter",
    "normalize",
    "parse_proxies",
    "rate",
]


def __getattr__(name: str) -> Any:
    """`RedisLimiter`, when it is first asked for: redis is an extra."""
    if name == "RedisLimiter":
        from .redis import RedisLimiter

        return RedisLimiter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
