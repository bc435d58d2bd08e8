"""What a store of rate limits does."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Protocol

from .rates import Rate


class RateLimiter(Protocol):
    """Counts hits and says when the next one fits; implement it to keep limits somewhere else."""

    def hit(self, items: Sequence[tuple[str, Rate]]) -> float | Awaitable[float]:
        """Admit one call under all its rates and return 0.0, or refuse it and return seconds to wait.

        All or none: the rates are checked before any is consumed, in one step that no other hit comes
        between, and a refused call consumes nothing. A call that comes no earlier than told, with no
        other before it, is admitted. `math.inf` means that no such moment is known.
        An implementation may be async, or answer at once.

        Args:
            items: one key and its rate for each limit on the call. A key belongs to one rate: put
                `str(rate)` into it. The keys of a call differ.
        """
        ...

    def wait(self, items: Sequence[tuple[str, Rate]]) -> float | Awaitable[float]:
        """Seconds until `hit` would admit the call, 0.0 for now; nothing is consumed."""
        ...

    async def close(self) -> None:
        """Release what the limiter opened; nothing is counted after."""
        ...
